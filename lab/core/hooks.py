# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Hooks: they are kept and checked as oned does, but this zone runs none, so their log is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core.call import Call, name_problem, parse_template, settle
from lab.core.errors import AUTHORIZATION, INTERNAL, OneError
from lab.core.markup import attributes, element
from lab.core.method import Method
from lab.core.pools import FAILED_UPDATE, generic_methods, lock_of
from lab.core.states import ImageState, LcmState, NetworkState, VmState

if TYPE_CHECKING:
    from lab.core.api import Core

_TYPES = ("state", "api")
#: moments in the life of a VM that have a name
_MOMENTS = {
    "PROLOG": (VmState.ACTIVE, LcmState.PROLOG), "RUNNING": (VmState.ACTIVE, LcmState.RUNNING),
    "SHUTDOWN": (VmState.ACTIVE, LcmState.EPILOG), "STOP": (VmState.STOPPED, LcmState.LCM_INIT),
    "DONE": (VmState.DONE, LcmState.LCM_INIT), "UNKNOWN": (VmState.ACTIVE, LcmState.UNKNOWN),
}
_HOST_STATES = ("INIT", "MONITORED", "ERROR", "DISABLED", "OFFLINE")
#: states that hooks of these resources wait for; the first one is none
_STATES = {"IMAGE": [state.name for state in ImageState], "NET": [state.name for state in NetworkState]}
_WRONG_STATE = "The STATE attribute is not defined or it's invalid."
#: calls that only show something have no hooks
_READING = (".info", ".infoextended")


# What oned reads as texts of a hook's template.
_TEXTS = ("NAME", "TYPE", "COMMAND", "REMOTE", "CALL", "RESOURCE", "STATE", "LCM_STATE", "ON")


def _body(_core: Core, hook: dict) -> dict:
    return {
        "ID": hook["id"], "NAME": hook["name"], "TYPE": hook["type"], **lock_of(hook), "TEMPLATE": attributes(hook["template"]),
    }


def _full_body(core: Core, hook: dict) -> dict:
    return _body(core, hook) | {"HOOKLOG": {}}


def _allocate(call: Call, text: str) -> int:
    template = settle(parse_template(text), _TEXTS)
    call.authorize(("CREATE", "hook", None))
    kind = template.get("TYPE", "").lower()
    if kind not in _TYPES:
        raise OneError(INTERNAL, f"Invalid Hook type: {kind}")
    name = template.pop("NAME", "")
    if name_problem(call.core.config.release.not_in_names, name):
        raise OneError(INTERNAL, "Invalid name.")
    call.check_name("hook", name, INTERNAL)
    if not template.get("COMMAND"):
        raise OneError(INTERNAL, "No COMMAND in template for Hook.")
    del template["TYPE"]
    template["REMOTE"] = "YES" if template.get("REMOTE", "").upper() in ("YES", "TRUE") else "NO"
    template = _api(call, template) if kind == "api" else _state(template)
    # Hooks belong to oneadmin whoever makes them.
    hook = call.new("hook", name, type=kind, template=template) | {"uid": 0, "gid": 0}
    call.core.store.save("hook", hook)
    return hook["id"]


def _is_hookable(call: Call, name: str) -> bool:
    return name.startswith("one.internal") or (name in call.core.methods and not name.endswith(_READING))


def _api(call: Call, template: dict) -> dict:
    if not _is_hookable(call, template.get("CALL", "")):
        raise OneError(INTERNAL, f"API call does not exist or is not supported: {template.get('CALL', '')}")
    return template


def _state(template: dict) -> dict:
    resource = template.get("RESOURCE", "")
    if not resource:
        raise OneError(INTERNAL, "RESOURCE attribute is required for STATE hooks.")
    wanted = template.get("STATE", "")
    match resource:
        case "VM":
            return _vm_state(template)
        case "HOST" if wanted not in _HOST_STATES:
            raise OneError(INTERNAL, f"Invalid STATE: {wanted}")
        case "NET" if wanted not in _STATES["NET"][1:]:
            raise OneError(INTERNAL, f"Invalid STATE: {wanted}")
        case "IMAGE" if not wanted:
            raise OneError(INTERNAL, "Hook STATE attribute not found or invalid")
        case "IMAGE" if wanted not in _STATES["IMAGE"][1:]:
            raise OneError(INTERNAL, f"Invalid or unkown STATE condition: {wanted}")
        case "HOST" | "NET" | "IMAGE":
            return template
    raise OneError(INTERNAL, f"Invalid resource type: {resource}")


def _vm_state(template: dict) -> dict:
    moment = template.pop("ON", "").upper()
    if moment in _MOMENTS:
        state, lcm = _MOMENTS[moment]
        return template | {"STATE": state.name, "LCM_STATE": lcm.name}
    if moment != "CUSTOM":
        raise OneError(INTERNAL, f"Unkown state condition: {moment}")
    state, lcm = template.get("STATE", "").upper(), template.get("LCM_STATE", "").upper()
    if state not in VmState.__members__:
        raise OneError(INTERNAL, f"Wrong STATE: {state}")
    if lcm not in LcmState.__members__:
        raise OneError(INTERNAL, f"Wrong LCM_STATE: {lcm}")
    return template | {"STATE": state, "LCM_STATE": lcm}


def _update(call: Call, hook: dict, template: dict) -> dict:
    if not settle(template, _TEXTS).get("COMMAND"):
        raise OneError(INTERNAL, f"{FAILED_UPDATE}The COMMAND attribute is not defined.")
    if hook["type"] == "api":
        if not _is_hookable(call, template.get("CALL", "")):
            raise OneError(INTERNAL, f"{FAILED_UPDATE}The CALL attribute is not defined or it's invalid.")
        return template
    resource, state = hook["template"]["RESOURCE"], template.get("STATE", "")
    known = {"VM": list(VmState.__members__), "HOST": _HOST_STATES}.get(resource)
    if not state or (known and state not in known):
        raise OneError(INTERNAL, f"{FAILED_UPDATE}{_WRONG_STATE}")
    if resource == "VM" and template.get("LCM_STATE", "") not in LcmState.__members__:
        raise OneError(INTERNAL, f"{FAILED_UPDATE}The LCM_STATE attribute is not defined or it's invalid.")
    return template


def _retry(call: Call, hook_id: int, _execution: int) -> int:
    call.get("hook", hook_id, "MANAGE")
    raise OneError(INTERNAL, "Invalid HookLog body. Arguments not found.")


def _log(call: Call, _begin: int, _end: int, _hook_id: int, _result: int) -> str:
    if not call.is_admin:
        raise OneError(AUTHORIZATION, f"User [{call.user['id']}] not authorized to perform action on hook.")
    return element("HOOKLOG", {})


METHODS = generic_methods("hook", _full_body, pool_body=_body, updater=_update) | {
    "one.hook.allocate": Method(_allocate, "s"),
    "one.hook.retry": Method(_retry, "i i"),
    "one.hooklog.info": Method(_log, "i i i i"),
}
