# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Scheduled actions of VMs are kept, checked, shown and done as by oned; the words are those of its published source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import RUNNING, World, refusal

NO_EXISTS, ACTION, INTERNAL = 1024, 2048, 8192
VM = 'CPU="0.1"\nMEMORY="64"\n'
LATER = "4000000000"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(Path(tmp_path_factory.mktemp("zone")))
    yield world
    world.stop()


def shown(world: World, vm: int) -> list[dict]:
    """The actions in a VM's document."""
    document = ElementTree.fromstring(world.call("one.vm.info", vm))
    actions = document.findall("TEMPLATE/SCHED_ACTION")
    assert [action.findtext("ID") for action in actions] == [number.text for number in document.findall("SCHED_ACTIONS/ID")]
    return [{part.tag: part.text or "" for part in action} for action in actions]


@pytest.fixture
def vm(world: World) -> Iterator[int]:
    """A VM that runs."""
    number = world.call("one.vm.allocate", VM)
    world.tick()
    world.wait("one.vm.info", number, *RUNNING)
    yield number
    world.call("one.vm.recover", number, 3)
    world.wait("one.vm.info", number, "<STATE>6<")
    world.tick()
    assert shown(world, number) == []


def schedule(world: World, vm: int, attributes: str) -> int:
    return world.call("one.vm.schedadd", vm, f"SCHED_ACTION=[{attributes}]")


def test_an_action_is_shown_in_full_changed_and_removed(world: World, vm: int) -> None:
    number = schedule(world, vm, f'ACTION="poweroff",TIME="{LATER}",REPEAT="0",DAYS="1,5",END_TYPE="1",END_VALUE="5"')
    assert shown(world, vm) == [{
        "ID": str(number), "PARENT_ID": str(vm), "TYPE": "VM", "ACTION": "poweroff", "ARGS": "", "TIME": LATER,
        "REPEAT": "0", "DAYS": "1,5", "END_TYPE": "1", "END_VALUE": "5", "DONE": "-1", "MESSAGE": "", "WARNING": "0",
    }]
    assert world.call("one.vm.schedupdate", vm, number, 'SCHED_ACTION=[ACTION="suspend",REPEAT="-1",END_TYPE="0"]') == number
    after = shown(world, vm)[0]
    assert (after["ACTION"], after["TIME"], after["DAYS"], after["END_VALUE"]) == ("suspend", LATER, "", "-1")
    assert world.call("one.vm.scheddelete", vm, number) == vm
    assert refusal(world, "one.vm.scheddelete", vm, number) == (NO_EXISTS, f"Error getting scheduled action [{number}].")
    words = f"SCHED_ACTION with id = {number} doesn't exist"
    assert refusal(world, "one.vm.schedupdate", vm, number, 'SCHED_ACTION=[ACTION="stop"]') == (INTERNAL, words)


@pytest.mark.parametrize(("attributes", "words"), [
    ('ACTION="dance",TIME="1"', "dance is not supported."),
    ('TIME="1"', "No ACTION in template for Scheduled Action."),
    ('ACTION="stop"', "Unable to parse the time value or value is empty: "),
    ('ACTION="stop",TIME="soon"', "Unable to parse the time value or value is empty: soon"),
    (f'ACTION="stop",TIME="{LATER}",WARNING="soon"', "Unable to parse the warning value: soon"),
    (f'ACTION="stop",TIME="{LATER}",REPEAT="4",DAYS="1"', "Wrong REPEAT value: 4"),
    (f'ACTION="stop",TIME="{LATER}",REPEAT="0"', "Repeat set, but DAYS are empty"),
    (f'ACTION="stop",TIME="{LATER}",REPEAT="0",DAYS="7"', "Days in a week have to be in [0,6] range"),
    (f'ACTION="stop",TIME="{LATER}",REPEAT="1",DAYS="0"', "Days in a month have to be in [1,31] range"),
    (f'ACTION="stop",TIME="{LATER}",REPEAT="3",DAYS="1,2"', "Hours have to be in [0,168] range"),
    (f'ACTION="stop",TIME="{LATER}",END_TYPE="3"', "Wrong END_TYPE value: 3"),
])
def test_an_action_that_cannot_be_is_refused(world: World, vm: int, attributes: str, words: str) -> None:
    assert refusal(world, "one.vm.schedadd", vm, f"SCHED_ACTION=[{attributes}]") == (ACTION, words)


def test_a_template_without_an_action_is_refused(world: World, vm: int) -> None:
    assert refusal(world, "one.vm.schedadd", vm, 'ACTION="stop"') == (ACTION, "No SCHED_ACTION attribute in template")


def test_what_is_due_is_done_once(world: World, vm: int) -> None:
    schedule(world, vm, 'ACTION="poweroff",TIME="1"')
    schedule(world, vm, f'ACTION="terminate",TIME="{LATER}"')
    world.tick()
    world.wait("one.vm.info", vm, "<STATE>8<")
    assert int(shown(world, vm)[0]["DONE"]) > 1
    world.call("one.vm.action", "resume", vm)
    world.wait("one.vm.info", vm, *RUNNING)
    world.tick()
    world.wait("one.vm.info", vm, *RUNNING)


def test_what_fails_says_why_and_is_tried_again(world: World, vm: int) -> None:
    schedule(world, vm, 'ACTION="snapshot-create",TIME="1"')
    world.tick()
    first = shown(world, vm)[0]
    assert first["DONE"] == "-1"
    assert first["MESSAGE"].endswith(" : Missing or malformed ARGS for: snapshot-create. Format: snapshot-name")
    world.call("one.vm.schedupdate", vm, int(first["ID"]), 'SCHED_ACTION=[ARGS="night"]')
    world.tick()
    assert world.wait("one.vm.info", vm, "<NAME><![CDATA[night]]></NAME>", *RUNNING)
    assert shown(world, vm)[0]["MESSAGE"] == ""


def test_what_comes_again_moves_on(world: World, vm: int) -> None:
    schedule(world, vm, 'ACTION="snapshot-create",ARGS="hourly",TIME="1000",REPEAT="3",DAYS="2",END_TYPE="1",END_VALUE="9"')
    world.tick()
    after = shown(world, vm)[0]
    assert int(after["TIME"]) >= int(after["DONE"]) > 0
    assert (int(after["TIME"]) - 1000) % 7200 == 0
    assert after["END_VALUE"] == "8"
    world.wait("one.vm.info", vm, *RUNNING)


def test_a_vm_is_born_with_the_actions_of_its_template(world: World) -> None:
    vm = world.call("one.vm.allocate", f'{VM}SCHED_ACTION=[ACTION="terminate",TIME="+3600"]', True)
    born = int(ElementTree.fromstring(world.call("one.vm.info", vm)).findtext("STIME"))
    assert [(action["ACTION"], int(action["TIME"])) for action in shown(world, vm)] == [("terminate", born + 3600)]
    world.call("one.vm.action", "terminate-hard", vm)
    words = f"Unable to create Scheduled Action for Virtual Machine {vm}, it's in DONE state"
    assert refusal(world, "one.vm.schedadd", vm, 'SCHED_ACTION=[ACTION="stop",TIME="1"]') == (INTERNAL, words)
