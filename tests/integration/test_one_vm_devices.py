# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Interfaces, disks and PCI devices of VMs that exist: what a change that fails leaves behind, against a zone that boots nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone
from lab.driver import DriverError

WAIT = {"wait_timeout": 60}
NEW = {"vm_template": "small", **WAIT}
GONE_ON = "The next run goes on from there."


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        for octet, name in enumerate(("private", "public")):
            zone.changed(
                "one_virtual_network", name=name, template={"VN_MAD": "bridge", "BRIDGE": f"br{octet}"},
                address_ranges=[{"IP": f"10.{octet}.0.10", "SIZE": 10}],
            )
        for image in ("system", "data"):
            zone.changed("one_image", name=image, path=f"/images/{image}", size=100)
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"NETWORK": True}})
        zone.call("one.user.allocate", "alice", "alicepw", "", [])
        yield zone


@pytest.fixture
def zone(prepared: ModuleZone) -> Iterator[ModuleZone]:
    """The zone, without VMs before and after the test."""
    yield prepared
    prepared.driver.__dict__.pop("change", None)
    for vm in prepared.zone.core.store.all("vm"):
        if vm["state"] != 6:
            prepared.call("one.vm.recover", vm["id"], 3)
            assert not prepared.run("one_vm", name=str(vm["id"]), state="absent", **WAIT).get("failed")


@pytest.fixture
def failing_change(zone: ModuleZone) -> Callable[[int], None]:
    """Let the driver fail at the changes with these numbers, counted from now on."""

    def fail_at(*numbers: int) -> None:
        count, change = iter(range(1, 100)), type(zone.driver).change

        def fails(spec) -> None:
            if next(count) in numbers:
                raise DriverError("no such bridge")
            change(zone.driver, spec)

        zone.driver.change = fails

    return fail_at


def only(result: dict) -> dict:
    (vm,) = result["vms"]
    return vm


def addresses(zone: ModuleZone, name: str = "web") -> list[str]:
    return only(zone.run("one_vm_info", name=name))["addresses"]


# ---- A change that fails takes nothing away -------------------------------------------------------


@pytest.mark.parametrize(("nic", "kind", "words"), [
    ({"IP": "10.0.0.99"}, "invalid", ["'private' (id 0)", "no range with the IP 10.0.0.99", "10.0.0.10 to 10.0.0.19"]),
    ({"IP": "10.0.0.15"}, "conflict", ["10.0.0.15", "taken by VM"]),
    ({"IP": "10.0.0.16"}, "conflict", ["10.0.0.16", "on hold"]),
    ({"IP": "10.0.0.256"}, "invalid", ["'10.0.0.256'", "not an IPv4 address"]),
    ({"MAC": "02:00:0b:00:00:01"}, "invalid", ["no range with the MAC 02:00:0b:00:00:01"]),
    ({"IP": "10.0.0.19", "MAC": "02:00:0a:00:00:13"}, "invalid", ["IP and MAC", "one of them"]),
])
def test_an_address_that_the_network_cannot_give_is_refused_before_anything_is_changed(zone, nic, kind, words):
    zone.changed("one_vm", name="other", nics=[{"NETWORK": "private", "IP": "10.0.0.15"}], **NEW)
    zone.changed("one_virtual_network", name="private", held=["10.0.0.16"])
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "private"}], **NEW)
    before = addresses(zone)
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", nics=[{"NETWORK": "private", **nic}], update="replace", mode="640", **WAIT)
    zone.changed("one_virtual_network", name="private", held=[], update="replace")
    assert failed["error"]["kind"] == kind
    for word in words:
        assert word in failed["msg"]
    assert [call for call in zone.writes if call.startswith("one.vm.")] == []
    assert addresses(zone) == before


def test_an_interface_that_the_driver_cannot_attach_leaves_the_one_it_would_replace(zone, failing_change):
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "private", "IP": "10.0.0.12"}], **NEW)
    failing_change(1)
    failed = zone.fails("one_vm", name="web", nics=[{"NETWORK": "public"}], update="replace", **WAIT)
    assert "no such bridge" in failed["msg"]
    assert f"is RUNNING with 1 interface, 0 disks, 0 PCI devices. {GONE_ON}" in failed["msg"]
    assert addresses(zone) == ["10.0.0.12"]
    assert only(zone.changed("one_vm", name="web", nics=[{"NETWORK": "public"}], update="replace", **WAIT))["addresses"][0].startswith("10.1.")


