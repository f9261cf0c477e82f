# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What operators do every day: stop, move and bring back VMs, snapshots, copies of images and templates, datastores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ALICE, RUNNING, World, refusal

AUTHORIZATION, ACTION, INTERNAL, ALLOCATE = 512, 2048, 8192, 16384
OFF, STOPPED, UNDEPLOYED = "<STATE>8<", "<STATE>4<", "<STATE>9<"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A zone with two hosts, an image, and a VM template with a disk of it."""
    world = World(tmp_path)
    world.call("one.host.allocate", "host02", "dummy", "dummy", 0)
    world.call("one.image.allocate", 'NAME="disk"\nPATH="/x"\nSIZE="10"', 1, False)
    world.wait("one.image.info", 0, "<STATE>1<")
    world.call("one.template.allocate", 'NAME="small"\nCPU="0.1"\nMEMORY="128"\nDISK=[IMAGE_ID="0"]')
    world.tick()
    yield world
    world.stop()


def machine(world: World, vm_id: int) -> ElementTree.Element:
    return ElementTree.fromstring(world.call("one.vm.info", vm_id))


@pytest.mark.parametrize(("action", "state", "noted"), [
    ("stop", STOPPED, "9"), ("undeploy", UNDEPLOYED, "5"), ("undeploy-hard", UNDEPLOYED, "6"),
])
def test_a_vm_that_left_its_host_waits_until_it_is_resumed(world: World, action: str, state: str, noted: str) -> None:
    vm_id = world.run("first")
    world.call("one.vm.action", action, vm_id)
    world.wait("one.vm.info", vm_id, state)
    assert "<RUNNING_VMS>0<" in world.call("one.host.info", 0) and "<RUNNING_VMS>0<" in world.call("one.host.info", 1)
    name = {STOPPED: "STOPPED", UNDEPLOYED: "UNDEPLOYED"}[state]
    words = f'Error performing action "poweroff": This action is not available for state {name}'
    assert refusal(world, "one.vm.action", "poweroff", vm_id) == (ACTION, words)
    world.call("one.vm.action", "resume", vm_id)
    world.tick()
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert [record.findtext("ACTION") for record in machine(world, vm_id).iter("HISTORY")] == [noted, "0"]


def test_a_vm_moves_to_the_host_that_is_named(world: World) -> None:
    vm_id = world.run("first")
    here = int(machine(world, vm_id).find(".//HISTORY").findtext("HID"))
    assert refusal(world, "one.vm.migrate", vm_id, here, False) == (
        ACTION, f"VM is already running on host [{here}] and datastore [0]",
    )
    world.call("one.vm.migrate", vm_id, 1 - here, True)
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert [record.findtext("HID") for record in machine(world, vm_id).iter("HISTORY")] == [str(here), str(1 - here)]
    held = world.instantiate("held", hold=True)
    assert refusal(world, "one.vm.migrate", held, 0, False) == (ACTION, "Migrate action is not available for state HOLD")
    world.call("one.vm.deploy", held, 1)
    world.wait("one.vm.info", held, *RUNNING)


def test_what_did_not_run_is_ended_without_being_hard_on_it(world: World) -> None:
    vm_id = world.run("first")
    world.call("one.vm.action", "poweroff", vm_id)
    world.wait("one.vm.info", vm_id, OFF)
    world.call("one.vm.action", "terminate-hard", vm_id)
    world.wait("one.vm.info", vm_id, "<STATE>6<")
    assert machine(world, vm_id).find(".//HISTORY").findtext("ACTION") == "27"


def test_a_vm_is_made_anew(world: World) -> None:
    vm_id = world.run("first")
    assert refusal(world, "one.vm.recover", vm_id, 9) == (ACTION, "Wrong recovery operation code")
    world.call("one.vm.recover", vm_id, 4)
    world.wait("one.vm.info", vm_id, "<STATE>1<")
    world.tick()
    world.wait("one.vm.info", vm_id, *RUNNING)


def test_a_vm_has_snapshots_while_it_runs(world: World) -> None:
    vm_id = world.run("first")
    assert world.call("one.vm.snapshotcreate", vm_id, "before") == 0
    world.wait("one.vm.info", vm_id, *RUNNING, "before")
    world.call("one.vm.snapshotrevert", vm_id, 0)
    world.wait("one.vm.info", vm_id, *RUNNING)
    words = f"Could not delete snapshot 7 for VM {vm_id}, it does not exist."
    assert refusal(world, "one.vm.snapshotdelete", vm_id, 7) == (ACTION, words)
    world.call("one.vm.snapshotdelete", vm_id, 0)
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert machine(world, vm_id).find("TEMPLATE/SNAPSHOT") is None


def test_disks_have_snapshots_grow_and_become_images(world: World) -> None:
    vm_id = world.run("first")
    assert refusal(world, "one.vm.disksnapshotcreate", vm_id, 5, "s") == (ACTION, "VM disk does not exist")
    for number, name in enumerate(("one", "two")):
        assert world.call("one.vm.disksnapshotcreate", vm_id, 0, name) == number
        world.wait("one.vm.info", vm_id, *RUNNING)
    snapshots = machine(world, vm_id).find("SNAPSHOTS")
    assert [each.findtext("NAME") for each in snapshots.iter("SNAPSHOT")] == ["one", "two"]
    assert refusal(world, "one.vm.disksnapshotrevert", vm_id, 0, 0)[1].endswith("wrong state RUNNING.")
    world.call("one.vm.disksnapshotdelete", vm_id, 0, 1)
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert refusal(world, "one.vm.diskresize", vm_id, 0, "5")[1] == "New disk size has to be greater than current one"
    assert refusal(world, "one.vm.diskresize", vm_id, 0, "big")[1] == "Disk SIZE is not a valid integer"
    world.call("one.vm.diskresize", vm_id, 0, "20")
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert machine(world, vm_id).findtext("TEMPLATE/DISK/SIZE") == "20"
    image = world.call("one.vm.disksaveas", vm_id, 0, "saved", "", -1)
    document = ElementTree.fromstring(world.wait("one.image.info", image, "<STATE>1<"))
    assert [document.findtext(name) for name in ("NAME", "TEMPLATE/SAVED_VM_ID", "PATH", "SIZE")] == ["saved", str(vm_id), "", "20"]
    world.wait("one.vm.info", vm_id, *RUNNING)


def test_a_saved_disk_has_nothing_of_the_template_of_its_image_but_where_it_is_attached(world: World) -> None:
    world.call("one.image.update", 0, 'VERSION="1"\nDEV_PREFIX="vd"', 1)
    vm_id = world.run("first")
    world.call("one.vm.action", "poweroff-hard", vm_id)
    world.wait("one.vm.info", vm_id, "<STATE>8<")
    world.driver.reason = "the disk is broken"
    image = world.call("one.vm.disksaveas", vm_id, 0, "broken", "", -1)
    words = f"Error saving disk 0 of VM {vm_id}: the disk is broken"
    assert words in world.wait("one.image.info", image, "<STATE>5<")
    world.wait("one.vm.info", vm_id, "<STATE>8<")
    world.driver.reason = ""
    world.driver.free.clear()
    image = world.call("one.vm.disksaveas", vm_id, 0, "saved", "DATABLOCK", -1)
    assert refusal(world, "one.vm.disksaveas", vm_id, 0, "again", "", -1)[1].startswith("VM has to be RUNNING")
    world.driver.free.set()
    document = ElementTree.fromstring(world.wait("one.image.info", image, "<STATE>1<"))
    template = {item.tag: item.text for item in document.find("TEMPLATE")}
    assert template == {"DEV_PREFIX": "vd", "SAVED_DISK_ID": "0", "SAVED_IMAGE_ID": "0", "SAVED_VM_ID": str(vm_id)}
    assert document.findtext("TYPE") == "2"


def test_an_image_that_is_larger_than_its_datastore_is_refused(world: World) -> None:
    words = (ACTION, "Not enough space in datastore")
    assert refusal(world, "one.image.allocate", f'NAME="large"\nPATH="/x"\nSIZE="{10**12}"', 1, False) == words
    world.call("one.datastore.update", 1, 'DATASTORE_CAPACITY_CHECK="NO"', 1)
    world.call("one.image.allocate", f'NAME="large"\nPATH="/x"\nSIZE="{10**12}"', 1, False)


def test_images_and_templates_are_copied_and_removed_together(world: World) -> None:
    copy = world.call("one.image.clone", 0, "copy", -1)
    world.wait("one.image.info", copy, "<STATE>1<")
    assert refusal(world, "one.image.clone", 0, "copy", -1)[0] == ALLOCATE
    assert refusal(world, "one.image.clone", 0, "other", 0) == (ACTION, "Clone only supported for IMAGE_DS Datastores")
    template = world.call("one.template.clone", 0, "both", True)
    document = ElementTree.fromstring(world.call("one.template.info", template))
    image = int(document.findtext("TEMPLATE/DISK/IMAGE_ID"))
    assert "<NAME>both-disk-0</NAME>" in world.wait("one.image.info", image, "<STATE>1<")
    world.call("one.template.delete", template, True)
    world.wait_for(lambda: f"<IMAGE><ID>{image}</ID>" not in world.call("one.imagepool.info", -2, -1, -1), "the image to go")


def test_a_persistent_vm_has_a_template_and_images_of_its_own(world: World) -> None:
    vm_id = world.call("one.template.instantiate", 0, "mine", False, "", True)
    vm = machine(world, vm_id)
    assert [vm.findtext(f"TEMPLATE/{name}") for name in ("TEMPLATE_ID", "CLONING_TEMPLATE_ID", "DISK/IMAGE")] == [
        "1", "0", "mine-disk-0",
    ]
    world.wait("one.vm.info", vm_id, "<STATE>1<")
    world.tick()
    world.wait("one.vm.info", vm_id, *RUNNING)
    words = "Could not make image non-persistent: Image cannot be in state USED."
    assert refusal(world, "one.image.persistent", 1, False) == (INTERNAL, words)


def test_a_vm_waits_for_an_image_that_is_being_made(world: World) -> None:
    world.driver.free.clear()
    world.call("one.image.allocate", 'NAME="late"\nPATH="/x"\nSIZE="10"', 1, False)
    vm_id = world.call("one.vm.allocate", 'CPU="0.1"\nMEMORY="64"\nDISK=[IMAGE="late"]', False)
    assert "<STATE>10<" in world.call("one.vm.info", vm_id)
    world.driver.free.set()
    world.wait("one.vm.info", vm_id, "<STATE>1<")


def test_a_template_is_shown_with_what_its_disks_would_have(world: World) -> None:
    disk = ElementTree.fromstring(world.call("one.template.info", 0, True)).find("TEMPLATE/DISK")
    assert [disk.findtext(name) for name in ("IMAGE", "SIZE", "DATASTORE", "DISK_ID")] == ["disk", "10", "default", "0"]


def test_default_quotas_hold_for_whom_has_none_of_his_own(world: World) -> None:
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    world.call("one.template.chmod", 0, *[-1] * 6, 1, -1, -1, True)
    assert refusal(world, "one.userquota.update", 'VM=[VMS="1"]', session=ALICE)[0] == AUTHORIZATION
    document = world.call("one.userquota.update", 'VM=[VMS="1"]')
    assert "<VMS><![CDATA[1]]>" in document
    assert world.call("one.userquota.info") == document
    world.instantiate("first", hold=True, session=ALICE)
    assert "limit of 1 reached for VMS quota in VM." in refusal(world, "one.template.instantiate", 0, "b", session=ALICE)[1]
    world.call("one.user.quota", 2, 'VM=[VMS="2"]')
    world.instantiate("second", hold=True, session=ALICE)


@pytest.mark.parametrize(("text", "words"), [
    ('DS_MAD="restic"\nTYPE="BACKUP_DS"', 'Datastore template is missing the "RESTIC_PASSWORD" attribute or it\'s empty.'),
    ('DS_MAD="nfs"\nTM_MAD="ssh"', 'DS_MAD named "nfs" is not defined in oned.conf'),
    ('DS_MAD="fs"\nTM_MAD="ssh"\nDISK_TYPE="CDROM"', "Invalid DISK_TYPE for an Image Datastore."),
    ('TM_MAD="ssh"', "No DS_MAD in template."),
])
def test_a_datastore_without_what_its_driver_needs_is_refused(world: World, text: str, words: str) -> None:
    assert refusal(world, "one.datastore.allocate", f'NAME="d"\n{text}', 0) == (INTERNAL, words)


def test_a_datastore_has_what_follows_from_its_transfer_driver(world: World) -> None:
    number = world.call("one.datastore.allocate", 'NAME="d"\nDS_MAD="fs"\nTM_MAD="ssh"', 0)
    world.call("one.datastore.update", number, 'TM_MAD="shared"', 1)
    document = world.call("one.datastore.info", number)
    kept = {name: re.search(rf"<{name}><!\[CDATA\[(.*?)\]\]>", document) for name in
            ("ALLOW_ORPHANS", "CLONE_TARGET_SSH", "LN_TARGET", "TM_MAD_SYSTEM")}
    assert {name: match and match.group(1) for name, match in kept.items()} == {
        "ALLOW_ORPHANS": "FORMAT", "CLONE_TARGET_SSH": "SYSTEM", "LN_TARGET": "NONE", "TM_MAD_SYSTEM": "ssh",
    }
