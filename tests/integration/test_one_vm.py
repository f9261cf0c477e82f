# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines against a zone that boots nothing: what one_vm changes, leaves alone and says, and what one_vm_info lists."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import states
from ansible_collections.opennebula.flower.tests.support.one_servers import hanging
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone, run_module
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from lab.driver import Driver, DriverError

WAIT = {"wait_timeout": 600}
NEW = {"vm_template": "small", **WAIT}
POOL = "one.vmpool.infoextended"
CPU_MODEL = {"CPU_MODEL": {"MODEL": "host-passthrough"}}


def network(zone: ModuleZone, name: str, octet: int) -> None:
    template = {"VN_MAD": "bridge", "BRIDGE": f"br{octet}", "NETWORK_ADDRESS": f"10.{octet}.0.0", "NETWORK_MASK": "255.255.0.0"}
    zone.changed(
        "one_virtual_network", name=name, template=template, address_ranges=[{"ip": f"10.{octet}.0.10", "size": 100}]
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        network(zone, "private", 9)
        network(zone, "public", 8)
        for name in ("system", "data"):
            zone.changed("one_image", name=name, path=f"/images/{name}", size=10)
        context = {"TOKEN": True, "NETWORK": True}
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": context})
        zone.changed("one_template", name="debian-12", template={"CPU": 0.1, "MEMORY": 64})
        zone.changed("one_template", name="debian-13", template={"CPU": 0.1, "MEMORY": 64})
        for name in ("web", "ssh"):
            save_security_group(zone, name)
        zone.call("one.user.allocate", "alice", "alicepw", "", [])
        zone.call("one.user.allocate", "bob", "bobpw", "", [])
        zone.call("one.group.allocate", "staff")
        yield zone


@pytest.fixture
def zone(prepared: ModuleZone) -> Iterator[ModuleZone]:
    """The zone, without VMs before and after the test."""
    yield prepared
    prepared.driver.boot_error = ""
    prepared.driver.__dict__.pop("change", None)
    alive = [vm["id"] for vm in prepared.zone.core.store.all("vm") if vm["state"] != 6]
    for number in alive:
        prepared.call("one.vm.recover", number, 3)
    for number in alive:
        assert not prepared.run("one_vm", name=str(number), state="absent", **WAIT).get("failed")


def save_security_group(zone: ModuleZone, name: str) -> None:
    core = zone.zone.core
    with core.locked():
        number = core.store.new_id("secgroup")
        rules = {"RULE": [{"PROTOCOL": "ALL", "RULE_TYPE": "INBOUND"}]}
        item = {"id": number, "name": name, "uid": 0, "gid": 0, "permissions": "111100100", "template": rules}
        core.store.save("secgroup", item)


def only(result: dict) -> dict:
    (vm,) = result["vms"]
    return vm


def document(zone: ModuleZone, number: int) -> dict:
    return zone.zone.core.store.get("vm", number)


def held(zone: ModuleZone, *names: str, extra: str = "") -> list[int]:
    """Make VMs that never boot."""
    return [zone.call("one.template.instantiate", 0, name, True, extra) for name in names]


# ---- Making VMs -----------------------------------------------------------------------------------


def test_a_vm_is_made_once_and_removed_once(zone):
    zone.calls.clear()
    predicted = zone.changed("one_vm", check=True, name="web", **NEW)
    assert zone.writes == [] and predicted["vms"] == [{"name": "web"}]
    made = zone.changed("one_vm", name="web", **NEW)
    assert made["diff"] == predicted["diff"]
    assert only(made)["state"] == "RUNNING"
    assert only(zone.unchanged("one_vm", name="web", **NEW)) == only(made)

    zone.calls.clear()
    zone.changed("one_vm", check=True, name="web", state="absent")
    assert zone.writes == []
    zone.changed("one_vm", name="web", state="absent", **WAIT)
    assert zone.unchanged("one_vm", name="web", state="absent")["vms"] == []


def test_a_new_vm_has_everything_the_task_says(zone):
    vm = only(zone.changed(
        "one_vm", name="web", cpu=0.2, memory=96, vcpu=2, mode="640", owner="alice", group="staff",
        nics=[{"NETWORK": "private", "SECURITY_GROUPS": ["web", "ssh"]}, {"network": "public", "ip": "10.8.0.20"}],
        disks=[{"IMAGE": "system"}, {"SIZE": 50, "TYPE": "fs"}],
        template={**CPU_MODEL, "LABELS": "a, b", "CONTEXT": {"NOTE": 'say "hi", [x]\\'}}, **NEW,
    ))
    assert (vm["cpu"], vm["memory"], vm["vcpu"]) == (0.2, 96, 2)
    assert (vm["mode"], vm["owner"], vm["group"], vm["labels"]) == ("640", "alice", "staff", ["a", "b"])
    assert [nic["network"] for nic in vm["nics"]] == ["private", "public"]
    assert vm["nics"][0]["security_groups"] == [0, 1, 2]
    assert vm["nics"][1]["ip"] == "10.8.0.20"
    assert [disk["image"] for disk in vm["disks"]] == ["system", ""]
    template = document(zone, vm["id"])["template"]
    assert template["CPU_MODEL"] == {"MODEL": "host-passthrough"}
    assert template["CONTEXT"]["NOTE"] == 'say "hi", [x]\\'
    assert template["CONTEXT"]["TOKEN"] == "YES", "the VM template's context stays"


@pytest.mark.parametrize("pattern", ["debian-12", "1", "debian-*2", "~^deb.*2$"])
def test_a_vm_template_is_found_by_name_id_wildcard_or_regular_expression(zone, pattern):
    assert only(zone.changed("one_vm", name="web", vm_template=pattern, **WAIT))["template_id"] == 1


def test_the_vm_template_0_is_one(zone):
    assert only(zone.changed("one_vm", name="web", vm_template="0", **WAIT))["template_id"] == 0


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"vm_template": "debian-*"}, "conflict", ["'debian-12' (id 1)", "'debian-13' (id 2)"]),
    ({"vm_template": "~("}, "invalid", ["regular expression"]),
    ({"vm_template": "nothing*"}, "missing", ["VM template", "'nothing*'"]),
    ({}, "invalid", ["'web'", "vm_template"]),
    ({"vm_template": "small", "nics": [{"NETWORK": "nowhere"}]}, "missing", ["virtual network", "'nowhere'"]),
    ({"vm_template": "small", "nics": [{"NETWORK": "private", "SECURITY_GROUPS": "none"}]}, "missing", ["security group"]),
    ({"vm_template": "small", "disks": [{"IMAGE": "nothing"}]}, "missing", ["image", "'nothing'"]),
    ({"vm_template": "small", "disks": [{"TYPE": "fs"}]}, "invalid", ["disks", "SIZE"]),
    ({"vm_template": "small", "nics": []}, "invalid", ["nics is empty"]),
    ({"vm_template": "small", "pcis": [{"PROFILE": "1"}]}, "invalid", ["pcis", "SHORT_ADDRESS or VENDOR"]),
    ({"vm_template": "small", "template": {"PCI": {}}}, "invalid", ["PCI", "option pcis"]),
    ({"vm_template": "small", "state": "suspended", "wait": False}, "invalid", ["it takes wait to suspend it"]),
    ({"vm_template": "small", "owner": "nobody"}, "missing", ["user", "'nobody'"]),
    ({"vm_template": "small", "template": {"memory": 1}}, "invalid", ["MEMORY", "option memory"]),
    ({"vm_template": "small", "cpu": 0}, "invalid", ["cpu is 0"]),
    ({"vm_template": "small", "mode": "48"}, "invalid", ["'48'", "octal"]),
    ({"vm_template": "small", "count": 2}, "invalid", ["count", "#"]),
])
def test_what_cannot_be_is_said_before_anything_is_made(zone, options, kind, words):
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", **options)
    assert failed["error"]["kind"] == kind
    assert all(word in failed["msg"] for word in words), failed["msg"]
    assert zone.writes == []


