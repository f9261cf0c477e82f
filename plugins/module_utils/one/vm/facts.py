# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs: listing them, and the one reading of a VM's document."""

from __future__ import annotations

from collections.abc import Iterable

from ..core import lookup, ownership, states
from ..transport import xml
from ..transport.client import Client
from ..transport.values import decimal, number, text, words

ANY_STATE, NOT_DONE = -2, -1
# Ids that a warning names.
_NAMED = 10
# Of what a VM says of itself, a message shows that much.
_ERROR_CHARACTERS = 200
# Attributes of a user template that are read as one text.
_TEXTS = ("ROLE_NAME", "ERROR", "SCHED_MESSAGE")
# A range of ids takes the place of a page where single VMs are asked for.
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
    for start in sorted({one // _RANGE * _RANGE for one in wanted}):
        inside = [one for one in wanted if start <= one < start + _RANGE]
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
    records = xml.vectors(xml.section(vm, "HISTORY_RECORDS"), "HISTORY")
    return records[-1] if records else {}


def labels(vm: dict) -> list[str]:
    """Return the VM's labels; whoever writes them twice means all of them."""
    texts = [text(item) for item in xml.items(xml.section(vm, "USER_TEMPLATE"), "LABELS")]
    return [part.strip() for item in texts for part in item.split(",") if part.strip()]


def warn_of_odd(client: Client, listed: Iterable[dict]) -> None:
    """Warn of what the owners of VMs wrote into attributes that are read here so that it cannot be read: with their ids.

    Such an attribute counts as empty: what one user writes must not keep others from their VMs.
    """
    found: dict[str, list[str]] = {}
    for vm in listed:
        for name in _odd(vm):
            found.setdefault(name, []).append(vm["ID"])
    for name, ids in found.items():
        some = ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
        client.warn(f"{name} cannot be read and counts as empty in VM {some}.")


def summary(vm: dict) -> dict:
    """Return what modules and inventory say about a VM. What its owner wrote in another form than is expected is left out."""
    template, attributes, place = xml.section(vm, "TEMPLATE"), xml.section(vm, "USER_TEMPLATE"), placement(vm)
    return {
        **lookup.identity(vm),
        "state": states.vm_state(vm),
        "host": place.get("HOSTNAME", ""),
        "cluster_id": number(place.get("CID")),
        "template_id": number(template.get("TEMPLATE_ID")),
        "service_id": number(attributes.get("SERVICE_ID")),
        "role": text(attributes.get("ROLE_NAME")),
        "cpu": decimal(template.get("CPU")) or 0.0,
        "memory": number(template.get("MEMORY")) or 0,
        "vcpu": number(template.get("VCPU")) or 1,
        "labels": labels(vm),
    }


def facts(vm: dict) -> dict:
    """Return what the modules say about a VM, see summary."""
    template = xml.section(vm, "TEMPLATE")
    return {
        **summary(vm),
        "mode": ownership.mode(vm),
        "reason": reason(vm),
        "addresses": addresses(vm),
        "nics": [_nic(nic) for nic in interfaces(vm) if number(nic.get("NIC_ID")) is not None],
        "disks": [_disk(disk) for disk in _numbered(template, "DISK", "DISK_ID")],
        "pcis": [_pci(pci) for pci in xml.vectors(template, "PCI")],
        "attributes": xml.section(vm, "USER_TEMPLATE"),
    }


def _odd(vm: dict) -> list[str]:
    template, attributes = xml.section(vm, "TEMPLATE"), xml.section(vm, "USER_TEMPLATE")
    odd = [name for name in _TEXTS if name in attributes and not isinstance(attributes[name], str)]
    if attributes.get("SERVICE_ID") and number(attributes["SERVICE_ID"]) is None:
        odd.append("SERVICE_ID")
    if any(not isinstance(item, str) for item in xml.items(attributes, "LABELS")):
        odd.append("LABELS")
    odd += [name for name in ("MEMORY", "VCPU", "TEMPLATE_ID") if template.get(name) and number(template[name]) is None]
    if template.get("CPU") and decimal(template["CPU"]) is None:
        odd.append("CPU")
    return odd + [
        name for name, key in (("NIC", "NIC_ID"), ("DISK", "DISK_ID"))
        if len(_numbered(template, name, key)) < len(xml.items(template, name))
    ]


def _numbered(template: dict, name: str, key: str) -> list[dict]:
    return [part for part in xml.vectors(template, name) if number(part.get(key)) is not None]


def _nic(nic: dict) -> dict:
    groups = (number(group.strip()) for group in text(nic.get("SECURITY_GROUPS")).split(","))
    return {
        "id": int(nic["NIC_ID"]),
        "network": text(nic.get("NETWORK")),
        "network_id": number(nic.get("NETWORK_ID")),
        "ip": text(nic.get("IP")),
        "mac": text(nic.get("MAC")),
        "security_groups": [group for group in groups if group is not None],
    }


def _disk(disk: dict) -> dict:
    return {
        "id": int(disk["DISK_ID"]),
        "image": text(disk.get("IMAGE")),
        "image_id": number(disk.get("IMAGE_ID")),
        "size": number(disk.get("SIZE")),
        "target": text(disk.get("TARGET")),
    }


def _pci(pci: dict) -> dict:
    return {
        "id": number(pci.get("PCI_ID")),
        "address": text(pci.get("SHORT_ADDRESS")),
        "vendor": text(pci.get("VENDOR")),
        "device": text(pci.get("DEVICE")),
        "class": text(pci.get("CLASS")),
    }


def vm_info(client: Client, vm_id: int) -> dict:
    """Return the VM's document. Raises OneException of kind missing."""
    return client.call("one.vm.info", int(vm_id))


def update_user_template(client: Client, vm_id: int, attributes: dict) -> None:
    """Set attributes in the VM's user template and leave all others as they are."""
    client.call("one.vm.update", int(vm_id), attributes, 1)


def interfaces(vm: dict) -> list[dict]:
    """Return the VM's network interfaces, the PCI devices that are ones last."""
    template = xml.section(vm, "TEMPLATE")
    devices = [device for device in xml.vectors(template, "PCI") if device.get("TYPE") == "NIC"]
    return [*xml.vectors(template, "NIC"), *devices]


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


def reported_error(vm: dict, attribute: str) -> str:
    """Return what a running VM that is not ready says in this attribute, cut to a sentence; empty when it says nothing."""
    if not attribute or is_ready(vm) or states.vm_state(vm) != "RUNNING":
        return ""
    return words(xml.section(vm, "USER_TEMPLATE").get(attribute))[:_ERROR_CHARACTERS]


def all_vms(client: Client) -> dict[int, dict]:
    """Return all VMs that are not DONE and that the user may see, by id."""
    return {int(vm["ID"]): vm for vm in listing(client)}
