# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What operators do with VMs: place and move them, take snapshots of them, and make images of their disks."""

from __future__ import annotations

from lab.core import datastores, disk_snapshots, hosts, images
from lab.core.call import Call, parse_template
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.method import Method
from lab.core.states import VM_ACTIONS, HostState, LcmState, VmState, vm_state_name

_MOVABLE = (VmState.POWEROFF, VmState.SUSPENDED)
_DEFAULT_SYSTEM = 0


def _runs(vm: dict) -> bool:
    return vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING


def _wrong_state(vm: dict, what: str) -> OneError:
    return OneError(ACTION, f"{what}, wrong state {vm_state_name(vm)}.")


def _host(call: Call, host_id: int) -> dict:
    """Return a host that VMs can be put on. Raises OneError."""
    host = call.find("host", host_id)
    if host["state"] == HostState.OFFLINE:
        raise OneError(ACTION, "Host is offline, cannot use it to deploy VM")
    return host


def _check_room(call: Call, vm: dict, host: dict) -> None:
    """Refuse a host without room for a VM. Raises OneError."""
    lacking = hosts.lacking(call.core, host, vm["template"])
    if lacking:
        raise OneError(ACTION, f"virtual machine [{vm['id']}] does not fit in host [{host['id']}]. {lacking}")


def _system(call: Call, datastore_id: int) -> dict:
    """Return a datastore that VMs can be in. Raises OneError."""
    datastore = call.find("datastore", datastore_id)
    if datastore["template"]["TYPE"] != "SYSTEM_DS":
        reason = f"Trying to use datastore [{datastore_id}] to deploy the VM, but it is not of type system datastore."
        raise OneError(INTERNAL, reason)
    return datastore


def _deploy(call: Call, vm_id: int, host_id: int, enforce: bool = False, datastore_id: int = -1, extra: str = "") -> int:
    """Put a VM that waits on a host."""
    parse_template(extra)
    host = _host(call, host_id)
    vm = call.find("vm", vm_id)
    there = vm["history"][-1]["DS_ID"] if vm["history"] else _DEFAULT_SYSTEM
    datastore = _system(call, there if datastore_id == -1 else datastore_id)
    cluster = host["clusters"][0]
    if datastore_id != -1 and cluster not in datastore["clusters"]:
        raise OneError(ACTION, f"datastore [{datastore_id}] and host [{host_id}] are not in the same cluster [{cluster}].")
    call.authorize(("ADMIN", "vm", vm), ("MANAGE", "host", host), ("USE", "datastore", datastore))
    if vm["state"] not in (VmState.PENDING, VmState.HOLD, VmState.STOPPED, VmState.UNDEPLOYED):
        raise OneError(ACTION, f"Deploy action is not available for state {vm_state_name(vm)}")
    if enforce:
        _check_room(call, vm, host)
    call.core.lifecycle.place(vm, host, datastore_id)
    return vm_id


def _migrate(
    call: Call, vm_id: int, host_id: int, live: bool, enforce: bool = False, datastore_id: int = -1,
    _way: int = 0,
) -> int:
    """Move a VM to another host; the zone's machines are always saved for it."""
    host = _host(call, host_id)
    wanted = [("USE", "datastore", call.find("datastore", datastore_id))] if datastore_id != -1 else []
    vm = call.find("vm", vm_id)
    call.authorize(("ADMIN", "vm", vm), ("MANAGE", "host", host), *wanted)
    active = vm["state"] == VmState.ACTIVE and vm["lcm"] in (LcmState.RUNNING, LcmState.UNKNOWN)
    if vm["state"] not in _MOVABLE and not active:
        raise OneError(ACTION, f"Migrate action is not available for state {vm_state_name(vm)}")
    here = vm["history"][-1]["DS_ID"]
    if vm["host"] == host_id and datastore_id in (-1, here):
        raise OneError(ACTION, f"VM is already running on host [{host_id}] and datastore [{here}]")
    elsewhere = datastore_id not in (-1, here)
    if live and elsewhere and vm["host"] != host_id and call.core.config.release.moves_one_at_a_time:
        raise OneError(ACTION, "Cannot live migrate host and datastore at the same time.")
    if enforce and vm["host"] != host_id:
        _check_room(call, vm, host)
    if elsewhere:
        _check_transfer(call, vm, live, _system(call, datastore_id))
    call.core.lifecycle.migrate(vm, host, datastore_id)
    # What is moved without being stopped is noted as such, however this zone does it.
    vm["history"][-2 if len(vm["history"]) > 1 else -1]["ACTION"] = VM_ACTIONS["live-migrate" if live and active else "migrate"]
    call.core.store.save("vm", vm)
    return vm_id


def _check_transfer(call: Call, vm: dict, live: bool, datastore: dict) -> None:
    """Refuse a datastore that a VM cannot be moved to. Raises OneError."""
    can, driver = datastore["template"], call.core.config.release.transfer_noun
    if can.get("DS_MIGRATE") != "YES":
        raise OneError(ACTION, f"System datastore migration not supported by {driver}")
    if live and can.get("DS_LIVE_MIGRATE") != "YES":
        raise OneError(ACTION, call.core.config.release.no_live_transfer)
    if can["TM_MAD"] != vm["history"][-1]["TM_MAD"]:
        raise OneError(ACTION, f"Cannot migrate to a system datastore with a different {driver}")


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


def _save_disk(call: Call, vm_id: int, disk_id: int, name: str, kind: str, snapshot_id: int) -> int:
    """Make an image of a VM's disk."""
    try:
        return _saved(call, vm_id, disk_id, name, kind, snapshot_id)
    except OneError as error:
        # Whatever is wrong, the answer names the VM.
        raise OneError(error.code, error.message, vm_id if error.object_id == -1 else error.object_id) from None


def _saved(call: Call, vm_id: int, disk_id: int, name: str, kind: str, snapshot_id: int) -> int:
    vm = call.find("vm", vm_id)
    if not _runs(vm) and vm["state"] not in (VmState.POWEROFF, VmState.SUSPENDED):
        raise OneError(INTERNAL, "VM has to be RUNNING, POWEROFF or SUSPENDED to save disks.", vm_id)
    disk = next((disk for disk in vm["template"]["DISK"] if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None or "IMAGE_ID" not in disk:
        reason = "DISK does not exist." if disk is None else "DISK does not have a valid IMAGE_ID."
        raise OneError(INTERNAL, f"Cannot use DISK. {reason}", vm_id)
    if snapshot_id != -1 and not disk_snapshots.exists(vm, disk_id, snapshot_id):
        raise OneError(INTERNAL, "Cannot use DISK. Snapshot does not exist.", vm_id)
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
    "one.vm.disksaveas": Method(_save_disk, "i i s s i"),
}