def test_check_mode_only_warns_of_what_an_earlier_task_may_make(zone, capsys):
    options = {"vm_template": "later", "nics": [{"NETWORK": "later"}], "owner": "later"}
    result = zone.changed("one_vm", check=True, name="web", **options)
    # Where the control node's own code is loaded too, warnings are shown instead of returned.
    said = f"{result} {capsys.readouterr().err}"
    for kind in ("VM template", "virtual network", "user"):
        assert f"There is no {kind} with the name 'later'" in said


def test_a_vm_on_hold_is_not_scheduled_until_it_is_wanted_to_run(zone):
    vm = only(zone.changed("one_vm", name="web", state="hold", **NEW))
    assert vm["state"] == "HOLD"
    zone.unchanged("one_vm", name="web", state="hold", **NEW)
    zone.unchanged("one_vm", name="web", **NEW)
    assert only(zone.changed("one_vm", name="web", state="running", **NEW))["state"] == "RUNNING"
    failed = zone.fails("one_vm", name="web", state="hold")
    assert failed["error"]["kind"] == "wrong_state" and "cannot become HOLD" in failed["msg"]


def test_a_vm_can_be_made_powered_off(zone):
    vm = only(zone.changed("one_vm", name="web", state="poweroff", **NEW))
    assert vm["state"] == "POWEROFF"
    zone.unchanged("one_vm", name="web", state="poweroff", **NEW)


