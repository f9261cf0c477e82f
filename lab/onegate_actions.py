# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a VM may do to VMs of its service or virtual router through OneGate, and which call of oned each action is."""

from __future__ import annotations

import re
from collections.abc import Callable

#: what OneGate refuses unless its configuration lists other actions
RESTRICTED = frozenset(("reboot",))
_PLAIN = frozenset(("hold", "release", "resume", "stop", "suspend", "resched", "unresched"))
#: actions whose parameter says whether to be hard
_HARD = {"terminate": "terminate", "shutdown": "terminate", "reboot": "reboot", "poweroff": "poweroff", "undeploy": "undeploy"}
#: actions whose parameter is handed on as it is
_HANDED_ON = {
    "attachdisk": "attach", "attachnic": "attachnic", "detachdisk": "detach", "detachnic": "detachnic", "recover": "recover",
    "rename": "rename", "snapshot_create": "snapshotcreate", "snapshot_delete": "snapshotdelete",
    "snapshot_revert": "snapshotrevert",
}
#: actions that the server's own client cannot do with one parameter, and how many it wants
_IMPOSSIBLE = {"chown": 2, "resize": 2}
Call = Callable[..., object]


class Stumble(Exception):
    """An exception inside the real server; str() is its message, which 7.4 answers with status 500."""


def perform(call: Call, vm_id: int, action: str | None, parameter: object) -> None:
    """Do an action on a VM. call: takes a method and its parameters.

    Raises what `call` raises, ValueError for an action that is none, and Stumble.
    """
    if action in _PLAIN:
        call("one.vm.action", action, vm_id)
    elif action in _HARD:
        call("one.vm.action", _HARD[action] + ("-hard" if parameter not in (None, False) else ""), vm_id)
    elif action == "delete":
        call("one.vm.action", "terminate-hard", vm_id)
    elif action in _HANDED_ON:
        call(f"one.vm.{_HANDED_ON[action]}", vm_id, parameter)
    elif action == "deploy":
        call("one.vm.deploy", vm_id, to_i(parameter), False, -1, "")
    elif action in ("migrate", "livemigrate"):
        call("one.vm.migrate", vm_id, to_i(parameter), action == "livemigrate", False, -1, 0)
    elif action == "chmod":
        call("one.vm.chmod", vm_id, *bits_of(parameter))
    elif action in _IMPOSSIBLE:
        raise Stumble(f"wrong number of arguments (given 1, expected {_IMPOSSIBLE[action]})")
    elif action == "saveas":
        raise Stumble("undefined method `save_as'")
    else:
        raise ValueError(f"{action or ''} action not  available for this resource")


def to_i(value: object) -> int:
    """Return a value as Ruby's to_i takes it. Raises Stumble for what has no such method."""
    if value is None or isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value or 0)
    if not isinstance(value, str):
        raise Stumble(f"undefined method `to_i' for {value!r}")
    digits = re.match(r"\s*[+-]?\d+", value)
    return int(digits[0]) if digits else 0


def bits_of(octet: object) -> list[int]:
    """Return the nine permissions of three octal digits; one that is missing or none is 0. Raises Stumble for what is no text."""
    if not isinstance(octet, str):
        raise Stumble(f"undefined method `[]' for {octet!r}")
    digits = [to_i(octet[place:place + 1]) for place in range(3)]
    return [int(bool(digit & bit)) for digit in digits for bit in (4, 2, 1)]
