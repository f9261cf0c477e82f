# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Marketplace apps: made of images, and exported to images and VM templates."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone
from lab.driver import DriverError

APP = {
    "marketplace": "ours", "image": "disk", "image_template": {"DEV_PREFIX": "vd"},
    "vm_attributes": {"cpu": 0.1, "MEMORY": 64, "CONTEXT": {"NETWORK": True, "NOTE": 'a "b", [c]\\'}},
    "template": {"VERSION": "1.0"}, "wait_timeout": 600,
}
EXPORT = {"state": "exported", "datastore": "default", "image_name": "copy", "wait_timeout": 600}


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.call("one.market.allocate", 'NAME="ours"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
        for name in ("disk", "other"):
            zone.changed("one_image", name=name, path=f"/images/{name}", size=10)
        yield zone


@pytest.fixture
def app(zone: ModuleZone) -> Iterator[str]:
    """The name of an app; it, and what was exported as a copy, is gone after the test, whatever became of it."""
    yield "appliance"
    zone.driver.publish_error = ""
    for module, name in (("one_marketplace_app", "appliance"), ("one_image", "copy"), ("one_template", "copy")):
        assert not zone.run(module, name=name, state="absent").get("failed")


def test_an_app_is_made_changed_and_removed_exactly_once(zone):
    wanted = {"name": "appliance", **APP}
    zone.calls.clear()
    predicted = zone.changed("one_marketplace_app", check=True, **wanted)
    assert zone.writes == []
    made = zone.changed("one_marketplace_app", **wanted)
    assert predicted["diff"] == made["diff"]
    there = made["app"]
    assert (there["state"], there["type"], there["marketplace"], there["size"]) == ("READY", "IMAGE", "ours", 10)
    assert there["vm_attributes"]["CONTEXT"] == {"NETWORK": "YES", "NOTE": 'a "b", [c]\\'}
    zone.unchanged("one_marketplace_app", **wanted)
    assert len(zone.calls) <= 4, zone.calls

    change = {**wanted, "vm_attributes": {"MEMORY": 128}, "template": {"DESCRIPTION": "x"}, "update": "replace"}
    zone.calls.clear()
    predicted = zone.changed("one_marketplace_app", check=True, **change)
    assert zone.writes == []
    done = zone.changed("one_marketplace_app", **change)
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["after"] == {"vm_attributes": {"MEMORY": "128"}, "template": {"DESCRIPTION": "x"}}
    zone.unchanged("one_marketplace_app", **change)
    # What a task does not name stays.
    zone.unchanged("one_marketplace_app", name="appliance")

    zone.calls.clear()
    zone.changed("one_marketplace_app", check=True, name="appliance", state="absent")
    assert zone.writes == []
    zone.changed("one_marketplace_app", name="appliance", state="absent", wait_timeout=600)
    zone.unchanged("one_marketplace_app", name="appliance", state="absent")


def test_an_app_is_exported_to_an_image_and_a_vm_template_exactly_once(zone, app):
    zone.changed("one_marketplace_app", name=app, **APP)
    zone.calls.clear()
    predicted = zone.changed("one_marketplace_app", check=True, name=app, **EXPORT)
    assert zone.writes == []
    done = zone.changed("one_marketplace_app", name=app, **EXPORT)
    assert predicted["diff"] == done["diff"] == {"before": {}, "after": {"images": ["copy"], "vm_template": "copy"}}
    image = zone.unchanged("one_image", name=done["images"][0]["id"])["image"]
    assert (image["state"], image["template"]["DEV_PREFIX"], image["size"]) == ("READY", "vd", 10)
    template = zone.unchanged("one_template", name=done["vm_template"]["id"])["vm_template"]["template"]
    assert template["DISK"] == {"IMAGE_ID": str(image["id"])}
    assert (template["MEMORY"], template["CONTEXT"]["NOTE"]) == ("64", 'a "b", [c]\\')
    zone.unchanged("one_marketplace_app", name=app, **EXPORT)
    # A part that somebody removed is made again.
    zone.changed("one_template", name="copy", state="absent")
    again = zone.changed("one_marketplace_app", name=app, **EXPORT)
    assert again["diff"] == {"before": {}, "after": {"vm_template": "copy"}}
    assert again["images"][0]["id"] == image["id"]


def test_an_app_that_is_a_vm_template_is_exported_with_every_disk(zone, app):
    zone.changed("one_marketplace_app", name=app, **APP)
    own = b64encode(b'CPU="1"\nMEMORY="512"\nNIC=[NETWORK="x"]').decode()
    text = 'NAME="machine"\nTYPE="VMTEMPLATE"\nORIGIN_ID="-1"\n' + f'APPTEMPLATE64="{own}"\n'
    machine = zone.call("one.marketapp.allocate", text + 'DISK=[NAME="a",APP="appliance"]\nDISK=[NAME="b",APP="appliance"]', 100)
    try:
        done = zone.changed("one_marketplace_app", name="machine", **EXPORT)
        assert [image["name"] for image in done["images"]] == ["copy-0", "copy-1"]
        template = zone.unchanged("one_template", name="copy")["vm_template"]["template"]
        assert [disk["IMAGE_ID"] for disk in template["DISK"]] == [str(image["id"]) for image in done["images"]]
        assert (template["MEMORY"], template["NIC"]) == ("512", {"NETWORK": "x"})
        zone.unchanged("one_marketplace_app", name=machine, **EXPORT)
        zone.call("one.marketapp.update", machine, 'DISK=[NAME="a",APP="gone"]', 1)
        assert "There is no marketplace app with the name 'gone'" in zone.fails("one_marketplace_app", name=machine, **EXPORT)["msg"]
    finally:
        for name in ("copy-0", "copy-1"):
            zone.run("one_image", name=name, state="absent")
        zone.run("one_marketplace_app", name="machine", state="absent")


def test_an_app_that_is_a_service_template_is_not_exported(zone):
    service = zone.call("one.marketapp.allocate", 'NAME="service"\nTYPE="SERVICE_TEMPLATE"\nORIGIN_ID="-1"', 100)
    assert "is of type SERVICE_TEMPLATE, which cannot be exported" in zone.fails("one_marketplace_app", name=service, **EXPORT)["msg"]
    zone.changed("one_marketplace_app", name=service, state="absent")


def test_the_vm_template_is_left_out_on_demand(zone, app):
    zone.changed("one_marketplace_app", name=app, **APP)
    done = zone.changed("one_marketplace_app", name=app, vm_template=False, **EXPORT)
    assert ([image["name"] for image in done["images"]], done["vm_template"]) == (["copy"], {})


def test_an_image_that_is_not_from_the_app_is_not_taken_for_it(zone, app):
    zone.changed("one_marketplace_app", name=app, **APP)
    result = zone.fails("one_marketplace_app", name=app, **{**EXPORT, "image_name": "disk"})
    assert result["error"]["kind"] == "conflict"
    assert "Image 'disk' (id 0) is there and was not made of marketplace app 'appliance'" in result["msg"]


def test_an_import_that_fails_ends_the_wait_at_once_and_is_done_again_by_the_next_run(zone, app):
    zone.driver.publish_error = "disk full on the market"
    result = zone.fails("one_marketplace_app", name=app, **{**APP, "wait_timeout": 600})
    assert result["error"]["kind"] == "wrong_state"
    assert "is in state ERROR" in result["msg"] and "disk full on the market" in result["msg"]
    assert "disk full" in zone.fails("one_marketplace_app", name=app, **EXPORT)["msg"]
    zone.driver.publish_error = ""
    zone.calls.clear()
    zone.changed("one_marketplace_app", check=True, name=app, **APP)
    zone.fails("one_marketplace_app", name=app, **{**APP, "marketplace": "nowhere"})
    assert zone.writes == [], "the app goes only when the new one can be imported"
    done = zone.changed("one_marketplace_app", name=app, **APP)
    assert (done["diff"]["before"]["state"], done["app"]["state"]) == ("ERROR", "READY")
    zone.unchanged("one_marketplace_app", name=app, **APP)


def test_an_export_that_fails_ends_the_wait_at_once_and_is_done_again_by_the_next_run(zone, app, monkeypatch):
    zone.changed("one_marketplace_app", name=app, **APP)
    with monkeypatch.context() as patched:
        patched.setattr(type(zone.driver), "register_image", broken_download)
        result = zone.fails("one_marketplace_app", name=app, **{**EXPORT, "wait_timeout": 600})
    assert result["error"]["kind"] == "wrong_state"
    assert "Image 'copy'" in result["msg"] and "404 from the market" in result["msg"]
    assert zone.changed("one_marketplace_app", name=app, **EXPORT)["diff"]["before"] == {}
    zone.unchanged("one_marketplace_app", name=app, **EXPORT)


def broken_download(_driver: object, _image: object) -> int:
    raise DriverError("404 from the market")


def test_an_import_that_takes_too_long_is_reported_with_the_state(zone, app, monkeypatch):
    copied = threading.Event()
    monkeypatch.setattr(zone.driver, "publish_image", lambda _image: str(copied.wait(600)))
    result = zone.fails("one_marketplace_app", name=app, **{**APP, "wait_timeout": 1})
    assert result["error"]["kind"] == "timeout"
    assert "is not READY after 1 seconds: its state is LOCKED" in result["msg"]
    copied.set()
    # The next run goes on waiting where this one gave up.
    assert zone.unchanged("one_marketplace_app", name=app, **APP)["app"]["state"] == "READY"


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        ({"marketplace": None}, "invalid", "Marketplace app 'appliance' does not exist: marketplace is needed."),
        ({"image": None}, "invalid", "Marketplace app 'appliance' does not exist: image is needed."),
        ({"marketplace": "nowhere"}, "missing", "There is no marketplace with the name 'nowhere'"),
        ({"image": "nowhere"}, "missing", "There is no image with the name 'nowhere'"),
        ({"template": {"vmtemplate64": "x"}}, "invalid", "The template has vmtemplate64; use the option vm_attributes"),
        (EXPORT, "missing", "There is no marketplace app with the name 'appliance'"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_made(zone, wrong, kind, sentence):
    zone.calls.clear()
    result = zone.fails("one_marketplace_app", name="appliance", **{**APP, **wrong})
    assert (result["error"]["kind"], zone.writes) == (kind, [])
    assert sentence in result["msg"]


def test_a_public_marketplace_takes_no_apps_and_the_server_says_so(zone):
    result = zone.fails("one_marketplace_app", name="appliance", **{**APP, "marketplace": 0})
    assert "Create disabled for market: OpenNebula Public" in result["msg"]


def test_another_image_for_an_app_is_an_error_since_it_cannot_be_exchanged(zone, app):
    zone.changed("one_marketplace_app", name=app, **APP)
    result = zone.fails("one_marketplace_app", name=app, image="other")
    assert result["error"]["kind"] == "conflict"
    assert "was made from image 0, not from 'other' (id 1)" in result["msg"]
    zone.unchanged("one_marketplace_app", name=app, image=0)


@pytest.mark.parametrize(
    "broken", ["not base64!", "Y", b64encode(b"CPU = [").decode(), b64encode(b"\xff\xfe").decode(), b64encode(b"A=\x07").decode()]
)
@pytest.mark.parametrize("attribute", ["APPTEMPLATE64", "VMTEMPLATE64"])
def test_a_template_of_an_app_that_cannot_be_read_is_neither_taken_for_empty_nor_lost(zone, app, attribute, broken):
    number = zone.changed("one_marketplace_app", name=app, **APP)["app"]["id"]
    zone.call("one.marketapp.update", number, f'{attribute}="{broken}"', 1)
    zone.calls.clear()
    for arguments in (EXPORT, {"template": {"VERSION": "2"}}):
        error = zone.run("one_marketplace_app", name=app, **arguments)
        assert error["error"]["kind"] == "invalid"
        assert f"{attribute} of marketplace app 'appliance' (id {number}) is not a readable template" in error["msg"]
    assert zone.writes == []
    options = {"image_template": {"DEV_PREFIX": "vd"}, "vm_attributes": {"MEMORY": 64}}
    zone.changed("one_marketplace_app", name=app, update="replace", **options)
    zone.unchanged("one_marketplace_app", name=app, update="replace", **options)


def test_a_template_that_is_encoded_without_padding_is_read(zone, app):
    number = zone.changed("one_marketplace_app", name=app, **APP)["app"]["id"]
    zone.call("one.marketapp.update", number, f'VMTEMPLATE64="{b64encode(b"MEMORY=1024").decode().rstrip("=")}"', 1)
    assert zone.unchanged("one_marketplace_app", name=app)["app"]["vm_attributes"] == {"MEMORY": "1024"}
