# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is secret, by its name, and how it is kept out of everything that people see: results, diffs, errors, logs."""

from __future__ import annotations

import re
from functools import lru_cache

HIDDEN = "********"
# How a secret that changes is shown.
FORMER, NEW = "the former one", "a new one"

# Of any attribute's or option's name; public keys may be seen.
_SECRET_NAME = re.compile(
    r"PASSW|PASSPHRASE|(^|_)PASS(_|$)|SECRET|TOKEN|CREDENTIAL|PRIVATE|(^|_)(?<!PUBLIC_)KEY(FILE)?S?(_|$)|APIKEY",
    re.IGNORECASE,
)
# Flags, and references to what is given elsewhere.
_NO_SECRET = re.compile(r"|YES|NO|TRUE|FALSE|\$\w+|\$\{\w+\}", re.IGNORECASE)
# The declaration of a user input, whose last field is its default.
_INPUT = re.compile(r"([MO]\|[^|]*\|[^|]*\|[^|]*\|)(.*)", re.DOTALL)
_PASSWORD_INPUT = re.compile(r"[MO]\|password\|", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# NAME = "value", 'name' => "value", "name": "value". A quote inside a value does not end it.
_ASSIGNED = re.compile(
    r"""(?<![\w$])(?P<name>[A-Za-z_][\w-]{0,80})(?P<sign>\\?["']?[ \t]*=>?[ \t]*|\\?["'][ \t]*:[ \t]*)"""
    r"""(?P<value>\\?"(?:[^"]|"(?![\s,\]}]|\Z))*"?|'[^']*'?|[^\s,\[\]{}"']+)"""
)
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z_][\w-]{0,80})>(?P<value>[^<]+|<!\[CDATA\[.*?\]\]>)</(?P=name)>", re.DOTALL)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s\"']*:[^/@\s\"']*@")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Tell whether an attribute of this name is taken for a secret."""
    return bool(_SECRET_NAME.search(name))


def hidden(value: object) -> object:
    """Return a document without the secrets in it, at any depth and in texts in OpenNebula's syntax, JSON or XML."""
    if isinstance(value, dict):
        return {name: _masked(item) if is_secret(str(name)) else hidden(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hidden(item) for item in value]
    if not isinstance(value, str):
        return value
    if _PASSWORD_INPUT.match(value):
        return _masked(value)
    return hidden_text(value) if "=" in value or ":" in value or "</" in value or "PRIVATE KEY" in value else value


def hidden_text(text: str) -> str:
    """Return a text for people without the values of secrets in it."""
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _CREDENTIALS.sub("", text)
    text = _ASSIGNED.sub(_hidden_value, text)
    return _ELEMENT.sub(_hidden_value, text)


def hidden_diff(before: object, after: object) -> tuple[object, object]:
    """Return both sides of a difference without secrets; of one that changes is said that it does."""
    if isinstance(before, dict) and isinstance(after, dict):
        left, right = hidden(before), hidden(after)
        for name in before.keys() & after.keys():
            if not is_secret(str(name)):
                left[name], right[name] = hidden_diff(before[name], after[name])
            elif before[name] != after[name] and left[name] == right[name]:
                left[name], right[name] = FORMER, NEW
        return left, right
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [hidden_diff(*pair) for pair in zip(before, after, strict=True)]
        return [left for left, _right in pairs], [right for _left, right in pairs]
    return hidden(before), hidden(after)


def _masked(value: object) -> object:
    """Return what is shown of a secret: its parts by name, and what is a flag or a reference only."""
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    declared = _INPUT.fullmatch(text)
    if declared:
        return declared[1] + (HIDDEN if declared[2] else "")
    return value if text in (FORMER, NEW) or _NO_SECRET.fullmatch(text) else HIDDEN


def _hidden_value(match: re.Match) -> str:
    if not is_secret(match["name"]):
        return match[0]
    value = match["value"]
    start = match.start("value") - match.start()
    end = match.end("value") - match.start()
    bare = value.strip("\\\"'")
    if bare == _masked(bare):
        return match[0]
    quote = '"' if value.startswith(('"', '\\"')) else ""
    return f"{match[0][:start]}{quote}{_masked(bare)}{quote}{match[0][end:]}"
