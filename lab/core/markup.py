# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenNebula's XML documents, from dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from lab.releases import Release


class Data(str):
    """A text that is written as a CDATA section."""


def element(name: str, value: object) -> str:
    """Return an element: None is empty, a dictionary its children in order, a list repeats the element."""
    if value is None:
        return f"<{name}/>"
    if isinstance(value, list):
        return "".join(element(name, item) for item in value)
    if isinstance(value, dict):
        content = "".join(element(child, item) for child, item in value.items())
    elif isinstance(value, Data):
        content = f"<![CDATA[{value}]]>"
    else:
        content = escape(str(value))
    return f"<{name}>{content}</{name}>"


def attributes(template: dict) -> dict:
    """Return a template as children of its element: names sorted, texts as CDATA."""
    return {name: _attribute(template[name]) for name in sorted(template)}


def ids(numbers: list[int]) -> dict:
    """Return a set of ids as children."""
    return {"ID": list(numbers)}


def shown(release: Release, path: str, value: object) -> object:
    """Return what the release writes of an element's value; path is the element's."""
    if not release.absent:
        return value
    if isinstance(value, dict):
        parts = {name: f"{path}/{name}" for name in value}
        return {name: shown(release, part, value[name]) for name, part in parts.items() if part not in release.absent}
    if isinstance(value, list):
        return [shown(release, path, item) for item in value]
    return value


def _attribute(value: object) -> object:
    if isinstance(value, dict):
        return attributes(value)
    if isinstance(value, list):
        return [_attribute(item) for item in value]
    return Data(value)
