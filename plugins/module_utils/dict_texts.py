# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text in the place of a dictionary. Ansible reads key=value pairs there and takes a line break for part of a value."""

from __future__ import annotations

import json
import re

from ansible.module_utils.common.validation import check_type_dict

from .one.transport import xml
from .one.transport.errors import TemplateSyntaxError
from .one.transport.template import parse

# Options that hold attributes in OpenNebula's terms, so that text in them is in OpenNebula's syntax.
_TEMPLATES = frozenset({"attributes", "image_template", "template", "template_contents", "vm_attributes"})
_SPECIAL = '"[]<'
# A pair that Ansible would take for the end of the value before.
_ANOTHER_PAIR = re.compile(r"[;|&]\s*[A-Za-z_]\w*\s*=")


def read(argument_spec: dict, params: dict) -> str:
    """Replace texts in a module's parameters by the dictionaries that they mean; return what is wrong with one, or nothing.

    The parameters are as they came, not checked yet. One with a fault becomes empty.
    """
    faults = []
    for name, option in argument_spec.items():
        for key in (name, *option.get("aliases", ())):
            if params.get(key) is None:
                continue
            try:
                params[key] = _read(key, option, params[key], faults)
            except ValueError as error:
                faults.append(str(error))
                params[key] = [] if option.get("type") == "list" else {}
    return faults[0] if faults else ""


def _read(name: str, option: dict, value: object, faults: list[str]) -> object:
    if option.get("type") == "dict":
        return _inside(option, _dictionary(name, value), faults)
    if option.get("type") == "list" and option.get("elements") == "dict":
        items = _listed(name, value) if isinstance(value, str) else value
        if isinstance(items, list):
            return [_inside(option, _vector(name, item) if isinstance(item, str) else item, faults) for item in items]
    return value


def _inside(option: dict, value: object, faults: list[str]) -> object:
    if option.get("options") and isinstance(value, dict):
        fault = read(option["options"], value)
        faults += [fault] if fault else []
    return value


def _dictionary(name: str, value: object) -> object:
    if not isinstance(value, str) or value.lstrip().startswith("{"):
        return value
    if name not in _TEMPLATES:
        pairs = ", ".join(line.strip() for line in value.strip().splitlines() if line.strip())
        if not _is_pairs(pairs):
            raise ValueError(f"{name} is text that is neither JSON nor pairs of a name, = and a value")
        return pairs
    try:
        return parse(value)
    except TemplateSyntaxError as error:
        if not any(character in value.strip() for character in ("\n", *_SPECIAL)) and not _ANOTHER_PAIR.search(value) and _is_pairs(value):
            # Pairs with commas, which Ansible reads right.
            return value
        raise ValueError(f"{name} is text that is neither JSON nor in OpenNebula's syntax: {error}") from None


def _is_pairs(text: str) -> bool:
    """Tell whether Ansible reads pairs of names and values in a text."""
    try:
        return "=" in text and bool(check_type_dict(text))
    except TypeError:
        return False


def _vector(name: str, text: str) -> object:
    """Return a text that is one of several dictionaries, as OpenNebula writes it in brackets. Raises ValueError for one that is none."""
    if text.lstrip().startswith("{"):
        return text
    inner = text.strip().removeprefix("[").removesuffix("]")
    try:
        return parse(f"X=[{inner}]")["X"]
    except TemplateSyntaxError:
        if not _is_pairs(text):
            raise ValueError(f"one of {name} is the text {text!r}, expected a dictionary") from None
        return text


def _listed(name: str, text: str) -> list:
    """Return what a text in the place of a list of dictionaries means. Raises ValueError for one that is none."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, list):
        return found
    try:
        template = parse(text)
    except TemplateSyntaxError:
        template = {}
    vectors = [item for key in template for item in xml.items(template, key)]
    if not vectors or not all(isinstance(vector, dict) for vector in vectors):
        raise ValueError(f"{name} is text, expected a list of dictionaries")
    return vectors
