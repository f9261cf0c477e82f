# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the servers' refusals mean: oned's error codes and OneFlow's HTTP statuses, with their own words."""

from __future__ import annotations

import json
import re

from . import errors
from .errors import OneException

_KINDS = {
    256: errors.AUTHENTICATION,
    512: errors.AUTHORIZATION,
    1024: errors.MISSING,
    2048: errors.WRONG_STATE,
}


# oned repeats the whole attribute, with passwords and in the order of its own.
_PARSED = re.compile(r"Error parsing: (.*)\. (.*?)$", re.DOTALL)


def call_refusal(method: str, message: str, code: int, place: str, user: str) -> OneException:
    """Return the exception for a call that oned refused with a message and a code."""
    reason = _PARSED.sub(_parsed, message.removeprefix(f"[{method}]").strip().rstrip("."))
    kind = _KINDS.get(code, errors.INVALID)
    if kind == errors.AUTHENTICATION:
        return OneException(kind, f"{place} does not accept the password of user {user}.")
    if "quota" in reason and "limit of" in reason:
        kind = errors.QUOTA
    elif "already taken" in reason:
        kind = errors.CONFLICT
    elif "Parse error" in reason or "Invalid NAME" in reason:
        kind = errors.INVALID
    return OneException(kind, f"{reason} ({method} at {place}).")


def flow_refusal(method: str, path: str, status: int, text: str, place: str, user: str) -> OneException:
    """Return the exception for a request that OneFlow refused with an HTTP status and a text."""
    reason = _flow_reason(text)
    where = f"({method} {path} at {place})"
    if status == 401 and "Not authorized" in reason:
        return OneException(errors.AUTHORIZATION, f"{reason} {where}.")
    if status == 401:
        return OneException(errors.AUTHENTICATION, f"{place} does not accept the password of user {user}.")
    if status == 404 and text.lstrip().startswith("<"):
        return OneException(errors.PROTOCOL, f"{place} has no {path}: it is not a OneFlow endpoint.")
    if status == 404:
        return OneException(errors.MISSING, f"{reason} {where}.")
    if " in state" in reason or "Wrong state" in reason:
        return OneException(errors.WRONG_STATE, f"{reason} {where}.")
    if status in (400, 500):
        return OneException(errors.INVALID, f"{reason} {where}.")
    return OneException(errors.PROTOCOL, f"{place} answered {method} {path} with HTTP status {status}.")


def _parsed(match: re.Match) -> str:
    suspects = list(dict.fromkeys(re.findall(r'(\w+)\s*=\s*"[^"$]*\$', match[1])))
    where = f"what has a $ in it, {', '.join(suspects)}" if suspects else "an attribute"
    return f"Error parsing {where}: {match[2]}"


def _flow_reason(text: str) -> str:
    """OneFlow's own words on one line: plain text, or the reason in the JSON of an unhandled exception."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    reason = document.get("reason", text) if isinstance(document, dict) else text
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    first = re.sub(r"^\[[\w.]+\] ", "", lines[0]) if lines else "no reason given"
    return first.rstrip(".;")