def test_a_disk_that_the_driver_cannot_attach_leaves_the_one_it_would_replace(zone, failing_change):
    zone.changed("one_vm", name="web", disks=[{"IMAGE": "system"}], **NEW)
    failing_change(1)
    failed = zone.fails("one_vm", name="web", disks=[{"IMAGE": "data"}], update="replace", **WAIT)
    assert "with 0 interfaces, 1 disk, 0 PCI devices" in failed["msg"]
    assert [disk["image"] for disk in only(zone.run("one_vm_info", name="web"))["disks"]] == ["system"]


def test_what_is_new_is_there_before_anything_of_any_kind_is_detached(zone):
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "private"}], disks=[{"IMAGE": "system"}], **NEW)
    zone.calls.clear()
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "public"}], disks=[{"IMAGE": "data"}], update="replace", **WAIT)
    assert zone.writes == ["one.vm.attachnic", "one.vm.attach", "one.vm.detachnic", "one.vm.detach"]


@pytest.fixture
def limited(zone: ModuleZone) -> Iterator[ModuleZone]:
    """A VM of a user who may have one address of the network."""
    zone.changed("one_vm", name="web", owner="alice", nics=[{"NETWORK": "private", "IP": "10.0.0.12"}], **NEW)
    alice = next(user["id"] for user in zone.zone.core.store.all("user") if user["name"] == "alice")
    zone.call("one.user.quota", alice, "NETWORK=[ID=0, LEASES=1]")
    yield zone
    zone.call("one.user.quota", alice, "NETWORK=[ID=0, LEASES=-1]")


MOVED = {"nics": [{"NETWORK": "private", "IP": "10.0.0.13"}], "update": "replace", **WAIT}


def test_an_interface_goes_first_where_a_limit_leaves_no_room_for_both(limited):
    limited.calls.clear()
    assert only(limited.changed("one_vm", name="web", **MOVED))["addresses"] == ["10.0.0.13"]
    assert limited.writes == ["one.vm.attachnic", "one.vm.detachnic", "one.vm.attachnic"]
    limited.unchanged("one_vm", name="web", **MOVED)


def test_an_interface_that_went_first_comes_back_when_the_new_one_cannot_be_attached(limited, failing_change):
    failing_change(2)
    failed = limited.fails("one_vm", name="web", **MOVED)
    assert "no such bridge" in failed["msg"] and f"is RUNNING with 1 interface, 0 disks, 0 PCI devices. {GONE_ON}" in failed["msg"]
    assert addresses(limited) == ["10.0.0.12"]
    assert only(limited.changed("one_vm", name="web", **MOVED))["addresses"] == ["10.0.0.13"]


def test_an_interface_that_cannot_come_back_either_is_said_to_be_gone(limited, failing_change):
    failing_change(2, 3)
    failed = limited.fails("one_vm", name="web", **MOVED)
    assert "Undoing it failed too" in failed["msg"] and "with 0 interfaces" in failed["msg"] and GONE_ON in failed["msg"]


def test_a_vm_that_was_stopped_for_a_change_that_fails_runs_again(zone):
    zone.changed("one_vm", name="other", pcis=[{"SHORT_ADDRESS": "02:00.0"}], **NEW)
    zone.changed("one_vm", name="web", **NEW)
    wanted = {"memory": 96, "pcis": [{"SHORT_ADDRESS": "02:00.0"}], "restart": True}
    failed = zone.fails("one_vm", name="web", **wanted, **WAIT)
    assert "Check address and free devices" in failed["msg"] and "is RUNNING with" in failed["msg"] and GONE_ON in failed["msg"]
    vm = only(zone.run("one_vm_info", name="web"))
    assert (vm["state"], vm["memory"]) == ("RUNNING", 96)
    zone.changed("one_vm", name="other", state="absent", **WAIT)
    assert len(only(zone.changed("one_vm", name="web", **wanted, **WAIT))["pcis"]) == 1


