# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions that talking to OpenNebula raises."""

from __future__ import annotations

import re

AUTHENTICATION = "authentication"
AUTHORIZATION = "authorization"
MISSING = "missing"
CONFLICT = "conflict"
QUOTA = "quota"
WRONG_STATE = "wrong_state"
INVALID = "invalid"
NETWORK = "network"
TIMEOUT = "timeout"
PROTOCOL = "protocol"


# What reading a document raises that is not as it should be.
MISREADINGS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)

# Characters that end a line, move the cursor, turn the direction of writing, or cannot be written at all.
_CONTROL = "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_MOST_CHARACTERS = 2000


class OneException(Exception):
    """What went wrong, as one sentence for people and one of the kinds above for programs.

    What a server or a tenant wrote may be part of the message: it stays on one line and within 2,000 characters.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        self.message = one_line(message)
        super().__init__(self.message)


def one_line(text: str) -> str:
    """Return a text for people with its control characters escaped, and without its middle where it is very long."""
    if len(text) > _MOST_CHARACTERS:
        half = _MOST_CHARACTERS // 2
        text = f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"
    return re.sub(_CONTROL, _escaped, text)


def _escaped(match: re.Match) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()


class TemplateSyntaxError(ValueError):
    """A text is no template, or a value cannot be expressed in one."""
