# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service templates: checked before OneFlow sees them, because OneFlow accepts much that can never run."""

from __future__ import annotations

import difflib
import re

from ..core.compare import wanted_template
from ..transport.errors import INVALID, OneException, TemplateSyntaxError
from ..transport.values import UNSTORABLE, scalar
from . import dialect
from .documents import check_cardinality

_ROLE_NAME = re.compile(r"\w+", re.ASCII)
_CHOICES = {
    "deployment": ("none", "straight"),
    "shutdown_action": ("terminate", "terminate-hard", "shutdown", "shutdown-hard"),
    "type": ("vm", "vr"),
}
_SHARED_KEYS = frozenset({"name", "on_hold", "shutdown_action", "user_inputs", "user_inputs_metadata", "user_inputs_values"})
_SERVICE_KEYS = _SHARED_KEYS | {
    "automatic_deletion", "deployment", "description", "networks", "networks_values", "ready_status_gate",
    "registration_time", "roles",
}
_ROLE_KEYS = _SHARED_KEYS | {
    "cardinality", "cooldown", "elasticity_policies", "max_vms", "min_vms", "parents", "scheduled_policies",
    "template_contents", "template_id", "type", "vm_template",
}
# What each key holds; whatever else OneFlow refuses.
_TYPES = {
    dict: ("networks", "template_contents", "user_inputs", "user_inputs_values"),
    list: ("elasticity_policies", "networks_values", "parents", "scheduled_policies", "user_inputs_metadata"),
    bool: ("automatic_deletion", "on_hold", "ready_status_gate"),
}
_TYPE_NAMES = {dict: "a dictionary", list: "a list", bool: "true or false"}
_INPUTS = ("user_inputs", "user_inputs_values")
# Attributes that OneFlow looks for in lists, also when there is one only.
_LISTED = ("NIC", "NIC_ALIAS")
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
    problems = [*_shape_problems(name, wanted)]
    if not problems:
        try:
            roles = [_told(_role(role)) for role in wanted.get("roles") or []]
            body = {**_told(dialect.from_old(wanted)), "name": name, "roles": roles}
            problems = _key_problems(body)
        except OneException as error:
            problems = [error.message.rstrip(".")]
    if problems:
        raise OneException(INVALID, f"Service template {name!r}: {'; '.join(problems)}.")
    for part in (body, *body["roles"]):
        for key in _INPUTS:
            if part.get(key):
                part[key] = {input_name: scalar(value) for input_name, value in part[key].items()}
    problems = [
        *_choice_problems(body), *_input_problems(body), *_network_problems(body), *_content_problems(body["roles"]), *_role_problems(body["roles"]),
    ]
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


def _told(part: dict) -> dict:
    """Return what a user says of a service or a role: null says nothing, nor does what a document that was read has from OneFlow."""
    return {key: value for key, value in part.items() if value is not None and key not in _SERVER_KEYS}


def _role(wanted: dict) -> dict:
    try:
        role = dialect.from_old(wanted)
    except OneException as error:
        raise OneException(error.kind, f"in role {wanted.get('name')!r}, {error.message}") from error
    for key in _NUMBERS:
        if role.get(key) is not None:
            role[key] = _number(role, key)
        else:
            role.pop(key, None)
    contents = role.get("template_contents")
    if contents and isinstance(contents, dict):
        contents = wanted_template({}, contents)
        listed = {name: [contents[name]] for name in _LISTED if isinstance(contents.get(name), dict)}
        role["template_contents"] = {**contents, **listed}
    return role


def _number(role: dict, key: str) -> int:
    text = scalar(role[key])
    if not (text.isascii() and text.isdigit()):
        raise OneException(INVALID, f"{key} of role {role.get('name')!r} is {text!r}, it must be a number of 0 or more.")
    return int(text)


def _shape_problems(name: str, wanted: dict) -> list[str]:
    problems = []
    given = next((wanted[key] for key in ("name", "NAME") if key in wanted), name)
    if given != name:
        problems.append(f"template names it {given!r}: its name is an option of its own")
    if re.search("[&<]", name):
        problems.append("OneFlow cannot store a name with & or <")
    roles = wanted.get("roles") or []
    if not isinstance(roles, list) or not all(isinstance(role, dict) for role in roles):
        problems.append("roles is not a list of dictionaries")
    return problems + [f"{place} has {fault}" for place, fault in unstorable({"name": name, **wanted})]


