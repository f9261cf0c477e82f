# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Attributes of VMs that exist: compared as the server keeps them, changed where it can, refused where it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

WAIT = {"wait_timeout": 60}
NEW = {"vm_template": "small", "state": "hold", **WAIT}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"NETWORK": True}})
        zone.changed("one_template", name="bare", template={"CPU": 0.1, "MEMORY": 64})
        yield zone


@pytest.fixture
def zone(prepared: ModuleZone) -> Iterator[ModuleZone]:
    """The zone, without the VM before and after the test."""
    yield prepared
    prepared.run("one_vm", name="web", state="absent", **WAIT)


def stored(zone: ModuleZone, number: int) -> dict:
    return zone.zone.core.store.get("vm", number)["template"]


def made(zone: ModuleZone, template: dict, **options: object) -> int:
    (vm,) = zone.changed("one_vm", name="web", template=template, **{**NEW, **options})["vms"]
    return vm["id"]


# What is written in two ways and means the same to the server.
SAME = [
    ({"FEATURES": {"GUEST_AGENT": "yes", "ACPI": "no"}}, {"features": {"guest_agent": "True", "ACPI": False}}),
    ({"FEATURES": {"GUEST_AGENT": True}}, {"FEATURES": {"GUEST_AGENT": "on"}}),
    ({"FEATURES": {"GIC": "HOST", "IOTHREADS": 2}}, {"FEATURES": {"GIC": "host", "IOTHREADS": "2"}}),
    ({"FEATURES": {"MIGRATE_AUTO_CONVERGE": "20, 10"}}, {"FEATURES": {"MIGRATE_AUTO_CONVERGE": "20,10"}}),
    ({"VIDEO": {"TYPE": "VIRTIO", "IOMMU": "yes"}}, {"VIDEO": {"TYPE": "virtio", "IOMMU": True}}),
    ({"GRAPHICS": {"TYPE": "VNC", "PASSWD": "longer-than-eight"}}, {"GRAPHICS": {"TYPE": "VNC", "PASSWD": "longer-than-eight"}}),
    ({"CPU_MODEL": {"FEATURES": "avx,aes"}}, {"CPU_MODEL": {"FEATURES": ["avx", "aes"]}}),
    ({"REQUIREMENTS": "ARCH=x86_64"}, {"SCHED_REQUIREMENTS": "ARCH=x86_64"}),
    ({"SCHED_REQUIREMENTS": 'NAME="$NAME"'}, {"SCHED_REQUIREMENTS": 'NAME="$NAME"'}),
    ({"MEMORY_MAX": "128", "MEMORY_RESIZE_MODE": "hotplug"}, {"MEMORY_MAX": 128, "MEMORY_RESIZE_MODE": "HOTPLUG"}),
    ({"TOPOLOGY": {"PIN_POLICY": "thread", "SOCKETS": 1}}, {"TOPOLOGY": {"pin_policy": "THREAD", "SOCKETS": "1"}}),
    ({"SUBMIT_ON_HOLD": "yes"}, {"SUBMIT_ON_HOLD": True}),
    ({"NIC_DEFAULT": {"MODEL": "virtio"}}, {"NIC_DEFAULT": {"model": "virtio"}}),
    ({"CONTEXT": {"START_SCRIPT": "one\r\ntwo"}, "NOTE": "a\r\nb"}, {"CONTEXT": {"START_SCRIPT": "one\ntwo"}, "NOTE": "a\nb"}),
    ({"FEATURES": {}, "VIDEO": ""}, {"FEATURES": None, "VIDEO": {}}),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_what_means_the_same_is_no_change(zone, first, second):
    made(zone, first)
    for wanted in (first, second):
        zone.unchanged("one_vm", name="web", template=wanted)


def test_on_and_off_reach_the_server_in_the_only_words_it_knows(zone):
    number = made(zone, {"FEATURES": {"GUEST_AGENT": "true", "PAE": "off"}})
    assert stored(zone, number)["FEATURES"] == {"GUEST_AGENT": "YES", "PAE": "NO"}
    zone.changed("one_vm", name="web", template={"FEATURES": {"PAE": "1"}})
    assert stored(zone, number)["FEATURES"] == {"GUEST_AGENT": "YES", "PAE": "YES"}
    failed = zone.fails("one_vm", name="web", template={"FEATURES": {"PAE": "maybe"}})
    assert failed["error"]["kind"] == "invalid" and "FEATURES/PAE: 'maybe' is neither yes nor no" in failed["msg"]


def test_a_cpu_with_more_digits_than_the_server_keeps_is_no_change(zone):
    made(zone, {}, cpu=0.3333333333)
    zone.unchanged("one_vm", name="web", cpu=0.3333333333)


FIXED = [
    ({"TOPOLOGY": {"PIN_POLICY": "CORE"}}, "TOPOLOGY none, which cannot become [PIN_POLICY=CORE]"),
    ({"EMULATOR": "/usr/bin/qemu"}, "EMULATOR none, which cannot become /usr/bin/qemu"),
    ({"MEMORY_MAX": 256}, "MEMORY_MAX none, which cannot become 256"),
    ({"VMGROUP": {"VMGROUP_NAME": "g", "ROLE": "r"}}, "VMGROUP none"),
    ({"NIC_ALIAS": [{"NETWORK": "net", "PARENT": "NIC0"}]}, "NIC_ALIAS none"),
    ({"SCHED_ACTION": {"ACTION": "poweroff", "TIME": 1900000000}}, "SCHED_ACTION none"),
    ({"TPM": {"MODEL": "tpm-crb"}}, "TPM none"),
    ({"GRAPHICS": {"TYPE": "vnc", "PORT": 5901}}, "GRAPHICS/PORT none, which cannot become 5901"),
    ({"CONTEXT": {"TARGET": "hdz"}}, "which cannot become hdz"),
    ({"CONTEXT": {"DISK_ID": 7}}, "CONTEXT/DISK_ID 0, which cannot become 7"),
    ({"OS": {"KERNEL_DS": "$FILE[IMAGE_ID=1]"}}, "OS/KERNEL_DS none"),
    ({"INPUT": [{"TYPE": "tablet", "BUS": "usb"}, {"TYPE": "mouse", "BUS": "usb"}]}, "only a single vector of it can change"),
]


@pytest.mark.parametrize(("wanted", "words"), FIXED)
def test_what_cannot_change_is_refused_before_anything_is_changed(zone, wanted, words):
    made(zone, {})
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", template=wanted, mode="640")
    assert failed["error"]["kind"] == "conflict" and words in failed["msg"]
    assert zone.writes == []


def test_a_context_cannot_be_added(zone):
    made(zone, {}, vm_template="bare")
    failed = zone.fails("one_vm", name="web", template={"CONTEXT": {"A": "b"}})
    assert failed["error"]["kind"] == "conflict" and "has no CONTEXT, and none can be added to it" in failed["msg"]


def test_a_pinned_vm_has_a_cpu_for_each_virtual_one(zone):
    made(zone, {"TOPOLOGY": {"PIN_POLICY": "CORE", "SOCKETS": 1}}, cpu=2, vcpu=2)
    zone.unchanged("one_vm", name="web", cpu=2)
    failed = zone.fails("one_vm", name="web", cpu=1)
    assert failed["error"]["kind"] == "conflict" and "its cpu is its vcpu, 2" in failed["msg"]


def test_a_password_that_the_server_keeps_encrypted_is_compared_where_the_user_may_know_it(zone):
    number = made(zone, {"CONTEXT": {"PASSWORD": "first-secret"}}, group="users")
    assert "first-secret" not in zone.call("one.vm.info", number) and "first-secret" in zone.call("one.vm.info", number, True)
    zone.unchanged("one_vm", name="web", template={"CONTEXT": {"PASSWORD": "first-secret"}})
    zone.changed("one_vm", name="web", template={"CONTEXT": {"PASSWORD": "second-secret"}})
    zone.unchanged("one_vm", name="web", template={"CONTEXT": {"PASSWORD": "second-secret"}})
    # Whoever is no administrator cannot know whether it is the same.
    zone.call("one.user.allocate", "alice", "alicepw", "", [])
    zone.changed("one_vm", name="web", owner="alice")
    alice = {"api_username": "alice", "api_password": "alicepw"}
    zone.unchanged("one_vm", name="web", template={"CONTEXT": {"PASSWORD": "third-secret"}}, **alice)


def test_the_configuration_of_backups_is_changed_as_the_server_keeps_it(zone):
    number = made(zone, {"BACKUP_CONFIG": {"KEEP_LAST": 2, "BACKUP_VOLATILE": "yes", "FS_FREEZE": "agent"}})
    zone.unchanged("one_vm", name="web", template={"BACKUP_CONFIG": {"keep_last": "2", "BACKUP_VOLATILE": True, "FS_FREEZE": "Agent"}})
    zone.calls.clear()
    wanted = {"BACKUP_CONFIG": {"KEEP_LAST": 4, "BACKUP_VOLATILE": False}}
    changed = zone.changed("one_vm", name="web", template=wanted)
    assert zone.writes == ["one.vm.updateconf"]
    assert changed["diff"]["after"] == {"web": {"configuration": {"BACKUP_CONFIG": {"KEEP_LAST": "4", "BACKUP_VOLATILE": "NO"}}}}
    zone.unchanged("one_vm", name="web", template=wanted)
    kept = zone.zone.core.store.get("vm", number)["backup"]
    assert (kept["KEEP_LAST"], kept["BACKUP_VOLATILE"], kept["FS_FREEZE"]) == ("4", "NO", "AGENT")


@pytest.mark.parametrize("wanted", [{"FS_FREEZE": "maybe"}, {"MODE": "partial"}, {"INCREMENT_MODE": "delta"}, {"KEEP_LAST": "two"}])
def test_what_the_server_would_take_for_something_else_is_refused(zone, wanted):
    made(zone, {})
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", template={"BACKUP_CONFIG": wanted})
    assert failed["error"]["kind"] == "invalid" and f"BACKUP_CONFIG/{next(iter(wanted))}: " in failed["msg"]
    assert zone.writes == []


def test_a_mode_that_the_disks_do_not_bear_is_an_error_and_no_change_for_ever(zone):
    made(zone, {})
    failed = zone.fails("one_vm", name="web", template={"BACKUP_CONFIG": {"MODE": "INCREMENT"}})
    assert failed["error"]["kind"] == "conflict"
    assert "has BACKUP_CONFIG/MODE FULL: the server does not take INCREMENT for its disks" in failed["msg"]


def test_a_vm_that_never_had_a_configuration_of_backups_gets_one(zone):
    made(zone, {})
    wanted = {"BACKUP_CONFIG": {"KEEP_LAST": 4, "MODE": "full", "INCREMENT_MODE": "CBT"}}
    zone.changed("one_vm", name="web", template=wanted)
    zone.unchanged("one_vm", name="web", template=wanted)
