# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The expressions of SCHED_REQUIREMENTS: which hosts a VM may run on."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lab.core import hosts

if TYPE_CHECKING:
    from lab.core.api import Core

_TOKEN = re.compile(r'\s*(?:(?P<sign>[@!&|=><()])|(?P<name>[A-Za-z]\w*)|"(?P<text>[^"]*)"|(?P<number>-?\d+(?:\.\d+)?))')
#: where attributes of a host are looked for, one after the other
_PLACES = (
    ("TEMPLATE",), ("HOST_SHARE",), ("HOST_SHARE", "DATASTORES"), ("MONITORING", "CAPACITY"), ("MONITORING", "SYSTEM"), (),
    ("CLUSTER_TEMPLATE",),
)


#: stands for the VMs of a host, of which one is meant
_VMS = "CURRENT_VMS"


class RequirementsError(ValueError):
    """An expression that cannot be read."""


def meets(core: Core, host: dict, expression: str) -> bool:
    """Whether a host is what an expression wants; an empty one wants nothing. Raises RequirementsError."""
    if not expression.strip():
        return True
    cluster = core.store.get("cluster", host["clusters"][0])
    body = hosts.body(core, host) | {"CLUSTER_TEMPLATE": cluster["template"] if cluster else {}}
    return _Reader(expression, lambda name: _attribute(body, name)).read()


def _attribute(body: dict, name: str) -> str | None:
    """Return an attribute of a host, None if it has none of the name; of its VMs, their ids."""
    if name == _VMS:
        return " ".join(map(str, body["VMS"]["ID"]))
    for place in _PLACES:
        section: object = body
        for part in place:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section and not isinstance(section[name], (dict, list)):
            return str(section[name])
    return None


class _Reader:
    """Reads an expression from left to right: all operators bind alike, as in oned's grammar."""

    def __init__(self, text: str, value: Callable[[str], str | None]) -> None:
        self._tokens, self._place, self._value = self._split(text), 0, value

    @staticmethod
    def _split(text: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                raise RequirementsError(f"syntax error at column {position + 1}")
            tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        return tokens

    def read(self) -> bool:
        result = self._expression()
        if self._place < len(self._tokens):
            raise RequirementsError(f"syntax error, unexpected {self._tokens[self._place][1]}")
        return result

    def _take(self, *signs: str) -> str | None:
        """Return the next token if it is one of these signs, and go on behind it."""
        if self._place < len(self._tokens) and self._tokens[self._place][0] == "sign" and self._tokens[self._place][1] in signs:
            self._place += 1
            return self._tokens[self._place - 1][1]
        return None

    def _expression(self) -> bool:
        result = self._term()
        while sign := self._take("&", "|"):
            right = self._term()
            result = result and right if sign == "&" else result or right
        return result

    def _term(self) -> bool:
        if self._take("!"):
            return not self._term()
        if self._take("("):
            result = self._expression()
            if not self._take(")"):
                raise RequirementsError("syntax error, expecting ')'")
            return result
        return self._comparison()

    def _next(self, *kinds: str) -> tuple[str, str]:
        if self._place >= len(self._tokens) or self._tokens[self._place][0] not in kinds:
            raise RequirementsError("syntax error, unexpected end or sign")
        self._place += 1
        return self._tokens[self._place - 1]

    def _comparison(self) -> bool:
        _kind, name = self._next("name", "text")
        sign = self._take("=", "!", "<", ">", "@")
        if sign is None or (sign == "!" and not self._take("=")) or (sign == "@" and not self._take(">")):
            raise RequirementsError("syntax error, expecting an operator")
        kind, wanted = self._next("name", "text", "number")
        value = self._value(name)
        if value is None:
            return False
        if name == _VMS:
            return (wanted in value.split()) != (sign == "!")
        if kind == "number":
            return self._compared(sign, value, float(wanted))
        if not wanted or sign in "<>":
            return False
        return fnmatchcase(value, wanted) != (sign == "!")

    @staticmethod
    def _compared(sign: str, value: str, wanted: float) -> bool:
        try:
            number = float(value)
        except ValueError:
            return False
        return {"=": number == wanted, "@": number == wanted, "!": number != wanted, "<": number < wanted, ">": number > wanted}[sign]
