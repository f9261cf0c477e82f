# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: showing them and acting on them."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from lab.core import quotas, restricted, schedules
from lab.core.call import UNLOCKED, Call, parse_template
from lab.core.errors import ACTION, INTERNAL, REQUEST, OneError
from lab.core.markup import Data, attributes, element, ids, shown
from lab.core.method import Method
from lab.core.pools import FAILED_UPDATE, generic_methods, head, lock_of, merged, page, pool_document, visible
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
_FAILURE, _SUCCESS, _RETRY, _DELETE, _RECREATE, _FORGET = range(6)
_EVERYBODYS = -2
#: what takes the right to administer a VM; some of these names are no actions of this method
_OF_ADMINISTRATORS = (
    "migrate", "poweroff-migrate", "poweroff-hard-migrate", "live-migrate", "delete", "delete-recreate", "recover", "retry",
    "deploy", "resched", "unresched", "backup", "backup-cancel", "restore",
)
#: states in which a VM waits without a host until somebody resumes it
_AWAY = (VmState.STOPPED, VmState.UNDEPLOYED)


def _body(core: Core, vm: dict) -> dict:
    state = {"STATE": int(vm["state"]), "LCM_STATE": int(vm["lcm"])}
    sample = core.lifecycle.samples.last("vm", vm["id"])
    return {name: part for name, part in head(core, vm).items() if name != "LOCK"} | {
        "LAST_POLL": int(sample["TIMESTAMP"]) if sample else 0, **state,
        "PREV_STATE": state["STATE"], "PREV_LCM_STATE": state["LCM_STATE"], "RESCHED": int(vm.get("resched", False)),
        "STIME": vm["stime"], "ETIME": vm["etime"], "DEPLOY_ID": vm["deploy_id"], **lock_of(vm), "MONITORING": sample or {},
        "SCHED_ACTIONS": ids(vm.get("schedule", [])), "TEMPLATE": attributes(_encrypted(vm["template"])), "USER_TEMPLATE": attributes(vm["user_template"]),
        "HISTORY_RECORDS": {"HISTORY": [_history(core, vm, number) for number in range(len(vm["history"]))]}
        if vm["history"] else None,
        **_snapshots(vm), "BACKUPS": {"BACKUP_CONFIG": attributes(vm["backup"]) if vm.get("backup") else None, "BACKUP_IDS": ids(vm.get("backups", []))},
    }


def _encrypted(template: dict) -> dict:
    """Return a VM's template with its context's password as others see it."""
    password = (template.get("CONTEXT") or {}).get("PASSWORD")
    if not password:
        return template
    hidden = base64.b64encode(hashlib.sha256(password.encode()).digest()).decode()
    return {**template, "CONTEXT": {**template["CONTEXT"], "PASSWORD": hidden}}


def _snapshots(vm: dict) -> dict:
    """Return the snapshots of a VM's disks, if there are any."""
    found = [
        attributes({name: value for name, value in disk.items() if name != "SNAPSHOT"} | {"DISK_ID": number})
        | {"SNAPSHOT": [attributes(snapshot) for snapshot in disk["SNAPSHOT"]]}
        for number, disk in vm.get("snapshots", {}).items()
    ]
    return {"SNAPSHOTS": found} if found else {}


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


def _info(call: Call, vm_id: int, decrypt: bool = False) -> str:
    """Return the document of a VM, to administrators with its password if they want it."""
    vm = call.get("vm", vm_id, "USE" + UNLOCKED)
    body = _body(call.core, vm)
    if decrypt and call.is_admin:
        body["TEMPLATE"] = attributes(vm["template"])
    body["TEMPLATE"] |= schedules.shown(call.core, vm.get("schedule", []))
    return element("VM", shown(call.core.config.release, "VM", body))