def unstorable(value: object, place: str = "") -> list[tuple[str, str]]:
    """Return where a document has a text that OpenNebula cannot keep, and what in it."""
    if isinstance(value, dict):
        return [
            found for key, item in value.items()
            for found in (*unstorable(str(key), f"{place}/{key}"), *unstorable(item, f"{place}/{key}"))
        ]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in unstorable(item, f"{place}/{number}")]
    wrong = UNSTORABLE.search(value) if isinstance(value, str) else None
    return [(ascii(place.strip("/"))[1:-1], f"{wrong.group()!a}, which OpenNebula cannot store")] if wrong else []


def _key_problems(body: dict) -> list[str]:
    problems = []
    for part, keys, place in (
        (body, _SERVICE_KEYS, ""), *((role, _ROLE_KEYS, f" of role {role.get('name')!r}") for role in body["roles"])
    ):
        # The name is an option; whether it says the same is looked at before.
        for key in part:
            if key not in keys and key != "NAME":
                close = difflib.get_close_matches(str(key).lower(), keys, 1)
                problems.append(f"there is no key {key!r}{place}" + (f", is {close[0]} meant?" if close else ""))
        for kind, names in _TYPES.items():
            problems += [
                f"{key}{place} is {part[key]!r}, it must be {_TYPE_NAMES[kind]}"
                for key in names if part.get(key) is not None and not isinstance(part[key], kind)
            ]
        problems += [
            f"{key}/{name}{place} is {_TYPE_NAMES[type(value)]}, it must be a single value"
            for key in _INPUTS if isinstance(part.get(key), dict)
            for name, value in part[key].items() if isinstance(value, (dict, list))
        ]
    body.pop("NAME", None)
    return problems


def _choice_problems(body: dict) -> list[str]:
    return [
        f"{key} is {part[key]!r}, it must be one of {', '.join(choices)}"
        for part in (body, *body["roles"])
        for key, choices in _CHOICES.items()
        if part.get(key) is not None and part[key] not in choices
    ]


def _input_problems(body: dict) -> list[str]:
    if not any(part.get("user_inputs") or part.get("user_inputs_values") for part in (body, *body["roles"])):
        return []
    from . import user_inputs

    problems = []
    for part, whose in ((body, "the service"), *((role, f"role {role.get('name')!r}") for role in body["roles"])):
        declared, values = part.get("user_inputs") or {}, part.get("user_inputs_values") or {}
        # OneFlow makes attributes of the VMs of them.
        problems += _template_problems(dict.fromkeys(declared, ""), f"the user inputs of {whose}")
        try:
            problems += filter(None, (user_inputs.default_problem(*item) for item in declared.items()))
            if values:
                # What has no value yet gets it when the service starts.
                there = {name: text for name, text in declared.items() if name in values}
                user_inputs.values(there, values, whose)
        except OneException as error:
            problems.append(error.message.rstrip("."))
    return problems


def _network_problems(body: dict) -> list[str]:
    if not body.get("networks") and not body.get("networks_values"):
        return []
    from . import networks

    return networks.problems(body)


def _content_problems(roles: list[dict]) -> list[str]:
    problems = []
    for role in roles:
        if role.get("template_contents"):
            problems += _template_problems(role["template_contents"], f"template_contents of role {role.get('name')!r}")
        if role.get("elasticity_policies") or role.get("scheduled_policies"):
            from . import settings

            problems += settings.policy_problems(role, role.get("name"))
    return problems


def _template_problems(attributes: dict, place: str) -> list[str]:
    """Return why OneFlow cannot hand attributes on to VMs."""
    from ..transport.template import render

    try:
        if not render(attributes).startswith("<"):
            return []
    except TemplateSyntaxError as error:
        return [f"{place} cannot be kept: {error}"]
    from .contents import values

    endless = [path for path, value in values(attributes) if value.endswith("\\")]
    return [f"{path} of {place} ends with a backslash, with which OneFlow can make no VM" for path in endless]


def _role_problems(roles: list[dict]) -> list[str]:
    if not roles:
        return ["it has no roles"]
    names = ["" if role.get("name") is None else str(role["name"]) for role in roles]
    problems = [f"role name {name!r} is not of letters, digits and _" for name in names if not _ROLE_NAME.fullmatch(name)]
    problems += [f"role name {name!r} occurs twice" for name in sorted(set(names)) if names.count(name) > 1]
    for role in roles:
        problems += _bound_problems(role)
        problems += [
            f"role {role['name']!r} has the parent {parent!r}, which is not one of its roles"
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
    from ..transport.template import parse

    try:
        return parse(text)
    except TemplateSyntaxError:
        return text
