# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of the disks of virtual machines: the tree they are in, and what the disk's driver lets become of it."""

from __future__ import annotations

from lab.core.call import Call
from lab.core.errors import ACTION, OneError
from lab.core.method import Method
from lab.core.states import LcmState, VmState, vm_state_name

_DENY, _ALLOW, _MIXED, _LINEAR = "NO", "YES", "MIXED", "LINEAR"
_MODES = (_ALLOW, _MIXED, _LINEAR)
_PASSING = {
    VmState.ACTIVE: (LcmState.DISK_SNAPSHOT, LcmState.DISK_SNAPSHOT_DELETE),
    VmState.POWEROFF: (LcmState.DISK_SNAPSHOT_POWEROFF, LcmState.DISK_SNAPSHOT_DELETE_POWEROFF),
    VmState.SUSPENDED: (LcmState.DISK_SNAPSHOT_SUSPENDED, LcmState.DISK_SNAPSHOT_DELETE_SUSPENDED),
}
_MISSING = "Snapshot does not exist"


def _create(call: Call, vm_id: int, disk_id: int, name: str) -> int:
    vm = call.find("vm", vm_id)
    disk = _supporting(call, vm, disk_id, "Cannot make snapshots on disks of type")
    call.authorize(("MANAGE", "vm", vm), *_of_image(call, disk))
    _demand_state(vm, f"Could not create a new snapshot for VM {vm_id}")
    if disk["READONLY"] == "YES":
        raise OneError(ACTION, "Cannot make snapshots on readonly disks")
    tree = vm.setdefault("snapshots", {}).setdefault(str(disk_id), {
        "ALLOW_ORPHANS": _mode(disk), "CURRENT_BASE": "-1", "NEXT_SNAPSHOT": "0", "SNAPSHOT": [],
    })
    number = tree["NEXT_SNAPSHOT"]
    parents = {_DENY: _active(tree), _MIXED: tree["CURRENT_BASE"]}
    new = ({"NAME": name} if name else {}) | {
        "SIZE": disk["SIZE"], "ID": number, "DATE": str(call.core.now()), "PARENT": parents.get(tree["ALLOW_ORPHANS"], "-1"),
    }
    parent = _find(tree, new["PARENT"])
    if parent:
        parent["CHILDREN"] = ",".join([*_children(parent), number])
    tree["SNAPSHOT"].append(new)
    tree["NEXT_SNAPSHOT"] = str(int(number) + 1)
    _note_size(disk, tree)

    def done() -> None:
        # With a driver that mixes, only reverting changes which one is active.
        if tree["ALLOW_ORPHANS"] != _MIXED:
            _activate(tree, new)

    call.core.lifecycle.pass_through(vm, _PASSING[vm["state"]][0], done)
    return int(number)


def _revert(call: Call, vm_id: int, disk_id: int, snapshot_id: int) -> int:
    vm = call.find("vm", vm_id)
    if call.core.config.release.checks_disk_first:
        _supporting(call, vm, disk_id, "Snapshots are not supported on disks of type")
    call.authorize(("MANAGE", "vm", vm))
    if vm["state"] != VmState.POWEROFF:
        raise _wrong_state(vm, f"Could not revert to disk snapshot for VM {vm_id}")
    tree = _tree(vm, disk_id)
    chosen = _find(tree, str(snapshot_id))
    if chosen is None:
        raise OneError(ACTION, f"Disk id ({disk_id}) or snapshot id ({snapshot_id}) is not valid.")

    def done() -> None:
        if tree["ALLOW_ORPHANS"] == _MIXED:
            tree["CURRENT_BASE"] = chosen["ID"]
        _activate(tree, chosen)

    call.core.lifecycle.pass_through(vm, LcmState.DISK_SNAPSHOT_REVERT_POWEROFF, done)
    return vm_id


def _delete(call: Call, vm_id: int, disk_id: int, snapshot_id: int) -> int:
    vm = call.find("vm", vm_id)
    if call.core.config.release.checks_disk_first:
        disk = _supporting(call, vm, disk_id, "Snapshots are not supported on disks of type")
    else:
        disk = _disk(vm, disk_id)
    call.authorize(("MANAGE", "vm", vm), *_of_image(call, disk))
    _demand_state(vm, f"Could not delete disk snapshot from VM {vm_id}")
    tree = _tree(vm, disk_id)
    chosen = _find(tree, str(snapshot_id))
    reason = _why_not(tree, chosen, disk.get("PERSISTENT") == "YES") if chosen else _MISSING
    if reason:
        raise OneError(ACTION, reason)

    def done() -> None:
        _remove(tree, chosen)
        _note_size(_disk(vm, disk_id), tree)

    call.core.lifecycle.pass_through(vm, _PASSING[vm["state"]][1], done)
    return vm_id


