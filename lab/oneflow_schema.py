# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What OneFlow accepts as a service template, and how a template becomes a service. Pure functions over JSON values."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass


class Invalid(Exception):
    """The document breaks a rule; str() is the sentence OneFlow answers with status 400."""


@dataclass(frozen=True)
class Key:
    """One key of a JSON object: its Ruby-style type name and the limits OneFlow checks."""

    name: str
    kind: str
    required: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    pattern: str = ""
    items: tuple[Key, ...] = ()


SHUTDOWN_ACTIONS = ("terminate", "terminate-hard", "shutdown", "shutdown-hard")

POLICY = (
    Key("type", "string", required=True, choices=("CHANGE", "CARDINALITY", "PERCENTAGE_CHANGE")),
    Key("adjust", "integer", required=True),
    Key("expression", "string", required=True),
    Key("min_adjust_step", "integer", minimum=1),
    Key("period_number", "integer", minimum=0),
    Key("period", "integer", minimum=0),
    Key("cooldown", "integer", minimum=0),
)

ROLE = (
    Key("name", "string", required=True, pattern=r"^\w+$"),
    Key("type", "string", required=True, choices=("vm", "vr")),
    Key("cardinality", "integer", default=0, minimum=0),
    Key("template_id", "integer", required=True),
    Key("template_contents", "object"),
    Key("parents", "array"),
    Key("user_inputs", "object"),
    Key("user_inputs_values", "object"),
    Key("shutdown_action", "string", choices=SHUTDOWN_ACTIONS),
    Key("min_vms", "integer", minimum=0),
    Key("max_vms", "integer", minimum=0),
    Key("cooldown", "integer", minimum=0),
    Key("on_hold", "boolean"),
    Key("elasticity_policies", "array", items=POLICY),
    Key("scheduled_policies", "array"),
)

SERVICE = (
    Key("name", "string", required=True),
    Key("deployment", "string", default="none", choices=("none", "straight")),
    Key("description", "string", default=""),
    Key("shutdown_action", "string", choices=SHUTDOWN_ACTIONS),
    Key("roles", "array", required=True, items=ROLE),
    Key("user_inputs", "object"),
    Key("user_inputs_values", "object"),
    Key("ready_status_gate", "boolean"),
    Key("automatic_deletion", "boolean"),
    Key("on_hold", "boolean"),
    Key("networks", "object"),
    Key("networks_values", "array"),
)


def validate_template(template: dict) -> dict:
    """Check a service template and fill in the server's defaults, in place. Returns it; raises Invalid."""
    _rename_old_values(template)
    _check_object("", template, SERVICE)
    names = [role["name"] for role in template["roles"]]
    for role in template["roles"]:
        if names.count(role["name"]) > 1:
            raise Invalid(f"Role name '{role['name']}' is repeated")
        _check_bounds(role)
    return template


def validate_role(role: dict) -> dict:
    """Check a single role, as given to add_role. Returns it; raises Invalid."""
    _check_object("", role, ROLE)
    _check_bounds(role)
    return role


def instantiate(template: dict, merge: dict, now: int) -> dict:
    """The body of a new service: template and merge_template together, every declared value present.

    Raises Invalid. now: seconds since the epoch.
    """
    body = _merged(template, _rename_old_values(copy.deepcopy(merge)))
    _check_user_inputs(body)
    validate_template(body)
    _fill_networks(body)
    body["state"] = 0
    for role in body["roles"]:
        role["state"] = 0
    body["start_time"] = now
    return body


def _rename_old_values(document: dict) -> dict:
    """custom_attrs_values is the name user_inputs_values had before 7.0 and is still understood."""
    roles = document.get("roles")
    for part in [document, *(roles if isinstance(roles, list) else [])]:
        if isinstance(part, dict) and "custom_attrs_values" in part:
            part["user_inputs_values"] = part.pop("custom_attrs_values")
    return document


def _check_object(name: str, value: object, keys: tuple[Key, ...]) -> None:
    if not isinstance(value, dict):
        raise Invalid(f"KEY: {name} must be a Hash; SCHEMA:")
    for key in keys:
        if value.get(key.name) is not None:
            value[key.name] = _checked(key, value[key.name])
        elif key.default is not None:
            value[key.name] = key.default
    for key in keys:
        if key.required and value.get(key.name) is None:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
            raise Invalid(f"Mandatory document key '{key.name} ({key.kind})' is missing from {text}")


