# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for VMs: all of them with one call a time, and no longer than there is hope."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core import states
from ..core.wait import wait_until
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import WRONG_STATE, OneException
from ..transport.values import words
from . import facts as vm_facts

DONE = "DONE"
# More VMs than this in one message help nobody.
_NAMED = 3
# Resting states that end by themselves.
_HOPEFUL = frozenset({"PENDING", "UNKNOWN"})


class VmsWait:
    """A wait for VMs.

    vms: their documents. acted: whether these are from before an action on the VMs, which may take a moment to show.
    timeout: seconds for each wait.
    """

    def __init__(
        self,
        client: Client,
        vms: Iterable[dict],
        timeout: float,
        progress: Callable[[str], None] | None = None,
        acted: bool = False,
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._progress = progress
        self._vms = {int(vm["ID"]): vm for vm in vms}
        self._begin = {number: _standing(vm) for number, vm in self._vms.items()}
        self._moved: set[int] = set() if acted else set(self._vms)
        self._open = set(self._vms)

    def reach(self, goal: str) -> list[dict]:
        """Return the VMs when all of them are in this state; DONE ones as they were seen last.

        Raises OneException: of kind wrong_state as soon as one came to rest elsewhere, with the reason the server
        gives, of kind timeout at the deadline.
        """
        return self._until(goal, lambda vm: states.vm_state(vm) == goal, self._check)

    def rest(self) -> list[dict]:
        """Return the VMs when all of them are in a state they stay in.

        Raises OneException of kind wrong_state when that is a failure, or what was asked for failed.
        """
        return self._until("at rest", lambda vm: vm_facts.is_resting(states.vm_state(vm)), self._check_failure)

    def settle(self) -> list[dict]:
        """Return the VMs when all of them are in a state they stay in, be it a failure."""
        return self._until("at rest", lambda vm: vm_facts.is_resting(states.vm_state(vm)), lambda _vm, _goal: None)

    def _until(
        self, goal: str, is_there: Callable[[dict], bool], check: Callable[[dict, str], None]
    ) -> list[dict]:
        def probe() -> list[dict] | None:
            seen = vm_facts.by_id(self._client, self._open)
            for number in sorted(self._open):
                # Listings leave out what is DONE.
                vm = seen.get(number) or {**self._vms[number], "STATE": str(states.VM.index(DONE))}
                self._vms[number] = vm
                check(vm, goal)
                if is_there(vm):
                    self._open.discard(number)
            return None if self._open else list(self._vms.values())

        return wait_until(
            probe, self._describe, self._timeout, progress=self._progress,
            what=f"{_counted(len(self._vms))} not {goal}",
        )

    def _check(self, vm: dict, goal: str) -> None:
        number, state = int(vm["ID"]), states.vm_state(vm)
        if state == goal:
            return
        if _standing(vm) != self._begin[number]:
            self._moved.add(number)
        if number in self._moved and vm_facts.is_resting(state) and state not in _HOPEFUL:
            raise OneException(WRONG_STATE, f"{_status(vm)}, it does not become {goal}.")

    def _check_failure(self, vm: dict, _goal: str) -> None:
        state, error = _standing(vm)
        state_before, error_before = self._begin[int(vm["ID"])]
        if (error and error != error_before) or (states.vm_failed(state) and state != state_before):
            raise OneException(WRONG_STATE, f"{_status(vm)}, the change failed.")

    def _describe(self) -> str:
        waiting = sorted(self._open)
        named = "; ".join(_status(self._vms[number]) for number in waiting[:_NAMED])
        return named + (f"; and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else "")


def _standing(vm: dict) -> tuple[str, str]:
    return states.vm_state(vm), words(xml.section(vm, "USER_TEMPLATE").get("ERROR"))


def _status(vm: dict) -> str:
    state, error = _standing(vm)
    reason = words(xml.section(vm, "USER_TEMPLATE").get("SCHED_MESSAGE")) if state == "PENDING" else error
    return f"{vm_facts.label(vm)} is {state}" + (f" ({' '.join(reason.split())})" if reason else "")


def _counted(number: int) -> str:
    return "The VM is" if number == 1 else f"Of {number} VMs some are"
