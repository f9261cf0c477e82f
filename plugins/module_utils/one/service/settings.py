# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can change in a service that runs: its own settings and those of its roles."""

from __future__ import annotations

from ..transport.errors import INVALID, OneException

ROLE_NUMBERS = ("min_vms", "max_vms", "cooldown")
ROLE_POLICIES = ("elasticity_policies", "scheduled_policies")
# What a policy of each kind may say; OneFlow takes anything else, and heeds none of it.
_POLICY_KEYS = {
    "elasticity_policies": ("type", "adjust", "min_adjust_step", "expression", "period_number", "period", "cooldown"),
    "scheduled_policies": ("type", "adjust", "min_adjust_step", "start_time", "recurrence"),
}
# What OneFlow writes into those of a service, for one that is given them as they are.
_EVALUATED = ("expression_evaluated", "last_eval", "true_evals")
ROLE_SETTINGS = (*ROLE_NUMBERS, *ROLE_POLICIES, "shutdown_action")
# What OneFlow never lets a service that exists change.
_FIXED = frozenset({
    "deployment", "log", "name", "networks", "networks_values", "ready_status_gate", "registration_time", "roles",
    "start_time", "state", "user_inputs", "user_inputs_values",
})


def check(settings: dict, roles: dict[str, dict]) -> None:
    """Raise OneException of kind invalid for settings that are none, or cannot change."""
    fixed = sorted(name for name in settings if name in _FIXED)
    if fixed:
        raise OneException(INVALID, f"A service cannot change {', '.join(fixed)}: template is for its other settings.")
    for name, role in roles.items():
        for key in ROLE_NUMBERS:
            text = str(role.get(key, 0))
            if role.get(key) is not None and not (text.isascii() and text.isdigit()):
                raise OneException(INVALID, f"{key} of role {name!r} is {text!r}, it must be a number of 0 or more.")
        problems = policy_problems(role, name)
        if problems:
            raise OneException(INVALID, f"{'; '.join(problems)}.")


def policy_problems(role: dict, name: object) -> list[str]:
    """Return what is wrong with the form of a role's policies."""
    problems = []
    for key in ROLE_POLICIES:
        policies = [] if role.get(key) is None else role[key]
        if not isinstance(policies, list) or not all(isinstance(item, dict) for item in policies):
            problems.append(f"{key} of role {name!r} must be a list of dictionaries")
            continue
        known = (*_POLICY_KEYS[key], *_EVALUATED)
        for unknown in dict.fromkeys(str(word) for policy in policies for word in policy if word not in known):
            problems.append(f"there is no key {unknown!r} in {key} of role {name!r} ({', '.join(_POLICY_KEYS[key])})")
    return problems


def of_role(role: dict) -> dict:
    """Return the settings in what a task says of a role, typed as OneFlow wants them."""
    said = {key: role[key] for key in ROLE_SETTINGS if role.get(key) is not None}
    return {key: int(value) if key in ROLE_NUMBERS else value for key, value in said.items()}


def at_instantiation(role: dict) -> dict:
    """Return the settings that can be merged into a service template: OneFlow would add policies to those it has."""
    return {key: value for key, value in of_role(role).items() if key not in ROLE_POLICIES}


def updated(body: dict, settings: dict, roles: dict[str, dict]) -> dict:
    """Return the body that a service should have; it equals the current one exactly when nothing has to change."""
    new_roles = [
        {**role, **{key: _settled(role.get(key), value) for key, value in of_role(roles.get(role["name"], {})).items()}}
        for role in body.get("roles") or []
    ]
    return {**body, **{key: _settled(body.get(key), value) for key, value in settings.items()}, "roles": new_roles}


def with_room(body: dict, wanted: dict[str, int]) -> dict:
    """Return a body whose bounds hold the numbers of VMs that its roles have as well as those they will get.

    wanted: numbers of VMs by role. OneFlow refuses bounds that a role's present number is outside of.
    """
    roles = []
    for role in body["roles"]:
        sizes = {int(role.get("cardinality") or 0), wanted.get(role["name"], int(role.get("cardinality") or 0))}
        bounds = {
            key: choose(int(role[key]), *sizes) for key, choose in (("min_vms", min), ("max_vms", max))
            if role.get(key) is not None
        }
        roles.append({**role, **{key: value for key, value in bounds.items() if value != int(role[key])}})
    return {**body, "roles": roles}


def said(body: dict, settings: dict, roles: dict[str, dict]) -> dict:
    """Return those of a body's settings that a task says something of, for comparison and diff."""
    result: dict = {key: body[key] for key in settings if key in body}
    for role in body.get("roles") or []:
        part = {key: role[key] for key in of_role(roles.get(role["name"], {})) if key in role}
        if part:
            result.setdefault("roles", {})[role["name"]] = part
    return result


def _settled(there: object, wanted: object) -> object:
    """Return the wanted value, or the one that is there if it means the same: OneFlow adds what it saw to policies."""
    return there if _means(there, wanted) else wanted


def _means(there: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_means(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(there, list) and len(there) == len(wanted)
            and all(_means(item, desired) for item, desired in zip(there, wanted, strict=True))
        )
    return there is not None and (there == wanted if isinstance(wanted, bool) else str(there) == str(wanted))
