# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User inputs: what a template declares that its user may say, OpenNebula's NAME: M|type|description|options|default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ...scalars import boolean
from ..transport.errors import INVALID, OneException
from ..transport.values import UNSTORABLE, scalar

_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class UserInput:
    """One declared input."""

    name: str
    mandatory: bool
    type: str
    options: str
    default: str

    def problem(self, value: str) -> str:
        """Return what the value should be, empty when it is that."""
        return _CHECKS.get(self.type, _anything)(self, value)


def parse(name: str, declaration: str) -> UserInput:
    """Read a declaration. Raises OneException of kind invalid."""
    fields = [field.strip() for field in str(declaration).split("|", 4)]
    if len(fields) < 3:
        raise OneException(
            INVALID, f"User input {name} is declared as {declaration!r}, it must be M|type|description|options|default."
        )
    fields += [""] * (5 - len(fields))
    # OpenNebula's own tools take whatever is no M for optional, and its marketplace writes 0 for O.
    return UserInput(name, fields[0] == "M", fields[1], fields[3], fields[4])


def in_form(declaration: str, value: object) -> str:
    """Return a value as OpenNebula keeps it for an input that is declared so: a boolean as YES or NO, however it is written."""
    fields = [field.strip() for field in str(declaration).split("|")]
    return _in_form("".join(fields[1:2]), value)


def default_problem(name: str, declaration: str) -> str:
    """Return what is wrong with a declaration's default, empty when nothing is. Raises OneException as parse does."""
    user_input = parse(name, declaration)
    # What refers to something else is known only when the service starts.
    if not user_input.default or "$" in user_input.default or user_input.type == "fixed":
        return ""
    expected = user_input.problem(user_input.default)
    return f"the default of user input {name} is {user_input.default!r}, it must be {expected}" if expected else ""


def values(
    declared: Mapping[str, str], given: Mapping[str, object], where: str, there: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Return a value for every declared input: the given one, else the one that is there, else its default.

    where: whose inputs they are, for the error. there: values that the service template has. Raises OneException of kind invalid for a given input that is not
    declared, a value its type does not allow, and a mandatory input without any value; all of them at once.
    """
    problems = [
        f"{name} is not declared (declared: {', '.join(declared) or 'none'})" for name in given if name not in declared
    ]
    result = {}
    for name, declaration in declared.items():
        user_input = parse(name, declaration)
        chosen = {**(there or {}), **given}.get(name, user_input.default)
        if isinstance(chosen, (dict, list)):
            problems.append(f"{name} is a {'dictionary' if isinstance(chosen, dict) else 'list'}, it must be a single value")
            continue
        value = _in_form(user_input.type, chosen)
        expected = user_input.problem(value) if value != "" else ""
        wrong = UNSTORABLE.search(value)
        if wrong:
            problems.append(f"{name} has {wrong.group()!a}, which OpenNebula cannot store")
        elif expected:
            problems.append(f"{name} is {value!r}, it must be {expected}")
        elif value == "" and user_input.mandatory:
            problems.append(f"{name} is mandatory and has no value")
        result[name] = value
    if problems:
        raise OneException(INVALID, f"User inputs of {where}: {'; '.join(problems)}.")
    return result


def secrets(declared: Mapping[str, str], given: Mapping[str, object]) -> list[str]:
    """Return the values of the inputs that are passwords."""
    return [scalar(given[name]) for name, text in declared.items() if given.get(name) and is_password(text)]


def is_password(declaration: str) -> bool:
    """Tell whether an input's value is a secret."""
    return [field.strip() for field in str(declaration).split("|")][1:2] == ["password"]


def _in_form(kind: str, value: object) -> str:
    if kind == "boolean":
        with suppress(ValueError):
            return scalar(boolean(value))
    return scalar(value)


def _anything(user_input: UserInput, value: str) -> str:
    return ""


def _integer(user_input: UserInput, value: str) -> str:
    return "" if _INTEGER.fullmatch(value) else "a whole number"


def _float(user_input: UserInput, value: str) -> str:
    return "" if _FLOAT.fullmatch(value) else "a number"


def _range(user_input: UserInput, value: str) -> str:
    pattern = _INTEGER if user_input.type == "range" else _FLOAT
    low, dots, high = (part.strip() for part in user_input.options.partition(".."))
    if not dots or not _FLOAT.fullmatch(low) or not _FLOAT.fullmatch(high):
        return ""
    inside = pattern.fullmatch(value) and float(low) <= float(value) <= float(high)
    return "" if inside else f"between {low} and {high}"


def _boolean(user_input: UserInput, value: str) -> str:
    return "" if value in ("YES", "NO") else "YES or NO"


def _members(user_input: UserInput) -> list[str]:
    return [member.strip() for member in user_input.options.split(",")]


def _member(user_input: UserInput, value: str) -> str:
    members = _members(user_input)
    return "" if value in members else f"one of {', '.join(members)}"


def _several_members(user_input: UserInput, value: str) -> str:
    members = _members(user_input)
    chosen = (part.strip() for part in value.split(","))
    return "" if all(part in members for part in chosen) else f"some of {', '.join(members)}"


def _fixed(user_input: UserInput, value: str) -> str:
    return "" if value == user_input.default else f"the fixed value {user_input.default!r}"


_CHECKS: dict[str, Callable[[UserInput, str], str]] = {
    "number": _integer,
    "number-float": _float,
    "range": _range,
    "range-float": _range,
    "boolean": _boolean,
    "list": _member,
    "list-multiple": _several_members,
    "fixed": _fixed,
}
