# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines without a server: states, patterns, permissions, comparison of what is wanted, and the end of waits."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import patterns, states
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import Ownership, permission_bits
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import facts as vm_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.desired import DesiredVm
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.diff import VmDiff
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.wait import VmsWait

ACTIVE = states.VM.index("ACTIVE")
FAILURES = [name for name in states.LCM if states.vm_failed(name)]
OPTIONS = dict.fromkeys((
    "owner", "group", "mode", "new_name", "cpu", "memory", "vcpu", "nics", "disks", "pcis", "template",
)) | {"update": "merge"}


def vm(state: str = "RUNNING", error: object = "", **template: object) -> dict:
    is_lcm = state in states.LCM
    return {
        "ID": "5", "NAME": "web", "UID": "0", "GID": "0", "UNAME": "oneadmin", "GNAME": "oneadmin",
        "PERMISSIONS": {"OWNER_U": "1", "OWNER_M": "1", "OWNER_A": "0"},
        "STATE": str(ACTIVE if is_lcm else states.VM.index(state)),
        "LCM_STATE": str(states.LCM.index(state) if is_lcm else 0),
        "TEMPLATE": {"CPU": "0.5", "MEMORY": "128", **template}, "USER_TEMPLATE": {"ERROR": error} if error else {},
    }


