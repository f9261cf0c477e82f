# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Backups of VMs, and the jobs that make them one after the other; all are full, and nothing of a disk is copied."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from lab.core import images, machine_rules, rights, schedules
from lab.core.call import Call, as_list, parse_template, settle
from lab.core.errors import ACTION, AUTHORIZATION, INTERNAL, OneError, failure
from lab.core.kinds import KINDS
from lab.core.markup import attributes, element, ids, shown
from lab.core.method import Method
from lab.core.pools import FAILED_UPDATE, generic_methods, head
from lab.core.states import ImageState, LcmState, VmState, vm_state_name

if TYPE_CHECKING:
    from lab.core.api import Core

#: how urgent jobs can be; what they are unless told otherwise, and at most, new and later, without an administrator
_PRIORITIES, _DEFAULT_PRIORITY, _USERS_PRIORITY = range(100), 50, 49
_CONFIG = ("KEEP_LAST", "BACKUP_VOLATILE", "FS_FREEZE")
_SEQUENTIAL = "SEQUENTIAL"
_FREEZES = ("NONE", "AGENT", "SUSPEND")


def _backup(call: Call, vm_id: int, datastore_id: int = -1, reset: bool = False) -> int:
    vm = call.find("vm", vm_id)
    if _job_of(call.core, vm_id) is not None:
        # The server means another number.
        reason = "Unable to start an individual backup for the Virtual Machine, it is part of Backup Job ID -1"
        raise OneError(INTERNAL, reason)
    return _start(call, vm, datastore_id, reset, job=None)


def _cancel(call: Call, vm_id: int) -> int:
    """Backups of this zone are too quick to be cancelled, except those that the driver is kept from."""
    vm = call.get("vm", vm_id, "ADMIN")
    if vm["state"] != VmState.ACTIVE or vm["lcm"] not in (LcmState.BACKUP, LcmState.BACKUP_POWEROFF):
        raise OneError(INTERNAL, f"Could not cancel backup for VM {vm_id}, no backup in progress")
    vm["cancelled"] = True
    return vm_id


def _start(call: Call, vm: dict, datastore_id: int, _reset: bool, job: dict | None) -> int:
    """Begin a backup of a VM in a datastore for such. Raises OneError."""
    core, vm_id = call.core, vm["id"]
    datastore = call.find("datastore", datastore_id)
    if datastore["template"]["TYPE"] != "BACKUP_DS":
        raise OneError(ACTION, "Datastore needs to be of type BACKUP")
    call.authorize(("ADMIN", "vm", vm), ("USE", "datastore", datastore))
    runs = vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING
    if not runs and vm["state"] != VmState.POWEROFF:
        reason = f"Could not create a new backup for VM {vm_id}, wrong state {vm_state_name(vm)}."
        raise OneError(INTERNAL, reason)
    vm["resched"] = False

    def done() -> None:
        if not vm.pop("cancelled", False):
            _keep(core, vm, datastore, job)
        if job is not None and core.store.get("backupjob", job["id"]) is job:
            _finished(core, job, vm_id)

    core.lifecycle.pass_through(vm, LcmState.BACKUP if runs else LcmState.BACKUP_POWEROFF, done)
    return vm_id


def _keep(core: Core, vm: dict, datastore: dict, job: dict | None) -> None:
    """Make the image of a backup, and forget those that are too many."""
    size = sum(int(disk.get("SIZE", 0)) for disk in vm["template"]["DISK"])
    backup_id = secrets.token_hex(4)
    of_job = {"BACKUP_JOB_ID": str(job["id"])} if job else {}
    image = {
        "id": core.store.new_id("image"), "name": f"{vm['id']} {time.strftime('%d-%b %H.%M.%S', time.gmtime(core.now()))}",
        "uid": vm["uid"], "gid": vm["gid"], "permissions": KINDS["image"].permissions, "state": ImageState.READY,
        "type": images.BACKUP, "path": "", "source": backup_id, "format": "raw", "fs": "", "size": size, "vms": [],
        "datastore": datastore["id"], "persistent": False, "regtime": core.now(),
        "template": {"VM_ID": str(vm["id"]), **of_job},
    }
    core.store.save("image", image)
    made = [number for number in vm.get("backups", []) if core.store.get("image", number)] + [image["id"]]
    config = vm.get("backup") or machine_rules.backup({}, {}, append=False)
    most = int(config.get("KEEP_LAST", 0)) or len(made)
    for number in made[:-most]:
        core.store.remove("image", number)
        rights.forget_object(core, KINDS["image"], number)
    vm["backups"] = made[-most:]
    vm["backup"] = config | {
        "LAST_BACKUP_ID": backup_id, "LAST_BACKUP_SIZE": str(size), "LAST_DATASTORE_ID": str(datastore["id"]),
    }


def _numbers(text: str) -> list[int]:
    return list(dict.fromkeys(int(number) for number in re.findall(r"\d+", text)))


