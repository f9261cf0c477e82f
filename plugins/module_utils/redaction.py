# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is secret, by its name, and how it is kept out of everything that people see: results, diffs, errors, logs."""

from __future__ import annotations

import base64
import re
from functools import lru_cache

HIDDEN = "********"
# How a secret that changes is shown.
FORMER, NEW = "the former one", "a new one"

# Of any attribute's or option's name; public keys may be seen.
_SECRET_NAME = re.compile(
    r"PASSW|PASSPHRASE|(^|_)PASS(_|$)|SECRET|TOKEN|CREDENTIAL|PRIVATE|(^|_)(?<!PUBLIC_)(?<!FL_NODE_)KEY(FILE)?S?(_|$)|APIKEY|"
    r"AUTHORIZATION|METRICS_AUTH$|SIGNATURE|^SIG$|PW(D)?(_|$)|PRIVKEY|(^|_)(PSK|JWT|OTP)(_|$)",
    re.IGNORECASE,
)
# Flags, and references to what is given elsewhere.
_NO_SECRET = r"|YES|NO|TRUE|FALSE|\$\w+|\$\{\w+\}"
# The declaration of a user input, whose last field is its default.
_INPUT = r"([MO]\|[^|]*\|[^|]*\|[^|]*\|)(.*)"
# Signs of a text that may have names and values in it.
_has_signs = re.compile(r"[=\"'|]|</|PRIVATE KEY|://[^\s@]{0,600}@|[Bb](asic|earer) |X-").search
# Where templates declare what their user may say, passwords among them.
_DECLARATIONS = ("USER_INPUTS", "user_inputs", "custom_attrs")
_is_password = re.compile(r"[MO0]\|\s*password\s*(\||$)").match
# A text in base 64, as templates and OneGate carry what they would not keep as it is.
ENCODED = re.compile(r"(?:[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{1,76}={0,2}|[A-Za-z0-9+/_-]{16,}={0,2}")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Tell whether an attribute of this name is taken for a secret."""
    return bool(_SECRET_NAME.search(name))


def hidden(value: object, passwords: frozenset[str] = frozenset()) -> object:
    """Return a document without the secrets in it, at any depth and in texts in OpenNebula's syntax, JSON or XML.

    passwords: names, in capitals, of values that are secrets whatever they are called; a template that declares inputs adds its own.
    """
    if isinstance(value, str):
        if not _has_signs(value) and not any(_has_signs(decoded(word)) for word in ENCODED.findall(value)):
            return value
        if value[1:11].lower() == "|password|":
            return masked(value)
        # What it takes to look into texts is compiled only where there is one.
        from .redaction_text import hidden_text

        return hidden_text(value)
    if isinstance(value, dict):
        passwords |= _declared(value)
        return {
            name: masked(item) if is_secret(str(name)) or str(name).upper() in passwords else hidden(item, passwords) for name, item in value.items()
        }
    return [hidden(item, passwords) for item in value] if isinstance(value, (list, tuple)) else value


def _declared(template: dict) -> frozenset[str]:
    """Return the names of the inputs that a template declares as passwords."""
    forms = [template[name] for name in _DECLARATIONS if isinstance(template.get(name), dict)]
    return frozenset(str(name).upper() for inputs in forms for name, text in inputs.items() if isinstance(text, str) and _is_password(text))


def decoded(word: str) -> str:
    """Return the text that is encoded in base 64, in either alphabet and with or without padding; empty for what is none."""
    plain = "".join(word.rstrip("=").split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except ValueError:
        return ""


def hidden_diff(before: object, after: object, passwords: frozenset[str] = frozenset()) -> tuple[object, object]:
    """Return both sides of a difference without secrets; of one that changes is said that it does. passwords: see hidden."""
    if isinstance(before, dict) and isinstance(after, dict):
        passwords |= _declared(before) | _declared(after)
        left, right = hidden(before, passwords), hidden(after, passwords)
        for name in before.keys() & after.keys():
            if not is_secret(str(name)) and str(name).upper() not in passwords:
                left[name], right[name] = hidden_diff(before[name], after[name], passwords)
            elif before[name] != after[name] and left[name] == right[name]:
                left[name], right[name] = FORMER, NEW
        return left, right
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [hidden_diff(*pair, passwords) for pair in zip(before, after, strict=True)]
        return [left for left, _right in pairs], [right for _left, right in pairs]
    return hidden(before, passwords), hidden(after, passwords)


def masked(value: object) -> object:
    """Return what is shown of a secret: its parts by name, and what is a flag or a reference only."""
    if isinstance(value, dict):
        return {name: masked(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    declared = re.fullmatch(_INPUT, text, re.DOTALL)
    if declared:
        return declared[1] + (HIDDEN if declared[2] else "")
    return value if text in (FORMER, NEW) or re.fullmatch(_NO_SECRET, text, re.IGNORECASE) else HIDDEN