def test_a_vm_that_could_not_be_enlarged_runs_again(zone):
    zone.changed("one_vm", name="web", owner="alice", **NEW)
    alice = next(user["id"] for user in zone.zone.core.store.all("user") if user["name"] == "alice")
    zone.call("one.user.quota", alice, "VM=[MEMORY=80]")
    failed = zone.fails("one_vm", name="web", memory=128, restart=True, **WAIT)
    zone.call("one.user.quota", alice, "VM=[MEMORY=-1]")
    assert failed["error"]["kind"] == "quota" and "is RUNNING with" in failed["msg"]
    assert only(zone.run("one_vm_info", name="web"))["state"] == "RUNNING"


# ---- Disks ----------------------------------------------------------------------------------------


def sizes(result: dict) -> list[int]:
    return [disk["size"] for disk in only(result)["disks"]]


def test_an_id_is_the_same_with_leading_zeros(zone):
    network = zone.run("one_virtual_network", name="private")["virtual_network"]["id"]
    image = zone.run("one_image", name="data")["image"]["id"]
    zone.changed("one_vm", name="web", nics=[{"NETWORK_ID": f"0{network}"}], disks=[{"IMAGE": f"0{image}"}], **NEW)
    for nic in ({"NETWORK": f"00{network}"}, {"NETWORK_ID": float(network)}, {"NETWORK": "private"}):
        zone.unchanged("one_vm", name="web", nics=[nic], disks=[{"IMAGE_ID": f"00{image}"}], **NEW)


def test_an_empty_address_or_id_says_nothing(zone):
    nic = {"NETWORK": "private", "NETWORK_ID": "", "IP": "", "IP6": None, "MAC": "", "VENDOR": ""}
    wanted = {"nics": [nic], "disks": [{"IMAGE": "", "IMAGE_ID": zone.run("one_image", name="data")["image"]["id"]}]}
    zone.changed("one_vm", name="web", **wanted, **NEW)
    zone.unchanged("one_vm", name="web", **wanted, **NEW)
    failed = zone.fails("one_vm", name="web", nics=[{"NETWORK": "", "MODEL": "virtio"}], **NEW)
    assert failed["error"]["kind"] == "invalid" and "it must have NETWORK or NETWORK_ID or NETWORK_MODE" in failed["msg"]


@pytest.mark.parametrize("device", [{"nics": [{"NETWORK": "private", "NETWORK_ID": 1}]}, {"disks": [{"IMAGE": "system", "IMAGE_ID": 1}]},
                                    {"nics": [{"NETWORK": "0", "NETWORK_ID": 1}]}])
def test_a_name_and_the_id_of_another_object_are_refused(zone, device):
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", **device, **NEW)
    assert failed["error"]["kind"] == "invalid" and "two of them" in failed["msg"]
    assert zone.writes == []


def test_a_volatile_disk_needs_no_more_than_its_size(zone):
    wanted = {"name": "web", "disks": [{"SIZE": 20}, {"SIZE": "1G", "TYPE": "swap"}]}
    vm = only(zone.changed("one_vm", **wanted, **NEW))
    kept = zone.zone.core.store.get("vm", vm["id"])["template"]["DISK"]
    assert [(disk["TYPE"], disk["SIZE"], disk.get("FORMAT")) for disk in kept] == [("fs", "20", "raw"), ("swap", "1024", None)]
    zone.unchanged("one_vm", **wanted, update="replace")
    assert sizes(zone.changed("one_vm", name="web", disks=[*wanted["disks"], {"size": 30}], **WAIT)) == [20, 1024, 30]


@pytest.mark.parametrize(("disk", "words"), [
    ({"SIZE": 20, "TYPE": "block"}, "TYPE block and no image; without one it is fs or swap"),
    ({"SIZE": 0}, "must be 1 MB or more"),
    ({"SIZE": "much"}, "'much' is not a size"),
])
def test_a_volatile_disk_that_cannot_be_is_refused_before_anything_is_made(zone, disk, words):
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", disks=[disk], **NEW)
    assert failed["error"]["kind"] == "invalid" and words in failed["msg"]
    assert zone.writes == []


