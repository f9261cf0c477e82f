# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A VM is placed only where its requirements and the rights of its owner allow it, as oned's scheduler does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ALICE, RUNNING, World

VM = 'CPU="0.1"\nMEMORY="64"\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with two hosts, one of which has a mark, and alice in a group without any host."""
    world = World(Path(tmp_path_factory.mktemp("zone")))
    world.call("one.host.allocate", "second", "dummy", "dummy", 0)
    world.call("one.host.update", 1, 'SPEED="7"\nROOM="b12"', 1)
    world.call("one.group.allocate", "lonely")
    world.call("one.vdc.delgroup", 0, 100)
    world.call("one.user.allocate", *ALICE.split(":"), "", [100])
    world.call("one.template.allocate", f'NAME="small"\n{VM}')
    world.call("one.template.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1, False)
    world.tick()
    yield world
    world.stop()


def document(world: World, vm: int) -> ElementTree.Element:
    return ElementTree.fromstring(world.call("one.vm.info", vm))


@pytest.mark.parametrize(("wanted", "host"), [
    ("ID = 1", "1"), ("ID != 1", "0"), ('NAME = \\"sec*\\"', "1"), ('NAME != \\"sec*\\"', "0"), ("SPEED > 5", "1"),
    ("SPEED = 7 & ROOM = b12", "1"), ("!(SPEED = 7)", "0"), ("! SPEED = 7 & ID = 0", "0"), ("SPEED < 5 | ID = 0", "0"),
    ("(SPEED @> 7)", "1"), ('ROOM = \\"b?2\\"', "1"), ("SPEED != 3", "1"),
])
def test_requirements_choose_the_host(world: World, wanted: str, host: str) -> None:
    vm = world.call("one.vm.allocate", f'{VM}SCHED_REQUIREMENTS="{wanted}"')
    world.tick()
    world.wait("one.vm.info", vm, *RUNNING)
    assert document(world, vm).findtext("HISTORY_RECORDS/HISTORY/HID") == host
    world.call("one.vm.recover", vm, 3)
    world.wait("one.vm.info", vm, "<STATE>6<")


@pytest.mark.parametrize(("wanted", "words"), [
    ("ID = 9", "No host meets SCHED_REQUIREMENTS"), ("NONE = 1", "No host meets SCHED_REQUIREMENTS"),
    ("NONE != 1", "No host meets SCHED_REQUIREMENTS"), ("ID = ", "Error in SCHED_REQUIREMENTS: 'ID = ', error: "),
])
def test_a_vm_that_no_host_suits_says_so_and_waits(world: World, wanted: str, words: str) -> None:
    vm = world.call("one.vm.allocate", f'{VM}SCHED_REQUIREMENTS="{wanted}"')
    world.tick()
    shown = document(world, vm)
    assert shown.findtext("STATE") == "1"
    assert words in shown.findtext("USER_TEMPLATE/SCHED_MESSAGE")
    world.call("one.vm.action", "terminate", vm)


@pytest.mark.parametrize("written", ['SCHED_MESSAGE=[A="b"]', 'SCHED_MESSAGE="a"\nSCHED_MESSAGE="b"'])
def test_what_the_owner_of_a_waiting_vm_writes_does_not_keep_others_waiting(world: World, written: str) -> None:
    waiting = world.call("one.vm.allocate", f'{VM}SCHED_REQUIREMENTS="ID = 77"\n{written}')
    other = world.call("one.vm.allocate", VM)
    world.tick()
    world.wait("one.vm.info", other, *RUNNING)
    assert "SCHED_REQUIREMENTS" in document(world, waiting).findtext("USER_TEMPLATE/SCHED_MESSAGE")
    for vm in (waiting, other):
        world.call("one.vm.recover", vm, 3)
    world.wait("one.vm.info", other, "<STATE>6<")


def test_vms_near_others_go_where_these_are(world: World) -> None:
    first = world.call("one.vm.allocate", f'{VM}SCHED_REQUIREMENTS="ID = 1"')
    world.tick()
    world.wait("one.vm.info", first, *RUNNING)
    near = world.call("one.vm.allocate", f'{VM}SCHED_REQUIREMENTS="CURRENT_VMS = {first}"')
    far = world.call("one.vm.allocate", f'{VM}SCHED_REQUIREMENTS="CURRENT_VMS != {first}"')
    world.tick()
    for vm, host in ((near, "1"), (far, "0")):
        world.wait("one.vm.info", vm, *RUNNING)
        assert document(world, vm).findtext("HISTORY_RECORDS/HISTORY/HID") == host


def test_who_has_a_right_to_no_host_waits_for_one(world: World) -> None:
    vm = world.call("one.template.instantiate", 0, "hers", False, "", False, session=ALICE)
    world.tick()
    shown = document(world, vm)
    assert shown.findtext("STATE") == "1"
    assert shown.findtext("USER_TEMPLATE/SCHED_MESSAGE").endswith("User is not authorized to use any host")
    world.call("one.vdc.addgroup", 0, 100)
    world.tick()
    world.wait("one.vm.info", vm, *RUNNING)
