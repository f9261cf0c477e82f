# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What OneFlow accepts as a service template, and how a template becomes a service. Pure functions over JSON values."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass

from lab.oneflow_policies import BadExpression, evaluated


class Invalid(Exception):
    """The document breaks a rule; str() is the sentence OneFlow answers with this status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


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
SCHEDULE = (
    Key("type", "string", required=True, choices=("CHANGE", "CARDINALITY", "PERCENTAGE_CHANGE")),
    Key("adjust", "integer", required=True),
    Key("min_adjust_step", "integer", minimum=1),
    Key("start_time", "string"),
    Key("recurrence", "string"),
)


@dataclass(frozen=True)
class Schema:
    """The format of the documents of one line of OneFlow, and what it does with them."""

    #: the role's keys for its VM template, for what is added to that, and for the inputs of VMs and their values
    template: str
    contents: str
    inputs: str
    values: str
    role: tuple[Key, ...]
    service: tuple[Key, ...]
    #: the sentence about a key that is not there
    missing: str
    #: what inputs are called in sentences: one of them, many, and those of a role
    input_noun: tuple[str, str, str]
    #: what inputs and their values are called where they have a wrong format
    input_words: tuple[str, str]
    #: whether contents are a text, in which values replace $NAME and have no other effect
    text: bool = False
    #: whether the roles of an instantiation are matched by their position
    roles_by_position: bool = False
    #: status of the answer to an instantiation that gives a document breaking a rule
    refused_instantiation: int = 400
    #: what it says when an instantiation has roles, but not one that declares inputs; empty: it minds nothing
    no_such_role: str = ""


def _keys(template: Key, contents: Key, inputs: str, values: str, *others: Key) -> dict[str, tuple[Key, ...]]:
    given = (Key(inputs, "object"), Key(values, "object"))
    role = (
        Key("name", "string", required=True, pattern=r"^\w+$"),
        *others,
        Key("cardinality", "integer", default=0, minimum=0),
        template,
        contents,
        *given,
        Key("parents", "array"),
        Key("shutdown_action", "string", choices=SHUTDOWN_ACTIONS),
        Key("min_vms", "integer", minimum=0),
        Key("max_vms", "integer", minimum=0),
        Key("cooldown", "integer", minimum=0),
        Key("on_hold", "boolean"),
        Key("elasticity_policies", "array", items=POLICY),
        Key("scheduled_policies", "array", items=SCHEDULE),
    )
    service = (
        Key("name", "string", required=True),
        Key("deployment", "string", default="none", choices=("none", "straight")),
        Key("description", "string", default=""),
        Key("shutdown_action", "string", choices=SHUTDOWN_ACTIONS),
        Key("roles", "array", required=True, items=role),
        *given,
        Key("ready_status_gate", "boolean"),
        Key("automatic_deletion", "boolean"),
        Key("on_hold", "boolean"),
        Key("networks", "object"),
        Key("networks_values", "array"),
    )
    return {"role": role, "service": service}


SCHEMA_7 = Schema(
    template="template_id", contents="template_contents", inputs="user_inputs", values="user_inputs_values",
    missing="Mandatory document key '{name} ({kind})' is missing from {value}",
    input_noun=("User Input", "User Inputs", "user inputs"),
    input_words=("User Inputs", "User Inputs Values"),
    **_keys(
        Key("template_id", "integer", required=True), Key("template_contents", "object"), "user_inputs",
        "user_inputs_values", Key("type", "string", required=True, choices=("vm", "vr")),
    ),
)
SCHEMA_6 = Schema(
    template="vm_template", contents="vm_template_contents", inputs="custom_attrs", values="custom_attrs_values",
    missing="KEY: '{name}' is required;",
    input_noun=("custom attribute", "custom attributes", "custom attributes"),
    input_words=("custom_attrs", "custom_attrs_values"),
    text=True,
    roles_by_position=True,
    refused_instantiation=500,
    no_such_role="undefined method `[]' for nil:NilClass\n\n"
                 "                role_custom_attrs_values = merge_role['custom_attrs_values']\n"
                 "                                                     ^^^^^^^^^^^^^^^^^^^^^^^",
    **_keys(
        Key("vm_template", "integer", required=True), Key("vm_template_contents", "string"), "custom_attrs",
        "custom_attrs_values",
    ),
)


def validate_template(schema: Schema, template: dict) -> dict:
    """Check a service template and fill in the server's defaults, in place. Returns it; raises Invalid."""
    if not schema.text:
        _convert_old(template)
    _check_object(schema, "", template, schema.service)
    names = [role["name"] for role in template["roles"]]
    for role in template["roles"]:
        if names.count(role["name"]) > 1:
            raise Invalid(f"Role name '{role['name']}' is repeated")
        _check_bounds(role)
    return template


def validate_role(schema: Schema, role: dict) -> dict:
    """Check a single role, as given to add_role. Returns it; raises Invalid."""
    _check_object(schema, "", role, schema.role)
    _check_bounds(role)
    return role


