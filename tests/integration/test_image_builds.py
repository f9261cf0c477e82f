# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""one_image: which content an image has, and another build that takes its place while VMs run from the old one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

NAME = "Flower SuperNode"


@pytest.fixture
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


def images(zone: ModuleZone) -> dict[str, int]:
    """Names and ids of all images of the zone."""
    text = zone.call("one.imagepool.info", -2, -1, -1)
    return {name: int(number) for number, name in re.findall(r"<IMAGE><ID>(\d+)</ID>.*?<NAME>(.*?)</NAME>", text, re.DOTALL)}


def build(version: str, **options: object) -> dict[str, object]:
    return {"name": NAME, "path": f"/images/{version}", "version": version, "wait_timeout": 600, **options}


def vm_with_it(zone: ModuleZone) -> int:
    """Start a VM from a template that names the image, as the site's do; return the id of the image it runs from."""
    zone.changed("one_template", name="node", template={"CPU": 0.1, "MEMORY": 64, "DISK": {"IMAGE": NAME}})
    zone.changed("one_vm", name="vm", vm_template="node", wait_timeout=600)
    return int(re.search(r"<IMAGE_ID><!\[CDATA\[(\d+)", zone.call("one.vm.info", 0))[1])


def test_another_build_takes_the_name_and_running_vms_keep_theirs(zone: ModuleZone) -> None:
    zone.changed("one_image", **build("1"))
    used = vm_with_it(zone)
    zone.calls.clear()
    plan = zone.changed("one_image", check=True, **build("2"))
    assert zone.writes == [] and plan["image"]["template"]["VERSION"] == "2"
    new = zone.changed("one_image", **build("2"))["image"]
    assert images(zone) == {NAME: new["id"], f"{NAME} (1)": used}
    assert new["id"] != used and new["path"] == "/images/2"
    assert "<STATE>3</STATE>" in zone.call("one.vm.info", 0)
    zone.unchanged("one_image", **build("2"))


def test_replaced_builds_go_when_no_vm_uses_them(zone: ModuleZone) -> None:
    zone.changed("one_image", **build("1"))
    used = vm_with_it(zone)
    zone.changed("one_image", **build("2"))
    kept = zone.changed("one_image", **build("3", keep_replaced=False))
    assert kept["replaced"] == [f"{NAME} (2)"], "that no VM uses"
    assert images(zone) == {NAME: kept["image"]["id"], f"{NAME} (1)": used}
    zone.unchanged("one_image", **build("3", keep_replaced=False))
    zone.changed("one_vm", name="vm", state="absent", wait_timeout=600)
    zone.calls.clear()
    assert zone.changed("one_image", check=True, **build("3", keep_replaced=False))["replaced"] == [f"{NAME} (1)"]
    assert zone.writes == []
    zone.changed("one_image", **build("3", keep_replaced=False))
    assert list(images(zone)) == [NAME]
    zone.unchanged("one_image", **build("3", keep_replaced=False))


def test_removing_an_image_removes_what_it_replaced_if_asked(zone: ModuleZone) -> None:
    zone.changed("one_image", **build("1"))
    zone.changed("one_image", **build("2"))
    zone.changed("one_image", name=NAME, state="absent", keep_replaced=False)
    assert images(zone) == {}
    zone.unchanged("one_image", name=NAME, state="absent", keep_replaced=False)


def test_a_build_that_cannot_be_registered_leaves_the_old_one_in_its_place(zone: ModuleZone) -> None:
    before = zone.changed("one_image", **build("1"))["image"]["id"]
    failed = zone.fails("one_image", **build("2", path="/broken/2"))
    assert "/broken/2 is not a disk image" in failed["msg"] and f"{NAME} (2)" in failed["msg"]
    assert images(zone)[NAME] == before
    assert zone.changed("one_image", **build("2"))["image"]["path"] == "/images/2"
    assert images(zone)[f"{NAME} (1)"] == before


@pytest.mark.parametrize("renamed", [False, True])
def test_an_interrupted_change_goes_on(zone: ModuleZone, renamed: bool) -> None:
    old = zone.changed("one_image", **build("1"))["image"]["id"]
    new = zone.changed("one_image", name=f"{NAME} (2)", path="/images/2", template={"VERSION": "2", "BUILD_OF": NAME})["image"]["id"]
    if renamed:
        zone.call("one.image.rename", old, f"{NAME} (1)")
    zone.changed("one_image", **build("2"))
    assert images(zone) == {NAME: new, f"{NAME} (1)": old}