def _job_of(core: Core, vm_id: int) -> dict | None:
    return next((job for job in core.store.all("backupjob") if vm_id in _numbers(job["template"]["BACKUP_VMS"])), None)


def _job_body(core: Core, job: dict) -> dict:
    return head(core, job) | {
        "PRIORITY": job["priority"], "LAST_BACKUP_TIME": job["last"], "LAST_BACKUP_DURATION": job["duration"],
        "SCHED_ACTIONS": ids(job["schedule"]), "UPDATED_VMS": ids(job["updated"]), "OUTDATED_VMS": ids(job["outdated"]),
        "BACKING_UP_VMS": ids(job["busy"]), "ERROR_VMS": ids(job["failed"]), "TEMPLATE": attributes(job["template"]),
    }


def _written(template: dict) -> dict:
    """Return the template of a job as oned writes it."""
    def one_of(name: str, values: tuple[str, ...]) -> str:
        value = template.get(name, "").upper()
        return value if value in values else values[0]

    settle(template, ("BACKUP_VMS", "BACKUP_VOLATILE", "FS_FREEZE", "MODE", "EXECUTION", "KEEP_LAST"))
    kept = machine_rules.whole(template.get("KEEP_LAST")) or 0
    return template | {
        "KEEP_LAST": str(max(kept, 0)), "BACKUP_VOLATILE": machine_rules.switch(template.get("BACKUP_VOLATILE", "")),
        "FS_FREEZE": one_of("FS_FREEZE", _FREEZES), "MODE": one_of("MODE", ("FULL", "INCREMENT")),
        "EXECUTION": one_of("EXECUTION", (_SEQUENTIAL, "PARALLEL")),
        "BACKUP_VMS": ",".join(map(str, _numbers(template.get("BACKUP_VMS", "")))),
    }


def _update_job(call: Call, job: dict, template: dict) -> dict:
    template = _written(template)
    wanted = machine_rules.whole(template.pop("PRIORITY", None))
    if wanted in _PRIORITIES:
        job["priority"] = wanted
    _check_vms(call.core, job, template, FAILED_UPDATE)
    left = _numbers(template["BACKUP_VMS"])
    for name in ("updated", "outdated", "busy", "failed"):
        job[name] = [number for number in job[name] if number in left]
    return template


def _check_vms(core: Core, job: dict, template: dict, prefix: str = "") -> None:
    """Refuse VMs that belong to another job. Raises OneError."""
    for number in _numbers(template["BACKUP_VMS"]):
        other = _job_of(core, number)
        if other is not None and other["id"] != job["id"]:
            reason = f"Unable to add VM {number} to Backup Job {job['id']}. It's already in Backup Job {other['id']}"
            raise OneError(INTERNAL, f"{prefix}{reason}")


def _delete_job(call: Call, job: dict) -> bool:
    for number in job["schedule"]:
        call.core.store.remove("sched", number)
    return True


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "backupjob", None))
    planned = [action for action in as_list(template.pop("SCHED_ACTION", None)) if isinstance(action, dict)]
    priority = machine_rules.whole(template.pop("PRIORITY", None))
    if priority is not None and priority not in _PRIORITIES:
        raise OneError(INTERNAL, "Wrong priority value")
    if priority is not None and priority > _DEFAULT_PRIORITY and not call.is_admin:
        raise OneError(AUTHORIZATION, f"User [{call.user['id']}] not authorized to perform action on backup job.")
    name = settle(template, ["NAME"]).pop("NAME", "")
    call.check_name("backupjob", name, INTERNAL)
    job = call.new(
        "backupjob", name, priority=_DEFAULT_PRIORITY if priority is None else priority, last=0, duration=0, schedule=[],
        updated=[], outdated=[], busy=[], failed=[], template=_written(template),
    )
    try:
        _check_vms(call.core, job, job["template"])
        for action in planned:
            job["schedule"].append(schedules.add(call, "BACKUPJOB", job["id"], action | {"ARGS": ""}, 0, INTERNAL))
    except OneError:
        _delete_job(call, job)
        call.core.store.give_back_id("backupjob", job["id"])
        raise
    call.core.store.save("backupjob", job)
    return job["id"]


def _info(call: Call, job_id: int) -> str:
    job = call.get("backupjob", job_id, "USE_NO_LCK")
    body = _job_body(call.core, job)
    body["TEMPLATE"] |= schedules.shown(call.core, job["schedule"])
    return element("BACKUPJOB", shown(call.core.config.release, "BACKUPJOB", body))


def _run(call: Call, job_id: int) -> int:
    execute(call.core, call.get("backupjob", job_id, "MANAGE"))
    return job_id


