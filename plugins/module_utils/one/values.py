# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of OpenNebula's templates: one as the server keeps it, and several of one name."""

from __future__ import annotations

import re

# What no document of OpenNebula can hold: it keeps them as XML, most texts as CDATA sections.
UNSTORABLE = re.compile("]]>|[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def scalar(value: object) -> str:
    """Return a single value as the string OpenNebula keeps for it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return str(value)


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
