# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts for people without the values of secrets in them: sentences of servers, templates, JSON, XML."""

from __future__ import annotations

import re

from .redaction import HIDDEN, is_secret, masked

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# NAME = "value", 'name' => "value", "name": "value". A quote inside a value does not end it.
_ASSIGNED = re.compile(
    r"""(?<![\w$])(?P<name>\w[\w-]{0,80})(?P<sign>\\?["']?[ \t]*=>?[ \t]*|\\?["'][ \t]*:[ \t]*)"""
    r"""(?P<value>\\?"(?:[^"]|"(?![\s,\]}]|\Z))*"?|'[^']*'?|[^\s,\[\]{}"']+)"""
)
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z_][\w-]{0,80})>(?P<value>[^<]+|<!\[CDATA\[.*?\]\]>)</(?P=name)>", re.DOTALL)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s\"']*:[^/@\s\"']*@")


def hidden_text(text: str) -> str:
    """Return a text for people without the values of secrets in it."""
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _CREDENTIALS.sub("", text)
    text = _ASSIGNED.sub(_hidden_value, text)
    return _ELEMENT.sub(_hidden_value, text)


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
