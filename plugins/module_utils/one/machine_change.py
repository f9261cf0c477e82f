# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing virtual machines that exist to what is wanted, several of them in step with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import machines, states, vms
from .client import Client
from .compare import update
from .errors import INVALID, WRONG_STATE, OneException
from .machine_wait import MachinesWait
from .machine_wish import Plan
from .ownership import Ownership, permission_bits
from .template import render

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
_UPDATE_MERGE = 1


class MachineChange:
    """What is done with one VM.

    target: present, running, poweroff, suspended or hold. restart: whether it may be powered off for a change of its
    size or PCI devices. wait: whether the task waits. Raises OneException for what is not possible, mostly of kind wrong_state.
    """

    def __init__(self, plan: Plan, target: str, restart: bool = False, wait: bool = True) -> None:
        self.plan = plan
        self.vm = plan.vm
        self.target = target
        self.state = states.vm_state(plan.vm)
        self.rest = machines.leads_to(self.state)
        self.action = self._power_action()
        if self.action in ("poweroff", "suspend") and self.rest == "PENDING" and not wait:
            raise OneException(INVALID, f"{machines.label(self.vm)} is PENDING: to {self.action} it once it runs takes wait.")
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
            reason = vms.reason(self.vm)
            raise OneException(
                WRONG_STATE,
                f"{machines.label(self.vm)} is {self.state}{f' ({reason})' if reason else ''}: "
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
                f"{machines.label(self.vm)} is {self.state}: its {_AT_REST_ONLY[name]} only while it is powered off, "
                "which restart: true allows.",
            )
        if state not in _CHANGEABLE[name]:
            allowed = ", ".join(_CHANGEABLE[name])
            raise OneException(
                WRONG_STATE, f"{machines.label(self.vm)} is {self.state}: its {name} can be changed in {allowed} only."
            )


class Changer:
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

    def apply(self, changes: list[MachineChange]) -> None:
        """Bring all VMs to what is wanted."""
        self._settle(change for change in changes if change.reshapes or change.action)
        for change in changes:
            self._describe(change.plan)
        self._stop([change for change in changes if change.stops])
        self._reshape([change for change in changes if change.reshapes])
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
        """Ask for an action on VMs."""
        if action in ("poweroff", "terminate") and self._params["hard"]:
            action += "-hard"
        for vm in group:
            self._client.call("one.vm.action", action, int(vm["ID"]))

    def wait(self, group: Iterable[dict], acted: bool = False) -> MachinesWait:
        """Return a wait for VMs, see MachinesWait."""
        return MachinesWait(self._client, group, self._params["wait_timeout"], self._progress, acted)

    def _settle(self, changes: Iterable[MachineChange]) -> None:
        """Wait for VMs in passing."""
        passing = [change for change in changes if not machines.is_resting(change.state)]
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

    def _stop(self, changes: list[MachineChange]) -> None:
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

    def _reshape(self, changes: list[MachineChange]) -> None:
        """Do the first thing with each VM, then the second and so on: the server takes one at a time of each."""
        work = [(change.vm, self._steps(change.plan)) for change in changes]
        while work:
            group = [vm for vm, _steps in work]
            standing = self._current(group)
            for _vm, steps in work:
                self._client.call(*steps.pop(0))
            self.wait(standing).rest()
            work = [(vm, steps) for vm, steps in work if steps]

    def _steps(self, plan: Plan) -> list[tuple]:
        """The calls that change a VM's size, configuration, interfaces, disks and PCI devices."""
        number = int(plan.vm["ID"])
        steps: list[tuple] = []
        if plan.size:
            enforce_capacity = True
            steps.append(("one.vm.resize", number, render(plan.size), enforce_capacity))
        if plan.configuration:
            steps.append(("one.vm.updateconf", number, render(plan.configuration), _UPDATE_MERGE))
        steps += [("one.vm.detachnic", number, nic) for nic in plan.nics.detach]
        steps += [("one.vm.attachsg", number, nic, group) for nic, groups in plan.nics.groups.items() for group in groups]
        steps += [("one.vm.attachnic", number, render({"NIC": nic})) for nic in plan.nics.attach]
        steps += [("one.vm.detach", number, disk) for disk in plan.disks.detach]
        steps += [("one.vm.attach", number, render({"DISK": disk})) for disk in plan.disks.attach]
        steps += [("one.vm.detachpci", number, pci) for pci in plan.pcis.detach]
        steps += [("one.vm.attachpci", number, render({"PCI": pci})) for pci in plan.pcis.attach]
        return steps

    def _start(self, changes: list[MachineChange]) -> None:
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
        found = machines.by_id(self._client, (int(vm["ID"]) for vm in group))
        return [found.get(int(vm["ID"]), vm) for vm in group]