def test_an_image_without_version_is_another_build(zone: ModuleZone) -> None:
    old = zone.changed("one_image", name=NAME, path="/images/1")["image"]["id"]
    zone.changed("one_image", **build("1"))
    assert images(zone)[f"{NAME} (without version, id {old})"] == old


def test_the_datastore_checks_the_content_and_the_module_what_it_reports(zone: ModuleZone, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"content")
    right, wrong = (f"md5:{hashlib.md5(content).hexdigest()}" for content in (b"content", b"other"))
    failed = zone.fails("one_image", name="bad", path=str(disk), checksum=wrong, wait_timeout=600)
    assert "Hash does not match" in failed["msg"]
    zone.changed("one_image", name="good", path=str(disk), checksum=right, wait_timeout=600)
    zone.unchanged("one_image", name="good", path=str(disk), checksum=right.upper(), wait_timeout=600)
    failed = zone.fails("one_image", name="good", checksum=wrong)
    assert failed["error"]["kind"] == "conflict"
    assert failed["msg"].startswith(f"OpenNebula reports MD5 {right[4:]} for Image 'good' (id ") and f"expected {wrong[4:]}" in failed["msg"]
    assert "reports no SHA1" in zone.fails("one_image", name="good", checksum=f"sha1:{'0' * 40}")["msg"]