def test_without_waiting_the_module_returns_at_once_and_the_next_run_waits(zone):
    zone.changed("one_vm", name="web", wait=False, **NEW)
    assert only(zone.unchanged("one_vm", name="web", state="running", **NEW))["state"] == "RUNNING"


def test_a_vm_can_be_made_suspended_and_goes_from_any_rest_to_any_other(zone):
    vm = only(zone.changed("one_vm", name="web", state="suspended", **NEW))
    assert vm["state"] == "SUSPENDED"
    zone.unchanged("one_vm", name="web", state="suspended", **NEW)
    for state in ("poweroff", "suspended", "running", "suspended"):
        assert only(zone.changed("one_vm", name="web", state=state, **WAIT))["state"] == state.upper()
        zone.unchanged("one_vm", name="web", state=state, **WAIT)
    failed = zone.fails("one_vm", name="web", nics=[{"NETWORK": "private"}])
    assert failed["error"]["kind"] == "wrong_state" and "is SUSPENDED: its nics" in failed["msg"]


def test_a_driver_that_cannot_suspend_ends_the_wait_with_its_reason(zone, monkeypatch):
    zone.changed("one_vm", name="web", **NEW)
    monkeypatch.setattr(zone.driver, "suspend", partial(Driver.suspend, zone.driver))
    failed = zone.fails("one_vm", name="web", state="suspended", wait_timeout=600)
    assert failed["error"]["kind"] == "wrong_state"
    assert "is RUNNING" in failed["msg"] and "the driver dummy cannot keep a machine's memory" in failed["msg"]


# ---- Sets of VMs ----------------------------------------------------------------------------------


def test_a_count_is_exact_and_the_second_run_changes_nothing(zone):
    options = {"name": "node-##", **NEW}
    made = zone.changed("one_vm", count=3, **options)
    assert [vm["name"] for vm in made["vms"]] == ["node-00", "node-01", "node-02"]
    zone.unchanged("one_vm", count=3, **options)
    assert zone.calls == [POOL]

    zone.changed("one_vm", name="node-01", state="absent", **WAIT)
    zone.calls.clear()
    predicted = zone.changed("one_vm", check=True, count=4, **options)
    assert zone.writes == []
    grown = zone.changed("one_vm", count=4, **options)
    assert sorted(predicted["diff"]["after"]) == ["node-01", "node-03"]
    assert sorted(vm["name"] for vm in grown["vms"]) == ["node-00", "node-01", "node-02", "node-03"]

    shrunk = zone.changed("one_vm", count=2, **options)
    assert sorted(shrunk["diff"]["before"]) == ["node-02", "node-03"]
    assert sorted(vm["name"] for vm in shrunk["vms"]) == ["node-00", "node-01"]
    zone.unchanged("one_vm", count=2, **options)


def test_all_vms_of_a_set_are_stopped_started_and_removed_by_their_pattern(zone):
    zone.changed("one_vm", name="node-#", count=2, **NEW)
    zone.changed("one_vm", name="node", **NEW)
    stopped = zone.changed("one_vm", name="node-#", state="poweroff", **WAIT)
    assert [vm["state"] for vm in stopped["vms"]] == ["POWEROFF", "POWEROFF"]
    zone.unchanged("one_vm", name="node-#", state="poweroff", **WAIT)
    zone.changed("one_vm", name="node-#", state="running", **WAIT)
    zone.changed("one_vm", name="node-#", state="absent", **WAIT)
    assert only(zone.run("one_vm_info"))["name"] == "node"


def test_waiting_for_many_vms_asks_for_all_of_them_at_once(zone):
    zone.calls.clear()
    zone.changed("one_vm", name="node-#", count=10, state="running", **NEW)
    assert zone.calls.count("one.template.instantiate") == 10
    assert "one.vm.info" not in zone.calls


# ---- Changing VMs ---------------------------------------------------------------------------------

