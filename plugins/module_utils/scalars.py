# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booleans, numbers, sizes and permissions as values: the one form of each, however it is written, or a refusal. No Ansible.

Every function raises ValueError for what is no such value; the message is a sentence without a full stop that says which form is
expected.
"""

from __future__ import annotations

import re

_TRUE = ("yes", "true", "on", "1", "y", "t")
_FALSE = ("no", "false", "off", "0", "n", "f")
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp])(?:i?b)?")
# In MB, as OpenNebula counts.
_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024**2, "p": 1024**3}
_MODE = re.compile(r"0?(?:0o)?([0-7]{3})")
# Beyond this, no three octal digits are written with a leading zero.
_LAST_MODE = 0o777


def boolean(value: object) -> bool:
    """Return whether a value says yes: true, on, 1 and the like in any case, or no."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{value!r} is neither yes nor no, expected true or false")


def whole_number(value: object, least: int | None = None, most: int | None = None) -> int:
    """Return a number without fraction, also for one written as text; least and most are the first and last it may be."""
    match = None if isinstance(value, bool) else _WHOLE.fullmatch(str(value).strip())
    limits = "" if least is None and most is None else f" from {least}" if most is None else f" from {least} to {most}"
    # So many digits are never meant, and Python refuses still more.
    if not match or len(match[1]) > 20:
        raise ValueError(f"{value!r} is not a whole number{limits}" if limits else f"{value!r} is not a whole number")
    number = int(match[1])
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"{value} is out of range, expected a whole number{limits}")
    return number


def megabytes(value: object) -> int:
    """Return a size in MB as OpenNebula has them: a bare number is one already, 20G and 20 GiB are 20480."""
    text = str(value).strip().lower()
    match = _SIZE.fullmatch(text)
    if not match:
        try:
            return whole_number(value, 0)
        except ValueError:
            raise ValueError(f"{value!r} is not a size, expected whole MB such as 20480, or a unit such as '20G'") from None
    size = float(match[1]) * _UNITS[match[2]]
    if size != int(size):
        raise ValueError(f"{value!r} is not a whole number of MB")
    return int(size)


def permissions(value: object) -> str:
    """Return permissions as three octal digits, 640 also for 0640.

    YAML reads 0640 without quotes as the number 416, which has octal digits itself: what was meant is only certain for numbers
    that no three octal digits have as their value.
    """
    if isinstance(value, bool):
        raise _no_permissions(value)
    if isinstance(value, (int, float)):
        if isinstance(value, int) and 0 <= value <= _LAST_MODE:
            meant = dict.fromkeys(digits for digits in (f"{value:03o}", f"{value:03d}") if _MODE.fullmatch(digits))
            raise ValueError(
                f"the number {value} is not certain to be what was written, as YAML reads 0{value:03o} without quotes as {value}; "
                f"write {' or '.join(repr(digits) for digits in meant)} in quotes"
            )
        value = str(value)
    match = _MODE.fullmatch(str(value).strip())
    if not match:
        raise _no_permissions(value)
    return match[1]


def _no_permissions(value: object) -> ValueError:
    return ValueError(f"{value!r} is not permissions, expected three octal digits in quotes, such as '640'")