def _checked(key: Key, value: object) -> object:
    if key.kind == "integer":
        return _checked_integer(key, value)
    if key.kind == "array":
        if not isinstance(value, list):
            raise Invalid(f"KEY: '{key.name}' must be an Array;")
        for item in value if key.items else ():
            _check_object(key.name, item, key.items)
    elif key.kind == "object":
        _check_object(key.name, value, ())
    elif key.kind == "boolean":
        if not isinstance(value, bool):
            raise Invalid(f"KEY: '{key.name}' is not allowed;")
    elif not isinstance(value, str):
        raise Invalid(f"KEY: '{key.name}' must be a String;")
    elif key.choices and value not in key.choices:
        raise Invalid(f"KEY: '{key.name}' must be one of {', '.join(key.choices)};")
    elif key.pattern and not re.search(key.pattern, value):
        raise Invalid(f"KEY: '{key.name}' must match regexp /{key.pattern}/;")
    return value


def _checked_integer(key: Key, value: object) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise Invalid(f"KEY: '{key.name}' must be an Integer;") from None
    if key.minimum is not None and number < key.minimum:
        raise Invalid(f"KEY: '{key.name}' must be greater than or equal to {key.minimum};")
    return number


def _check_bounds(role: dict) -> None:
    name, cardinality = role["name"], role["cardinality"]
    if role.get("min_vms") is not None and cardinality < role["min_vms"]:
        raise Invalid(f"Role '{name}' 'cardinality' must be greater than or equal to 'min_vms'")
    if role.get("max_vms") is not None and cardinality > role["max_vms"]:
        raise Invalid(f"Role '{name}' 'cardinality' must be lower than or equal to 'max_vms'")
    has_policies = role.get("elasticity_policies") or role.get("scheduled_policies")
    if has_policies and (role.get("min_vms") is None or role.get("max_vms") is None):
        raise Invalid(
            f"Role '{name}' with 'elasticity_policies' or 'scheduled_policies' must define both 'min_vms'and 'max_vms'"
        )


def _merged(template: dict, merge: dict) -> dict:
    body = deep_merge(template, {key: value for key, value in merge.items() if key != "roles"})
    given = {role.get("name"): role for role in merge.get("roles") or []}
    body["roles"] = [deep_merge(role, given.pop(role["name"], {})) for role in body["roles"]] + list(given.values())
    return body


def deep_merge(base: object, over: object) -> object:
    """Objects merge key by key, arrays are concatenated, anything else is replaced. Neither argument is changed."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = copy.deepcopy(base)
        for key, value in over.items():
            merged[key] = deep_merge(base[key], value) if key in base else copy.deepcopy(value)
        return merged
    if isinstance(base, list) and isinstance(over, list):
        return copy.deepcopy(base) + copy.deepcopy(over)
    return copy.deepcopy(over)


def _check_user_inputs(body: dict) -> None:
    parts = [("", body)] + [(f" for the role {role.get('name')}", role) for role in body["roles"]]
    for where, part in parts:
        declared = part.get("user_inputs")
        if not declared:
            continue
        values = part.get("user_inputs_values")
        if not values:
            raise Invalid(f"The Service template specifies User Inputs{where} but no values have been found")
        if not isinstance(declared, dict) or not isinstance(values, dict):
            raise Invalid("Wrong user_inputs or user_inputs_values format")
        if any(name not in values for name in declared):
            raise Invalid("Verify that every User Input have its corresponding value defined")


def _fill_networks(body: dict) -> None:
    """Networks without a value take the id of their declaration (`M|network|text| |id:7`)."""
    networks = body.get("networks")
    if not networks:
        return
    if "networks_values" not in body:
        defaults = {name: re.search(r"\|id:(\d+)$", str(declared)) for name, declared in networks.items()}
        body["networks_values"] = [{name: {"id": found.group(1)}} for name, found in defaults.items() if found]
    valued = {name for value in body["networks_values"] for name in value}
    if not set(networks) <= valued:
        raise Invalid("Every network key must have its value defined at networks_value")
    for name, network in (item for value in body["networks_values"] for item in value.items()):
        if "id" not in network:
            raise Invalid(f"Network '{name}' needs the id of an existing network: this zone cannot make networks for services")
