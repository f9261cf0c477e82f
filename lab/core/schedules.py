# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Scheduled actions: what VMs are to do at a time, once or again and again."""

from __future__ import annotations

import calendar
import re
import time
from typing import TYPE_CHECKING

from lab.core.call import Call, as_list, parse_template
from lab.core.errors import ACTION, INTERNAL, NO_EXISTS, OneError, failure
from lab.core.method import Method
from lab.core.states import VmState

if TYPE_CHECKING:
    from lab.core.api import Core

_ACTIONS = frozenset((
    "terminate", "terminate-hard", "undeploy", "undeploy-hard", "hold", "release", "stop", "suspend", "resume", "reboot",
    "reboot-hard", "poweroff", "poweroff-hard", "snapshot-create", "snapshot-revert", "snapshot-delete",
    "disk-snapshot-create", "disk-snapshot-revert", "disk-snapshot-delete", "backup",
))
#: actions with arguments: the method, how they read, and what a message says about them
_WITH_ARGUMENTS = {
    "snapshot-create": ("one.vm.snapshotcreate", (str,), "snapshot-name"),
    "snapshot-revert": ("one.vm.snapshotrevert", (int,), "snapshot-id"),
    "snapshot-delete": ("one.vm.snapshotdelete", (int,), "snapshot-id"),
    "disk-snapshot-create": ("one.vm.disksnapshotcreate", (int, str), "disk-id, snapshot-name"),
    "disk-snapshot-revert": ("one.vm.disksnapshotrevert", (int, int), "disk-id, snapshot-id"),
    "disk-snapshot-delete": ("one.vm.disksnapshotdelete", (int, int), "disk-id, snapshot-id"),
    "backup": ("one.vm.backup", (int, int), "datastore-id, reset"),
}
_WEEKLY, _MONTHLY, _YEARLY, _HOURLY = range(4)
_NEVER_AGAIN = -1
#: by repetition: the first and the last day or hour there is, and what is said of others
_RANGES = {
    _WEEKLY: (0, 6, "Days in a week have to be in [0,6] range"),
    _MONTHLY: (1, 31, "Days in a month have to be in [1,31] range"),
    _YEARLY: (0, 365, "Days in a year have to be in [0,365] range"),
    _HOURLY: (1, 167, "Hours have to be in [0,168] range"),
}
_TIMES, _DATE = 1, 2
_HOUR, _DAY = 3600, 86400
_NUMBER = re.compile(r"\s*[+-]?\d+")


def add(call: Call, kind: str, parent_id: int, attribute: dict, origin: int, code: int) -> int:
    """Keep an action of an object and return its id. Raises OneError with the code for one that cannot be."""
    action = {
        "PARENT_ID": parent_id, "TYPE": kind, "ACTION": "", "ARGS": "", "TIME": -1, "REPEAT": _NEVER_AGAIN, "DAYS": "",
        "END_TYPE": -1, "END_VALUE": -1, "DONE": -1, "MESSAGE": "", "WARNING": 0,
    }
    action = _parsed(action, attribute, origin, code)
    action["id"] = call.core.store.new_id("sched")
    call.core.store.save("sched", action)
    return action["id"]


def update(call: Call, known: list[int], action_id: int, text: str, origin: int) -> int:
    """Change those parts of an action that a template names. Raises OneError."""
    attribute = wanted(text, INTERNAL)
    if action_id not in known:
        raise OneError(INTERNAL, f"SCHED_ACTION with id = {action_id} doesn't exist")
    action = _parsed(call.core.store.get("sched", action_id), attribute, origin, INTERNAL)
    call.core.store.save("sched", action)
    return action_id


def remove(call: Call, known: list[int], action_id: int) -> None:
    """Forget one of an object's actions. Raises OneError for one that it has not."""
    if action_id not in known:
        raise OneError(NO_EXISTS, f"Error getting scheduled action [{action_id}].", action_id)
    known.remove(action_id)
    call.core.store.remove("sched", action_id)


def wanted(text: str, code: int) -> dict:
    """Return the SCHED_ACTION of a template. Raises OneError."""
    found = next((value for value in as_list(parse_template(text).get("SCHED_ACTION")) if isinstance(value, dict)), None)
    if found is None:
        raise OneError(code, "No SCHED_ACTION attribute in template")
    return found


