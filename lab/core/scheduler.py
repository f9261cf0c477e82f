# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Placement of VMs on hosts with room for them: pending ones, and those that are to move to another host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core import devices, hosts, requirements, vm_groups
from lab.core.call import Call, as_list
from lab.core.errors import timestamped
from lab.core.states import VmState

if TYPE_CHECKING:
    from lab.core.api import Core

_KB = 1024


def place(core: Core) -> None:
    """Put every VM that waits on the emptiest host with room for it, or note in a pending one why there is none."""
    waiting = [vm for vm in core.store.all("vm") if vm["state"] == VmState.PENDING or _is_to_move(core, vm)]
    if not waiting:
        return
    enabled = [host for host in core.store.all("host") if hosts.is_enabled(host)]
    free, machines = {}, {}
    for host in enabled:
        cpu, memory = hosts.usage(core, host["id"])
        free[host["id"]] = [host["cpu"] - cpu, host["memory"] - memory]
        machines[host["id"]] = len(hosts.machines_on(core, host["id"]))
    for vm in waiting:
        cpu, memory = round(float(vm["template"]["CPU"]) * 100), int(vm["template"]["MEMORY"]) * _KB
        others = [host for host in enabled if host["id"] != vm["host"]]
        usable, refusal = _usable(core, vm, others)
        if refusal:
            _note(core, vm, refusal)
            continue
        others = usable
        fitting = [host for host in others if cpu <= free[host["id"]][0] and memory <= free[host["id"]][1]]
        wanted = as_list(vm["template"].get("PCI"))
        chosen = {host["id"]: devices.choose(host, hosts.machines_on(core, host["id"]) if wanted else [], wanted) for host in fitting}
        equipped = [host for host in fitting if chosen[host["id"]] is not None]
        allowed = [host for host in equipped if vm_groups.allows(core, vm, host["id"])]
        if allowed:
            host = min(allowed, key=lambda host: (machines[host["id"]], -host["id"]))
            machines[host["id"]] += 1
            free[host["id"]][0] -= cpu
            free[host["id"]][1] -= memory
            devices.give(wanted, chosen[host["id"]])
            if vm["state"] == VmState.PENDING:
                core.lifecycle.place(vm, host)
            else:
                core.lifecycle.migrate(vm, host)
        elif vm["state"] == VmState.PENDING:
            _explain(core, vm, free, cpu, memory, [host["id"] for host in fitting], [host["id"] for host in equipped])


def _is_to_move(core: Core, vm: dict) -> bool:
    """Tell whether a VM was asked to move and can. One that runs with PCI devices cannot be saved: it stays, and goes on being asked."""
    saved = vm["state"] != VmState.POWEROFF
    return vm.get("resched", False) and core.lifecycle.can_migrate(vm) and not (saved and as_list(vm["template"].get("PCI")))


def _explain(core: Core, vm: dict, free: dict[int, list[int]], cpu: int, memory: int, lacking: list[int], apart: list[int]) -> None:
    """Say why a VM is not placed. lacking: hosts with room for it; apart: those that have the PCI devices it asks for too."""
    release = core.config.release
    short_of_memory = [str(host_id) for host_id, (_cpu, room) in free.items() if memory > room]
    short_of_cpu = [str(host_id) for host_id, (room, _memory) in free.items() if cpu > room]
    if not free:
        reason = release.no_host
    elif apart:
        reason = release.no_affinity.format(hosts=",".join(map(str, apart)))
    elif lacking:
        reason = release.no_device.format(hosts=",".join(map(str, lacking)))
    elif len(short_of_memory) >= len(short_of_cpu):
        reason = release.no_room.format(resource="MEMORY", hosts=",".join(short_of_memory))
    else:
        reason = release.no_room.format(resource="CPU", hosts=",".join(short_of_cpu))
    _note(core, vm, reason)


def _usable(core: Core, vm: dict, enabled: list[dict]) -> tuple[list[dict], str]:
    """Return the hosts that a VM and its owner may use, and what to say if there are hosts but none of these."""
    release, owner = core.config.release, core.store.get("user", vm["uid"])
    if not enabled or owner is None:
        return enabled, ""
    call, wanted = Call(core, owner), vm["user_template"].get("SCHED_REQUIREMENTS", "")
    allowed = [host for host in enabled if call.may("MANAGE", "host", host)]
    if not allowed:
        return [], release.no_right
    wanted = wanted if isinstance(wanted, str) else ""
    try:
        usable = [host for host in allowed if requirements.meets(core, host, wanted)]
    except requirements.RequirementsError as error:
        return [], f"Cannot dispatch VM: Error in SCHED_REQUIREMENTS: '{wanted}', error: {error}"
    return usable, "" if usable else release.unmet.format(wanted=wanted)


def _note(core: Core, vm: dict, reason: str) -> None:
    """Say in a pending VM why it is not placed."""
    said = vm["user_template"].get("SCHED_MESSAGE")
    # The owner of the VM can write whatever it likes there.
    if vm["state"] == VmState.PENDING and not (isinstance(said, str) and said.endswith(reason)):
        vm["user_template"]["SCHED_MESSAGE"] = timestamped(core, reason)
        core.store.save("vm", vm)