CHANGES = [
    ({"memory": 128, "vcpu": 2, "restart": True}, ["one.vm.action", "one.vm.resize", "one.vm.action"]),
    ({"memory": 128, "state": "poweroff"}, ["one.vm.action", "one.vm.resize"]),
    ({"mode": "604"}, ["one.vm.chmod"]),
    ({"mode": "040"}, ["one.vm.chmod"]),
    ({"owner": "alice"}, ["one.vm.chown"]),
    ({"group": "staff"}, ["one.vm.chown"]),
    ({"template": {**CPU_MODEL, "CONTEXT": {"ADDED": "$NAME"}}}, ["one.vm.updateconf"]),
    ({"template": {"CONTEXT": {"NOTE": "two"}, "LABELS": "new"}}, ["one.vm.update", "one.vm.updateconf"]),
    ({"nics": [{"NETWORK": "private"}, {"NETWORK": "public"}]}, ["one.vm.attachnic"]),
    ({"nics": [{"NETWORK": "private", "SECURITY_GROUPS": "ssh"}]}, ["one.vm.attachsg"]),
    ({"nics": [{"NETWORK": "public"}], "update": "replace"}, ["one.vm.attachnic", "one.vm.detachnic"]),
    ({"disks": [{"IMAGE": "system"}, {"IMAGE": "data"}, {"SIZE": 20, "TYPE": "fs"}]}, ["one.vm.attach", "one.vm.attach"]),
    ({"disks": [{"IMAGE": "data"}], "update": "replace"}, ["one.vm.attach", "one.vm.detach"]),
    ({"state": "poweroff"}, ["one.vm.action"]),
    ({"state": "suspended"}, ["one.vm.action"]),
    ({"memory": 128, "state": "suspended", "restart": True}, ["one.vm.action", "one.vm.resize"] + ["one.vm.action"] * 2),
    ({"pcis": [{"CLASS": "0C03"}], "restart": True}, ["one.vm.action", "one.vm.attachpci", "one.vm.action"]),
    ({"pcis": [{"SHORT_ADDRESS": "02:00.0"}], "state": "poweroff"}, ["one.vm.action", "one.vm.attachpci"]),
    ({"template": {"LABELS": "x"}, "update": "replace"}, ["one.vm.update"]),
]


@pytest.mark.parametrize(("change", "writes"), CHANGES)
def test_a_vm_that_exists_is_changed_once_as_predicted(zone, change, writes):
    made = {"nics": [{"NETWORK": "private"}], "disks": [{"IMAGE": "system"}], "template": {"CONTEXT": {"NOTE": "one"}}}
    zone.changed("one_vm", name="web", **made, **NEW)
    zone.calls.clear()
    predicted = zone.changed("one_vm", check=True, name="web", **change, **WAIT)
    assert zone.writes == []
    done = zone.changed("one_vm", name="web", **change, **WAIT)
    assert predicted["diff"] == done["diff"] != {"before": {}, "after": {}}
    assert zone.writes == writes
    assert only(done)["state"] == change.get("state", "running").upper()
    zone.unchanged("one_vm", name="web", **change, **WAIT)
    assert len(zone.calls) <= 2, zone.calls


def test_the_diff_shows_exactly_what_changes(zone):
    zone.changed("one_vm", name="web", template={"A": "1", "B": "2"}, **NEW)
    diff = zone.changed("one_vm", check=True, name="web", template={"a": 1, "B": 3})["diff"]
    assert diff == {"before": {"web": {"attributes": {"B": "2"}}}, "after": {"web": {"attributes": {"B": "3"}}}}


def test_pci_devices_are_given_to_new_vms_attached_and_detached(zone):
    both = [{"VENDOR": "1022", "DEVICE": "0aa9"}, {"SHORT_ADDRESS": "02:00.0"}]
    vm = only(zone.changed("one_vm", name="web", pcis=both, **NEW))
    assert [pci["address"] for pci in vm["pcis"]] == ["00:06.1", "02:00.0"]
    zone.unchanged("one_vm", name="web", pcis=both, update="replace")
    failed = zone.fails("one_vm", name="web", pcis=both[:1], update="replace")
    assert failed["error"]["kind"] == "wrong_state" and "PCI devices change only while it is powered off" in failed["msg"]
    left = only(zone.changed("one_vm", name="web", pcis=both[:1], update="replace", restart=True, **WAIT))
    assert [pci["address"] for pci in left["pcis"]] == ["00:06.1"] and left["state"] == "RUNNING"
    zone.changed("one_vm", name="web", pcis=[], update="replace", state="poweroff", **WAIT)
    crowded = {"name": "other", "vm_template": "small", "pcis": [{"CLASS": "0302"}] * 2}
    zone.changed("one_vm", wait=False, **crowded)
    zone.unplaced()
    full = zone.fails("one_vm", wait_timeout=1, state="running", **crowded)
    assert full["error"]["kind"] == "timeout" and "Unavailable PCI devices on hosts" in full["msg"]