def instantiate(schema: Schema, template: dict, merge: dict, now: int) -> dict:
    """The body of a new service: template and merge_template together, every declared value present.

    Raises Invalid. now: seconds since the epoch.
    """
    merge = copy.deepcopy(merge)
    if not schema.text:
        _convert_old(merge)
    _check_values(schema, template, merge)
    for role in template["roles"]:
        _check_role_values(schema, role, merge)
    _fill_networks(template, merge)
    body = _merged(schema, template, merge)
    try:
        validate_template(schema, body)
    except Invalid as error:
        raise Invalid(str(error), schema.refused_instantiation) from None
    if schema.text:
        _paste_values(schema, body)
    body["state"] = 0
    for role in body["roles"]:
        role["state"] = 0
    body["start_time"] = now
    return body


def substituted(text: str, names: dict[str, object]) -> str:
    """The text with every $NAME of names replaced, also where $NAME is the beginning of another name.

    Values are replacements of Ruby's gsub: a backslash before another one or a 0 is not itself.
    """
    for name in re.findall(r"\$(\w+)", text):
        if name in names:
            value = "" if names[name] is None else names[name]
            if not isinstance(value, str):
                raise TypeError(f"no implicit conversion of {ruby_type(value)} into String")
            found = f"${name}"
            replacement = re.sub(r"\\([\\0])", lambda match, found=found: found if match[1] == "0" else match[1], value)
            text = text.replace(found, replacement)
    return text


def ruby_type(value: object) -> str:
    """What Ruby calls a value's type in its errors."""
    if value is None or isinstance(value, bool):
        return "nil" if value is None else str(value).lower()
    return {int: "Integer", float: "Float", str: "String", list: "Array", dict: "Hash"}[type(value)]


def _paste_values(schema: Schema, body: dict) -> None:
    """What 6.x does with values when a service is made."""
    for role in body["roles"]:
        values = {**(body.get(schema.values) or {}), **(role.get(schema.values) or {})}
        if schema.contents in role:
            role[schema.contents] = substituted(role[schema.contents], values)
        if isinstance(role.get("user_inputs_values"), dict):
            added = "".join(f'\n{name}="{value}"' for name, value in role["user_inputs_values"].items())
            role[schema.contents] = role.get(schema.contents, "") + added


def _convert_old(document: dict) -> None:
    """Bring a document of 6.x into the form of 7.x, in place: possible only when all of its roles are old.

    The values of inputs have an old name that is understood always.
    """
    roles = [role for role in document.get("roles") or [] if isinstance(role, dict)]
    for part in (document, *roles):
        if "custom_attrs_values" in part:
            part["user_inputs_values"] = part.pop("custom_attrs_values")
    if not roles or not all("vm_template" in role for role in roles):
        return
    for part in (document, *roles):
        if "custom_attrs" in part:
            part["user_inputs"] = part.pop("custom_attrs")
    for role in roles:
        role["template_id"] = role.pop("vm_template")
        role.setdefault("type", "vm")
        if "vm_template_contents" in role:
            role["template_contents"] = _converted_contents(role.pop("vm_template_contents"))


def _converted_contents(text: str) -> dict:
    """The converter's own reading of a template: quotes do not count, commas always part, vectors become lists."""
    contents: dict = {}
    for name, vector, value in re.findall(r"(\w+)\s*=\s*(?:\[(.*?)\]|([^\n]*))", text.replace('"', ""), re.DOTALL):
        if vector:
            pairs = (part.partition("=") for part in vector.split(","))
            contents.setdefault(name, []).append({key.strip(): item.strip() for key, _equals, item in pairs})
        else:
            contents[name] = value.strip()
    return contents


def _check_object(schema: Schema, name: str, value: object, keys: tuple[Key, ...]) -> None:
    if not isinstance(value, dict):
        raise Invalid(f"KEY: {name} must be a Hash; SCHEMA:")
    for key in keys:
        if value.get(key.name) is not None:
            value[key.name] = _checked(schema, key, value[key.name])
        elif key.default is not None:
            value[key.name] = key.default
    for key in keys:
        if key.required and value.get(key.name) is None:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
            raise Invalid(schema.missing.format(name=key.name, kind=key.kind, value=text))


