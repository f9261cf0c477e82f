# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenNebula's XML documents as nested dictionaries of strings."""

from __future__ import annotations

from xml.etree import ElementTree

from .errors import PROTOCOL, OneException
from .values import add

# OpenNebula's own documents have eight levels.
_MOST_LEVELS = 50


def read(text: str) -> tuple[str, dict]:
    """Return the name of the document's root element and its content.

    Elements with children are dictionaries, repeated ones lists, all others strings (empty ones "").
    Raises OneException of kind protocol for text that is not a valid XML document or no dictionary.
    """
    try:
        root = ElementTree.fromstring(text)
    # Surrogates, which XML-RPC can bring, cannot be encoded for the parser.
    except (ElementTree.ParseError, UnicodeEncodeError) as error:
        raise OneException(PROTOCOL, f"The server's answer is not a valid XML document: {error}.") from None
    value = _value(root, _MOST_LEVELS)
    if isinstance(value, str) and value.strip():
        raise OneException(PROTOCOL, f"The server's answer has text where the elements of {root.tag} are expected.")
    return root.tag, value if isinstance(value, dict) else {}


def to_dict(text: str) -> dict:
    """Return the content of the document's root element, see read."""
    return read(text)[1]


def section(document: dict, *path: str) -> dict:
    """Return the dictionary at the path, empty where the document has none."""
    for name in path:
        document = document.get(name)
        if not isinstance(document, dict):
            return {}
    return document


def items(document: dict, name: str) -> list:
    """Return the elements of this name as a list, whether there are none, one or several."""
    value = document.get(name)
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def vectors(document: dict, name: str) -> list[dict]:
    """Return the elements of this name that have elements in them. Owners can write others, which mean nothing."""
    return [item for item in items(document, name) if isinstance(item, dict)]


def ids(document: dict, name: str) -> list[int]:
    """Return the ids in the element of this name, whether there are none, one or several."""
    return [int(number) for number in items(section(document, name), "ID")]


def _value(element: ElementTree.Element, levels: int) -> dict | str:
    if len(element) == 0:
        return element.text or ""
    if levels == 0:
        raise OneException(PROTOCOL, f"The server's answer has more than {_MOST_LEVELS} elements in each other.")
    result: dict = {}
    for child in element:
        add(result, child.tag, _value(child, levels - 1))
    return result