def test_a_pci_device_that_is_not_free_is_an_error(zone):
    zone.changed("one_vm", name="other", pcis=[{"SHORT_ADDRESS": "02:00.0"}], **NEW)
    failed = zone.fails("one_vm", name="web", pcis=[{"SHORT_ADDRESS": "02:00.0"}], state="poweroff", vm_template="small", wait_timeout=1)
    assert failed["error"]["kind"] == "timeout"
    zone.changed("one_vm", name="web2", state="poweroff", **NEW)
    failed = zone.fails("one_vm", name="web2", pcis=[{"SHORT_ADDRESS": "02:00.0"}], **WAIT)
    assert failed["error"]["kind"] == "wrong_state" and "Check address and free devices" in failed["msg"]


def test_attributes_are_removed_only_when_asked_and_never_those_of_the_server(zone):
    zone.changed("one_vm", name="web", template={"A": 1, "B": 2, "SERVICE_ID": 6}, state="hold", **NEW)
    kept = only(zone.changed("one_vm", name="web", template={"B": 3}))["attributes"]
    assert kept == {"A": "1", "B": "3", "SERVICE_ID": "6"}
    zone.unchanged("one_vm", name="web", update="replace")
    diff = zone.changed("one_vm", name="web", template={"b": 3}, update="replace")["diff"]
    assert diff == {"before": {"web": {"attributes": {"A": "1"}}}, "after": {"web": {"attributes": {}}}}
    assert only(zone.unchanged("one_vm", name="web"))["attributes"] == {"B": "3", "SERVICE_ID": "6"}


def test_a_vm_that_runs_is_resized_only_if_it_may_restart(zone):
    zone.changed("one_vm", name="web", **NEW)
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", memory=128, mode="640")
    assert failed["error"]["kind"] == "wrong_state" and "restart: true" in failed["msg"]
    assert zone.writes == []


def test_a_vm_that_was_made_with_room_grows_while_it_runs(zone):
    number = only(zone.changed("one_vm", name="web", template={"MEMORY_MAX": 256, "VCPU_MAX": 4}, **NEW))["id"]
    zone.calls.clear()
    vm = only(zone.changed("one_vm", name="web", memory=128, vcpu=2, **WAIT))
    assert zone.writes == ["one.vm.resize"]
    assert (vm["id"], vm["memory"], vm["vcpu"], vm["state"]) == (number, 128, 2, "RUNNING")
    zone.unchanged("one_vm", name="web", memory=128, vcpu=2, **WAIT)
    failed = zone.fails("one_vm", name="web", memory=512)
    assert failed["error"]["kind"] == "wrong_state" and "restart: true" in failed["msg"]


def test_what_a_vm_that_exists_cannot_have_is_said_before_anything_is_changed(zone):
    zone.changed("one_vm", name="web", **NEW)
    for missing in ({"nics": [{"NETWORK": "nowhere"}]}, {"disks": [{"IMAGE": "nothing"}]}, {"group": "nobody"}):
        zone.calls.clear()
        failed = zone.fails("one_vm", name="web", mode="640", state="poweroff", **missing)
        assert failed["error"]["kind"] == "missing"
        assert zone.writes == []


def test_a_powered_off_vm_is_resized_and_stays_off(zone):
    zone.changed("one_vm", name="web", state="poweroff", **NEW)
    vm = only(zone.changed("one_vm", name="web", memory=128, **WAIT))
    assert (vm["memory"], vm["state"]) == (128, "POWEROFF")
    zone.calls.clear()
    vm = only(zone.changed("one_vm", name="web", memory=256, state="running", **WAIT))
    assert zone.writes == ["one.vm.resize", "one.vm.action"]
    assert (vm["memory"], vm["state"]) == (256, "RUNNING")