def execute(core: Core, job: dict) -> None:
    """Let a job's VMs be backed up from the next look at it on. Raises OneError while they are."""
    if job["busy"] or job["outdated"]:
        raise OneError(ACTION, "Unable to execute Backup Job, pending backups in progress")
    job |= {"failed": [], "updated": [], "outdated": _numbers(job["template"]["BACKUP_VMS"]), "last": core.now()}
    job["template"].pop("ERROR", None)
    core.store.save("backupjob", job)


def _cancel_job(call: Call, job_id: int) -> int:
    job = call.get("backupjob", job_id, "MANAGE")
    for number in job["busy"]:
        call.core.store.get("vm", number)["cancelled"] = True
    job |= {"busy": [], "outdated": []}
    call.core.store.save("backupjob", job)
    return job_id


def _retry(call: Call, job_id: int) -> int:
    job = call.get("backupjob", job_id, "MANAGE")
    job |= {"outdated": [*job["outdated"], *job["failed"]], "failed": []}
    job["template"].pop("ERROR", None)
    call.core.store.save("backupjob", job)
    return job_id


def _priority(call: Call, job_id: int, priority: int) -> int:
    if priority not in _PRIORITIES:
        raise OneError(ACTION, "Wrong priority value")
    job = call.get("backupjob", job_id, "ADMIN" if priority > _USERS_PRIORITY else "MANAGE")
    job["priority"] = priority
    call.core.store.save("backupjob", job)
    return job_id


def _schedule(call: Call, job_id: int, text: str) -> int:
    job = call.get("backupjob", job_id, "MANAGE")
    number = schedules.add(call, "BACKUPJOB", job_id, schedules.wanted(text, ACTION), 0, ACTION)
    job["schedule"].append(number)
    call.core.store.save("backupjob", job)
    return number


def _reschedule(call: Call, job_id: int, action_id: int, text: str) -> int:
    return schedules.update(call, call.get("backupjob", job_id, "MANAGE")["schedule"], action_id, text, 0)


def _unschedule(call: Call, job_id: int, action_id: int) -> int:
    job = call.get("backupjob", job_id, "MANAGE")
    schedules.remove(call, job["schedule"], action_id)
    call.core.store.save("backupjob", job)
    return action_id


def tick(core: Core) -> None:
    """Start the jobs whose time has come, and the backups whose turn it is; called with the core locked."""
    for action in schedules.due(core, "BACKUPJOB"):
        job = core.store.get("backupjob", action["PARENT_ID"])
        schedules.run(core, action, lambda job=job: execute(core, job))
    oneadmin = Call(core, core.store.get("user", 0))
    for job in sorted(core.store.all("backupjob"), key=lambda job: -job["priority"]):
        for number in list(job["outdated"]):
            if job["busy"] and job["template"]["EXECUTION"] == _SEQUENTIAL:
                break
            _begin(oneadmin, job, number)


def _begin(call: Call, job: dict, vm_id: int) -> None:
    vm = call.core.store.get("vm", vm_id)
    job["outdated"].remove(vm_id)
    if vm is None or vm["state"] == VmState.DONE:
        left = [number for number in _numbers(job["template"]["BACKUP_VMS"]) if number != vm_id]
        job["template"]["BACKUP_VMS"] = ",".join(map(str, left))
        call.core.store.save("backupjob", job)
        return
    wanted = {name: job["template"][name] for name in _CONFIG}
    vm["backup"] = machine_rules.backup(vm.get("backup", {}), wanted, append=True)
    number = machine_rules.whole(job["template"].get("DATASTORE_ID"))
    job["busy"].append(vm_id)
    try:
        _start(call, vm, -1 if number is None else number, False, job)
    except OneError as error:
        job["busy"].remove(vm_id)
        job["failed"].append(vm_id)
        job["template"]["ERROR"] = failure(call.core, f"[backup] {error.message}")
    call.core.store.save("backupjob", job)


def _finished(core: Core, job: dict, vm_id: int) -> None:
    if vm_id in job["busy"]:
        job["busy"].remove(vm_id)
        job["updated"].append(vm_id)
    job["duration"] = core.now() - job["last"]
    core.store.save("backupjob", job)


METHODS = generic_methods("backupjob", _job_body, updater=_update_job, deleter=_delete_job) | {
    "one.vm.backup": Method(_backup, "i i? b?"),
    "one.vm.backupcancel": Method(_cancel, "i"),
    "one.backupjob.allocate": Method(_allocate, "s"),
    "one.backupjob.info": Method(_info, "i"),
    "one.backupjob.backup": Method(_run, "i"),
    "one.backupjob.cancel": Method(_cancel_job, "i"),
    "one.backupjob.retry": Method(_retry, "i"),
    "one.backupjob.priority": Method(_priority, "i i"),
    "one.backupjob.schedadd": Method(_schedule, "i s"),
    "one.backupjob.schedupdate": Method(_reschedule, "i i s"),
    "one.backupjob.scheddelete": Method(_unschedule, "i i"),
}
