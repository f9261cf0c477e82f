# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Rights and limits of a zone, in the words of OpenNebula's published source where no recording holds any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from zone_world import ALICE, World

from lab.core.errors import OneError

#: kinds of rules, of which the bits are OpenNebula's
VM, HOST, NET, IMAGE, ZONE = 0x1000000000, 0x2000000000, 0x4000000000, 0x8000000000, 0x800000000000
ONE, GROUP, ALL, CLUSTER = 0x100000000, 0x200000000, 0x400000000, 0x800000000
USE, MANAGE, ADMIN, CREATE = 1, 2, 4, 8
FIRST_GROUP = 100


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with two images, a network and a VM template, and alice in a group of her own."""
    world = World(Path(tmp_path_factory.mktemp("zone")))
    world.call("one.vn.allocate", 'NAME="net"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.0.0.1",SIZE="9"]', -1)
    for name in ("disk", "other"):
        world.call("one.image.allocate", f'NAME="{name}"\nPATH="/x"\nSIZE="10"', 1, False)
    world.wait("one.vn.info", 0, "<STATE><![CDATA[1]]>")
    world.wait("one.image.info", 1, "<STATE>1<")
    world.call("one.template.allocate", 'NAME="small"\nCPU="1"\nMEMORY="64"\nDISK=[IMAGE_ID="0"]\nNIC=[NETWORK_ID="0"]')
    for kind in ("image", "template"):
        world.call(f"one.{kind}.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert world.call("one.group.allocate", "wonderland") == FIRST_GROUP
    world.call("one.user.allocate", *ALICE.split(":"), "", [FIRST_GROUP])
    world.call("one.acl.addrule", hexadecimal(GROUP | FIRST_GROUP), hexadecimal(VM | IMAGE | ALL), hexadecimal(CREATE), hexadecimal(ALL))
    yield world
    world.stop()


@pytest.fixture
def limits(world: World) -> Iterator[None]:
    """Nothing is limited after the test, and alice has no machine."""
    yield
    for number in re.findall(r"<VM><ID>(\d+)", world.call("one.vmpool.info", -2, -1, -1, -1)):
        world.call("one.vm.action", "terminate-hard", int(number))
    default = 'VM=[VMS="-1"]\nDATASTORE=[ID="1"]\nNETWORK=[ID="0"]\nIMAGE=[ID="0"]'
    world.call("one.group.quota", FIRST_GROUP, default)
    world.call("one.user.quota", 2, default)


def hexadecimal(number: int) -> str:
    return f"0x{number:x}"


def refusal(world: World, method: str, *params: object, session: str = "oneadmin:opennebula") -> tuple[int, str]:
    """Code and words of a refusal, without the method in front."""
    with pytest.raises(OneError) as caught:
        world.call(method, *params, session=session)
    return caught.value.code, caught.value.message.removeprefix(f"[{method}] ")


def test_the_first_rules_are_those_of_a_new_zone(world: World) -> None:
    rules = re.findall(r"<STRING>(.*?)</STRING>", world.call("one.acl.info"))
    assert rules[:6] == [
        "@1 VM+IMAGE+TEMPLATE+DOCUMENT+SECGROUP+VMGROUP+BACKUPJOB/* CREATE *", "@1 HOST/* MANAGE #0", "@1 NET/* USE #0",
        "@1 DATASTORE/* USE #0", f"@{FIRST_GROUP} HOST/* MANAGE #0", f"@{FIRST_GROUP} NET/* USE #0",
    ]
    assert rules[-2:] == ["* ZONE/* USE *", "* MARKETPLACE+MARKETPLACEAPP/* USE *"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ((ALL | ONE, VM | ALL, USE, ALL), "[user] INDIVIDUAL (#) and ALL (*) bits are exclusive"),
        ((0, VM | ALL, USE, ALL), "[user] is missing one of the INDIVIDUAL, GROUP or ALL bits"),
        ((ALL, VM | CLUSTER, USE, ALL), "[resource] CLUSTER(%) selector can be applied only to DATASTORE, HOST and NET types"),
        ((ALL, HOST | GROUP, USE, ALL), "[resource] GROUP(@) selector cannot be applied to HOST, GROUP, CLUSTER, ZONE or VDC types"),
        ((ALL, ALL, USE, ALL), "[resource] type is missing"),
        ((ALL, VM | ALL, 0, ALL), "wrong [rights], it cannot be 0"),
        ((ALL, VM | ALL, 16, ALL), "wrong [rights], it cannot be bigger than 0xF"),
        ((ALL, VM | ONE, USE, ALL), "cannot be applied to ALL zones, except for USER, GROUP and ZONE types"),
        ((ALL, ZONE | ALL, USE, ALL), "Rule * ZONE/* USE * already exists"),
    ],
)
def test_rules_that_make_no_sense_are_refused(world: World, rule: tuple[int, ...], words: str) -> None:
    code, message = refusal(world, "one.acl.addrule", *map(hexadecimal, rule))
    assert code == 8192 and words in message


def test_what_has_gone_leaves_no_rule(world: World) -> None:
    group = world.call("one.group.allocate", "passing")
    user = world.call("one.user.allocate", "passer", "by", "", [group])
    image = world.call("one.image.allocate", 'NAME="passing"\nPATH="/x"\nSIZE="1"', 1, False)
    world.wait("one.image.info", image, "<STATE>1<")
    here = hexadecimal(ONE)
    for subject, resource in ((ONE | user, NET | ALL), (ALL, IMAGE | GROUP | group), (ALL, IMAGE | ONE | image)):
        world.call("one.acl.addrule", hexadecimal(subject), hexadecimal(resource), hexadecimal(MANAGE), here)
    assert refusal(world, "one.group.delete", group) == (2048, f"Cannot delete group. Group {group} is not empty.")
    world.call("one.user.delete", user)
    world.call("one.group.delete", group)
    world.call("one.image.delete", image, False)
    left = world.call("one.acl.info")
    assert not re.search(rf"@{group}\b|#{user} NET|IMAGE/#{image}", left)
    assert f"<ID>{group}</ID>" not in world.call("one.vdcpool.info")


def test_a_group_that_leaves_one_of_two_data_centers_loses_what_both_give(world: World) -> None:
    group = world.call("one.group.allocate", "twofold")
    vdc = world.call("one.vdc.allocate", 'NAME="second"')
    world.call("one.vdc.addhost", vdc, 0, -10)
    world.call("one.vdc.addgroup", vdc, group)
    world.call("one.vdc.delgroup", 0, group)
    assert f"@{group} HOST" not in world.call("one.acl.info")
    assert refusal(world, "one.vdc.delgroup", 0, group) == (8192, f"Group {group} is not assigned to the VDC 0")
    assert refusal(world, "one.vdc.addhost", vdc, 0, -10) == (8192, "HOST -10 from Zone 0 is already assigned to the VDC")


def test_a_reservation_is_not_everybodys_who_may_use_all_networks(world: World) -> None:
    reserved = world.call("one.vn.reserve", 0, 'NAME="reserved"\nSIZE="1"')
    world.call("one.vn.info", 0, session=ALICE)
    words = f"User [2] : Not authorized to perform USE NET [{reserved}]."
    assert refusal(world, "one.vn.info", reserved, session=ALICE) == (512, words)
    assert "<NAME>reserved<" not in world.call("one.vnpool.info", -2, -1, -1, session=ALICE)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(("method", "owner", "named"), [("one.user.quota", 2, "user [2]"), ("one.group.quota", 100, "group [100]")])
@pytest.mark.parametrize(
    ("quota", "words"),
    [
        ('VM=[VMS="1"]', "limit of 1 reached for VMS quota in VM."),
        ('VM=[RUNNING_CPU="1.5"]', "limit of 1.5 reached for RUNNING_CPU quota in VM."),
        ('VM=[MEMORY="100"]', "limit of 100 reached for MEMORY quota in VM."),
        ('NETWORK=[ID="0",LEASES="1"]', "limit of 1 reached for LEASES quota in NETWORK with ID: 0."),
        ('IMAGE=[ID="0",RVMS="1"]', "limit of 1 reached for RVMS quota in IMAGE with ID: 0."),
    ],
)
def test_a_machine_above_a_limit_is_refused(world: World, method: str, owner: int, named: str, quota: str, words: str) -> None:
    world.call(method, owner, quota)
    first = world.instantiate("first", hold=True, session=ALICE)
    refused = refusal(world, "one.template.instantiate", 0, "second", True, "", False, session=ALICE)
    assert refused == (512, f"User [2] : {named} {words}")
    world.call("one.vm.action", "terminate-hard", first)
    world.instantiate("second", hold=True, session=ALICE)


@pytest.mark.usefixtures("limits")
def test_images_take_room_of_their_datastore_whoever_gets_them(world: World) -> None:
    world.call("one.group.quota", FIRST_GROUP, 'DATASTORE=[ID="1",SIZE="15",IMAGES="-2"]')
    own = world.call("one.image.allocate", 'NAME="own"\nPATH="/x"\nSIZE="10"', 1, False, session=ALICE)
    more = ('NAME="more"\nPATH="/x"\nSIZE="10"', 1, False)
    words = "group [100] limit of 15 reached for SIZE quota in DATASTORE with ID: 1."
    assert refusal(world, "one.image.allocate", *more, session=ALICE) == (512, f"User [2] : {words}")
    assert refusal(world, "one.image.chown", 1, -1, FIRST_GROUP) == (512, f"User [0] : {words}")
    world.wait("one.image.info", own, "<STATE>1<")
    world.call("one.image.delete", own, False)


@pytest.mark.usefixtures("limits")
def test_a_metric_that_is_not_named_goes_back_to_the_default(world: World) -> None:
    world.call("one.user.quota", 2, 'VM=[VMS="3",CPU="2.5"]')
    assert "<CPU><![CDATA[2.50]]>" in world.call("one.user.info", 2)
    world.call("one.user.quota", 2, 'VM=[VMS="4"]')
    document = world.call("one.user.info", 2)
    assert "<VMS><![CDATA[4]]>" in document and "<CPU><![CDATA[-1]]>" in document
    assert refusal(world, "one.user.quota", 2, 'VM=[VMS="-3"]') == (
        2048, 'Negative limits or bad format in quota VM = [ VMS="-3" ]',
    )
    assert refusal(world, "one.user.quota", 0, 'VM=[VMS="3"]') == (2048, "Cannot set quotas for oneadmin user")


@pytest.mark.usefixtures("limits")
def test_a_machine_that_grows_or_gets_more_stays_within_the_limits(world: World) -> None:
    world.call("one.user.quota", 2, 'VM=[CPU="2"]\nNETWORK=[ID="0",LEASES="1"]\nIMAGE=[ID="1",RVMS="0"]')
    vm = world.run("grower", session=ALICE)
    assert "LEASES quota" in refusal(world, "one.vm.attachnic", vm, 'NIC=[NETWORK_ID="0"]', session=ALICE)[1]
    world.call("one.image.chmod", 1, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert "RVMS quota in IMAGE with ID: 1" in refusal(world, "one.vm.attach", vm, 'DISK=[IMAGE_ID="1"]', session=ALICE)[1]
    world.call("one.vm.action", "poweroff", vm)
    world.wait("one.vm.info", vm, "<STATE>8<")
    assert "CPU quota" in refusal(world, "one.vm.resize", vm, 'CPU="3"', False, session=ALICE)[1]
    world.call("one.user.quota", 2, 'VM=[RUNNING_VMS="0"]')
    assert "RUNNING_VMS quota" in refusal(world, "one.vm.action", "resume", vm, session=ALICE)[1]


def test_users_change_what_is_theirs_and_nothing_else(world: World) -> None:
    assert refusal(world, "one.user.enable", 2, False, session=ALICE)[1] == "User [2] : Not authorized to perform ADMIN USER [2]."
    assert refusal(world, "one.user.chgrp", 2, 0, session=ALICE)[1] == "User [2] : Not authorized to perform USE GROUP [0]."
    assert refusal(world, "one.user.addgroup", 2, 1, session=ALICE)[1] == "User [2] : Not authorized to perform MANAGE GROUP [1]."
    assert refusal(world, "one.user.quota", 2, "", session=ALICE)[0] == 512
    assert refusal(world, "one.user.passwd", 2, "a b", session=ALICE) == (2048, "Invalid password, character ' ' is not allowed")
    world.call("one.user.passwd", 2, ALICE.partition(":")[2], session=ALICE)
