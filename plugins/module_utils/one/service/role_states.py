# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of all VMs of a role, and the action that leads each of them to it."""

from __future__ import annotations

from collections.abc import Callable

from ..core import states
from ..transport.client import Client
from ..transport.errors import WRONG_STATE, OneException
from ..vm import facts as vm_facts
from ..vm.wait import VmsWait
from . import facts as service_facts

GOALS = {state: state.upper() for state in service_facts.ROLE_STATES}
_ACTIONS = {
    "running": "resume", "poweroff": "poweroff", "suspended": "suspend", "stopped": "stop", "undeployed": "undeploy",
}
_ASLEEP = ("POWEROFF", "SUSPENDED", "STOPPED", "UNDEPLOYED", "UNKNOWN")
# States each action takes a VM out of.
_SOURCES = {
    "running": _ASLEEP, "poweroff": ("RUNNING", "UNKNOWN"), "suspended": ("RUNNING",),
    "stopped": ("RUNNING", "SUSPENDED"), "undeployed": ("RUNNING", "POWEROFF", "UNKNOWN"),
}


class RoleState:
    """What is to be done so that all VMs of a role are in a state.

    before: the states of its VMs. Raises OneException of kind wrong_state for a VM that cannot get there.
    """

    def __init__(self, client: Client, service: dict, role: str, wanted: str) -> None:
        self._client = client
        self._service = service
        self._role = role
        self._wanted = wanted
        found = vm_facts.by_id(client, service_facts.service_vms(service, role))
        self._vms = [found[number] for number in sorted(found)]
        self.before = sorted({vm_facts.leads_to(states.vm_state(vm)) for vm in self._vms})
        self.after = [GOALS[wanted]] if self._vms else []
        for vm in self._vms:
            rest = vm_facts.leads_to(states.vm_state(vm))
            if rest != GOALS[wanted] and rest not in _SOURCES[wanted]:
                raise OneException(
                    WRONG_STATE,
                    f"{vm_facts.label(vm)} of role {role!r} is {states.vm_state(vm)}: "
                    f"from there it cannot become {GOALS[wanted]}.",
                )

    def apply(self, wait: bool, timeout: float, progress: Callable[[str], None]) -> None:
        """Ask those VMs for the action that need it. Raises OneException as waits for VMs do."""
        passing = [vm for vm in self._vms if not vm_facts.is_resting(states.vm_state(vm))]
        if passing:
            VmsWait(self._client, passing, timeout, progress).rest()
        if self.before == self.after:
            return
        # OneFlow's action for a role becomes a scheduled action of each VM. One that a VM refuses, for instance because
        # it already is in the state, is tried again for ever and keeps later actions of the VM from being run.
        for vm in self._vms:
            if vm_facts.leads_to(states.vm_state(vm)) != GOALS[self._wanted]:
                self._client.call("one.vm.action", _ACTIONS[self._wanted], int(vm["ID"]))
        if wait:
            VmsWait(self._client, self._vms, timeout, progress, acted=True).reach(GOALS[self._wanted])
