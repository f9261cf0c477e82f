# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects around VMs: VM groups, templates of networks, hooks, the zone, showback; and copies of objects.

The words are those of OpenNebula's published source.
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ADMIN, ALICE, RUNNING, World, refusal

AUTHORIZATION, ACTION, INTERNAL, ALLOCATE = 512, 2048, 8192, 16384
VM = 'CPU="0.1"\nMEMORY="64"\n'
ROLES = 'ROLE=[NAME="web",POLICY="ANTI_AFFINED"]\nROLE=[NAME="db"]\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with one host, alice, and an empty template that everybody may use."""
    world = World(Path(tmp_path_factory.mktemp("zone")))
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    yield world
    world.stop()


def document(world: World, method: str, *params: object, session: str = ADMIN) -> ElementTree.Element:
    return ElementTree.fromstring(world.call(method, *params, session=session))


@pytest.fixture
def group(world: World) -> Iterator[int]:
    """A VM group with two roles, the VMs of one of which want a host each."""
    number = world.call("one.vmgroup.allocate", f'NAME="tiers"\n{ROLES}')
    yield number
    for vm in document(world, "one.vmpool.info", -2, -1, -1, -1).findall("VM"):
        world.call("one.vm.recover", int(vm.findtext("ID")), 3)
        world.wait("one.vm.info", int(vm.findtext("ID")), "<STATE>6<")
    world.call("one.vmgroup.delete", number)


def test_a_vm_group_shows_its_roles_with_numbers_and_vms(world: World, group: int) -> None:
    vm = world.call("one.vm.allocate", f'{VM}VMGROUP=[VMGROUP_NAME="tiers",ROLE="web"]', True)
    roles = document(world, "one.vmgroup.info", group).findall("ROLES/ROLE")
    assert [(role.findtext("ID"), role.findtext("NAME"), role.findtext("VMS")) for role in roles] == [
        ("0", "web", str(vm)), ("1", "db", None),
    ]
    assert document(world, "one.vm.info", vm).findtext("TEMPLATE/VMGROUP/VMGROUP_ID") == str(group)


@pytest.mark.parametrize(("attribute", "words"), [
    ('VMGROUP_NAME="tiers"', "Missing role name in VM Group definition"),
    ('VMGROUP_NAME="none",ROLE="web"', "Cannot find VM Group to associate the VM"),
    ('VMGROUP_NAME="tiers",ROLE="none"', "Role does not exist in VM Group"),
])
def test_a_vm_joins_only_what_there_is(world: World, group: int, attribute: str, words: str) -> None:
    assert refusal(world, "one.vm.allocate", f"{VM}VMGROUP=[{attribute}]") == (INTERNAL, words)


def test_vms_that_are_to_be_apart_do_not_share_a_host(world: World, group: int) -> None:
    text = f'{VM}VMGROUP=[VMGROUP_ID="{group}",ROLE="web"]'
    first, second = world.call("one.vm.allocate", text), world.call("one.vm.allocate", text)
    world.tick()
    world.wait("one.vm.info", first, *RUNNING)
    world.tick()
    shown = document(world, "one.vm.info", second)
    assert shown.findtext("STATE") == "1"
    assert shown.findtext("USER_TEMPLATE/SCHED_MESSAGE").endswith("[HOST] Cannot fulfill affinity constraints on hosts: 0")
    third = world.call("one.vm.allocate", VM)
    world.tick()
    world.wait("one.vm.info", third, *RUNNING)
    reason = f"VM {third} is on host 0 but role web is ANTI_AFFINED and VM {first} is on the same host"
    assert refusal(world, "one.vm.vmgroupadd", third, group, "web") == (ACTION, reason)
    assert world.call("one.vm.vmgroupadd", third, group, "db") == third
    assert world.call("one.vm.vmgroupdel", third) == third
    assert document(world, "one.vm.info", third).find("TEMPLATE/VMGROUP") is None


@pytest.mark.parametrize(("more", "words"), [
    ('ROLE=[POLICY="NONE"]', "Missing NAME in VM group role"),
    ('ROLE=[NAME="web"]', "Role already exists"),
    ('AFFINED="web, cache"', "Some roles used in AFFINED attribute (web, cache) are not defined"),
    ('AFFINED="web, db"', "Role web is in an AFFINED rule but the role policy is ANTI_AFFINED"),
    ('ROLE=[NAME="a"]\nAFFINED="db, a"\nANTI_AFFINED="a, db"', "Roles defined in AFFINED and ANTI_AFFINED rules: db a"),
    ('ANTI_AFFINED="web,db"\nANTI_AFFINED="db,web"', "Duplicated ANTI_AFFINED rule (web,db) detected."),
])
def test_a_vm_group_that_makes_no_sense_is_refused(world: World, more: str, words: str) -> None:
    assert refusal(world, "one.vmgroup.allocate", f'NAME="wrong"\n{ROLES}{more}') == (INTERNAL, words)