def test_a_variable_in_the_context_is_set_when_missing_and_not_compared(zone):
    options = {"name": "web", "template": {"CONTEXT": {"WHO": "$NAME"}}, **NEW}
    vm = only(zone.changed("one_vm", **options))
    assert document(zone, vm["id"])["template"]["CONTEXT"]["WHO"] == "web"
    zone.unchanged("one_vm", **options)


def test_what_a_vm_published_itself_stays(zone):
    vm = only(zone.changed("one_vm", name="web", **NEW))
    zone.call("one.vm.update", vm["id"], "READY=YES", 1)
    attributes = only(zone.changed("one_vm", name="web", template={"LABELS": "x"}))["attributes"]
    assert attributes == {"READY": "YES", "LABELS": "x"}


def test_a_context_change_reaches_a_vm_that_runs_and_keeps_its_addresses(zone):
    vm = only(zone.changed("one_vm", name="web", nics=[{"NETWORK": "private"}], **NEW))
    zone.changed("one_vm", name="web", template={"CONTEXT": {"NOTE": "x"}}, **WAIT)
    context = document(zone, vm["id"])["template"]["CONTEXT"]
    assert (context["NOTE"], context["ETH0_IP"], context["TOKEN"]) == ("x", vm["addresses"][0], "YES")


def test_a_vm_is_renamed_once_whichever_name_it_has(zone):
    number = only(zone.changed("one_vm", name="old", **NEW))["id"]
    renamed = zone.changed("one_vm", name="old", new_name="new", **NEW)
    assert only(renamed)["name"] == "new"
    assert only(zone.unchanged("one_vm", name="old", new_name="new", **NEW))["id"] == number
    zone.unchanged("one_vm", name=str(number), new_name="new")


@pytest.mark.parametrize("wrong", [{"new_name": "a&b"}, {"new_name": "good", "template": {"9X": 1}}, {"new_name": "good", "template": {"A": "]]>"}}])
def test_a_vm_is_not_renamed_when_it_cannot_become_what_is_wanted(zone, wrong):
    number = only(zone.changed("one_vm", name="web", state="hold", **NEW))["id"]
    for check in (True, False):
        zone.calls.clear()
        failed = zone.fails("one_vm", check=check, name="web", **wrong)
        assert failed["error"]["kind"] == "invalid" and zone.writes == []
    assert document(zone, number)["name"] == "web"
    assert zone.fails("one_vm", check=True, name="a:b", **NEW)["error"]["kind"] == "invalid"


def test_a_group_alone_keeps_the_owner_of_each_vm(zone):
    zone.changed("one_vm", name="node-#", count=2, state="hold", **NEW)
    for number, owner in enumerate(("alice", "bob")):
        zone.changed("one_vm", name=f"node-{number}", owner=owner)
    changed = zone.changed("one_vm", name="node-#", group="staff")
    assert [(vm["owner"], vm["group"]) for vm in changed["vms"]] == [("alice", "staff"), ("bob", "staff")]
    zone.unchanged("one_vm", name="node-#", group="staff")


def test_the_owner_0_is_one(zone):
    made = only(zone.changed("one_vm", name="web", state="hold", owner="alice", **NEW))
    assert only(zone.changed("one_vm", name=str(made["id"]), owner="0", group="0"))["owner"] == "oneadmin"
    zone.unchanged("one_vm", name="web", owner="0", group="0")


def test_permissions_keep_leading_zeros(zone):
    vm = only(zone.changed("one_vm", name="web", mode="040", state="hold", **NEW))
    assert vm["mode"] == "040"
    assert document(zone, vm["id"])["permissions"] == "000100000"


def test_interfaces_of_the_same_network_are_counted(zone):
    zone.changed("one_vm", name="web", nics=[{"NETWORK": "private"}] * 2, **NEW)
    zone.unchanged("one_vm", name="web", nics=[{"NETWORK": "private"}] * 2)
    vm = only(zone.changed("one_vm", name="web", nics=[{"NETWORK": "private"}], update="replace", **WAIT))
    assert len(vm["addresses"]) == 1


def test_interfaces_of_a_vm_on_hold_are_refused_before_anything_is_changed(zone):
    zone.changed("one_vm", name="web", state="hold", **NEW)
    zone.calls.clear()
    failed = zone.fails("one_vm", name="web", nics=[{"NETWORK": "private"}], mode="640")
    assert failed["error"]["kind"] == "wrong_state" and "HOLD" in failed["msg"]
    assert zone.writes == []


