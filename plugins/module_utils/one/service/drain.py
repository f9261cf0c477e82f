# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a role shrinks: what runs in the VMs that will go finishes and leaves.

DRAIN=YES among the attributes of a VM asks for that, and DRAINED=YES is the answer of what runs in it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core import states
from ..core.wait import wait_until
from ..transport.client import Client
from ..transport.errors import OneException
from ..vm import facts as vm_facts
from . import facts as service_facts
from .facts import RUNNING


def drain(client: Client, service: dict, role: str, cardinality: int, timeout: float, progress: Callable[[str], None]) -> None:
    """Wait until the VMs have left that a role loses on its way to a smaller number.

    Raises OneException of kind timeout, with the VMs told to stay.
    """
    # OneFlow removes the oldest, which are the first in its list.
    leaving = service_facts.service_vms(service, role)
    leaving = leaving[: max(len(leaving) - cardinality, 0)]
    for number in leaving:
        vm_facts.update_user_template(client, number, {"DRAIN": "YES", "DRAINED": "NO"})
    left: dict[int, dict] = {}

    def probe() -> bool | None:
        left.clear()
        left.update({number: vm for number, vm in vm_facts.by_id(client, leaving).items() if not _has_left(vm)})
        return None if left else True

    def describe() -> str:
        return ", ".join(f"VM {number} has not left" for number in sorted(left))

    try:
        wait_until(
            probe, describe, timeout, progress=progress,
            what=f"Role {role!r} of service {service['NAME']!r} (id {service['ID']}) is not drained, so that it keeps its VMs,",
        )
    except OneException:
        for number in leaving:
            vm_facts.update_user_template(client, number, {"DRAIN": "NO"})
        raise


def _has_left(vm: dict) -> bool:
    """Tell whether nothing works in a VM any more: it says so, or does not run."""
    return states.vm_state(vm) != RUNNING or (vm.get("USER_TEMPLATE") or {}).get("DRAINED") == "YES"