def test_roles_are_added_changed_and_taken_away(world: World, group: int) -> None:
    assert world.call("one.vmgroup.roleadd", group, 'ROLE=[NAME="cache",VMS="7"]') == group
    assert world.call("one.vmgroup.roleupdate", group, 2, 'ROLE=[NAME="store",POLICY="AFFINED",VMS="7"]') == group
    role = document(world, "one.vmgroup.info", group).findall("ROLES/ROLE")[2]
    assert {part.tag: part.text for part in role} == {"ID": "2", "NAME": "store", "POLICY": "AFFINED"}
    assert world.call("one.vmgroup.roledelete", group, 2) == group
    for call, words in (
        (("one.vmgroup.roledelete", group, 2), "Unable to delete role 2, the role doesn't exists"),
        (("one.vmgroup.roleupdate", group, 2, 'ROLE=[POLICY="NONE"]'), f"VMGroup {group} doesn't have role 2"),
        (("one.vmgroup.roleupdate", group, 1, 'ROLE=[NAME="web"]'),
         f"VMGroup {group} Role 1 can not update name, role with name web already exists"),
        (("one.vmgroup.roleadd", group, 'NAME="x"'), "No ROLE attribute in template"),
    ):
        assert refusal(world, *call) == (ACTION, words)


def test_a_group_with_vms_stays_as_it_is(world: World, group: int) -> None:
    world.call("one.vm.allocate", f'{VM}VMGROUP=[VMGROUP_ID="{group}",ROLE="web"]', True)
    assert refusal(world, "one.vmgroup.update", group, 'A="1"', 1) == (
        INTERNAL, "Cannot update template. VM Group has 1 VMs",
    )
    assert refusal(world, "one.vmgroup.roledelete", group, 0) == (
        ACTION, "Unable to delete role 0, the role has assigned VMs ",
    )


def test_a_foreign_group_is_closed(world: World, group: int) -> None:
    text = f'{VM}VMGROUP=[VMGROUP_ID="{group}",ROLE="web"]'
    words = f"User [2] : Not authorized to perform USE VMGROUP [{group}]."
    assert refusal(world, "one.vm.allocate", text, session=ALICE) == (AUTHORIZATION, words)


RANGE = 'AR=[TYPE="IP4",IP="10.{}.0.1",SIZE="4"]'


def test_a_network_is_made_of_a_template(world: World) -> None:
    template = world.call("one.vntemplate.allocate", f'NAME="plan"\nVN_MAD="bridge"\n{RANGE.format(1)}')
    network = world.call("one.vntemplate.instantiate", template, "made", f'NOTE="x"\n{RANGE.format(2)}')
    world.wait("one.vn.info", network, "<STATE><![CDATA[1]]>")
    shown = document(world, "one.vn.info", network)
    assert shown.findtext("TEMPLATE_ID") == str(template)
    assert [address.text for address in shown.findall("AR_POOL/AR/IP")] == ["10.1.0.1", "10.2.0.1"]
    assert shown.findtext("TEMPLATE/NOTE") == "x"
    unnamed = world.call("one.vntemplate.instantiate", template, "", "")
    assert document(world, "one.vn.info", unnamed).findtext("NAME") == f"plan-{unnamed}"
    assert refusal(world, "one.vntemplate.instantiate", template, "made", "") == (
        ALLOCATE, f"Error allocating a new virtual network template. NAME is already taken by NET {network}.",
    )


def test_a_template_of_networks_needs_a_driver(world: World) -> None:
    words = "Error inserting Template in DB. VN_MAD is mandatory"
    assert refusal(world, "one.vntemplate.allocate", 'NAME="lost"') == (INTERNAL, words)


@pytest.mark.parametrize(("template", "words"), [
    ('NAME="a"\nTYPE="other"\nCOMMAND="x"', "Invalid Hook type: other"),
    ('NAME="a;b"\nTYPE="api"\nCOMMAND="x"\nCALL="one.vm.allocate"', "Invalid name."),
    ('NAME="a"\nTYPE="api"\nCALL="one.vm.allocate"', "No COMMAND in template for Hook."),
    ('NAME="a"\nTYPE="api"\nCOMMAND="x"\nCALL="one.vm.info"', "API call does not exist or is not supported: one.vm.info"),
    ('NAME="a"\nTYPE="state"\nCOMMAND="x"', "RESOURCE attribute is required for STATE hooks."),
    ('NAME="a"\nTYPE="state"\nCOMMAND="x"\nRESOURCE="USER"', "Invalid resource type: USER"),
    ('NAME="a"\nTYPE="state"\nCOMMAND="x"\nRESOURCE="VM"\nON="LATER"', "Unkown state condition: LATER"),
    ('NAME="a"\nTYPE="state"\nCOMMAND="x"\nRESOURCE="HOST"\nSTATE="UP"', "Invalid STATE: UP"),
])
def test_a_hook_that_nothing_triggers_is_refused(world: World, template: str, words: str) -> None:
    assert refusal(world, "one.hook.allocate", template) == (INTERNAL, words)


