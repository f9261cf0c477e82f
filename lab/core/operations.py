# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What operators do with VMs and their disks: place and move them, take snapshots, save and enlarge disks."""

from __future__ import annotations

from lab.core import datastores, hosts, images
from lab.core.call import Call
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.method import Method
from lab.core.states import VM_ACTIONS, LcmState, VmState, vm_state_name

_MOVABLE = (VmState.POWEROFF, VmState.SUSPENDED)
_KB = 1024


def _runs(vm: dict) -> bool:
    return vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING


def _wrong_state(vm: dict, what: str) -> OneError:
    return OneError(ACTION, f"{what}, wrong state {vm_state_name(vm)}.")


def _check_room(call: Call, vm: dict, host: dict) -> None:
    """Refuse a host without room for a VM. Raises OneError."""
    cpu, memory = hosts.usage(call.core, host["id"])
    free_cpu = host["cpu"] - cpu >= round(float(vm["template"]["CPU"]) * 100)
    if not free_cpu or host["memory"] - memory < int(vm["template"]["MEMORY"]) * _KB:
        raise OneError(ACTION, f"Not enough capacity in host {host['id']}.")


def _deploy(call: Call, vm_id: int, host_id: int, enforce: bool = False, _datastore: int = -1, _extra: str = "") -> int:
    """Put a VM that waits on a host."""
    host = call.find("host", host_id)
    vm = call.find("vm", vm_id)
    call.authorize(("ADMIN", "vm", vm), ("MANAGE", "host", host))
    if vm["state"] not in (VmState.PENDING, VmState.HOLD, VmState.STOPPED, VmState.UNDEPLOYED):
        raise OneError(ACTION, f"Deploy action is not available for state {vm_state_name(vm)}")
    if enforce:
        _check_room(call, vm, host)
    call.core.lifecycle.place(vm, host)
    return vm_id


def _migrate(
    call: Call, vm_id: int, host_id: int, live: bool, enforce: bool = False, datastore_id: int = -1,
    _way: int = 0,
) -> int:
    """Move a VM to another host; the zone's machines are always saved for it."""
    host = call.find("host", host_id)
    if datastore_id != -1:
        call.find("datastore", datastore_id)
    vm = call.find("vm", vm_id)
    call.authorize(("ADMIN", "vm", vm), ("MANAGE", "host", host))
    active = vm["state"] == VmState.ACTIVE and vm["lcm"] in (LcmState.RUNNING, LcmState.UNKNOWN)
    if vm["state"] not in _MOVABLE and not active:
        raise OneError(ACTION, f"Migrate action is not available for state {vm_state_name(vm)}")
    if vm["host"] == host_id and datastore_id == -1:
        raise OneError(ACTION, f"VM is already running on host [{host_id}]")
    if enforce:
        _check_room(call, vm, host)
    call.core.lifecycle.migrate(vm, host)
    # What is moved without being stopped is noted as such, however this zone does it.
    vm["history"][-2 if len(vm["history"]) > 1 else -1]["ACTION"] = VM_ACTIONS["live-migrate" if live and active else "migrate"]
    call.core.store.save("vm", vm)
    return vm_id


