# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of disks, and what else a VM's disk or place refuses, in the words of OpenNebula's published source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ALICE, RUNNING, World, refusal

AUTHORIZATION, NO_EXISTS, ACTION, INTERNAL, ALLOCATE = 512, 1024, 2048, 8192, 16384
TEMPLATE = 'NAME="small"\nCPU="0.1"\nMEMORY="128"\nDISK=[IMAGE_ID="0"]\nDISK=[TYPE="fs",SIZE="5"]'
CANNOT_USE = "Cannot use DISK. "


def prepared(state_dir: Path, **settings: object) -> World:
    """A zone with an image, and a VM template with a disk of it and a volatile one."""
    world = World(state_dir, **settings)
    world.call("one.image.allocate", 'NAME="disk"\nPATH="/x"\nSIZE="10"', 1, False)
    world.wait("one.image.info", 0, "<STATE>1<")
    world.call("one.template.allocate", TEMPLATE)
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    world.tick()
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = prepared(tmp_path)
    yield world
    world.stop()


@pytest.fixture
def older(tmp_path: Path) -> Iterator[World]:
    world = prepared(tmp_path, version="6.10")
    yield world
    world.stop()


def with_snapshots(world: World, *names: str) -> int:
    vm = world.run("first")
    for name in names:
        world.call("one.vm.disksnapshotcreate", vm, 0, name)
        world.wait("one.vm.info", vm, *RUNNING)
    return vm


def snapshots(world: World, vm: int) -> list[tuple[str | None, ...]]:
    """Of each snapshot of the first disk: id, parent, children, and whether it is the active one."""
    document = ElementTree.fromstring(world.call("one.vm.info", vm))
    return [tuple(each.findtext(name) for name in ("ID", "PARENT", "CHILDREN", "ACTIVE"))
            for each in document.findall("SNAPSHOTS/SNAPSHOT")]


def test_snapshots_of_a_disk_that_lets_none_lose_its_parent_are_a_tree(world: World) -> None:
    vm = with_snapshots(world, "one", "two", "three")
    assert snapshots(world, vm) == [("0", "-1", "1", None), ("1", "0", "2", None), ("2", "1", None, "YES")]
    world.call("one.vm.disksnapshotdelete", vm, 0, 1)
    world.wait("one.vm.info", vm, *RUNNING)
    assert snapshots(world, vm) == [("0", "-1", "2", None), ("2", "0", None, "YES")]
    world.call("one.vm.disksnapshotdelete", vm, 0, 2)
    world.wait("one.vm.info", vm, *RUNNING)
    assert snapshots(world, vm) == [("0", "-1", None, "YES")]


def test_a_disk_that_is_reverted_grows_another_branch(world: World) -> None:
    vm = with_snapshots(world, "one", "two")
    world.call("one.vm.action", "poweroff", vm)
    world.wait("one.vm.info", vm, "<STATE>8<")
    world.call("one.vm.disksnapshotrevert", vm, 0, 0)
    world.wait("one.vm.info", vm, "<STATE>8<")
    assert refusal(world, "one.vm.disksnapshotdelete", vm, 0, 0) == (ACTION, "Cannot delete the active snapshot with children")
    world.call("one.vm.disksnapshotcreate", vm, 0, "three")
    world.wait("one.vm.info", vm, "<STATE>8<")
    assert snapshots(world, vm) == [("0", "-1", "1,2", None), ("1", "0", None, None), ("2", "0", None, "YES")]
    assert refusal(world, "one.vm.disksnapshotdelete", vm, 0, 0) == (ACTION, "Cannot delete snapshot with more than one children")


@pytest.mark.parametrize(("method", "disk", "more", "words"), [
    ("create", 1, ("s",), "Cannot make snapshots on disks of type: fs"),
    ("create", 9, ("s",), "VM disk does not exist"),
    ("revert", 9, (0,), "VM disk does not exist"),
    ("revert", 1, (0,), "Snapshots are not supported on disks of type: fs"),
    ("delete", 1, (0,), "Snapshots are not supported on disks of type: fs"),
    ("delete", 0, (7,), "Snapshot does not exist"),
    ("rename", 0, (7, "new"), "Snapshot does not exist"),
])
def test_what_a_disk_has_not_is_refused(world: World, method: str, disk: int, more: tuple, words: str) -> None:
    vm = with_snapshots(world, "one")
    assert refusal(world, f"one.vm.disksnapshot{method}", vm, disk, *more) == (ACTION, words)