def _checked(schema: Schema, key: Key, value: object) -> object:
    if key.kind == "integer":
        return _checked_integer(key, value)
    if key.kind == "array":
        if not isinstance(value, list):
            raise Invalid(f"KEY: '{key.name}' must be an Array;")
        for item in value if key.items else ():
            _check_object(schema, key.name, item, key.items)
    elif key.kind == "object":
        _check_object(schema, key.name, value, ())
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
    if role.get("type") == "vr":
        nics = (role.get("template_contents") or {}).get("NIC")
        floating = isinstance(nics, list) and any(key.startswith("FLOATING") for nic in nics for key in nic)
        if isinstance(nics, list) and cardinality > 1 and not floating:
            raise Invalid(f"Role '{name}' with 'cardinality' greather than one must define a floating IP")
        return
    if role.get("min_vms") is not None and cardinality < role["min_vms"]:
        raise Invalid(f"Role '{name}' 'cardinality' must be greater than or equal to 'min_vms'")
    if role.get("max_vms") is not None and cardinality > role["max_vms"]:
        raise Invalid(f"Role '{name}' 'cardinality' must be lower than or equal to 'max_vms'")
    has_policies = role.get("elasticity_policies") or role.get("scheduled_policies")
    if has_policies and (role.get("min_vms") is None or role.get("max_vms") is None):
        raise Invalid(
            f"Role '{name}' with 'elasticity_policies' or 'scheduled_policies' must define both 'min_vms'and 'max_vms'"
        )
    for policy in role.get("elasticity_policies") or []:
        try:
            evaluated(policy["expression"], [])
        except BadExpression as error:
            raise Invalid(f"Role '{name}' 'expression' of 'elasticity_policies': {error}") from None


def _merged(schema: Schema, template: dict, merge: dict) -> dict:
    body = deep_merge(template, {key: value for key, value in merge.items() if key != "roles"})
    roles = merge.get("roles") or []
    if schema.roles_by_position:
        there = body["roles"]
        body["roles"] = [deep_merge(role, given) for role, given in zip(there, roles, strict=False)]
        body["roles"] += there[len(roles):] + roles[len(there):]
        return body
    given = {role.get("name"): role for role in roles}
    body["roles"] = [deep_merge(role, given.pop(role["name"], {})) for role in body["roles"]] + list(given.values())
    return body


def deep_merge(base: object, over: object, join: bool = True) -> object:
    """Objects merge key by key, arrays are concatenated, anything else is replaced. Neither argument is changed.

    join: without it, arrays are replaced too. What an array of objects has twice, it has once afterwards.
    """
    if isinstance(base, dict) and isinstance(over, dict):
        merged = copy.deepcopy(base)
        for key, value in over.items():
            merged[key] = deep_merge(base[key], value, join) if key in base else copy.deepcopy(value)
        return merged
    if join and isinstance(base, list) and isinstance(over, list):
        joined = copy.deepcopy(base) + copy.deepcopy(over)
        if all(isinstance(item, dict) for item in joined):
            joined = [item for place, item in enumerate(joined) if item not in joined[:place]]
        return joined
    return copy.deepcopy(over)


def _check_role_values(schema: Schema, role: dict, merge: dict) -> None:
    """Refuse a role that declares inputs unless the instantiation has values for them. Raises Invalid."""
    if role.get(schema.inputs) is None:
        return
    in_role = schema.input_noun[2]
    if merge.get("roles") is None:
        raise Invalid(f"The Service template specifies {in_role} for the role {role.get('name')} but no values have been found")
    if not isinstance(merge["roles"], list) or not merge["roles"]:
        raise Invalid(f"The role {in_role} are empty or do not have a valid format")
    # The role is found by its name here, also where roles are merged by their position.
    given = next((given for given in merge["roles"] if given.get("name") == role["name"]), None)
    if given is None and schema.no_such_role:
        raise Invalid(schema.no_such_role)
    if given is not None:
        _check_values(schema, role, given)


def _check_values(schema: Schema, part: dict, given: dict) -> None:
    """Refuse a service or role without a value for each input it declares; those it was written with do not count. Raises Invalid."""
    declared = part.get(schema.inputs)
    if declared is None or declared == {}:
        return
    values = given.get(schema.values)
    one, many, _in_role = schema.input_noun
    if values is None:
        raise Invalid(f"The Service template specifies {many} but no values have been found")
    if not isinstance(declared, dict) or not isinstance(values, dict):
        raise Invalid(f"Wrong {schema.input_words[0]} or {schema.input_words[1]} format")
    if any(name not in values for name in declared):
        raise Invalid(f"Verify that every {one} have its corresponding value defined")


def _fill_networks(template: dict, merge: dict) -> None:
    """Give networks the values of their declarations (`M|network|text| |id:7`) unless the instantiation has any. Raises Invalid."""
    networks, values = template.get("networks"), merge.get("networks_values")
    if not networks:
        return
    if values is None:
        try:
            defaults = {name: declared.split("|")[4].strip().partition(":") for name, declared in networks.items()}
        except (AttributeError, IndexError):
            raise Invalid("Wrong networks format") from None
        if not all(kind for kind, _colon, _value in defaults.values()):
            raise Invalid("Wrong networks format")
        values = merge["networks_values"] = [{name: {kind: value or None}} for name, (kind, _colon, value) in defaults.items()]
    if not isinstance(networks, dict):
        raise Invalid("Wrong networks format")
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise Invalid("Wrong networks_values format")
    if not set(networks) <= {name for value in values for name in value}:
        raise Invalid("Every network key must have its value defined at networks_value")
