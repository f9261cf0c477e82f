# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two dialects of OneFlow's documents: 7.x and 6.x name the same things differently.

Everything else in this collection speaks the 7.x dialect; here it is translated for the server at hand.
"""

from __future__ import annotations

from ..transport.client import Client
from ..transport.errors import INVALID, OneException, TemplateSyntaxError

_OLD_NAMES = {"user_inputs": "custom_attrs", "user_inputs_values": "custom_attrs_values"}


def is_old(client: Client) -> bool:
    """Tell whether the server speaks the 6.x dialect."""
    return client.version < (7,)


def render_template(client: Client, body: dict, contexts: dict[int, dict]) -> dict:
    """Return a service template's body as the server wants it.

    Roles of the body carry template_id, template_contents (a dictionary) and user_inputs.
    contexts: the CONTEXT of each VM template that a role uses, by id.
    """
    if not is_old(client):
        return {**body, "roles": [{"type": "vm", **role} for role in body["roles"]]}
    shared = list(body.get("user_inputs") or {})
    return {
        **_renamed(body),
        "roles": [
            _old_role(role, shared + list(role.get("user_inputs") or {}), contexts.get(role.get("template_id"), {}))
            for role in body["roles"]
        ],
    }


def render_instantiation(client: Client, merge: dict) -> dict:
    """Return the merge_template of an instantiation as the server wants it."""
    if not is_old(client):
        return merge
    return {**_renamed(merge), "roles": [_renamed(role) for role in merge["roles"]]}


def render_value(client: Client, value: str) -> str:
    """Return a user input's value as the server stores it.

    6.x pastes values into the text of a VM template with Ruby's gsub: quotes have to be escaped for the template,
    and then every backslash for gsub.
    """
    return value.replace('"', '\\"').replace("\\", "\\\\") if is_old(client) else value


def declared_inputs(part: dict) -> dict[str, str]:
    """Return the user inputs that a service, service template or role declares, in either dialect."""
    return part.get("user_inputs") or part.get("custom_attrs") or {}


def input_values(part: dict) -> dict[str, str]:
    """Return the values of the user inputs of a service or role, in either dialect, as the server stores them."""
    return part.get("user_inputs_values") or part.get("custom_attrs_values") or {}


def from_old(part: dict) -> dict:
    """Return a service template or role in the words of 7.x, whichever it is written in.

    Raises OneException of kind invalid for one that says the same in both, and contents that are not a template.
    """
    names = {old: new for new, old in _OLD_NAMES.items()} | {"vm_template_contents": "template_contents"}
    both = [f"{old} and {new}" for old, new in names.items() if part.get(old) and part.get(new)]
    if both:
        raise OneException(INVALID, f"{both[0]} are the same in OpenNebula 6 and 7: give one of them")
    result = {}
    for name, value in part.items():
        # What is empty gives way to what is not.
        if name not in names or value or names[name] not in part:
            result[names.get(name, name)] = value
    contents = result.get("template_contents")
    if isinstance(contents, str):
        result["template_contents"] = _parsed(contents, names["vm_template_contents"])
    return result


def _parsed(text: str, name: str) -> dict:
    from ..transport.template import parse

    try:
        return parse(text)
    except TemplateSyntaxError as error:
        raise OneException(INVALID, f"{name} is not a valid template: {error}") from error


def _renamed(part: dict) -> dict:
    return {_OLD_NAMES.get(name, name): value for name, value in part.items()}


def _old_role(role: dict, inputs: list[str], vm_context: dict) -> dict:
    result = _renamed({key: value for key, value in role.items() if key != "type"})
    result["vm_template"] = result.pop("template_id")
    contents = dict(result.pop("template_contents", None) or {})
    # 6.x passes inputs on by name only, where 7.x makes attributes and entries of CONTEXT of them.
    # It replaces names in the order of the text, and $A also hits the beginning of $AB: the longest come first.
    passed_on = {name: f"${name}" for name in sorted(inputs, key=len, reverse=True)}
    if inputs or "CONTEXT" in contents:
        # 6.x replaces the VM template's CONTEXT by the one of the contents.
        contents["CONTEXT"] = {**vm_context, **contents.get("CONTEXT", {}), **passed_on}
    result["vm_template_contents"] = _text({**passed_on, **contents})
    return result


def _text(attributes: dict) -> str:
    from ..transport.template import render

    text = render(attributes)
    if text.startswith("<"):
        # OneFlow adds to the text, and the other form has no room for that.
        raise OneException(INVALID, "OneFlow 6 cannot hand on a value that ends with a backslash to the VMs of a role.")
    return text