def shown(core: Core, numbers: list[int]) -> dict:
    """Return actions as they stand in the template of their object's document."""
    actions = [core.store.get("sched", number) for number in numbers]
    found = [{"ID": action["id"]} | {name: value for name, value in action.items() if name != "id"} for action in actions]
    return {"SCHED_ACTION": found} if found else {}


def of_new_vm(call: Call, vm: dict, attributes: list[dict]) -> None:
    """Give a new VM the actions of its template. Raises OneError for one that cannot be; the VM stays all the same."""
    added = [add(call, "VM", vm["id"], attribute, vm["stime"], INTERNAL) for attribute in attributes]
    if added:
        vm["schedule"] = added
        call.core.store.save("vm", vm)


def due(core: Core, kind: str) -> list[dict]:
    """Return the actions of a kind of object whose time has come, the next one of each object."""
    now = core.now()
    found = [action for action in core.store.all("sched") if action["TYPE"] == kind and action["DONE"] < action["TIME"] < now]
    # Of several the first counts.
    return list({action["PARENT_ID"]: action for action in sorted(found, key=lambda action: -action["TIME"])}.values())


def tick(core: Core) -> None:
    """Let VMs do what is due, as oneadmin; called with the core locked."""
    for vm in core.store.all("vm"):
        if vm["state"] == VmState.DONE and vm.get("schedule"):
            _forget_all(core, vm)
    for action in due(core, "VM"):
        run(core, action, lambda action=action: _act(core, action))


def run(core: Core, action: dict, act) -> None:
    """Do an action, and note when it is due again or why it failed; one that failed is tried again."""
    try:
        act()
    except OneError as error:
        action["MESSAGE"] = failure(core, error.message)
    else:
        action["MESSAGE"] = ""
        _advance(action, core.now())
    core.store.save("sched", action)


def _forget_all(core: Core, vm: dict) -> None:
    for number in vm.pop("schedule", []):
        core.store.remove("sched", number)
    core.store.save("vm", vm)


def _parsed(action: dict, attribute: dict, origin: int, code: int) -> dict:
    """Return an action with what an attribute says in place. Raises OneError."""
    action = dict(action)

    def refuse(reason: str) -> OneError:
        return OneError(code, reason)

    if action["TYPE"] != "VM":
        action["ACTION"] = "backup"
    elif name := attribute.get("ACTION"):
        if name not in _ACTIONS:
            raise refuse(f"{name} is not supported.")
        action["ACTION"] = name
    if not action["ACTION"]:
        raise refuse("No ACTION in template for Scheduled Action.")
    text = attribute.get("TIME", "")
    action["TIME"] = _moment(action, text, origin) if text else action["TIME"]
    if action["TIME"] == -1:
        raise refuse(f"Unable to parse the time value or value is empty: {text}")
    warning = attribute.get("WARNING", "")
    action["WARNING"] = _moment(action, warning, origin) if warning else action["WARNING"]
    if action["WARNING"] == -1:
        raise refuse(f"Unable to parse the warning value: {warning}")
    _repetition(action, attribute, refuse)
    action["ARGS"] = attribute.get("ARGS", action["ARGS"])
    return action


def _repetition(action: dict, attribute: dict, refuse) -> None:
    action["REPEAT"] = _whole(attribute, "REPEAT", action["REPEAT"])
    if not _NEVER_AGAIN <= action["REPEAT"] <= _HOURLY:
        raise refuse(f"Wrong REPEAT value: {action['REPEAT']}")
    if action["REPEAT"] == _NEVER_AGAIN:
        action["DAYS"] = ""
    elif "DAYS" in attribute:
        action["DAYS"] = attribute["DAYS"]
        first, last, words = _RANGES[action["REPEAT"]]
        days = _days(action)
        if not days:
            raise refuse("Scheduled Action repeat set, but DAYS are empty")
        if days[0] < first or days[-1] > last or (action["REPEAT"] == _HOURLY and len(days) != 1):
            raise refuse(words)
    elif not action["DAYS"]:
        raise refuse("Repeat set, but DAYS are empty")
    action["END_TYPE"] = _whole(attribute, "END_TYPE", action["END_TYPE"])
    if not -1 <= action["END_TYPE"] <= _DATE:
        raise refuse(f"Wrong END_TYPE value: {action['END_TYPE']}")
    action["END_VALUE"] = -1 if action["END_TYPE"] < _TIMES else _whole(attribute, "END_VALUE", action["END_VALUE"])
    if "END_VALUE" in attribute and action["END_TYPE"] == _TIMES and action["END_VALUE"] < 0:
        raise refuse("Error parsing END_VALUE, times has to be greater or equal to 0")


