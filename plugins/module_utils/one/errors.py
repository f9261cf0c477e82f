# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions that talking to OpenNebula raises."""

from __future__ import annotations

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


class OneException(Exception):
    """What went wrong, as one sentence for people and one of the kinds above for programs."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class TemplateSyntaxError(ValueError):
    """A text is no template, or a value cannot be expressed in one."""
