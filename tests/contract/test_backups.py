# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Backups of VMs and the jobs that make them; the words are those of OpenNebula's published source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ALICE, RUNNING, World, refusal

AUTHORIZATION, ACTION, INTERNAL = 512, 2048, 8192
VM = 'CPU="0.1"\nMEMORY="64"\nDISK=[TYPE="fs",SIZE="5"]\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with a datastore for backups, number 100, and alice."""
    world = World(Path(tmp_path_factory.mktemp("zone")))
    world.call("one.datastore.allocate", 'NAME="vault"\nTYPE="BACKUP_DS"\nDS_MAD="rsync"\nTM_MAD="-"\nRSYNC_HOST="h"\nRSYNC_USER="u"', -1)
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    yield world
    world.stop()


@pytest.fixture
def vm(world: World) -> Iterator[int]:
    """A VM that runs."""
    number = world.call("one.vm.allocate", VM)
    world.tick()
    world.wait("one.vm.info", number, *RUNNING)
    yield number
    world.call("one.vm.recover", number, 3)
    world.wait("one.vm.info", number, "<STATE>6<")


@pytest.fixture
def job(world: World, vm: int) -> Iterator[int]:
    """A job that backs the VM up and keeps two."""
    number = world.call("one.backupjob.allocate", f'NAME="nightly"\nBACKUP_VMS="{vm}"\nDATASTORE_ID="100"\nKEEP_LAST="2"')
    yield number
    world.call("one.backupjob.delete", number)


def document(world: World, method: str, number: int) -> ElementTree.Element:
    return ElementTree.fromstring(world.call(method, number))


def backups(world: World, vm: int) -> list[int]:
    return [int(number.text) for number in document(world, "one.vm.info", vm).findall("BACKUPS/BACKUP_IDS/ID")]


def test_a_backup_is_an_image_of_its_own_type(world: World, vm: int) -> None:
    world.call("one.vm.backup", vm, 100, False)
    world.wait("one.vm.info", vm, *RUNNING, "<BACKUP_IDS><ID>")
    image = document(world, "one.image.info", backups(world, vm)[0])
    assert [image.findtext(name) for name in ("TYPE", "STATE", "DATASTORE_ID", "TEMPLATE/VM_ID")] == ["6", "1", "100", str(vm)]
    words = f"Image {image.findtext('ID')} ({image.findtext('NAME')}) of type BACKUP cannot be used as DISK."
    assert words in refusal(world, "one.vm.allocate", f'{VM}DISK=[IMAGE_ID="{image.findtext("ID")}"]')[1]


def test_a_vm_that_is_off_is_so_after_its_backup(world: World, vm: int) -> None:
    world.call("one.vm.action", "poweroff-hard", vm)
    world.wait("one.vm.info", vm, "<STATE>8<")
    world.call("one.vm.backup", vm, 100)
    world.wait("one.vm.info", vm, "<STATE>8<", "<BACKUP_IDS><ID>")


def test_what_cannot_be_backed_up_says_why(world: World, vm: int) -> None:
    assert refusal(world, "one.vm.backup", vm, 1) == (ACTION, "Datastore needs to be of type BACKUP")
    held = world.call("one.vm.allocate", VM, True)
    words = f"Could not create a new backup for VM {held}, wrong state HOLD."
    assert refusal(world, "one.vm.backup", held, 100) == (INTERNAL, words)
    world.call("one.vm.action", "terminate", held)
    words = f"Could not cancel backup for VM {vm}, no backup in progress"
    assert refusal(world, "one.vm.backupcancel", vm) == (INTERNAL, words)
    assert refusal(world, "one.vm.backup", vm, 100, session=ALICE)[0] == AUTHORIZATION


def test_a_job_backs_up_its_vms_and_keeps_so_many(world: World, vm: int, job: int) -> None:
    for _turn in range(3):
        world.call("one.backupjob.backup", job)
        assert refusal(world, "one.backupjob.backup", job) == (
            ACTION, "Unable to execute Backup Job, pending backups in progress",
        )
        world.tick()
        world.wait("one.backupjob.info", job, f"<UPDATED_VMS><ID>{vm}</ID></UPDATED_VMS>")
    kept = backups(world, vm)
    assert len(kept) == 2
    assert document(world, "one.image.info", kept[0]).findtext("TEMPLATE/BACKUP_JOB_ID") == str(job)
    assert refusal(world, "one.vm.backup", vm, 100)[1].startswith("Unable to start an individual backup")


def test_a_job_fails_in_a_datastore_for_other_things(world: World, vm: int, job: int) -> None:
    world.call("one.backupjob.update", job, 'DATASTORE_ID="1"', 1)
    world.call("one.backupjob.backup", job)
    world.tick()
    shown = document(world, "one.backupjob.info", job)
    assert [number.text for number in shown.findall("ERROR_VMS/ID")] == [str(vm)]
    assert "Datastore needs to be of type BACKUP" in shown.findtext("TEMPLATE/ERROR")
    world.call("one.backupjob.update", job, 'DATASTORE_ID="100"', 1)
    world.call("one.backupjob.retry", job)
    world.tick()
    world.wait("one.backupjob.info", job, f"<UPDATED_VMS><ID>{vm}</ID></UPDATED_VMS>")


def test_a_job_runs_at_its_time(world: World, vm: int, job: int) -> None:
    number = world.call("one.backupjob.schedadd", job, 'SCHED_ACTION=[TIME="5"]')
    assert document(world, "one.backupjob.info", job).findtext("TEMPLATE/SCHED_ACTION/ACTION") == "backup"
    world.tick()
    world.wait("one.backupjob.info", job, f"<UPDATED_VMS><ID>{vm}</ID></UPDATED_VMS>")
    assert refusal(world, "one.backupjob.schedadd", job, 'SCHED_ACTION=[TIME="+5"]')[1].startswith("Unable to parse the time")
    assert world.call("one.backupjob.scheddelete", job, number) == number


def test_a_job_is_written_as_oned_writes_it(world: World, vm: int, job: int) -> None:
    template = {part.tag: part.text for part in document(world, "one.backupjob.info", job).find("TEMPLATE")}
    assert template == {
        "BACKUP_VMS": str(vm), "BACKUP_VOLATILE": "NO", "DATASTORE_ID": "100", "EXECUTION": "SEQUENTIAL", "FS_FREEZE": "NONE",
        "KEEP_LAST": "2", "MODE": "FULL",
    }
    code, words = refusal(world, "one.backupjob.allocate", f'NAME="other"\nBACKUP_VMS="{vm}"')
    assert (code, words.startswith(f"Unable to add VM {vm} to Backup Job ")) == (INTERNAL, True)
    assert words.endswith(f". It's already in Backup Job {job}")


def test_only_administrators_are_in_a_hurry(world: World) -> None:
    job = world.call("one.backupjob.allocate", 'NAME="hers"', session=ALICE)
    assert world.call("one.backupjob.priority", job, 49, session=ALICE) == job
    words = f"User [2] : Not authorized to perform ADMIN BACKUPJOB [{job}]."
    assert refusal(world, "one.backupjob.priority", job, 50, session=ALICE) == (AUTHORIZATION, words)
    assert refusal(world, "one.backupjob.priority", job, 100) == (ACTION, "Wrong priority value")
    assert refusal(world, "one.backupjob.allocate", 'NAME="fast"\nPRIORITY="60"', session=ALICE) == (
        AUTHORIZATION, "User [2] not authorized to perform action on backup job.",
    )
