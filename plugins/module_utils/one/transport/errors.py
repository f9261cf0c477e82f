# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions that talking to OpenNebula raises."""

from __future__ import annotations

import re

# Kinds of errors, with what the reference page says of them.
AUTHENTICATION = "authentication"  # the user or the password is wrong
AUTHORIZATION = "authorization"  # the user may not do that, or not with this object
MISSING = "missing"  # an object does not exist
CONFLICT = "conflict"  # the name is taken, or the object of that name cannot become what the task asks for
QUOTA = "quota"  # a limit of the user or the group is reached
WRONG_STATE = "wrong_state"  # the object is in a state that forbids it
INVALID = "invalid"  # the task says something that cannot be, or the server refuses a value
NETWORK = "network"  # the server cannot be reached, or the connection broke
TIMEOUT = "timeout"  # the server did not answer in time, or a wait ended before what it waited for
PROTOCOL = "protocol"  # the server answered something that is not an answer


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
    """A text is not a template, or a value cannot be expressed in one."""
