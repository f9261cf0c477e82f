# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another VM, an app or a damaged disk can write: decoded within bounds, and said back in one short sentence."""

from __future__ import annotations

import json
import math
from typing import Any

MOST_DEPTH = 16
# An integer of 64 bits has up to 20 characters. Longer ones cost quadratic time, and json.loads itself refuses some.
_MOST_DIGITS = 20
_MOST_CHARACTERS = 400

# JSON has no names for these, and some programs write them without quotes.
NOT_A_NUMBER, INFINITE, MINUS_INFINITE = "NaN", "Infinity", "-Infinity"
SPECIAL_FIGURES = (NOT_A_NUMBER, INFINITE, MINUS_INFINITE)


def decode_json(content: str | bytes, most_bytes: int) -> Any:
    """Return what a JSON document says.

    Raises ValueError, in a few words, for what is not JSON, larger than most_bytes, nested more than MOST_DEPTH levels deep
    or has a number of more than 20 digits.
    """
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")
    try:
        document = json.loads(content, parse_int=_integer)
    except _NumberError as problem:
        raise ValueError(str(problem)) from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep") from None
    _check_depth(document)
    return document


def sentence(text: object, most: int = _MOST_CHARACTERS) -> str:
    """Return any text on one line, with what cannot be printed escaped, cut to that many characters."""
    words = str(text)
    line = "".join(map(_printable, words[: most + 1].strip()))
    return line if len(line) <= most else f"{line[:most]}... ({len(words)} characters)"


def figure(value: object) -> float | str | None:
    """Return a measured figure as JSON keeps it: a number, or NaN, Infinity or -Infinity as text; None for anything else."""
    if isinstance(value, str):
        return value if value in SPECIAL_FIGURES else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) or math.isfinite(value):
        return value
    if math.isnan(value):
        return NOT_A_NUMBER
    return INFINITE if value > 0 else MINUS_INFINITE


def count(value: object) -> int | None:
    """Return a number of things or of seconds, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 53:
        return None
    return int(value)


class _NumberError(Exception):
    """A number is too long; no ValueError, which the decoder takes for its own."""


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _NumberError(f"it has a number of {len(digits)} digits, more than {_MOST_DIGITS}")
    return int(digits)


def _check_depth(document: Any) -> None:
    level = [document]
    for _depth in range(MOST_DEPTH + 1):
        level = [part for part in level if isinstance(part, (dict, list))]
        if not level:
            return
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