def _create_snapshot(call: Call, vm_id: int, name: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    if not _runs(vm):
        raise _wrong_state(vm, f"Could not create a new snapshot for VM {vm_id}")
    there = vm["template"].setdefault("SNAPSHOT", [])
    number = 1 + max((int(snapshot["SNAPSHOT_ID"]) for snapshot in there), default=-1)
    snapshot = {"ACTION": "CREATE", "ACTIVE": "YES", "HYPERVISOR_ID": f"snap-{number}", "NAME": name or f"snap-{number}",
                "SNAPSHOT_ID": str(number), "SYSTEM_DISK_SIZE": "0", "TIME": str(call.core.now())}
    there.append(snapshot)

    def done() -> None:
        for passing in ("ACTION", "ACTIVE"):
            snapshot.pop(passing, None)

    call.core.lifecycle.pass_through(vm, LcmState.HOTPLUG_SNAPSHOT, done)
    return number


def _known_snapshot(vm: dict, snapshot_id: int, what: str) -> dict:
    if not _runs(vm):
        raise _wrong_state(vm, what)
    found = [snapshot for snapshot in vm["template"].get("SNAPSHOT", ()) if snapshot["SNAPSHOT_ID"] == str(snapshot_id)]
    if not found:
        raise OneError(ACTION, f"{what}, it does not exist.")
    return found[0]


def _revert_snapshot(call: Call, vm_id: int, snapshot_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _known_snapshot(vm, snapshot_id, f"Could not revert VM {vm_id} to snapshot {snapshot_id}")
    call.core.lifecycle.pass_through(vm, LcmState.HOTPLUG_SNAPSHOT, lambda: None)
    return vm_id


def _delete_snapshot(call: Call, vm_id: int, snapshot_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    snapshot = _known_snapshot(vm, snapshot_id, f"Could not delete snapshot {snapshot_id} for VM {vm_id}")
    call.core.lifecycle.pass_through(vm, LcmState.HOTPLUG_SNAPSHOT, lambda: vm["template"]["SNAPSHOT"].remove(snapshot))
    return vm_id


def _disk(vm: dict, disk_id: int) -> dict:
    disk = next((disk for disk in vm["template"]["DISK"] if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None:
        raise OneError(ACTION, "VM disk does not exist")
    return disk


def _create_disk_snapshot(call: Call, vm_id: int, disk_id: int, name: str) -> int:
    vm = call.find("vm", vm_id)
    disk = _disk(vm, disk_id)
    call.authorize(("MANAGE", "vm", vm))
    if not _runs(vm) and vm["state"] not in (VmState.POWEROFF, VmState.SUSPENDED):
        raise _wrong_state(vm, f"Could not create a new snapshot for VM {vm_id}")
    if "IMAGE_ID" not in disk:
        raise OneError(ACTION, "Cannot make snapshots on volatile disks")
    if disk["READONLY"] == "YES":
        raise OneError(ACTION, "Cannot make snapshots on readonly disks")
    all_ = vm.setdefault("snapshots", {}).setdefault(str(disk_id), {
        "ALLOW_ORPHANS": disk["ALLOW_ORPHANS"], "CURRENT_BASE": "-1", "NEXT_SNAPSHOT": "0", "SNAPSHOT": [],
    })
    number = int(all_["NEXT_SNAPSHOT"])
    for other in all_["SNAPSHOT"]:
        other.pop("ACTIVE", None)
    named = {"NAME": name} if name else {}
    all_["SNAPSHOT"].append({
        "ACTIVE": "YES", "DATE": str(call.core.now()), "ID": str(number), "PARENT": all_["CURRENT_BASE"],
        "SIZE": disk["SIZE"], **named,
    })
    all_ |= {"NEXT_SNAPSHOT": str(number + 1), "CURRENT_BASE": str(number)}
    _note_size(disk, all_)
    passing = LcmState.DISK_SNAPSHOT if _runs(vm) else LcmState.DISK_SNAPSHOT_POWEROFF
    call.core.lifecycle.pass_through(vm, passing, lambda: None)
    return number


def _note_size(disk: dict, all_: dict) -> None:
    disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(sum(int(snapshot["SIZE"]) for snapshot in all_["SNAPSHOT"]))


def _disk_snapshot(vm: dict, disk_id: int, snapshot_id: int) -> tuple[dict, dict]:
    """Return the snapshots of a disk and one of them. Raises OneError."""
    _disk(vm, disk_id)
    all_ = vm.get("snapshots", {}).get(str(disk_id))
    if all_ is None:
        raise OneError(ACTION, f"Snapshots does not exists for disk: {disk_id}")
    found = [snapshot for snapshot in all_["SNAPSHOT"] if snapshot["ID"] == str(snapshot_id)]
    if not found:
        raise OneError(ACTION, f"Disk id ({disk_id}) or snapshot id ({snapshot_id}) is not valid.")
    return all_, found[0]


def _revert_disk_snapshot(call: Call, vm_id: int, disk_id: int, snapshot_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    if vm["state"] != VmState.POWEROFF:
        raise _wrong_state(vm, f"Could not revert to disk snapshot for VM {vm_id}")
    all_, chosen = _disk_snapshot(vm, disk_id, snapshot_id)

    def done() -> None:
        for snapshot in all_["SNAPSHOT"]:
            snapshot.pop("ACTIVE", None)
        chosen["ACTIVE"] = "YES"
        all_["CURRENT_BASE"] = chosen["ID"]

    call.core.lifecycle.pass_through(vm, LcmState.DISK_SNAPSHOT_REVERT_POWEROFF, done)
    return vm_id


def _delete_disk_snapshot(call: Call, vm_id: int, disk_id: int, snapshot_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    if not _runs(vm) and vm["state"] not in (VmState.POWEROFF, VmState.SUSPENDED):
        raise _wrong_state(vm, f"Could not delete disk snapshot from VM {vm_id}")
    all_, snapshot = _disk_snapshot(vm, disk_id, snapshot_id)
    if snapshot.get("ACTIVE") == "YES":
        raise OneError(ACTION, "Cannot delete the active snapshot")

    def done() -> None:
        all_["SNAPSHOT"].remove(snapshot)
        _note_size(_disk(vm, disk_id), all_)

    passing = LcmState.DISK_SNAPSHOT_DELETE if _runs(vm) else LcmState.DISK_SNAPSHOT_DELETE_POWEROFF
    call.core.lifecycle.pass_through(vm, passing, done)
    return vm_id


def _rename_disk_snapshot(call: Call, vm_id: int, disk_id: int, snapshot_id: int, name: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _all, snapshot = _disk_snapshot(vm, disk_id, snapshot_id)
    snapshot["NAME"] = name
    call.core.store.save("vm", vm)
    return vm_id


def _save_disk(call: Call, vm_id: int, disk_id: int, name: str, kind: str, _snapshot: int) -> int:
    """Make an image of a VM's disk."""
    vm = call.find("vm", vm_id)
    if not _runs(vm) and vm["state"] not in (VmState.POWEROFF, VmState.SUSPENDED):
        raise OneError(INTERNAL, "VM has to be RUNNING, POWEROFF or SUSPENDED to save disks.", vm_id)
    disk = next((disk for disk in vm["template"]["DISK"] if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None or "IMAGE_ID" not in disk:
        reason = "disk does not exist." if disk is None else "volatile disks cannot be saved."
        raise OneError(INTERNAL, f"Cannot use DISK. {reason}", vm_id)
    source = call.find("image", int(disk["IMAGE_ID"]))
    datastore = call.find("datastore", source["datastore"])
    datastores.check_room(datastore, int(disk["SIZE"]))
    call.authorize(("MANAGE", "vm", vm), ("CREATE", "image", None), ("USE", "datastore", datastore))
    origin = {"SAVED_DISK_ID": str(disk_id), "SAVED_IMAGE_ID": disk["IMAGE_ID"], "SAVED_VM_ID": str(vm_id)}
    image = images.saved(call, source, name, datastore, kind, int(disk["SIZE"]), origin)
    call.core.lifecycle.save_disk(vm, disk_id, image)
    return image["id"]


METHODS = {
    "one.vm.deploy": Method(_deploy, "i i b? i? s?"),
    "one.vm.migrate": Method(_migrate, "i i b b? i? i?"),
    "one.vm.snapshotcreate": Method(_create_snapshot, "i s"),
    "one.vm.snapshotrevert": Method(_revert_snapshot, "i i"),
    "one.vm.snapshotdelete": Method(_delete_snapshot, "i i"),
    "one.vm.disksnapshotcreate": Method(_create_disk_snapshot, "i i s"),
    "one.vm.disksnapshotrevert": Method(_revert_disk_snapshot, "i i i"),
    "one.vm.disksnapshotdelete": Method(_delete_disk_snapshot, "i i i"),
    "one.vm.disksnapshotrename": Method(_rename_disk_snapshot, "i i i s"),
    "one.vm.disksaveas": Method(_save_disk, "i i s s i"),
}