def _pool(call: Call, which: int, start: int, end: int, state: int, query: str) -> list[dict]:
    if query:
        raise OneError(INTERNAL, "JSON query search is not supported by the SQL backend")

    def wanted(vm: dict) -> bool:
        return state == _ANY_STATE or vm["state"] == state or (state == _NOT_DONE and vm["state"] != VmState.DONE)

    return page([vm for vm in visible(call, "vm", which) if wanted(vm)], start, end)


def _pool_info(call: Call, which: int, start: int, end: int, state: int, query: str = "") -> str:
    return pool_document(call, "vm", _pool_body, _pool(call, which, start, end, state, query))


def _pool_info_extended(call: Call, which: int, start: int, end: int, state: int, query: str = "") -> str:
    return pool_document(call, "vm", _body, _pool(call, which, start, end, state, query))


def _monitoring(call: Call, vm_id: int) -> str:
    call.get("vm", vm_id)
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.all("vm", vm_id)})


def _pool_monitoring(call: Call, which: int, seconds: int = -1) -> str:
    """Samples of VMs that are not done: all kept (-1), the newest of each (0), or those of the last seconds."""
    machines = [vm["id"] for vm in visible(call, "vm", which) if vm["state"] != VmState.DONE]
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.recent("vm", machines, seconds)})


def _update(call: Call, vm_id: int, text: str, append: int = 0) -> int:
    """Replace USER_TEMPLATE (0) or merge into it (1)."""
    vm = call.get("vm", vm_id, "MANAGE")
    if append not in (0, 1):
        raise OneError(REQUEST, "Wrong update type")
    template = parse_template(text, ACTION)
    template = restricted.check_update(call, "vm", template, vm["user_template"], bool(append), FAILED_UPDATE)
    vm["user_template"] = merged(vm["user_template"], template) if append else template
    call.core.store.save("vm", vm)
    return vm_id


def _terminate(call: Call, vm: dict, action: str, hard: bool) -> None:
    """End a VM. Raises OneError in a state in which it cannot end."""
    lifecycle, active = call.core.lifecycle, vm["state"] == VmState.ACTIVE
    if not lifecycle.can_terminate(vm, hard):
        reason = f"Could not terminate VM {vm['id']}, wrong state {vm_state_name(vm)}."
        raise OneError(ACTION, f'Error performing action "{action}": {reason}')
    # A machine that does not run has nothing to be hard on, and one that failed is deleted.
    failed = active and vm["lcm"] not in (LcmState.RUNNING, LcmState.UNKNOWN, LcmState.SHUTDOWN)
    lifecycle.note_action(vm, call.user, VM_ACTIONS["delete" if failed else action if active else "terminate"])
    lifecycle.terminate(vm, hard)


def _resume(call: Call, vm: dict, asleep: bool) -> None:
    if asleep:
        quotas.check_running(call, vm)
    if vm["state"] in _AWAY:
        call.core.lifecycle.set_state(vm, VmState.PENDING)
    else:
        call.core.lifecycle.resume(vm)


def _action(call: Call, action: str, vm_id: int) -> int:
    vm = call.get("vm", vm_id, "ADMIN" if action in _OF_ADMINISTRATORS else "MANAGE")
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
            _terminate(call, vm, action, hard)
        case "poweroff":
            demand(running or (hard and vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.SHUTDOWN_POWEROFF))
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.poweroff(vm, hard)
        case "reboot":
            demand(running and vm["lcm"] == LcmState.RUNNING)
            lifecycle.reboot(vm, hard)
        case "undeploy":
            again = hard and vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.SHUTDOWN_UNDEPLOY
            demand(running or again or vm["state"] == VmState.POWEROFF)
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.leave(vm, stopped=False, hard=hard)
        case "stop" if not hard:
            demand(vm["state"] == VmState.SUSPENDED or (running and vm["lcm"] == LcmState.RUNNING))
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.leave(vm, stopped=True, hard=True)
        case "suspend" if not hard:
            demand(running and vm["lcm"] == LcmState.RUNNING)
            lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
            lifecycle.suspend(vm)
        case "resume" if not hard:
            asleep = vm["state"] in (VmState.POWEROFF, VmState.SUSPENDED, *_AWAY)
            demand(asleep or (running and vm["lcm"] == LcmState.UNKNOWN))
            _resume(call, vm, asleep)
        case "resched" | "unresched" if not hard:
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


