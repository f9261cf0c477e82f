# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing names and other texts by pattern: the text itself, a wildcard (web-*), or after ~ a regular expression."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from .errors import INVALID, OneException


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a text is meant by a pattern.

    Raises OneException of kind invalid for a regular expression that is none.
    """
    if pattern.startswith("~"):
        try:
            expression = re.compile(pattern[1:])
        except re.error as error:
            raise OneException(INVALID, f"{pattern[1:]!r} is no regular expression: {error}.") from None
        return lambda text: expression.search(text) is not None
    return lambda text: text == pattern or fnmatch.fnmatchcase(text, pattern)


def is_pattern(text: str) -> bool:
    """Tell whether a text can mean others than itself."""
    return text.startswith("~") or any(character in text for character in "*?[")