class Zone:
    """Answers each listing with the next of some documents, the last one for ever."""

    place = "http://zone"

    def __init__(self, *answers: dict | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    def call(self, method: str, *arguments: object) -> dict:
        assert method == "one.vmpool.infoextended"
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return {"VM": answer} if answer else {}


def plan_of(document: dict, **options: object):
    def unresolved(error: OneException) -> None:
        raise error

    params, zone = {**OPTIONS, **options}, Zone(None)
    return DesiredVm(zone, params, Ownership(zone, params), unresolved).plan(document)


@pytest.mark.parametrize("state", [*states.VM, *states.LCM])
def test_every_state_is_at_rest_or_leads_to_one_that_is(state):
    assert vm_facts.is_resting(vm_facts.leads_to(state)) or vm_facts.leads_to(state) == "DONE"


@pytest.mark.parametrize(("state", "end"), [
    ("BOOT", "RUNNING"), ("HOTPLUG_NIC", "RUNNING"), ("BACKUP", "RUNNING"), ("SHUTDOWN_POWEROFF", "POWEROFF"),
    ("BOOT_POWEROFF", "RUNNING"), ("BACKUP_POWEROFF", "POWEROFF"), ("EPILOG", "DONE"), ("EPILOG_STOP", "STOPPED"),
    ("SAVE_SUSPEND", "SUSPENDED"), ("EPILOG_UNDEPLOY", "UNDEPLOYED"), ("PENDING", "PENDING"), ("UNKNOWN", "UNKNOWN"),
    ("BOOT_FAILURE", "BOOT_FAILURE"), ("EPILOG_FAILURE", "EPILOG_FAILURE"), ("STATE_99", "STATE_99"),
])
def test_a_state_in_passing_leads_where_the_server_takes_it(state, end):
    assert vm_facts.leads_to(state) == end


@pytest.mark.parametrize("state", [*FAILURES, "FAILED", "CLONING_FAILURE"])
def test_each_failure_ends_a_wait_at_the_first_look_with_the_reason(state):
    zone = Zone(vm(state, error="driver: no\nspace"))
    with pytest.raises(OneException) as caught:
        VmsWait(zone, [vm("PENDING")], timeout=600).reach("RUNNING")
    assert (caught.value.kind, zone.asked) == ("wrong_state", 1)
    assert caught.value.message == f"VM 'web' (id 5) is {state} (driver: no space), it does not become RUNNING."


@pytest.mark.parametrize(("error", "said"), [(["a.", "b"], " (a; b)"), ({"A": "1"}, ""), (["a", {"A": "1"}], " (a)")])
def test_an_error_of_another_form_than_the_server_writes_ends_a_wait_as_well(error, said):
    with pytest.raises(OneException) as caught:
        VmsWait(Zone(vm("BOOT_FAILURE", error=error)), [vm("PENDING")], timeout=600).reach("RUNNING")
    assert caught.value.message == f"VM 'web' (id 5) is BOOT_FAILURE{said}, it does not become RUNNING."


def test_an_action_may_take_a_moment_to_show():
    zone = Zone(vm("RUNNING"), vm("SHUTDOWN_POWEROFF"), vm("POWEROFF"))
    (found,) = VmsWait(zone, [vm("RUNNING")], timeout=30, acted=True).reach("POWEROFF")
    assert states.vm_state(found) == "POWEROFF"


def test_a_vm_that_comes_back_ends_the_wait_with_the_reason():
    zone = Zone(vm("SHUTDOWN_POWEROFF"), vm("RUNNING", error="it does not listen"))
    with pytest.raises(OneException, match="is RUNNING .it does not listen., it does not become POWEROFF"):
        VmsWait(zone, [vm("RUNNING")], timeout=600, acted=True).reach("POWEROFF")


def test_a_vm_that_is_not_listed_any_more_is_done():
    VmsWait(Zone(None), [vm()], timeout=1).reach("DONE")
    with pytest.raises(OneException, match="is DONE, it does not become RUNNING"):
        VmsWait(Zone(None), [vm("BOOT")], timeout=600).reach("RUNNING")


def test_an_old_error_does_not_make_a_change_fail():
    before = vm("RUNNING", error="old")
    VmsWait(Zone(vm("HOTPLUG", error="old"), before), [before], timeout=30).rest()
    with pytest.raises(OneException, match="the change failed"):
        VmsWait(Zone(vm("RUNNING", error="new")), [before], timeout=30).rest()


@pytest.mark.parametrize(("pattern", "text", "is_meant"), [
    ("web", "web", True), ("web", "web2", False), ("web*", "web2", True), ("web?", "web", False), ("WEB", "web", False),
    ("a[1]", "a[1]", True), ("~eb", "web", True), ("~^eb", "web", False), ("~^w.b$", "web", True),
])
def test_a_pattern_is_the_text_a_wildcard_or_a_regular_expression(pattern, text, is_meant):
    assert patterns.matcher(pattern)(text) is is_meant


@pytest.mark.parametrize(("before", "after", "bits"), [
    ("600", "600", [-1] * 9),
    ("600", "040", [0, 0, -1, 1, -1, -1, -1, -1, -1]),
    ("600", "601", [-1, -1, -1, -1, -1, -1, -1, -1, 1]),
])
def test_only_the_bits_that_change_are_asked_for(before, after, bits):
    assert permission_bits(before, after) == bits


@pytest.mark.parametrize("mode", ["64", "648", "6400", "u=rw", ""])
def test_permissions_that_are_not_three_octal_digits_are_refused(mode):
    with pytest.raises(OneException, match="octal"):
        plan_of(vm(), mode=mode)


@pytest.mark.parametrize("options", [
    {"cpu": 0.5, "memory": 128}, {"mode": "0600"}, {"owner": "0", "group": "oneadmin"},
    {"template": {"os": {"boot": "disk0"}}},
    {"template": {"context": {"NOTE": "a", "WHO": "$NAME", "etH0_MTU": "$NETWORK[MTU]"}}},
    {"nics": [{"NETWORK": "net"}]}, {"nics": [{"network": 3, "IP": "10.0.0.1"}]}, {"disks": [{"IMAGE": "0"}], "update": "replace"},
])
def test_what_means_the_same_changes_nothing(options):
    document = vm(
        OS={"BOOT": "disk0", "UUID": "x"}, CONTEXT={"NOTE": "a", "WHO": "web", "ETH0_IP": "10.0.0.1", "ETH0_MTU": "9"},
        NIC={"NIC_ID": "0", "NETWORK": "net", "NETWORK_ID": "3", "IP": "10.0.0.1", "MODEL": "virtio"},
        DISK={"DISK_ID": "0", "IMAGE": "os", "IMAGE_ID": "0", "SIZE": "10"},
    )
    plan = plan_of(document, **options)
    assert plan.before == plan.after


def test_only_the_changed_keys_of_a_vector_are_sent():
    document = vm(CONTEXT={"A": "1", "B": "2"}, FEATURES={"ACPI": "YES"})
    plan = plan_of(document, template={"CONTEXT": {"B": 3}, "FEATURES": {"ACPI": True}, "CPU_MODEL": {"MODEL": "host"}})
    assert plan.configuration == {"CONTEXT": {"B": "3"}, "CPU_MODEL": {"MODEL": "host"}}


def test_a_volatile_disk_is_not_taken_for_one_with_an_image():
    document = vm(DISK={"DISK_ID": "0", "IMAGE": "os", "IMAGE_ID": "0", "SIZE": "10"})
    assert plan_of(document, disks=[{"SIZE": 10}]).devices["disks"].attach == [{"SIZE": "10", "TYPE": "fs", "FORMAT": "raw"}]


@pytest.mark.parametrize("target", ["running", "poweroff", "suspended", "hold"])
@pytest.mark.parametrize("state", FAILURES)
def test_a_vm_that_failed_is_not_acted_on(state, target):
    with pytest.raises(OneException, match=f"is {state} .broken.: from there it cannot become"):
        VmDiff(plan_of(vm(state, error="broken")), target, restart=False)


@pytest.mark.parametrize("state", FAILURES)
def test_a_vm_that_failed_is_present(state):
    assert VmDiff(plan_of(vm(state)), "present", restart=False).action is None