@pytest.mark.parametrize("state", ["running", "poweroff"])
def test_a_disk_becomes_larger_and_never_smaller(zone, state):
    zone.changed("one_vm", name="web", disks=[{"IMAGE": "system"}], state=state, **NEW)
    larger = {"name": "web", "disks": [{"IMAGE": "system", "SIZE": 200}]}
    predicted = zone.changed("one_vm", check=True, **larger)
    zone.calls.clear()
    done = zone.changed("one_vm", **larger, **WAIT)
    assert zone.writes == ["one.vm.diskresize"]
    assert predicted["diff"] == done["diff"]
    assert sizes(done) == [200] and only(done)["state"] == state.upper()
    zone.unchanged("one_vm", **larger, update="replace")
    zone.unchanged("one_vm", name="web", disks=[{"IMAGE": "system"}])
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", disks=[{"IMAGE": "system", "SIZE": 150}], mode="640")
    assert failed["error"]["kind"] == "conflict" and "has 200 MB, it cannot become smaller, 150 MB" in failed["msg"]
    assert zone.writes == []


def test_a_disk_that_the_driver_cannot_enlarge_is_an_error(zone, failing_change):
    zone.changed("one_vm", name="web", disks=[{"IMAGE": "system"}], **NEW)
    failing_change(1)
    assert "no such bridge" in zone.fails("one_vm", name="web", disks=[{"IMAGE": "system", "SIZE": 200}], **WAIT)["msg"]
    assert sizes(zone.run("one_vm_info", name="web")) == [100]


# ---- Interfaces that are PCI devices --------------------------------------------------------------

CARD = {"NETWORK": "private", "VENDOR": "14e4", "CLASS": "0200"}


def interfaces(zone: ModuleZone) -> list[tuple[int, str, bool]]:
    """The id of each interface of the VM, its network, and whether it is a PCI device."""
    template = zone.zone.core.store.get("vm", only(zone.run("one_vm_info", name="web"))["id"])["template"]
    devices = [device for device in template.get("PCI", ()) if device.get("TYPE") == "NIC"]
    found = [(int(nic["NIC_ID"]), nic["NETWORK"], nic in devices) for nic in (*template["NIC"], *devices)]
    return sorted(found)


def test_an_interface_that_is_a_pci_device_is_made_once_and_listed_as_one(zone):
    vm = only(zone.changed("one_vm", name="web", nics=[CARD], **NEW))
    assert interfaces(zone) == [(0, "private", True)]
    assert [(nic["id"], nic["network"]) for nic in vm["nics"]] == [(0, "private")]
    assert len(vm["addresses"]) == 1
    zone.unchanged("one_vm", name="web", nics=[CARD], update="replace")
    zone.unchanged("one_vm", name="web", nics=[{**CARD, "VENDOR": "0x14E4", "TYPE": "NIC"}], pcis=[], update="replace")


def test_the_only_interface_goes_though_it_is_a_pci_device(zone):
    zone.changed("one_vm", name="web", nics=[CARD], **NEW)
    zone.calls.clear()
    assert only(zone.changed("one_vm", name="web", nics=[], update="replace", **WAIT))["nics"] == []
    assert zone.writes == ["one.vm.detachnic"]
    assert interfaces(zone) == []


def test_an_interface_is_attached_beside_one_that_is_a_pci_device(zone):
    zone.changed("one_vm", name="web", nics=[CARD], **NEW)
    both = {"name": "web", "nics": [CARD, {"NETWORK": "public"}]}
    zone.changed("one_vm", **both, **WAIT)
    assert interfaces(zone) == [(0, "private", True), (1, "public", False)]
    zone.unchanged("one_vm", **both, update="replace")


def test_a_pci_device_is_attached_as_an_interface(zone):
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "public"}], **NEW)
    both = {"name": "web", "nics": [{"NETWORK": "public"}, CARD]}
    zone.calls.clear()
    zone.changed("one_vm", **both, **WAIT)
    assert zone.writes == ["one.vm.attachnic"]
    assert interfaces(zone) == [(0, "public", False), (1, "private", True)]
    zone.unchanged("one_vm", **both, update="replace")