def test_a_hook_is_kept(world: World) -> None:
    hook = world.call("one.hook.allocate", 'NAME="up"\nTYPE="state"\nCOMMAND="x"\nRESOURCE="VM"\nON="RUNNING"')
    shown = document(world, "one.hook.info", hook)
    assert (shown.findtext("TYPE"), shown.findtext("TEMPLATE/STATE"), shown.findtext("TEMPLATE/LCM_STATE")) == (
        "state", "ACTIVE", "RUNNING",
    )
    assert shown.find("HOOKLOG") is not None
    assert refusal(world, "one.hook.info", hook, session=ALICE) == (
        AUTHORIZATION, f"User [2] : Not authorized to perform USE HOOK [{hook}].",
    )
    assert world.call("one.hooklog.info", -1, -1, -1, 0) == "<HOOKLOG></HOOKLOG>"


def test_a_disabled_zone_shows_but_changes_nothing(world: World) -> None:
    world.call("one.zone.enable", 0, False)
    try:
        assert document(world, "one.zone.info", 0).findtext("STATE") == "1"
        assert refusal(world, "one.cluster.allocate", "other") == (INTERNAL, "Cannot process request, zone disabled")
    finally:
        world.call("one.zone.enable", 0, True)
    assert refusal(world, "one.zone.allocate", 'NAME="b"\nENDPOINT="x"') == (
        ALLOCATE, "Error allocating a new zone. New zones can only be created at federation master",
    )


def test_showback_adds_up_the_time_on_hosts(world: World) -> None:
    vm = world.call("one.vm.allocate", 'CPU="2"\nMEMORY="64"\nCPU_COST="10"\nNAME="dear"')
    world.tick()
    world.wait("one.vm.info", vm, *RUNNING)
    world.call("one.vm.recover", vm, 3)
    world.wait("one.vm.info", vm, "<STATE>6<")
    begun = world.zone.core.now() - 3600
    with world.zone.core.locked():
        world.zone.core.store.get("vm", vm)["history"][0] |= {"STIME": begun, "RSTIME": begun, "ETIME": begun + 1800}
    assert world.call("one.vmpool.calculateshowback", -1, -1, -1, -1) == " "
    records = [
        record for record in document(world, "one.vmpool.showback", -2, -1, -1, -1, -1).findall("SHOWBACK")
        if record.findtext("VMID") == str(vm)
    ]
    assert sum(float(record.findtext("TOTAL_COST")) for record in records) == pytest.approx(10, abs=0.02)
    assert refusal(world, "one.vmpool.calculateshowback", -1, -1, -1, -1, session=ALICE) == (
        AUTHORIZATION, "User [2] : Action reserved for group 0 only.",
    )
    assert "SHOWBACK>" not in world.call("one.vmpool.showback", -2, -1, -1, -1, -1, session=ALICE)


@pytest.mark.parametrize(("kind", "template"), [
    ("secgroup", ('NAME="web"\nRULE=[PROTOCOL="TCP",RULE_TYPE="INBOUND",RANGE="80"]',)),
    ("vntemplate", ('NAME="first"\nVN_MAD="bridge"\nRULE=[A="1"]',)), ("document", ('NAME="first"\nRULE=[A="1"]', 100)),
])
def test_a_copy_has_what_the_first_one_has(world: World, kind: str, template: tuple) -> None:
    first = world.call(f"one.{kind}.allocate", *template)
    copy = world.call(f"one.{kind}.clone", first, "copy")
    before, after = document(world, f"one.{kind}.info", first), document(world, f"one.{kind}.info", copy)
    assert after.findtext("NAME") == "copy"
    assert ElementTree.tostring(before.find("TEMPLATE")) == ElementTree.tostring(after.find("TEMPLATE"))


def test_a_copy_demands_the_right_to_create_twice(world: World) -> None:
    """7.4 demands it of the object too, which who may create objects of a kind has for all of them."""
    rules = document(world, "one.acl.info").findall("ACL")
    document_id = world.call("one.document.allocate", 'NAME="closed"', 100)
    assert world.call("one.document.clone", document_id, "opened", session=ALICE) > document_id
    world.call("one.acl.delrule", int(rules[0].findtext("ID")))
    own = world.call("one.document.clone", document_id, "given")
    world.call("one.document.chown", own, 2, 1)
    words = f"User [2] : Not authorized to perform CREATE DOCUMENT [{own}]; Not authorized to perform CREATE DOCUMENT."
    assert refusal(world, "one.document.clone", own, "again", session=ALICE) == (AUTHORIZATION, words)


def test_what_the_zone_does_not_know_is_no_method(world: World) -> None:
    with pytest.raises(xmlrpc.client.Fault, match="Method 'one.vmgroup.clone' not defined"):
        world.call("one.vmgroup.clone", 0, "x")
