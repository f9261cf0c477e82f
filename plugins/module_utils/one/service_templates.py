# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service templates: checked before OneFlow sees them, because OneFlow accepts much that can never run."""

from __future__ import annotations

import re

from .compare import wanted_template
from .errors import INVALID, OneException, TemplateSyntaxError
from .flow_documents import check_cardinality
from .values import scalar

_ROLE_NAME = re.compile(r"\w+", re.ASCII)
_CHOICES = {
    "deployment": ("none", "straight"),
    "shutdown_action": ("terminate", "terminate-hard", "shutdown", "shutdown-hard"),
}
_NUMBERS = ("cardinality", "min_vms", "max_vms", "cooldown")
# What OneFlow assumes for keys that a document does not have, and writes into it.
_DEFAULTS = {"deployment": "none", "description": ""}
_ROLE_DEFAULTS = {"cardinality": 0}
# Set by OneFlow, never by a user.
_SERVER_KEYS = ("registration_time",)


def normalize(name: str, wanted: dict) -> dict:
    """Return a service template's body in the 7.x dialect, typed as OneFlow's schema asks, with the name.

    Roles keep their vm_template (name or id) for the caller to resolve. Raises OneException of kind invalid for a
    body that OneFlow would refuse, or accept and never be able to deploy; all that is wrong at once.
    """
    body = {**wanted, "name": name, "roles": [_role(role) for role in wanted.get("roles") or []]}
    for part in (body, *body["roles"]):
        if part.get("user_inputs"):
            part["user_inputs"] = {key: str(value) for key, value in part["user_inputs"].items()}
    problems = [*_choice_problems(body), *_input_problems(body), *_role_problems(body["roles"])]
    if problems:
        raise OneException(INVALID, f"Service template {name!r}: {'; '.join(problems)}.")
    return body


def merged(current: dict, wanted: dict, replace: bool) -> dict:
    """Return what the document should be: the wanted one, with what the current one has besides.

    replace: only what the server itself added stays. Nothing has to change exactly when the result equals current.
    """
    if replace:
        kept = {key: current[key] for key in _SERVER_KEYS if key in current}
        roles = [{**_ROLE_DEFAULTS, **role} for role in wanted["roles"]]
        return {**_DEFAULTS, **kept, **_settled(current, {**wanted, "roles": roles}, True)}
    return _settled(current, wanted, False)


def _role(wanted: dict) -> dict:
    role = dict(wanted)
    for key in _NUMBERS:
        if role.get(key) is not None:
            role[key] = _number(role, key)
        else:
            role.pop(key, None)
    if role.get("template_contents"):
        role["template_contents"] = wanted_template({}, role["template_contents"])
    return role


def _number(role: dict, key: str) -> int:
    text = scalar(role[key])
    if not (text.isascii() and text.isdigit()):
        raise OneException(INVALID, f"{key} of role {role.get('name')!r} is {text!r}, it must be a number of 0 or more.")
    return int(text)


def _choice_problems(body: dict) -> list[str]:
    return [
        f"{key} is {body[key]!r}, it must be one of {', '.join(choices)}"
        for key, choices in _CHOICES.items()
        if body.get(key) is not None and body[key] not in choices
    ]


def _input_problems(body: dict) -> list[str]:
    declared = [item for part in (body, *body["roles"]) for item in (part.get("user_inputs") or {}).items()]
    if not declared:
        return []
    from .user_inputs import parse

    problems = []
    for name, declaration in declared:
        try:
            parse(name, declaration)
        except OneException as error:
            problems.append(error.message.rstrip("."))
    return problems


def _role_problems(roles: list[dict]) -> list[str]:
    if not roles:
        return ["it has no roles"]
    names = [str(role.get("name") or "") for role in roles]
    problems = [f"role name {name!r} is not of letters, digits and _" for name in names if not _ROLE_NAME.fullmatch(name)]
    problems += [f"role name {name!r} occurs twice" for name in sorted(set(names)) if names.count(name) > 1]
    for role in roles:
        problems += _bound_problems(role)
        problems += [
            f"role {role['name']!r} has the parent {parent!r}, which is no role of it"
            for parent in role.get("parents") or []
            if parent not in names
        ]
        if role.get("vm_template") is None and role.get("template_id") is None:
            problems.append(f"role {role.get('name')!r} has no vm_template")
    return problems or _cycle_problems(roles)


def _bound_problems(role: dict) -> list[str]:
    try:
        check_cardinality(role, role.get("cardinality", 0))
    except OneException as error:
        return [error.message.rstrip(".")]
    return []


def _cycle_problems(roles: list[dict]) -> list[str]:
    waiting = {role["name"]: set(role.get("parents") or []) for role in roles}
    while True:
        free = [name for name, parents in waiting.items() if not parents & waiting.keys()]
        if not free:
            return [f"roles {', '.join(sorted(waiting))} wait for each other"] if waiting else []
        for name in free:
            del waiting[name]


def _settled(current: object, wanted: object, replace: bool, key: str = "") -> object:
    if key == "roles" and isinstance(wanted, list):
        return _settled_roles(current if isinstance(current, list) else [], wanted, replace)
    if isinstance(wanted, dict):
        there = current if isinstance(current, dict) else {}
        kept = {} if replace else there
        return {**kept, **{name: _settled(there.get(name), value, replace, name) for name, value in wanted.items()}}
    return current if _same(current, wanted, key) else wanted


def _settled_roles(current: list[dict], wanted: list[dict], replace: bool) -> list[dict]:
    """Roles are matched by name; their order has no meaning, so the current one stays."""
    there = {role["name"]: role for role in current}
    settled = {role["name"]: _settled(there.get(role["name"]), role, replace) for role in wanted}
    kept = [settled.pop(name, None if replace else role) for name, role in there.items()]
    return [role for role in kept if role is not None] + list(settled.values())


def _same(current: object, wanted: object, key: str) -> bool:
    if key == "vm_template_contents" and isinstance(current, str):
        return current == wanted or _read(current) == _read(str(wanted))
    if isinstance(wanted, (bool, list, dict)):
        return current == wanted
    return current is not None and str(current) == str(wanted)


def _read(text: str) -> dict | str:
    """Return the attributes of a template, the text itself if it is none."""
    from .template import parse

    try:
        return parse(text)
    except TemplateSyntaxError:
        return text