@pytest.mark.parametrize(("first", "second"), [(CARD, {"NETWORK": "private"}), ({"NETWORK": "private"}, CARD)])
def test_an_interface_becomes_a_pci_device_and_an_ordinary_one_again(zone, first, second):
    zone.changed("one_vm", name="web", nics=[first], **NEW)
    zone.changed("one_vm", name="web", nics=[second], update="replace", **WAIT)
    assert interfaces(zone) == [(1, "private", second is CARD)]
    zone.unchanged("one_vm", name="web", nics=[second], update="replace")


def test_an_interface_keeps_its_address_when_it_becomes_an_ordinary_one(zone, failing_change):
    kept = {"NETWORK": "private", "IP": "10.0.0.14"}
    zone.changed("one_vm", name="web", nics=[{**CARD, **kept}], **NEW)
    failing_change(2)
    failed = zone.fails("one_vm", name="web", nics=[kept], update="replace", **WAIT)
    assert "with 1 interface" in failed["msg"] and interfaces(zone) == [(0, "private", True)]
    zone.calls.clear()
    assert addresses(zone) == ["10.0.0.14"]
    zone.changed("one_vm", name="web", nics=[kept], update="replace", **WAIT)
    assert zone.writes == ["one.vm.attachnic", "one.vm.detachnic", "one.vm.attachnic"]
    assert addresses(zone) == ["10.0.0.14"] and [is_device for *_rest, is_device in interfaces(zone)] == [False]


def test_the_device_that_somebody_has_is_no_interface_of_another_vm(zone):
    zone.changed("one_vm", name="other", nics=[CARD], **NEW)
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "public"}], **NEW)
    failed = zone.fails("one_vm", name="web", nics=[CARD], update="replace", **WAIT)
    assert "Check address and free devices" in failed["msg"] and interfaces(zone) == [(0, "public", False)]


@pytest.fixture
def equipped(zone: ModuleZone) -> Iterator[dict]:
    """Options for a VM whose VM template has an interface of each kind and another device."""
    device = {"VENDOR": "10de", "CLASS": "0302"}
    card = {"TYPE": "NIC", "NETWORK_ID": "0", "VENDOR": "14e4"}
    template = {"CPU": 0.1, "MEMORY": 64, "NIC": {"NETWORK_ID": "1"}, "PCI": [card, device]}
    zone.changed("one_template", name="equipped", template=template)
    yield {"name": "web", "vm_template": "equipped", **WAIT}
    zone.changed("one_template", name="equipped", state="absent")


@pytest.mark.parametrize(("options", "nics", "devices"), [
    ({}, [(0, "public", False), (1, "private", True)], ["10de"]),
    ({"nics": [{"NETWORK": "private"}]}, [(0, "private", False)], ["10de"]),
    ({"nics": [{"NETWORK": "private"}, CARD]}, [(0, "private", False), (1, "private", True)], ["10de"]),
    ({"pcis": [{"VENDOR": "1022"}]}, [(0, "public", False), (1, "private", True)], ["1022"]),
])
def test_interfaces_and_devices_of_a_new_vm_take_the_place_of_those_of_its_template(zone, equipped, options, nics, devices):
    vm = only(zone.changed("one_vm", **equipped, **options))
    assert interfaces(zone) == nics
    there = zone.zone.core.store.get("vm", vm["id"])["template"]["PCI"]
    assert [device["VENDOR"] for device in there if device.get("TYPE") != "NIC"] == devices
    zone.unchanged("one_vm", **equipped, **options, update="replace")


def test_a_new_vm_cannot_be_made_without_what_its_template_has(zone, equipped):
    for options in ({"nics": []}, {"nics": [CARD]}, {"pcis": [], "nics": [{"NETWORK": "private"}]}):
        failed = zone.fails("one_vm", **equipped, **options)
        assert failed["error"]["kind"] == "invalid" and "cannot be made without those of its VM template" in failed["msg"]
