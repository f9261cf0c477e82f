# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenNebula's XML documents as nested dictionaries of strings."""

from __future__ import annotations

from xml.etree import ElementTree

from .errors import PROTOCOL, OneException
from .values import add


def to_dict(text: str) -> dict:
    """Return the content of the document's root element.

    Elements with children are dictionaries, repeated ones lists, all others strings (empty ones "").
    Raises OneException of kind protocol for text that is no XML.
    """
    try:
        value = _value(ElementTree.fromstring(text))
    except ElementTree.ParseError as error:
        raise OneException(PROTOCOL, f"The server's answer is no XML document: {error}.") from error
    return value if isinstance(value, dict) else {}


def section(document: dict, *path: str) -> dict:
    """Return the dictionary at the path, empty where the document has none."""
    for name in path:
        document = document.get(name) or {}
    return document if isinstance(document, dict) else {}


def items(document: dict, name: str) -> list:
    """Return the elements of this name as a list, whether there are none, one or several."""
    value = document.get(name)
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def ids(document: dict, name: str) -> list[int]:
    """Return the ids in the element of this name, whether there are none, one or several."""
    return [int(number) for number in items(section(document, name), "ID")]


def _value(element: ElementTree.Element) -> dict | str:
    if len(element) == 0:
        return element.text or ""
    result: dict = {}
    for child in element:
        add(result, child.tag, _value(child))
    return result
