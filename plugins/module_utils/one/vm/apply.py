# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring VMs that exist to what is wanted, several of them in step with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core import states
from ..core.compare import update
from ..core.ownership import Ownership, permission_bits
from ..transport.client import Client
from ..transport.errors import WRONG_STATE, OneException
from . import facts as vm_facts
from .desired import Plan
from .diff import GOALS, VmDiff
from .reshape import Reshaping
from .wait import VmsWait

# Where an action leads to.
_ENDS = {
    "hold": ("HOLD",), "poweroff": ("POWEROFF",), "release": ("PENDING", "RUNNING"), "resume": ("RUNNING",),
    "suspend": ("SUSPENDED",), "terminate": ("DONE",),
}


class VmChanger:
    """Carries changes out.

    params: the options of the task.
    """

    def __init__(
        self,
        client: Client,
        params: dict,
        ownership: Ownership,
        progress: Callable[[str], None] | None,
    ) -> None:
        self._client = client
        self._params = params
        self._ownership = ownership
        self._progress = progress

    def apply(self, changes: list[VmDiff]) -> None:
        """Bring all VMs to what is wanted."""
        self._settle(change for change in changes if change.reshapes or change.action)
        for change in changes:
            self._describe(change.plan)
        reshaping = Reshaping(self._client, [change.plan for change in changes if change.reshapes], self.wait)
        try:
            self._stop([change for change in changes if change.stops])
            reshaping.apply()
        except OneException as error:
            raise OneException(error.kind, f"{error.message}{self._recovered(reshaping, changes)}") from error
        self._start(changes)
        self._suspend([change.vm for change in changes if change.action == "suspend"])
        for change in changes:
            self.give(change.plan)

    def describe_new(self, plan: Plan) -> None:
        """Give a VM that was just made its permissions and owner."""
        self._permit(plan)
        self.give(plan)

    def give(self, plan: Plan) -> None:
        """Give a VM to its owner; the last thing, as it may take away the right to the others."""
        if plan.differs("owner") or plan.differs("group"):
            owners = self._ownership.owner_ids(plan.before, plan.after)
            self._client.call("one.vm.chown", int(plan.vm["ID"]), *owners)

    def act(self, action: str, group: list[dict]) -> None:
        """Ask for an action on VMs. One that somebody else acts on may be on its way there already, or busy for a moment."""
        asked = f"{action}-hard" if action in ("poweroff", "terminate") and self._params["hard"] else action
        for vm in group:
            try:
                self._client.call("one.vm.action", asked, int(vm["ID"]))
            except OneException as error:
                if error.kind != WRONG_STATE:
                    raise
                if not self._leads_there(action, vm):
                    self._act_again(action, asked, vm, error)

    def _act_again(self, action: str, asked: str, vm: dict, error: OneException) -> None:
        """Ask once more for an action that was refused, when the VM rests where it did before."""
        (now,) = self.wait(self._current([vm])).settle()
        if self._leads_there(action, now):
            return
        if states.vm_state(now) != vm_facts.leads_to(states.vm_state(vm)):
            raise OneException(error.kind, f"{error.message.rstrip('.')}; {vm_facts.label(now)} is {states.vm_state(now)} now.")
        self._client.call("one.vm.action", asked, int(vm["ID"]))

    def _leads_there(self, action: str, vm: dict) -> bool:
        """Tell whether a VM comes to what an action is for without anybody's help, or is there."""
        found = vm_facts.by_id(self._client, [int(vm["ID"])])
        end = vm_facts.leads_to(states.vm_state(found[int(vm["ID"])])) if found else "DONE"
        return end in _ENDS[action]

    def end(self, there: list[dict], leaving: list[dict]) -> None:
        """Terminate VMs, and wait for them and those that are leaving already."""
        passing = [vm for vm in there if not vm_facts.is_resting(states.vm_state(vm))]
        if passing:
            self.wait(passing).settle()
        self.act("terminate", there)
        if self._params["hard"]:
            # One that is given time to shut down has none any more.
            self.act("terminate", [vm for vm in leaving if states.vm_state(vm) == "SHUTDOWN"])
        if self._params["wait"]:
            self.wait([*there, *leaving], acted=True).reach("DONE")

    def wait(self, group: Iterable[dict], acted: bool = False) -> VmsWait:
        """Return a wait for VMs, see VmsWait."""
        return VmsWait(self._client, group, self._params["wait_timeout"], self._progress, acted)

    def _settle(self, changes: Iterable[VmDiff]) -> None:
        """Wait for VMs in passing."""
        passing = [change for change in changes if not vm_facts.is_resting(change.state)]
        if passing:
            self.wait(change.vm for change in passing).rest()

    def _describe(self, plan: Plan) -> None:
        number = int(plan.vm["ID"])
        if plan.differs("name"):
            self._client.call("one.vm.rename", number, plan.after["name"])
        if plan.differs("attributes"):
            self._client.call("one.vm.update", number, *update(plan.before["attributes"], plan.after["attributes"]))
        self._permit(plan)

    def _permit(self, plan: Plan) -> None:
        if plan.differs("mode"):
            bits = permission_bits(plan.before["mode"], plan.after["mode"])
            self._client.call("one.vm.chmod", int(plan.vm["ID"]), *bits)

    def _stop(self, changes: list[VmDiff]) -> None:
        asleep = [change.vm for change in changes if change.wakes]
        self.act("resume", asleep)
        pending = [change.vm for change in changes if change.rest == "PENDING"]
        for waking, acted in ((pending, False), (asleep, True)):
            if waking:
                self.wait(waking, acted).reach("RUNNING")
        group = [change.vm for change in changes]
        if not group:
            return
        standing = self._current(group)
        self.act("poweroff", group)
        if self._params["wait"] or any(change.reshapes for change in changes):
            self.wait(standing, acted=True).reach("POWEROFF")

    def _recovered(self, reshaping: Reshaping, changes: list[VmDiff]) -> str:
        """Bring back what a failed change took away, start what was only stopped for it, and return how the VMs are now."""
        said = ""
        try:
            reshaping.undo()
            off = [vm for vm in self._settled([change.vm for change in changes if change.restarts]) if _is_off(vm)]
            self.act("resume", off)
            if off:
                self.wait(off, acted=True).reach("RUNNING")
        except OneException as error:
            said = f" Undoing it failed too: {error.message}"
        return f"{said}{reshaping.standing()}"

    def _settled(self, group: list[dict]) -> list[dict]:
        return self.wait(group).settle() if group else []

    def _start(self, changes: list[VmDiff]) -> None:
        stopped = [change for change in changes if change.stops and not change.restarts]
        underway = [change for change in changes if change.is_underway and change not in stopped]
        standing = self._current([change.vm for change in underway])
        for change in underway:
            if change.start:
                self.act(change.start, [change.vm])
        groups: dict[tuple[str, bool], list[dict]] = {}
        for change, vm in zip(underway, standing, strict=True):
            if self._params["wait"] or change.action == "suspend":
                groups.setdefault((change.goal, change.start is not None), []).append(vm)
        for (goal, acted), group in groups.items():
            self.wait(group, acted).reach(goal)

    def _suspend(self, group: list[dict]) -> None:
        """Suspend VMs that run by now."""
        if not group:
            return
        standing = self._current(group)
        self.act("suspend", group)
        if self._params["wait"]:
            self.wait(standing, acted=True).reach(GOALS["suspended"])

    def _current(self, group: list[dict]) -> list[dict]:
        """Return the VMs as they are now."""
        found = vm_facts.by_id(self._client, (int(vm["ID"]) for vm in group))
        return [found.get(int(vm["ID"]), vm) for vm in group]


def _is_off(vm: dict) -> bool:
    return states.vm_state(vm) == "POWEROFF"