def test_a_change_that_the_driver_cannot_make_is_an_error_with_its_reason(zone):
    vm = only(zone.changed("one_vm", name="web", **NEW))

    def change(spec) -> None:
        raise DriverError("no such bridge")

    zone.driver.change = change
    failed = zone.fails("one_vm", name="web", nics=[{"NETWORK": "private"}], **WAIT)
    assert failed["error"]["kind"] == "wrong_state"
    assert f"VM 'web' (id {vm['id']}) is RUNNING" in failed["msg"] and "no such bridge" in failed["msg"]


# ---- States and waiting ---------------------------------------------------------------------------


def test_a_failed_boot_ends_the_wait_at_once_with_the_drivers_reason(zone):
    zone.driver.boot_error = "the disk is broken"
    failed = zone.fails("one_vm", name="web", vm_template="small", wait_timeout=600)
    assert failed["error"]["kind"] == "wrong_state"
    assert "BOOT_FAILURE" in failed["msg"] and "the disk is broken" in failed["msg"]
    again = zone.fails("one_vm", name="web", state="running")
    assert again["error"]["kind"] == "wrong_state" and "the disk is broken" in again["msg"]
    zone.changed("one_vm", name="web", state="absent", **WAIT)


def test_a_vm_that_is_never_placed_times_out_with_the_schedulers_reason(zone):
    zone.changed("one_vm", name="web", vm_template="small", cpu=100, wait=False)
    zone.unplaced()
    failed = zone.fails("one_vm", name="web", vm_template="small", cpu=100, wait_timeout=1, state="running")
    assert failed["error"]["kind"] == "timeout"
    assert "after 1 seconds" in failed["msg"] and "PENDING" in failed["msg"]
    assert "Not enough CPU on hosts" in failed["msg"]


def test_absent_without_waiting_leaves_the_rest_to_a_second_run_that_changes_nothing(zone):
    zone.changed("one_vm", name="web", **NEW)
    zone.changed("one_vm", name="web", state="absent", wait=False)
    zone.unchanged("one_vm", name="web", state="absent", **WAIT)


def test_hard_spares_the_time_to_shut_down(zone):
    number = only(zone.changed("one_vm", name="web", **NEW))["id"]
    zone.changed("one_vm", name="web", state="poweroff", hard=True, **WAIT)
    poweroff_hard, terminate_hard = 20, 28
    assert document(zone, number)["history"][-1]["ACTION"] == poweroff_hard
    zone.changed("one_vm", name="web", state="running", **WAIT)
    zone.changed("one_vm", name="web", state="absent", hard=True, **WAIT)
    assert document(zone, number)["history"][-1]["ACTION"] == terminate_hard


def test_a_vm_that_is_done_is_absent_and_not_terminated_again(zone):
    number = str(held(zone, "web")[0])
    zone.changed("one_vm", name=number, state="absent")
    zone.unchanged("one_vm", name=number, state="absent")
    failed = zone.fails("one_vm", name=number, state="running")
    assert failed["error"]["kind"] == "wrong_state" and "DONE" in failed["msg"]


def test_an_id_that_no_vm_has_is_absent_and_cannot_be_made(zone):
    zone.unchanged("one_vm", name="99999", state="absent")
    assert zone.fails("one_vm", name="99999", **NEW)["error"]["kind"] == "missing"


def test_a_name_that_several_vms_have_is_an_error_with_their_ids(zone):
    numbers = held(zone, "twin", "twin")
    for state in ("present", "absent"):
        failed = zone.fails("one_vm", name="twin", state=state)
        assert failed["error"]["kind"] == "conflict"
        assert all(str(number) in failed["msg"] for number in numbers)


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_server_that_is_not_there_is_an_error_for_every_state(zone, state):
    options = {**zone.options, "api_url": f"http://127.0.0.1:{free_port()}/RPC2", "name": "web", "state": state}
    assert run_module("one_vm", options)["error"]["kind"] == "network"


@pytest.mark.parametrize("module", ["one_vm", "one_vm_info"])
def test_a_server_that_hangs_ends_at_the_timeout(zone, module):
    with hanging() as url:
        options = {**zone.options, "api_url": f"{url}/RPC2", "api_timeout": 0.3, "name": "web"}
        assert run_module(module, options)["error"]["kind"] == "timeout"