def _whole(attribute: dict, name: str, otherwise: int) -> int:
    match = _NUMBER.match(attribute.get(name, ""))
    return int(match.group()) if match else otherwise


def _days(action: dict) -> list[int]:
    return sorted({int(day) for day in action["DAYS"].split(",") if day.strip().isdigit()})


def _moment(action: dict, text: str, origin: int) -> int:
    """Return a time in seconds since the epoch, those with a plus counted from the birth of a VM; -1 for none."""
    relative = text.startswith("+")
    digits = text.removeprefix("+")
    if (relative and action["TYPE"] != "VM") or not re.fullmatch(r"[+-]?\d+", digits):
        return -1
    return int(digits) + (origin if relative else 0)


def _act(core: Core, action: dict) -> None:
    """Do an action of a VM. Raises OneError."""
    call, vm_id, name = Call(core, core.store.get("user", 0)), action["PARENT_ID"], action["ACTION"]
    if name not in _WITH_ARGUMENTS:
        _as_action(call, name, "one.vm.action", name, vm_id)
        return
    called, types, words = _WITH_ARGUMENTS[name]
    arguments = action["ARGS"].split(",") if action["ARGS"] else []
    if name == "backup" and len(arguments) == 1:
        arguments.append("0")
    malformed = OneError(ACTION, f"Missing or malformed ARGS for: {name}. Format: {words}")
    if len(arguments) < len(types):
        raise malformed
    try:
        values = [convert(argument) for convert, argument in zip(types, arguments, strict=False)]
    except ValueError:
        raise malformed from None
    if name == "backup":
        values[1] = bool(values[1])
    _as_action(call, name, called, vm_id, *values)


def _as_action(call: Call, name: str, called: str, *parameters: object) -> None:
    """Call a method; its refusals are those of the action. Raises OneError."""
    try:
        call.core.methods[called].handler(call, *parameters)
    except OneError as error:
        raise OneError(error.code, f"[{name}] {error.message}", error.object_id) from error


def _advance(action: dict, now: int) -> None:
    """Note that an action was done, and when it is due again."""
    action["DONE"] = now
    days = _days(action)
    if action["REPEAT"] == _NEVER_AGAIN or not days:
        return
    if action["END_TYPE"] == _TIMES:
        if action["END_VALUE"] <= 0:
            return
        action["END_VALUE"] -= 1
        if action["END_VALUE"] == 0:
            return
    if action["END_TYPE"] == _DATE and now > action["END_VALUE"]:
        return
    if action["REPEAT"] == _HOURLY:
        while action["TIME"] < now:
            action["TIME"] += days[0] * _HOUR
        return
    today = time.localtime(now)
    current = {_WEEKLY: (today.tm_wday + 1) % 7, _MONTHLY: today.tm_mday, _YEARLY: today.tm_yday - 1}[action["REPEAT"]]
    later = [day for day in days if day > current]
    length = {
        _WEEKLY: 7, _MONTHLY: calendar.monthrange(today.tm_year, today.tm_mon)[1],
        _YEARLY: 365 + calendar.isleap(today.tm_year),
    }[action["REPEAT"]]
    action["TIME"] += ((later[0] if later else length + days[0]) - current) * _DAY
    action["WARNING"] = 0


def _add(call: Call, vm_id: int, text: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    if vm["state"] == VmState.DONE:
        reason = f"Unable to create Scheduled Action for Virtual Machine {vm_id}, it's in DONE state"
        raise OneError(INTERNAL, reason, vm_id)
    number = add(call, "VM", vm_id, wanted(text, ACTION), vm["stime"], ACTION)
    vm.setdefault("schedule", []).append(number)
    call.core.store.save("vm", vm)
    return number


def _update(call: Call, vm_id: int, action_id: int, text: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    return update(call, vm.get("schedule", []), action_id, text, vm["stime"])


def _delete(call: Call, vm_id: int, action_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    remove(call, vm.get("schedule", []), action_id)
    call.core.store.save("vm", vm)
    return vm_id


METHODS = {
    "one.vm.schedadd": Method(_add, "i s"),
    "one.vm.schedupdate": Method(_update, "i i s"),
    "one.vm.scheddelete": Method(_delete, "i i"),
}
