# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Enlarging the disks of virtual machines."""

from __future__ import annotations

import re

from lab.core import quotas
from lab.core.call import Call
from lab.core.errors import ACTION, OneError
from lab.core.method import Method
from lab.core.states import LcmState, VmState, vm_state_name

_PASSING = {VmState.POWEROFF: LcmState.DISK_RESIZE_POWEROFF, VmState.ACTIVE: LcmState.DISK_RESIZE}


def _resize(call: Call, vm_id: int, disk_id: int, text: str) -> int:
    """Give a disk more MB."""
    if not re.fullmatch(r"\s*[+-]?[0-9]+", text):
        raise OneError(ACTION, "Disk SIZE is not a valid integer")
    vm = call.get("vm", vm_id, "MANAGE")
    before = vm["template"]
    disk = next((disk for disk in before["DISK"] if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None:
        raise OneError(ACTION, "VM disk does not exist")
    size, there = int(text), int(disk.get("SIZE", 0))
    if size <= there:
        raise OneError(ACTION, "New disk size has to be greater than current one")
    quotas.check_disk(call, vm, {**disk, "SIZE": str(size - there)})
    runs = vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING
    if not runs and vm["state"] not in (VmState.POWEROFF, VmState.UNDEPLOYED):
        raise OneError(ACTION, f"Could not resize disk for VM {vm_id}, wrong state {vm_state_name(vm)}.")
    larger = {**disk, "SIZE": str(size), "SIZE_PREV": str(there)}
    vm["template"] = {**before, "DISK": [larger if other is disk else other for other in before["DISK"]]}

    def failed() -> None:
        vm["template"] = before

    def done() -> None:
        del larger["SIZE_PREV"]
        image = call.core.store.get("image", int(disk["IMAGE_ID"])) if disk.get("PERSISTENT") == "YES" else None
        if image:
            image["size"] = size
            call.core.store.save("image", image)

    if vm["state"] == VmState.UNDEPLOYED:
        # Nothing has to be changed on a host.
        done()
        call.core.store.save("vm", vm)
    else:
        call.core.lifecycle.change(vm, _PASSING[vm["state"]], done, failed)
    return vm_id


METHODS = {
    "one.vm.diskresize": Method(_resize, "i i s"),
}
