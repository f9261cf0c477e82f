# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of OpenNebula's templates: one as the server keeps it, and several of one name."""

from __future__ import annotations

import re

# What no document of OpenNebula can hold: it keeps them as XML, most texts as CDATA sections.
UNSTORABLE = re.compile("]]>|[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# No number of OpenNebula's has more.
_MOST_DIGITS = 20
_BEYOND = 10.0 ** _MOST_DIGITS


def scalar(value: object) -> str:
    """Return a single value as the string OpenNebula keeps for it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return str(value)


def text(value: object) -> str:
    """Return what somebody wrote into an attribute, empty unless it is a single text."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int | None:
    """Return the number of 0 or more that somebody wrote into an attribute, None for anything else."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _MOST_DIGITS else None


def decimal(value: object) -> float | None:
    """Return the number, perhaps with decimal places, that somebody wrote into an attribute, None for anything else."""
    if not isinstance(value, str) or "_" in value:
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if 0 <= found < _BEYOND else None


def words(value: object, otherwise: str = "") -> str:
    """Return what an attribute says to people, without a full stop; a repeated one says one thing after the other."""
    texts = [item.strip().rstrip(".") for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    return "; ".join(item for item in texts if item) or otherwise


def add(template: dict, name: str, value: str | dict) -> None:
    """Add an attribute to a template, making a list when the name is already there."""
    if name not in template:
        template[name] = value
    elif isinstance(template[name], list):
        template[name].append(value)
    else:
        template[name] = [template[name], value]


def joined(value: object) -> str:
    """Return a value, or several as the list with commas that OpenNebula keeps for them."""
    if isinstance(value, (list, tuple)):
        return ",".join(scalar(item) for item in value)
    return scalar(value)
