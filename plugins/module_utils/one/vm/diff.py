# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done with a VM that exists, and whether that is possible."""

from __future__ import annotations

from ..core import states
from ..transport.errors import INVALID, WRONG_STATE, OneException
from . import facts as vm_facts
from .desired import Plan

GOALS = {"running": "RUNNING", "poweroff": "POWEROFF", "suspended": "SUSPENDED", "hold": "HOLD"}
# Resting states out of which a VM is resumed.
_ASLEEP = ("POWEROFF", "SUSPENDED", "STOPPED", "UNDEPLOYED")
# The action that leads from a resting state to the wanted one.
_ACTIONS = {
    "running": {"HOLD": "release", "UNKNOWN": "resume", **dict.fromkeys(_ASLEEP, "resume")},
    "poweroff": dict.fromkeys(("RUNNING", "UNKNOWN", "PENDING", *_ASLEEP), "poweroff"),
    "suspended": dict.fromkeys(("RUNNING", "PENDING", *_ASLEEP), "suspend"),
    "hold": {"PENDING": "hold"},
}
# Nothing is to be done but to wait.
_UNDERWAY = {
    "running": ("RUNNING", "PENDING"), "poweroff": ("POWEROFF",), "suspended": ("SUSPENDED",), "hold": ("HOLD",),
}
# Resting states in which the server lets something be changed.
_CHANGEABLE = {
    "size": ("INIT", "PENDING", "HOLD", "POWEROFF", "UNDEPLOYED"),
    "configuration": ("PENDING", "HOLD", "POWEROFF", "UNDEPLOYED", "RUNNING", "BOOT_FAILURE", "PROLOG_FAILURE"),
    "nics": ("RUNNING", "POWEROFF"),
    "disks": ("RUNNING", "POWEROFF"),
    "pcis": ("POWEROFF", "UNDEPLOYED"),
}
# What a VM that runs is powered off for.
_AT_REST_ONLY = {"size": "size changes", "pcis": "PCI devices change"}


class VmDiff:
    """What is done with one VM.

    target: present, running, poweroff, suspended or hold. restart: whether it may be powered off for a change of its
    size or PCI devices. wait: whether the task waits. Raises OneException for what is not possible, mostly of kind wrong_state.
    """

    def __init__(self, plan: Plan, target: str, restart: bool = False, wait: bool = True) -> None:
        self.plan = plan
        self.vm = plan.vm
        self.target = target
        self.state = states.vm_state(plan.vm)
        self.rest = vm_facts.leads_to(self.state)
        self.action = self._power_action()
        if self.action in ("poweroff", "suspend") and self.rest == "PENDING" and not wait:
            raise OneException(INVALID, f"{vm_facts.label(self.vm)} is PENDING: to {self.action} it once it runs takes wait.")
        self.grows_running = self.rest == "RUNNING" and not restart and plan.has_room
        needs_rest = any(plan.differs(name) for name in _AT_REST_ONLY)
        self.restarts = restart and needs_rest and self.rest == "RUNNING" and target != "poweroff"
        self.stops = self.restarts or self.action == "poweroff"
        self.wakes = self.rest in _ASLEEP and self.action in ("poweroff", "suspend")
        for name in _CHANGEABLE:
            self._check_changeable(name)
        self.before = {**plan.before, "state": self.state}
        self.after = {**plan.after, "state": GOALS[target] if self.action else self.state}

    @property
    def goal(self) -> str | None:
        """The state to wait for in the end, or before it is suspended."""
        return "RUNNING" if self.restarts or self.action == "suspend" else GOALS.get(self.target)

    @property
    def is_underway(self) -> bool:
        """Tell whether the VM is, or will be, on its way to the goal."""
        return self.restarts or self.goal not in (None, self.state)

    @property
    def is_needed(self) -> bool:
        """Tell whether there is anything to be done, or to be waited for."""
        return self.before != self.after or self.is_underway

    @property
    def start(self) -> str | None:
        """The action that brings it to the goal once it is changed, None if that takes none."""
        if self.restarts or (self.wakes and self.action == "suspend"):
            return "resume"
        return None if self.action in ("poweroff", "suspend") else self.action

    @property
    def reshapes(self) -> bool:
        """Tell whether there is something to be done that a VM in passing does not allow."""
        return any(self.plan.differs(name) for name in _CHANGEABLE)

    def _power_action(self) -> str | None:
        if self.target not in GOALS or self.rest in _UNDERWAY[self.target]:
            return None
        action = _ACTIONS[self.target].get(self.rest)
        if action is None:
            reason = vm_facts.reason(self.vm)
            raise OneException(
                WRONG_STATE,
                f"{vm_facts.label(self.vm)} is {self.state}{f' ({reason})' if reason else ''}: "
                f"from there it cannot become {GOALS[self.target]}.",
            )
        return action

    def _check_changeable(self, name: str) -> None:
        if not self.plan.differs(name) or (name == "size" and self.grows_running and not self.stops):
            return
        state = "POWEROFF" if self.stops else self.rest
        if name in _AT_REST_ONLY and state == "RUNNING":
            raise OneException(
                WRONG_STATE,
                f"{vm_facts.label(self.vm)} is {self.state}: its {_AT_REST_ONLY[name]} only while it is powered off, "
                "which restart: true allows.",
            )
        if state not in _CHANGEABLE[name]:
            allowed = ", ".join(_CHANGEABLE[name])
            raise OneException(
                WRONG_STATE, f"{vm_facts.label(self.vm)} is {self.state}: its {name} can be changed in {allowed} only."
            )
