# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts for people without the values of secrets in them: sentences of servers, templates, JSON, XML."""

from __future__ import annotations

import base64
import re

from .redaction import ENCODED, HIDDEN, decoded, is_secret, masked

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# NAME = "value", 'name' => "value", "name": "value". A quote inside a value does not end it.
_ASSIGNED = re.compile(
    r"""(?<![\w$])(?P<name>\w[\w-]{0,80})(?P<sign>\\?["']?[ \t]*=>?[ \t]*|\\?["'][ \t]*:[ \t]*)"""
    r"""(?P<value>\\?"(?:[^"]|"(?![\s,\]}]|\Z))*"?|'[^']*'?|[^\s,\[\]{}"']+)"""
)
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z_][\w-]{0,80})>(?P<value>[^<]+|<!\[CDATA\[(?:(?!<!\[CDATA\[|\]\]>).)*\]\]>)</(?P=name)>", re.DOTALL)
# Of a URL: user and password, in which people forget to encode @ and /, and a user who is a token.
_CREDENTIALS = re.compile(
    r"""(?<=://)(?:[^/\s"']{0,300}:[^/\s"']{0,300}@|[^/@:\s"']{1,300}:(?!\d+/)[^@\s"']{0,300}@)|(?<=\bhttps://)[^/@\s"']{1,300}@"""
)
_QUERY = re.compile(r"""(?<=[?&])(?P<name>[\w.-]{1,80})=(?P<value>[^&#\s"']+)""")
# How deep names and values are looked for in values of names that are no secrets.
_DEEPEST = 4
_SIGN = re.compile("[=:]")
# What requests carry in their heads.
_HEADER = re.compile(r"\b(?P<start>(?:Basic|Bearer) +|X-[A-Za-z-]*(?:Token|Key|Secret)[A-Za-z-]* *: *)[^\s\"',]{4,}", re.IGNORECASE)


def hidden_text(text: str) -> str:
    """Return a text for people without the values of secrets in it."""
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _CREDENTIALS.sub("", text)
    text = _HEADER.sub(rf"\g<start>{HIDDEN}", text)
    text = _QUERY.sub(_hidden_value, text)
    text = _assigned(text, _DEEPEST)
    text = _ELEMENT.sub(_hidden_value, text)
    return ENCODED.sub(_hidden_inside, text)


def _hidden_inside(match: re.Match) -> str:
    """Return a text in base 64 without the values of secrets in it; whoever decodes it gets what can be shown of it."""
    text = decoded(match[0])
    shown = hidden_text(text)
    if shown == text:
        return match[0]
    encode = base64.urlsafe_b64encode if set(match[0]) & set("-_") else base64.b64encode
    word = encode(shown.encode()).decode()
    return word if match[0].endswith("=") else word.rstrip("=")


def _assigned(text: str, depth: int) -> str:
    def shown(match: re.Match) -> str:
        if is_secret(match["name"]) or not depth or not _SIGN.search(match["value"]):
            return _hidden_value(match)
        return f"{match['name']}{match['sign']}{_assigned(match['value'], depth - 1)}"

    return _ASSIGNED.sub(shown, text)


def _hidden_value(match: re.Match) -> str:
    if not is_secret(match["name"]):
        return match[0]
    value = match["value"]
    start = match.start("value") - match.start()
    end = match.end("value") - match.start()
    bare = value.strip("\\\"'")
    if bare == masked(bare):
        return match[0]
    quote = '"' if value.startswith(('"', '\\"')) else ""
    return f"{match[0][:start]}{quote}{masked(bare)}{quote}{match[0][end:]}"
