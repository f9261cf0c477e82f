# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template becomes when a task's values are written into it: semantic comparison of OpenNebula templates.

Order and case of names, numbers written as strings, surrounding white space (the server trims it), the kind of line ends
(XML knows one only) and a list of one make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import zip_longest
from typing import NamedTuple

from ..transport.values import scalar


class Transition(NamedTuple):
    """The way of what a task is about from its current state to the desired one, see reconcile.py.

    before, after: both states, as far as they are compared. predicted: returns what the module returns besides, by name, as it
    would be afterwards. apply: makes the change, waits for what is under way, and returns the same as it is then; None where
    there is nothing to do.
    """

    before: dict
    after: dict
    predicted: Callable[[], dict]
    apply: Callable[[], dict] | None = None


def wanted_template(current: dict, wanted: dict, replace: bool = False, keep: Collection[str] = ()) -> dict:
    """Return what the template should be, in the words of the current one wherever they mean the same.

    replace: drop attributes that are not wanted; by default they stay. keep: names that stay even then, because
    the server owns them. Nothing has to change exactly when the result equals the current template.
    """
    result = {name: value for name, value in current.items() if not replace or name in keep}
    for name, value in wanted.items():
        key = str(name).upper()
        result[key] = _settled(current.get(key), value, replace)
    # A repeated attribute that occurs no times is not there.
    return {name: value for name, value in result.items() if value != []}


def changes(current: dict, target: dict) -> dict:
    """Return the attributes of the target that differ from the current template."""
    return {name: value for name, value in target.items() if current.get(name) != value}


def update(current: dict, target: dict) -> tuple[dict, int]:
    """Return what to hand to an update method: the template, and 1 to merge it or 0 to replace everything by it.

    Merging is preferred, as it leaves alone what somebody else changed in the meantime.
    """
    if current.keys() - target.keys():
        return target, 0
    return changes(current, target), 1


def _settled(current: object, wanted: object, replace: bool) -> object:
    if isinstance(wanted, dict):
        # An empty vector comes back as an empty string.
        return wanted_template(current if isinstance(current, dict) else {}, wanted, replace) or ""
    if isinstance(wanted, (list, tuple)):
        return _settled_list(current, wanted)
    text = scalar(wanted).replace("\r\n", "\n").replace("\r", "\n").strip()
    return current if isinstance(current, str) and _same_number(current, wanted) else text


def _settled_list(current: object, wanted: list | tuple) -> object:
    """Repeated attributes have no names of their own, so they are taken as a whole, in order."""
    present = current if isinstance(current, list) else [current]
    settled = [_settled(there, item, True) for there, item in zip_longest(present[: len(wanted)], wanted)]
    return settled[0] if len(settled) == 1 else settled


def _same_number(text: str, wanted: object) -> bool:
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        return False
    try:
        return float(text) == wanted
    except ValueError:
        return False


def difference(before: dict, after: dict) -> tuple[dict, dict]:
    """Return both dictionaries without what is the same in them, at every level."""
    left, right = dict(before), dict(after)
    for name in before.keys() & after.keys():
        if before[name] == after[name]:
            del left[name], right[name]
        elif isinstance(before[name], dict) and isinstance(after[name], dict):
            left[name], right[name] = difference(before[name], after[name])
    return left, right