def _recover(call: Call, vm_id: int, operation: int) -> int:
    """Take what failed for failed (0) or done (1), try it again (2), delete the VM (3), make it anew (4), or forget it (5)."""
    if not _FAILURE <= operation <= _FORGET:
        raise OneError(ACTION, "Wrong recovery operation code")
    vm = call.get("vm", vm_id, "ADMIN")
    lifecycle, state = call.core.lifecycle, vm["state"]
    if operation in (_FAILURE, _SUCCESS) and state not in (VmState.ACTIVE, VmState.CLONING_FAILURE):
        reason = f"Could not perform a recover operation on VM {vm_id}, wrong state {vm_state_name(vm)}."
        raise OneError(ACTION, reason)
    if operation == _RETRY and state != VmState.ACTIVE:
        raise OneError(ACTION, f"Could not perform a retry on VM {vm_id}, wrong state {vm_state_name(vm)}.")
    if operation == _RECREATE and state == VmState.DONE:
        raise OneError(ACTION, "Cannot delete-recreate a VM already in DONE state")
    if operation == _RETRY and vm["lcm"] == LcmState.BOOT_FAILURE:
        lifecycle.deploy(vm)
    elif operation == _RETRY and vm["lcm"] == LcmState.EPILOG_FAILURE:
        lifecycle.terminate(vm, hard=True)
    elif operation in (_DELETE, _FORGET) and state != VmState.DONE:
        lifecycle.note_action(vm, call.user, VM_ACTIONS["delete"])
        lifecycle.delete(vm)
    elif operation == _RECREATE:
        lifecycle.note_action(vm, call.user, VM_ACTIONS["delete-recreate"])
        lifecycle.recreate(vm)
    return vm_id


def _pool_info_set(call: Call, numbers: str, extended: bool) -> str:
    """Show the VMs of a list of ids, as far as the user may see them."""
    wanted = {int(number) for number in numbers.split(",") if number.strip().isdigit()}
    chosen = [vm for vm in visible(call, "vm", _EVERYBODYS) if vm["id"] in wanted]
    return pool_document(call, "vm", _body if extended else _pool_body, chosen)


def _accounting(call: Call, which: int, start: int, end: int) -> str:
    """Show the time VMs spent on hosts between two moments, -1 for any."""
    records = []
    for vm in reversed(visible(call, "vm", which)):
        for number, record in enumerate(vm["history"]):
            begun_late = end != -1 and record["STIME"] > end
            ended_early = start != -1 and record["ETIME"] and record["ETIME"] < start
            if not begun_late and not ended_early:
                records.append(_history(call.core, vm, number) | {"VM": _body(call.core, vm)})
    return element("HISTORY_RECORDS", {"HISTORY": records})


METHODS = generic_methods("vm", _body, pool_body=_pool_body) | {
    "one.vm.info": Method(_info, "i b?"),
    "one.vmpool.info": Method(_pool_info, "i i i i s?"),
    "one.vmpool.infoextended": Method(_pool_info_extended, "i i i i s?"),
    "one.vm.monitoring": Method(_monitoring, "i"),
    "one.vmpool.monitoring": Method(_pool_monitoring, "i i?"),
    "one.vm.update": Method(_update, "i s i?"),
    "one.vm.action": Method(_action, "s i"),
    "one.vm.recover": Method(_recover, "i i"),
    "one.vmpool.infoset": Method(_pool_info_set, "s b"),
    "one.vmpool.accounting": Method(_accounting, "i i i"),
}
