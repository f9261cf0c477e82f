# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines: reading one, its own words about what is wrong, and its user template."""

from __future__ import annotations

from . import states, xml
from .client import Client
from .values import text, words


def vm_info(client: Client, vm_id: int) -> dict:
    """Return the VM's document. Raises OneException of kind missing."""
    return client.call("one.vm.info", int(vm_id))


def update_user_template(client: Client, vm_id: int, attributes: dict) -> None:
    """Set attributes in the VM's user template and leave all others as they are."""
    client.call("one.vm.update", int(vm_id), attributes, 1)


def interfaces(vm: dict) -> list[dict]:
    """Return the VM's network interfaces, the PCI devices that are ones last."""
    machine = xml.section(vm, "TEMPLATE")
    devices = [device for device in xml.vectors(machine, "PCI") if device.get("TYPE") == "NIC"]
    return [*xml.vectors(machine, "NIC"), *devices]


def addresses(vm: dict) -> list[str]:
    """Return the IPv4 addresses of the VM's interfaces in their order."""
    return [nic["IP"] for nic in interfaces(vm) if text(nic.get("IP"))]


def reason(vm: dict) -> str:
    """Return why the VM is not running, in the words of the driver or the scheduler; empty without a reason."""
    attributes = xml.section(vm, "USER_TEMPLATE")
    if states.vm_failed(states.vm_state(vm)) and attributes.get("ERROR"):
        return words(attributes["ERROR"])
    if states.name(states.VM, vm.get("STATE")) == "PENDING":
        return words(attributes.get("SCHED_MESSAGE"))
    return ""


def is_ready(vm: dict) -> bool:
    """Tell whether the VM reported READY=YES."""
    return xml.section(vm, "USER_TEMPLATE").get("READY") == "YES"


def all_vms(client: Client) -> dict[int, dict]:
    """Return all VMs that are not DONE and that the user may see, by id."""
    not_done = -1
    found = client.pool("one.vmpool.infoextended", "VM", not_done)
    return {int(vm["ID"]): vm for vm in found}
