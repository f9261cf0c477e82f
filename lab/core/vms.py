# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: showing them and acting on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core import quotas
from lab.core.call import Call, parse_template
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import Data, attributes, element
from lab.core.pools import BODIES, POOL_BODIES, head, page, pool_document, visible
from lab.core.registry import method
from lab.core.states import VM_ACTIONS, LcmState, VmState, vm_state_name

if TYPE_CHECKING:
    from lab.core.api import Core

_POOL_DISK = (
    "DISK_ID", "DATASTORE", "DATASTORE_ID", "IMAGE", "IMAGE_ID", "SIZE", "TYPE", "CLONE", "CLONE_TARGET", "LN_TARGET",
    "DISK_SNAPSHOT_TOTAL_SIZE",
)
_POOL_NIC = ("IP", "MAC", "NETWORK", "NETWORK_ID", "NIC_ID", "SECURITY_GROUPS")
_POOL_USER_TEMPLATE = ("LABELS", "RANK", "SCHED_DS_RANK", "SCHED_DS_REQUIREMENTS", "SCHED_RANK", "SCHED_REQUIREMENTS")
_ANY_STATE, _NOT_DONE = -2, -1
_RETRY, _DELETE = 2, 3


def _body(core: Core, vm: dict) -> dict:
    state = {"STATE": int(vm["state"]), "LCM_STATE": int(vm["lcm"])}
    sample = core.lifecycle.samples.last("vm", vm["id"])
    return head(core, vm) | {
        "LAST_POLL": int(sample["TIMESTAMP"]) if sample else 0, **state,
        "PREV_STATE": state["STATE"], "PREV_LCM_STATE": state["LCM_STATE"], "RESCHED": int(vm.get("resched", False)),
        "STIME": vm["stime"], "ETIME": vm["etime"], "DEPLOY_ID": vm["deploy_id"], "MONITORING": sample or {},
        "SCHED_ACTIONS": {}, "TEMPLATE": attributes(vm["template"]), "USER_TEMPLATE": attributes(vm["user_template"]),
        "HISTORY_RECORDS": {"HISTORY": [_history(core, vm, number) for number in range(len(vm["history"]))]}
        if vm["history"] else None,
        "BACKUPS": {"BACKUP_CONFIG": attributes(vm["backup"]) if vm.get("backup") else None, "BACKUP_IDS": {}},
    }


def _history(core: Core, vm: dict, number: int) -> dict:
    record = vm["history"][number]
    ends = record["ETIME"]
    return {
        "OID": vm["id"], "SEQ": number, "HOSTNAME": record["HOSTNAME"], "HID": record["HID"], "CID": 0,
        "STIME": record["STIME"], "ETIME": ends, "VM_MAD": Data(core.driver.name), "TM_MAD": Data(record["TM_MAD"]),
        "DS_ID": record["DS_ID"], "PLAN_ID": -1, "ACTION_ID": 0, "PSTIME": record["STIME"], "PETIME": record["RSTIME"],
        "RSTIME": record["RSTIME"], "RETIME": ends, "ESTIME": ends, "EETIME": ends, "ACTION": record["ACTION"],
        "UID": record["UID"], "GID": record["GID"], "REQUEST_ID": -1,
    }


def _pool_body(core: Core, vm: dict) -> dict:
    body = _body(core, vm)
    for hidden in ("PERMISSIONS", "PREV_STATE", "PREV_LCM_STATE", "SCHED_ACTIONS", "BACKUPS"):
        del body[hidden]
    machine = vm["template"]
    sample = core.lifecycle.samples.last("vm", vm["id"])
    history = [
        {key: full[key] for key in ("OID", "SEQ")} | {"HOSTNAME": Data(full["HOSTNAME"])}
        | {key: full[key] for key in ("HID", "CID", "DS_ID", "VM_MAD", "TM_MAD")} | {"ACTION": Data(full["ACTION"])}
        for full in (_history(core, vm, number) for number in range(len(vm["history"]))[-1:])
    ]
    monitoring = body.pop("MONITORING")
    del body["TEMPLATE"], body["USER_TEMPLATE"], body["HISTORY_RECORDS"]
    return body | {
        "TEMPLATE": {key: machine[key] for key in ("CPU", "MEMORY", "VCPU") if key in machine} | {
            "DISK": [_some(disk, _POOL_DISK) for disk in machine["DISK"]],
            "NIC": [_some(nic, _POOL_NIC) for nic in machine["NIC"]],
        },
        "MONITORING": monitoring if sample else None,
        "USER_TEMPLATE": _some(vm["user_template"], _POOL_USER_TEMPLATE),
        "HISTORY_RECORDS": {"HISTORY": history} if history else None,
    }


def _some(attribute: dict, names: tuple[str, ...]) -> dict:
    return {name: Data(attribute[name]) for name in names if name in attribute}