def test_an_app_is_registered_with_its_attributes_and_its_checksum_is_compared_first(zone: ModuleZone) -> None:
    zone.call("one.market.allocate", 'NAME="ours"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
    zone.changed("one_image", name="origin", path="/images/1")
    app = zone.changed(
        "one_marketplace_app", name="node", marketplace="ours", image="origin", image_template={"DEV_PREFIX": "vd"}, wait_timeout=600
    )["app"]
    zone.calls.clear()
    failed = zone.fails("one_image", name=NAME, app="node", checksum=f"md5:{'0' * 31}9")
    assert failed["msg"].startswith("OpenNebula reports MD5 ") and "Marketplace app 'node'" in failed["msg"]
    assert zone.writes == []
    image = zone.changed("one_image", name=NAME, app="node", checksum=f"md5:{0:032x}", wait_timeout=600)["image"]
    assert (image["template"]["FROM_APP"], image["template"]["DEV_PREFIX"]) == (str(app["id"]), "vd")
    zone.unchanged("one_image", name=NAME, app="node", update="replace", checksum=f"md5:{0:032x}", template={"DEV_PREFIX": "vd"})
    assert "was not made of marketplace app 'node'" in zone.fails("one_image", name="origin", app="node")["msg"]


def test_a_file_that_the_datastore_may_not_read_is_refused_before_anything_is_made(zone: ModuleZone) -> None:
    zone.changed("one_datastore", name="default", template={"SAFE_DIRS": "/var/tmp /srv/images/", "RESTRICTED_DIRS": "/"})
    zone.calls.clear()
    for path in ("/images/1", "/var/tmp/../../etc/shadow"):
        failed = zone.fails("one_image", name=NAME, path=path)
        assert failed["error"]["kind"] == "invalid"
        words = "datastore 'default' (id 1) reads nothing below / (RESTRICTED_DIRS) but what is below /var/tmp /srv/images/ (SAFE_DIRS)"
        assert failed["msg"].startswith(f"Image {NAME!r} cannot be made from {path}: {words}")
    assert zone.writes == []
    for number, path in enumerate(("/var/tmp/1", "/srv/images/1", "https://images.example.org/1")):
        zone.changed("one_image", name=f"{NAME} {number}", path=path)


def test_an_image_that_is_larger_than_the_datastore_is_refused_in_a_sentence(zone: ModuleZone) -> None:
    failed = zone.fails("one_image", name=NAME, path="/images/1", size=10**12)
    assert "Not enough space in datastore" in failed["msg"]
    assert images(zone) == {}


def powered_off(zone: ModuleZone, name: str = "machine") -> int:
    """Make a VM of an image of its own, power it off and return its id."""
    if "stock" not in images(zone):
        zone.changed("one_image", name="stock", path="/images/stock", size=20, template={"DEV_PREFIX": "vd", "VERSION": "stock"})
        disks = [{"IMAGE": "stock"}, {"SIZE": 10, "TYPE": "fs", "FORMAT": "raw"}]
        zone.changed("one_template", name="stock", template={"CPU": 0.1, "MEMORY": 64, "DISK": disks})
    zone.changed("one_vm", name=name, vm_template="stock", wait_timeout=600)
    (vm,) = zone.changed("one_vm", name=name, state="poweroff", hard=True, wait_timeout=600)["vms"]
    return vm["id"]


def saved(version: str, **options: object) -> dict[str, object]:
    return {"name": NAME, "vm": "machine", "version": version, "wait_timeout": 600, **options}


def test_a_disk_of_a_vm_becomes_an_image_and_the_same_build_is_left_alone(zone: ModuleZone) -> None:
    vm = powered_off(zone)
    zone.calls.clear()
    plan = zone.changed("one_image", check=True, **saved("1"))
    assert zone.writes == [] and plan["image"]["template"]["VERSION"] == "1"
    image = zone.changed("one_image", **saved("1", template={"DESCRIPTION": "saved"}))["image"]
    assert image["template"] == {
        "DEV_PREFIX": "vd", "SAVED_VM_ID": str(vm), "SAVED_DISK_ID": "0", "SAVED_IMAGE_ID": str(images(zone)["stock"]), "VERSION": "1",
        "BUILD_OF": NAME, "DESCRIPTION": "saved",
    }  # fmt: skip
    assert (image["state"], image["size"], image["type"], image["persistent"]) == ("READY", 20, "OS", False)
    zone.changed("one_vm", name="machine", state="absent", hard=True, wait_timeout=600)
    zone.unchanged("one_image", **saved("1"))
    zone.unchanged("one_image", **saved("1", update="replace", template={"DESCRIPTION": "saved"}))
    assert zone.fails("one_image", **saved("2"))["msg"].startswith("There is no VM with the name 'machine'")
    check = zone.changed("one_image", check=True, **saved("2"))
    assert "There is no VM with the name 'machine'" in check["warnings"][0]


def test_a_saved_disk_takes_the_place_of_another_build(zone: ModuleZone) -> None:
    zone.changed("one_image", **build("1"))
    used = vm_with_it(zone)
    powered_off(zone)
    new = zone.changed("one_image", **saved("2", persistent=True, type="DATABLOCK"))["image"]
    assert images(zone) == {NAME: new["id"], f"{NAME} (1)": used, "stock": images(zone)["stock"]}
    assert (new["type"], new["persistent"], new["template"]["VERSION"]) == ("DATABLOCK", True, "2")


def test_a_save_that_was_interrupted_goes_on(zone: ModuleZone) -> None:
    zone.changed("one_image", **build("1"))
    vm = powered_off(zone)
    half = zone.call("one.vm.disksaveas", vm, 0, f"{NAME} (2)", "OS", -1)
    image = zone.changed("one_image", **saved("2"))["image"]
    assert (image["id"], image["name"], image["template"]["VERSION"]) == (half, NAME, "2")
    zone.unchanged("one_image", **saved("2"))


def test_without_a_version_an_image_has_to_come_from_that_disk(zone: ModuleZone) -> None:
    vm = powered_off(zone)
    origin = {"name": NAME, "vm": str(vm), "wait_timeout": 600}
    zone.changed("one_image", **origin)
    zone.unchanged("one_image", **origin)
    zone.unchanged("one_image", **{**origin, "vm": "machine"})
    powered_off(zone, "other")
    failed = zone.fails("one_image", **{**origin, "vm": "other"})
    assert failed["error"]["kind"] == "conflict" and "was not saved from disk 0 of VM 'other'" in failed["msg"]
    assert "was not saved from disk 0" in zone.fails("one_image", **{**origin, "name": "stock"})["msg"]
    assert "Disk 1 of VM 'other'" in zone.fails("one_image", name="new", vm="other", vm_disk=1)["msg"]
    assert "cannot be saved: it has no image" in zone.fails("one_image", name="new", vm="other", vm_disk=1)["msg"]
    assert "cannot be saved: there is no such disk" in zone.fails("one_image", name="new", vm="other", vm_disk=7)["msg"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vm": "machine"}, "vm 'machine': path cannot be given with it"),
        ({"checksum": "d41d8cd98f00b204e9800998ecf8427e"}, "expected md5: and 32 or sha1: and 40 hexadecimal digits"),
        ({"checksum": f"sha256:{'0' * 64}"}, "expected md5: and 32 or sha1: and 40 hexadecimal digits"),
        ({"version": ""}, "expected a text of one line"),
        ({"version": "1\n2"}, "expected a text of one line"),
        ({"version": "1", "name": "7"}, "name '7': with version the image's name is needed"),
        ({"app": "node"}, "path and size cannot be given with it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(zone: ModuleZone, options: dict[str, str], sentence: str) -> None:
    zone.calls.clear()
    failed = zone.fails("one_image", **{"name": NAME, "path": "/images/1", **options})
    assert failed["error"]["kind"] == "invalid" and sentence in failed["msg"]
    assert zone.calls == []
