# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Having OpenNebula's scheduler move the VMs of a host to other hosts."""

from __future__ import annotations

from ..core import states
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import WRONG_STATE, OneException
from ..vm import facts as vm_facts

# The scheduler moves no VM in another state.
_MOVED = ("RUNNING", "UNKNOWN", "POWEROFF")


def numbers(host: dict) -> list[int]:
    """Return the ids of the VMs on a host, those that are powered off or suspended included."""
    return [int(number) for number in xml.items(xml.section(host, "VMS"), "ID")]


def check(client: Client, ids: list[int]) -> None:
    """Raise OneException of kind wrong_state for VMs that rest in a state in which they are not moved."""
    for vm in vm_facts.by_id(client, ids).values():
        state = states.vm_state(vm)
        if vm_facts.is_resting(state) and state not in _MOVED:
            raise OneException(
                WRONG_STATE, f"{vm_facts.label(vm)} is {state}: OpenNebula moves only VMs that run or are powered off."
            )


def ask(client: Client, ids: list[int]) -> str:
    """Have the scheduler move these VMs and return how they are. One in a passing state has to be asked for again."""
    return ", ".join(_asked(client, vm) for vm in vm_facts.by_id(client, ids).values())


def _asked(client: Client, vm: dict) -> str:
    status = f"{vm_facts.label(vm)} is {states.vm_state(vm)}"
    if states.vm_state(vm) in _MOVED and vm.get("RESCHED") != "1":
        try:
            client.call("one.vm.action", "resched", int(vm["ID"]))
        except OneException as error:
            # Its state may have changed since it was read.
            if error.kind != WRONG_STATE:
                raise
            return f"{status} ({error.message.rstrip('.')})"
    has_devices = xml.items(xml.section(vm, "TEMPLATE"), "PCI") != []
    return f"{status} with PCI devices, with which a VM is not moved while it runs" if has_devices else status