BODIES["vm"] = _body
POOL_BODIES["vm"] = _pool_body


def _pool(call: Call, which: int, start: int, end: int, state: int, query: str) -> list[dict]:
    if query:
        raise OneError(INTERNAL, "JSON query search is not supported by the SQL backend")

    def wanted(vm: dict) -> bool:
        return state == _ANY_STATE or vm["state"] == state or (state == _NOT_DONE and vm["state"] != VmState.DONE)

    return page([vm for vm in visible(call, "vm", which) if wanted(vm)], start, end)


@method("one.vmpool.info", "i i i i s?")
def _pool_info(call: Call, which: int, start: int, end: int, state: int, query: str = "") -> str:
    return pool_document(call, "vm", _pool(call, which, start, end, state, query))


@method("one.vmpool.infoextended", "i i i i s?")
def _pool_info_extended(call: Call, which: int, start: int, end: int, state: int, query: str = "") -> str:
    return pool_document(call, "vm", _pool(call, which, start, end, state, query), full=True)


@method("one.vm.monitoring", "i")
def _monitoring(call: Call, vm_id: int) -> str:
    call.get("vm", vm_id)
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.all("vm", vm_id)})


@method("one.vmpool.monitoring", "i i?")
def _pool_monitoring(call: Call, which: int, seconds: int = -1) -> str:
    """Samples of VMs that are not done: all kept (-1), the newest of each (0), or those of the last seconds."""
    machines = [vm["id"] for vm in visible(call, "vm", which) if vm["state"] != VmState.DONE]
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.recent("vm", machines, seconds)})


@method("one.vm.update", "i s i")
def _update(call: Call, vm_id: int, text: str, append: int) -> int:
    """Replace USER_TEMPLATE (0) or merge into it (1)."""
    vm = call.get("vm", vm_id, "MANAGE")
    template = parse_template(text, ACTION, "Cannot update template. ")
    vm["user_template"] = vm["user_template"] | template if append else template
    call.core.store.save("vm", vm)
    return vm_id


@method("one.vm.action", "s i")
def _action(call: Call, action: str, vm_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    lifecycle = call.core.lifecycle
    hard = action.endswith("-hard")
    running = vm["state"] == VmState.ACTIVE and vm["lcm"] in (LcmState.RUNNING, LcmState.UNKNOWN)

    def demand(possible: bool) -> None:
        if not possible:
            raise OneError(ACTION, f'Error performing action "{action}": '
                                   f"This action is not available for state {vm_state_name(vm)}")

    match action.removesuffix("-hard"):
        case "terminate":
            if vm["state"] == VmState.DONE:
                return vm_id
            demand(lifecycle.can_terminate(vm, hard))
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.terminate(vm, hard)
        case "poweroff":
            demand(running)
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.poweroff(vm, hard)
        case "reboot":
            demand(running)
            lifecycle.reboot(vm, hard)
        case "suspend" if not hard:
            demand(running and vm["lcm"] == LcmState.RUNNING)
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.suspend(vm)
        case "resume" if not hard:
            asleep = vm["state"] in (VmState.POWEROFF, VmState.SUSPENDED)
            demand(asleep or (running and vm["lcm"] == LcmState.UNKNOWN))
            if asleep:
                quotas.check_running(call, vm)
            lifecycle.resume(vm)
        case "resched" | "unresched" if not hard:
            call.get("vm", vm_id, "ADMIN")
            demand(lifecycle.can_migrate(vm))
            vm["resched"] = action == "resched"
            call.core.store.save("vm", vm)
        case "hold" if not hard:
            demand(vm["state"] == VmState.PENDING)
            lifecycle.set_state(vm, VmState.HOLD)
        case "release" if not hard:
            demand(vm["state"] == VmState.HOLD)
            lifecycle.set_state(vm, VmState.PENDING)
        case _:
            raise OneError(ACTION, f'Action "{action}" is not supported')
    return vm_id


@method("one.vm.recover", "i i")
def _recover(call: Call, vm_id: int, operation: int) -> int:
    """Try again what failed (2), or delete the VM whatever state it is in (3)."""
    vm = call.get("vm", vm_id, "MANAGE" if operation == _RETRY else "ADMIN")
    if operation == _DELETE and vm["state"] != VmState.DONE:
        call.core.lifecycle.delete(vm)
    elif operation == _RETRY and vm["lcm"] == LcmState.BOOT_FAILURE:
        call.core.lifecycle.deploy(vm)
    elif operation == _RETRY and vm["lcm"] == LcmState.EPILOG_FAILURE:
        call.core.lifecycle.terminate(vm, hard=True)
    else:
        raise OneError(ACTION, f"Could not perform a recover operation on VM {vm_id}, "
                               f"wrong state {vm_state_name(vm)}.")
    return vm_id
