# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: the settings of a federation as an inventory gives them, checked before anything is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization

_VARIABLES = {p.variable: p for p in contextualization.PARAMETERS if p.variable}
# In a context the line ends may be lost, or all of it be base64: there they are restored.
_PEM_LINE = re.compile(r"^-----BEGIN [A-Z ]+-----\r?$", re.MULTILINE)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
_IMAGE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_SHOWN = 100
_ROLES = (contextualization.SUPERLINK, contextualization.SUPERNODE)


def setting_names(names: Iterable[str]) -> list[str]:
    """Return those of the variable names that are contextualization parameters."""
    return sorted(_VARIABLES.keys() & set(names))


def settings(given: Mapping[str, Any], nodes: int, least: int, most: int, in_all: int = 0) -> dict[str, Any]:
    """Check the variables that are set; ``nodes`` is how many SuperNodes there are to be, ``least`` and ``most`` its bounds, ``in_all`` how many there
    are in all zones, if there are others.

    Returns ``values``: typed, by variable, defaults included, for SuperLink and SuperNodes together; ``errors``: one
    sentence for each problem, naming variable, value and what is expected; and ``notes``: what is ignored or looks unwise.
    """
    values: dict[str, Any] = {}
    notes: list[str] = []
    errors = _count_errors(nodes, least, most)
    for role in _ROLES:
        try:
            checked = contextualization.check_variables(given, role)
            values |= checked.values
            notes += [note for note in checked.ignored + checked.warnings if note not in notes]
        except contextualization.ContextError as problem:
            errors += [error for error in problem.errors if error not in errors]
    if not errors:
        try:
            contextualization.check_topology(values, int(in_all) or int(nodes))
        except contextualization.ContextError as problem:
            errors += problem.errors
    return {"values": values, "errors": errors, "notes": notes}


def role_settings(given: Mapping[str, Any], role: str, address: str = "") -> dict[str, Any]:
    """Check the variables that a role uses as they are; return the typed ``values``, defaults included and secrets left out, and the ``errors``.

    ``given`` may hold others, such as all those of a host. ``address`` is the one of a SuperLink that its nodes are told, as far as it is known.
    """
    # Variables of a host are evaluated as they are read.
    given = {name: given[name] for name in setting_names(given)}
    unusable = [
        f"{name}: the given value has not the line ends of PEM, expected each -----BEGIN and -----END on a line of its own"
        for name, value in given.items()
        if _VARIABLES[name].value_kind.user_input == "text64" and value and not _PEM_LINE.search(str(value))
    ]
    if unusable:
        return {"values": {}, "errors": unusable}
    try:
        values = contextualization.check_variables(given, role, address).values
    except contextualization.ContextError as problem:
        return {"values": {}, "errors": problem.errors}
    return {"values": {name: value for name, value in values.items() if not _VARIABLES[name].sensitive}, "errors": []}


def setting_errors(given: Mapping[str, Any], role: str, address: str = "") -> list[str]:
    """Check the variables that a role uses as they are; return one sentence for each problem."""
    return role_settings(given, role, address)["errors"]


def image_errors(images: Mapping[str, Any]) -> list[str]:
    """Check names of container images, by variable; return one sentence for each that is not valid.

    One with a digest, after its tag or instead of it, is that very image, whatever becomes of the tag.
    """
    errors = []
    for variable, value in images.items():
        name, at, digest = str(value).partition("@")
        shown = json.dumps(str(value)[:_LONGEST_SHOWN])
        if not _IMAGE.fullmatch(name):
            errors.append(f"{variable} is not a valid name of an image: {shown}")
        elif at and not _IMAGE_DIGEST.fullmatch(digest):
            errors.append(f"{variable} has no digest of an image after its @, expected sha256: and 64 hexadecimal digits: {shown}")
    return errors


def _count_errors(nodes: int, least: int, most: int) -> list[str]:
    errors = []
    for name, value in (("flower_supernodes", nodes), ("flower_supernodes_min", least), ("flower_supernodes_max", most)):
        if not str(value).isdecimal() or int(value) < 1:
            errors.append(f"{name}: '{value}' is not valid, expected a whole number of at least 1")
    if not errors and not int(least) <= int(nodes) <= int(most):
        errors.append(f"flower_supernodes: {nodes} is not valid, expected flower_supernodes_min to flower_supernodes_max, {least} to {most}")
    return errors


class FilterModule:
    """The filters that playbooks check their settings with."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "flower_image_errors": image_errors,
            "flower_role_settings": role_settings,
            "flower_setting_errors": setting_errors,
            "flower_setting_names": setting_names,
            "flower_settings": settings,
        }