def _rename(call: Call, vm_id: int, disk_id: int, snapshot_id: int, name: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    if call.core.config.release.checks_disk_first:
        _supporting(call, vm, disk_id, "Snapshots are not supported on disks of type")
    else:
        _disk(vm, disk_id)
    if str(disk_id) not in vm.get("snapshots", {}):
        raise OneError(ACTION, "The VM does not have any snapshot")
    snapshot = _find(vm["snapshots"][str(disk_id)], str(snapshot_id))
    if snapshot is None:
        raise OneError(ACTION, _MISSING)
    snapshot["NAME"] = name
    call.core.store.save("vm", vm)
    return vm_id


def exists(vm: dict, disk_id: int, snapshot_id: int) -> bool:
    """Whether a disk of a VM has a snapshot of that number."""
    tree = vm.get("snapshots", {}).get(str(disk_id))
    return tree is not None and _find(tree, str(snapshot_id)) is not None


def _disk(vm: dict, disk_id: int) -> dict:
    disk = next((disk for disk in vm["template"]["DISK"] if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None:
        raise OneError(ACTION, "VM disk does not exist")
    return disk


def _supporting(call: Call, vm: dict, disk_id: int, words: str) -> dict:
    """Return a disk of an image, which alone can have snapshots. Raises OneError."""
    disk = _disk(vm, disk_id)
    if "IMAGE_ID" not in disk:
        named = call.core.config.release.checks_disk_first
        raise OneError(ACTION, f"{words}: {disk['TYPE']}" if named else "Cannot make snapshots on volatile disks")
    return disk


def _of_image(call: Call, disk: dict) -> list[tuple[str, str, dict]]:
    """What changing the snapshots of a disk demands besides: they are those of a persistent image."""
    return [("MANAGE", "image", call.find("image", int(disk["IMAGE_ID"])))] if disk.get("PERSISTENT") == "YES" else []


def _demand_state(vm: dict, what: str) -> None:
    runs = vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING
    if not runs and vm["state"] not in (VmState.POWEROFF, VmState.SUSPENDED):
        raise _wrong_state(vm, what)


def _wrong_state(vm: dict, what: str) -> OneError:
    return OneError(ACTION, f"{what}, wrong state {vm_state_name(vm)}.")


def _mode(disk: dict) -> str:
    """Whether snapshots of a disk may lose their parents, as its driver says; it can leave that to the format."""
    mode = disk["ALLOW_ORPHANS"].upper()
    if mode == "FORMAT":
        return _ALLOW if disk.get("FORMAT", "").lower() == "raw" else _DENY
    return mode if mode in _MODES else _DENY


def _tree(vm: dict, disk_id: int) -> dict:
    """Return the snapshots of a disk. Raises OneError when it never had one."""
    _disk(vm, disk_id)
    tree = vm.get("snapshots", {}).get(str(disk_id))
    if tree is None:
        raise OneError(ACTION, _MISSING)
    return tree


def _find(tree: dict, number: str) -> dict | None:
    return next((snapshot for snapshot in tree["SNAPSHOT"] if snapshot["ID"] == number), None)


def _children(snapshot: dict) -> list[str]:
    return [number for number in snapshot.get("CHILDREN", "").split(",") if number]


def _active(tree: dict) -> str:
    return next((snapshot["ID"] for snapshot in tree["SNAPSHOT"] if snapshot.get("ACTIVE") == "YES"), "-1")


def _activate(tree: dict, chosen: dict) -> None:
    for snapshot in tree["SNAPSHOT"]:
        snapshot.pop("ACTIVE", None)
    chosen["ACTIVE"] = "YES"


def _why_not(tree: dict, snapshot: dict, persistent: bool) -> str:
    """Return why a snapshot cannot be deleted, empty if it can."""
    children, is_active = _children(snapshot), snapshot.get("ACTIVE") == "YES"
    if tree["ALLOW_ORPHANS"] == _ALLOW:
        return ""
    if tree["ALLOW_ORPHANS"] == _MIXED:
        return "Cannot delete the active snapshot" if is_active else "Cannot delete snapshot with children" if children else ""
    if persistent and snapshot["ID"] == "0":
        return "Cannot delete snapshot 0 for persistent disk images"
    if len(children) != 1:
        return "Cannot delete snapshot with more than one children" if children else ""
    if is_active:
        return "Cannot delete the active snapshot with children"
    child, parent = _find(tree, children[0]), _find(tree, snapshot["PARENT"])
    below = _children(child) if child else []
    if len(below) > 1 or (below and child.get("ACTIVE") == "YES"):
        return "Cannot delete snapshot if child has children"
    if parent and len(_children(parent)) > 1:
        return "Cannot delete snapshot if parent has more than one child"
    return ""


def _remove(tree: dict, snapshot: dict) -> None:
    """Take a snapshot out of the tree; its only child becomes one of its parent's."""
    tree["SNAPSHOT"].remove(snapshot)
    parent = _find(tree, snapshot["PARENT"]) if tree["ALLOW_ORPHANS"] in (_DENY, _MIXED) else None
    if parent is None:
        return
    own = _children(snapshot)
    adopted = own if len(own) == 1 else []
    for child in filter(None, (_find(tree, number) for number in adopted)):
        child["PARENT"] = parent["ID"]
    left = sorted({*_children(parent), *adopted} - {snapshot["ID"]}, key=int)
    parent.pop("CHILDREN", None)
    parent |= {"CHILDREN": ",".join(left)} if left else {}
    if snapshot.get("ACTIVE") == "YES":
        parent["ACTIVE"] = "YES"


def _note_size(disk: dict, tree: dict) -> None:
    disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(sum(int(snapshot["SIZE"]) for snapshot in tree["SNAPSHOT"]))


METHODS = {
    "one.vm.disksnapshotcreate": Method(_create, "i i s"),
    "one.vm.disksnapshotrevert": Method(_revert, "i i i"),
    "one.vm.disksnapshotdelete": Method(_delete, "i i i"),
    "one.vm.disksnapshotrename": Method(_rename, "i i i s"),
}