def test_without_credentials_there_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_AUTH", str(tmp_path / "nothing"))
    for variable in ("ONE_USERNAME", "ONE_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    for module in ("one_vm", "one_vm_info"):
        failed = run_module(module, {"name": "web"})
        assert failed["error"]["kind"] == "invalid" and "ONE_AUTH" in failed["msg"]


def test_an_older_server_is_served_as_well(tmp_path):
    with module_zone(tmp_path, version="6.10") as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"TOKEN": True}})
        zone.changed("one_vm", name="web", **NEW)
        options = {"name": "web", "memory": 96, "restart": True, "template": {"CONTEXT": {"A": 1}}, **WAIT}
        zone.changed("one_vm", **options)
        zone.unchanged("one_vm", **options)
        assert only(zone.run("one_vm_info"))["memory"] == 96


# ---- Listing --------------------------------------------------------------------------------------


def test_any_number_of_vms_is_listed_with_one_call(zone):
    held(zone, *(f"vm{number}" for number in range(100)))
    zone.calls.clear()
    vms = zone.run("one_vm_info")["vms"]
    assert [vm["name"] for vm in vms] == [f"vm{number}" for number in range(100)]
    assert zone.calls == [POOL]


def test_a_vm_without_interfaces_disks_or_vcpu_is_listed(zone):
    held(zone, "bare")
    vm = only(zone.run("one_vm_info"))
    assert (vm["vcpu"], vm["nics"], vm["disks"], vm["addresses"], vm["host"]) == (1, [], [], [], "")
    assert vm["cluster_id"] is None and vm["service_id"] is None


def test_every_filter_chooses_its_vms_with_one_call(zone):
    zone.changed("one_vm", name="web-1", template={"LABELS": "front,web", "TIER": "one"}, **NEW)
    service = 'SERVICE_ID="6"\nROLE_NAME="worker"\nTIER="two"'
    held(zone, "web-2", extra=service)
    for filters, expected in (
        ({}, ["web-1", "web-2"]),
        ({"name": "web-2"}, ["web-2"]),
        ({"name": "*-1"}, ["web-1"]),
        ({"name": "~-[12]$"}, ["web-1", "web-2"]),
        ({"name": "~^1"}, []),
        ({"labels": ["web", "front"]}, ["web-1"]),
        ({"labels": ["we"]}, []),
        ({"attributes": {"tier": "t*"}}, ["web-2"]),
        ({"attributes": {"TIER": "one", "LABELS": "*"}}, ["web-1"]),
        ({"states": ["hold"]}, ["web-2"]),
        ({"states": ["ACTIVE"]}, ["web-1"]),
        ({"states": ["RUNNING", "HOLD"]}, ["web-1", "web-2"]),
        ({"service": "6"}, ["web-2"]),
        ({"role": "work*"}, ["web-2"]),
        ({"host": "*-host01"}, ["web-1"]),
        ({"host": "0"}, ["web-1"]),
        ({"cluster": "0"}, ["web-1"]),
    ):
        zone.calls.clear()
        assert [vm["name"] for vm in zone.run("one_vm_info", **filters)["vms"]] == expected, filters
        assert zone.calls == [POOL]
    assert only(zone.run("one_vm_info", cluster="default"))["name"] == "web-1"


def test_vms_that_are_done_are_listed_when_asked_for(zone):
    number = held(zone, "gone")[0]
    zone.changed("one_vm", name="gone", state="absent")
    assert zone.run("one_vm_info", name="gone")["vms"] == []
    assert number in [vm["id"] for vm in zone.run("one_vm_info", name="gone", states=["DONE"])["vms"]]
    assert only(zone.run("one_vm_info", name=str(number), states=["DONE"]))["state"] == "DONE"


@pytest.mark.parametrize(("filters", "kind"), [
    ({"states": ["SLEEPY"]}, "invalid"), ({"name": "~["}, "invalid"), ({"service": "none"}, "missing"),
    ({"cluster": "none"}, "missing"),
])
def test_a_filter_that_means_nothing_is_an_error(zone, filters, kind):
    assert zone.fails("one_vm_info", **filters)["error"]["kind"] == kind


def test_all_life_cycle_states_are_known(tmp_path: Path):
    with module_zone(tmp_path, interval=3600) as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
        numbers = held(zone, *(name.lower() for name in states.LCM))
        core = zone.zone.core
        with core.locked():
            for lcm, number in enumerate(numbers):
                vm = core.store.get("vm", number)
                vm["state"], vm["lcm"] = 3, lcm
                core.store.save("vm", vm)
        listed = zone.run("one_vm_info")["vms"]
        assert len(listed) == 72
        assert all(vm["name"] == vm["state"].lower() for vm in listed)