@pytest.mark.parametrize(("method", "disk", "more", "words"), [
    ("create", 1, ("s",), "Cannot make snapshots on volatile disks"),
    ("delete", 0, (0,), "Snapshot does not exist"),
    ("rename", 0, (0, "new"), "The VM does not have any snapshot"),
    ("revert", 9, (0,), "Could not revert to disk snapshot for VM 0, wrong state RUNNING."),
])
def test_6_10_looks_at_less_before_it_refuses(older: World, method: str, disk: int, more: tuple, words: str) -> None:
    vm = older.run("first")
    assert refusal(older, f"one.vm.disksnapshot{method}", vm, disk, *more) == (ACTION, words)


@pytest.mark.parametrize(("disk", "kind", "snapshot", "code", "words"), [
    (9, "", -1, INTERNAL, f"{CANNOT_USE}DISK does not exist."),
    (1, "", -1, INTERNAL, f"{CANNOT_USE}DISK does not have a valid IMAGE_ID."),
    (0, "", 7, INTERNAL, f"{CANNOT_USE}Snapshot does not exist."),
    (0, "TAPE", -1, ALLOCATE, "Error allocating a new image. Unknown type "),
])
def test_a_disk_that_cannot_be_saved_is_refused(world: World, disk: int, kind: str, snapshot: int, code: int, words: str) -> None:
    vm = world.run("first")
    assert refusal(world, "one.vm.disksaveas", vm, disk, "new", kind, snapshot) == (code, words)


@pytest.mark.parametrize(("datastore", "code", "words"), [
    (1, INTERNAL, "Trying to use datastore [1] to deploy the VM, but it is not of type system datastore."),
    (99, NO_EXISTS, "Error getting datastore [99]."),
])
def test_a_vm_is_put_into_datastores_for_vms_alone(world: World, datastore: int, code: int, words: str) -> None:
    held, runs = world.instantiate("held", hold=True), world.run("first")
    assert refusal(world, "one.vm.deploy", held, 0, False, datastore) == (code, words)
    assert refusal(world, "one.vm.migrate", runs, 0, False, False, datastore) == (code, words)


def test_a_vm_moves_to_the_datastore_that_is_named(world: World) -> None:
    other = world.call("one.datastore.allocate", 'NAME="other"\nTYPE="SYSTEM_DS"\nTM_MAD="local"', 0)
    far = world.call("one.datastore.allocate", 'NAME="far"\nTYPE="SYSTEM_DS"\nTM_MAD="ceph"', 0)
    vm = world.run("first")
    assert refusal(world, "one.vm.migrate", vm, 0, False, False, far) == (ACTION, "System datastore migration not supported by driver")
    world.call("one.vm.migrate", vm, 0, False, False, other)
    world.wait("one.vm.info", vm, *RUNNING, f"<DS_ID>{other}</DS_ID>")
    assert refusal(world, "one.vm.migrate", vm, 0, False)[1] == f"VM is already running on host [0] and datastore [{other}]"


def test_a_host_without_room_or_out_of_service_takes_no_vm(world: World) -> None:
    world.call("one.template.allocate", 'NAME="large"\nCPU="100"\nMEMORY="128"')
    vm = world.call("one.template.instantiate", 1, "large", True, "", False)
    words = f"virtual machine [{vm}] does not fit in host [0]. Not enough CPU: 10000/800"
    assert refusal(world, "one.vm.deploy", vm, 0, True) == (ACTION, words)
    world.call("one.host.status", 0, 2)
    assert refusal(world, "one.vm.deploy", vm, 0) == (ACTION, "Host is offline, cannot use it to deploy VM")


@pytest.mark.parametrize(("action", "right"), [
    ("resched", "ADMIN"), ("unresched", "ADMIN"), ("delete", "ADMIN"), ("poweroff", "MANAGE"), ("dance", "MANAGE"),
])
def test_some_actions_are_for_those_who_administer_a_vm(world: World, action: str, right: str) -> None:
    vm = world.instantiate("held", hold=True)
    words = f"User [2] : Not authorized to perform {right} VM [{vm}]."
    assert refusal(world, "one.vm.action", action, vm, session=ALICE) == (AUTHORIZATION, words)
