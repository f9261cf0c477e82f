# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing names by pattern: the name itself, a wildcard (web-*), after ~ a regular expression, or # in the place of a number (web-##)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection

from ..transport.errors import INVALID, OneException

_NUMBER = re.compile(r"#+")


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a text is meant by a pattern.

    Raises OneException of kind invalid for a regular expression that is none.
    """
    if pattern.startswith("~"):
        try:
            expression = re.compile(pattern[1:])
        except re.error as error:
            raise OneException(INVALID, f"{pattern[1:]!r} is not a valid regular expression: {error}.") from None
        return lambda text: expression.search(text) is not None
    return lambda text: text == pattern or fnmatch.fnmatchcase(text, pattern)


def is_pattern(text: str) -> bool:
    """Tell whether a text can mean others than itself."""
    return text.startswith("~") or any(character in text for character in "*?[")


class NumberedNames:
    """The names that a name with # means. Raises OneException of kind invalid for # in several places."""

    def __init__(self, name: str) -> None:
        parts = _NUMBER.split(name)
        if len(parts) > 2:
            raise OneException(INVALID, f"Name {name!r} has # in several places, its number takes one.")
        self._name = name
        digits = len(_NUMBER.search(name).group())
        begin, end = map(re.escape, parts)
        # A longer number has no leading zeros, or there would be two names for it.
        self._pattern = re.compile(f"{begin}([0-9]{{{digits}}}|[1-9][0-9]{{{digits},}}){end}")

    def has(self, name: str) -> bool:
        """Tell whether a name is one of them."""
        return self._pattern.fullmatch(name) is not None

    def number(self, name: str) -> int:
        """Return the number in one of them."""
        return int(self._pattern.fullmatch(name).group(1))

    def free(self, taken: Collection[int], count: int) -> list[str]:
        """Return the names with the lowest numbers that are free."""
        free = (number for number in range(len(taken) + max(count, 0)) if number not in taken)
        return [self._named(next(free)) for _lacking in range(count)]

    def _named(self, number: int) -> str:
        return _NUMBER.sub(lambda match: str(number).zfill(len(match.group())), self._name)
