# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering of Flower's configuration values, which are TOML wherever Flower reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Union

# Not written with |: ansible-test judges module_utils by the oldest Python that ansible-core supports on a target.
Scalar = Union[str, int, float, bool]  # noqa: UP007

# Flower names what is in tables of its configuration with dots.
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# The double quote goes as a unicode escape: Flower cuts inline configurations at the first double quote it sees.
_ESCAPES = {'"': "\\u0022", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INTEGER_LIMIT = 2**63


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x20 or code == 0x7F else character


def toml_value(value: Scalar) -> str:
    """Return one value as TOML; ValueError for what Flower cannot take (lists, tables, infinities, huge integers)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
            raise ValueError(f"{value} does not fit into 64 bits")
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        return repr(value)
    if isinstance(value, str):
        value.encode()  # half a surrogate pair is a ValueError here and not when the file is written
        return '"' + "".join(map(_escape, value)) + '"'
    raise ValueError(f"a {type(value).__name__} is not a text, number or truth value")


def _assignments(config: Mapping[str, Scalar], between: str) -> list[str]:
    for key in config:
        if not _KEY.fullmatch(key):
            raise ValueError(f"'{key}' is not a configuration key, expected letters, digits, - and _")
    return [f"{key}{between}{toml_value(value)}" for key, value in config.items()]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a configuration without tables: what is in them gets the name of the table and a dot before its own."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def toml_document(config: Mapping[str, Scalar]) -> str:
    """Return a TOML file with one key per line, as `flwr run --run-config FILE` reads it."""
    return "".join(line + "\n" for line in _assignments(config, " = "))


def inline_config(config: Mapping[str, Scalar]) -> str:
    """Return space separated key=value pairs, as `flower-supernode --node-config` reads them."""
    return " ".join(_assignments(config, "="))
