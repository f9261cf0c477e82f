# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines many at a time: listing them, and what is returned of each."""

from __future__ import annotations

from collections.abc import Iterable

from . import ownership, resources, states, vms, xml
from .client import Client

ANY_STATE, NOT_DONE = -2, -1
# A range of ids takes the place of a page where single machines are asked for.
_RANGE = 2000
# Where a passing state leads; the other life-cycle states lead to RUNNING.
_LEADS_TO = {
    "DONE": ("SHUTDOWN", "CANCEL", "EPILOG", "CLEANUP_DELETE"),
    "POWEROFF": (
        "SHUTDOWN_POWEROFF", "HOTPLUG_SAVEAS_POWEROFF", "HOTPLUG_PROLOG_POWEROFF", "HOTPLUG_EPILOG_POWEROFF",
        "PROLOG_MIGRATE_POWEROFF", "DISK_SNAPSHOT_POWEROFF", "DISK_SNAPSHOT_REVERT_POWEROFF",
        "DISK_SNAPSHOT_DELETE_POWEROFF", "DISK_RESIZE_POWEROFF", "HOTPLUG_NIC_POWEROFF", "BACKUP_POWEROFF", "RESTORE",
    ),
    "SUSPENDED": (
        "SAVE_SUSPEND", "HOTPLUG_SAVEAS_SUSPENDED", "PROLOG_MIGRATE_SUSPEND", "DISK_SNAPSHOT_SUSPENDED",
        "DISK_SNAPSHOT_REVERT_SUSPENDED", "DISK_SNAPSHOT_DELETE_SUSPENDED",
    ),
    "STOPPED": ("SAVE_STOP", "EPILOG_STOP", "HOTPLUG_SAVEAS_STOPPED"),
    "UNDEPLOYED": ("SHUTDOWN_UNDEPLOY", "EPILOG_UNDEPLOY", "DISK_RESIZE_UNDEPLOYED", "HOTPLUG_SAVEAS_UNDEPLOYED"),
    "UNKNOWN": ("UNKNOWN", "PROLOG_MIGRATE_UNKNOWN"),
    "PENDING": ("INIT", "CLONING"),
}
_LEADS = {passing: end for end, names in _LEADS_TO.items() for passing in names}


def listing(client: Client, state: int = NOT_DONE) -> list[dict]:
    """Return all VMs that the user may see, one call per page. state: a number, NOT_DONE or ANY_STATE."""
    return client.pool("one.vmpool.infoextended", "VM", state)


def by_id(client: Client, ids: Iterable[int], state: int = NOT_DONE) -> dict[int, dict]:
    """Return those of these VMs that are there, by id; one call unless the ids are far apart."""
    wanted = set(ids)
    found = {}
    for start in sorted({number // _RANGE * _RANGE for number in wanted}):
        inside = [number for number in wanted if start <= number < start + _RANGE]
        answer = client.call("one.vmpool.infoextended", -2, min(inside), max(inside), state)
        found.update({int(vm["ID"]): vm for vm in xml.items(answer, "VM") if int(vm["ID"]) in wanted})
    return found


def label(vm: dict) -> str:
    """Return what a VM is called in messages."""
    return f"VM {vm['NAME']!r} (id {vm['ID']})"


def leads_to(state: str) -> str:
    """Return where a VM in this state comes to rest without anybody's help; a resting state leads to itself."""
    if states.vm_failed(state):
        return state
    return _LEADS.get(state, "RUNNING" if state in states.LCM else state)


def is_resting(state: str) -> bool:
    """Tell whether a VM stays in this state until somebody or the scheduler does something."""
    return leads_to(state) == state


def placement(vm: dict) -> dict:
    """Return the last record of the VM's history, empty while it was never on a host."""
    records = xml.items(xml.section(vm, "HISTORY_RECORDS"), "HISTORY")
    return records[-1] if records else {}


def labels(vm: dict) -> list[str]:
    """Return the VM's labels."""
    text = xml.section(vm, "USER_TEMPLATE").get("LABELS") or ""
    return [part.strip() for part in text.split(",") if part.strip()]


def facts(vm: dict) -> dict:
    """Return what the modules say about a VM."""
    machine, attributes, place = xml.section(vm, "TEMPLATE"), xml.section(vm, "USER_TEMPLATE"), placement(vm)
    return {
        **resources.identity(vm),
        "mode": ownership.mode(vm),
        "state": states.vm_state(vm),
        "reason": vms.reason(vm),
        "host": place.get("HOSTNAME", ""),
        "cluster_id": _number(place.get("CID")),
        "template_id": _number(machine.get("TEMPLATE_ID")),
        "service_id": _number(attributes.get("SERVICE_ID")),
        "role": attributes.get("ROLE_NAME", ""),
        "cpu": float(machine.get("CPU") or 0),
        "memory": int(machine.get("MEMORY") or 0),
        "vcpu": int(machine.get("VCPU") or 1),
        "labels": labels(vm),
        "addresses": vms.addresses(vm),
        "nics": [_nic(nic) for nic in vms.interfaces(vm)],
        "disks": [_disk(disk) for disk in xml.items(machine, "DISK")],
        "pcis": [_pci(pci) for pci in xml.items(machine, "PCI")],
        "attributes": attributes,
    }


def _nic(nic: dict) -> dict:
    return {
        "id": int(nic["NIC_ID"]),
        "network": nic.get("NETWORK", ""),
        "network_id": _number(nic.get("NETWORK_ID")),
        "ip": nic.get("IP", ""),
        "mac": nic.get("MAC", ""),
        "security_groups": [int(number) for number in nic.get("SECURITY_GROUPS", "").split(",") if number],
    }


def _disk(disk: dict) -> dict:
    return {
        "id": int(disk["DISK_ID"]),
        "image": disk.get("IMAGE", ""),
        "image_id": _number(disk.get("IMAGE_ID")),
        "size": _number(disk.get("SIZE")),
        "target": disk.get("TARGET", ""),
    }


def _pci(pci: dict) -> dict:
    return {
        "id": _number(pci.get("PCI_ID")),
        "address": pci.get("SHORT_ADDRESS", ""),
        "vendor": pci.get("VENDOR", ""),
        "device": pci.get("DEVICE", ""),
        "class": pci.get("CLASS", ""),
    }


def _number(text: object) -> int | None:
    return int(str(text)) if text not in (None, "") else None
