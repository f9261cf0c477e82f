# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory needs to know of a VM, taken from its document, without anything that looks like a secret."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import number, text
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import facts as vm_facts
from ansible_collections.opennebula.flower.plugins.module_utils.redaction import hidden, is_secret

# Shown under names of their own, or a form for people whose default values may be secret.
_NOT_ATTRIBUTES = frozenset({"LABELS", "ROLE_NAME", "SERVICE_ID", "USER_INPUTS", "INPUTS_ORDER"})


def inventory_facts(vm: dict, wanted: Callable[[str], bool] = lambda name: True) -> dict:
    """Return the facts of a VM's document, JSON values only; what the VM does not have is None or empty.

    wanted: tells by its name whether an attribute of the user template is to be kept.
    """
    said = vm_facts.summary(vm)
    service_id, cluster_id = said["service_id"], said["cluster_id"]
    return {
        **said,
        "service": None if service_id is None else str(service_id),
        "role": said["role"] or None,
        "host": said["host"] or None,
        "cluster": None if cluster_id is None else str(cluster_id),
        "memory": said["memory"] or None,
        "nics": _nics(xml.section(vm, "TEMPLATE")),
        "user_template": _user_template(xml.section(vm, "USER_TEMPLATE"), wanted),
    }


def _nics(template: dict) -> list[dict]:
    """The VM's NICs in the order of their ids, PCI devices that are NICs among them, then their aliases."""
    nics = xml.vectors(template, "NIC")
    nics += [device for device in xml.vectors(template, "PCI") if device.get("TYPE") == "NIC"]
    nics.sort(key=lambda nic: number(nic.get("NIC_ID")) or 0)
    return [_nic(nic, None) for nic in nics] + [
        _nic(alias, text(alias.get("PARENT")) or f"NIC{text(alias.get('PARENT_ID'))}")
        for alias in xml.vectors(template, "NIC_ALIAS")
    ]


def _nic(nic: dict, parent: str | None) -> dict:
    # Link-local addresses are of no use without an interface.
    ip6 = text(nic.get("IP6")) or text(nic.get("IP6_GLOBAL")) or text(nic.get("IP6_ULA")) or None
    return {
        "name": text(nic.get("NAME")) or f"NIC{text(nic.get('NIC_ID'))}",
        "network": text(nic.get("NETWORK")) or None,
        "ip": text(nic.get("IP")) or None,
        "ip6": ip6,
        "mac": text(nic.get("MAC")) or None,
        "alias_of": parent,
    }


def _user_template(attributes: dict, wanted: Callable[[str], bool]) -> dict:
    inputs = xml.section(attributes, "USER_INPUTS")
    passwords = {name for name, form in inputs.items() if isinstance(form, str) and "|password|" in f"{form}|"}
    return {
        name: _without_secrets(value)
        for name, value in attributes.items()
        if name not in _NOT_ATTRIBUTES and name not in passwords and wanted(name) and not _hidden(name, value)
    }


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_secrets(item) for name, item in value.items() if not _hidden(name, item)}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value if not _hidden("", item)]
    return value


def _hidden(name: str, value: object) -> bool:
    return is_secret(name) or (isinstance(value, str) and hidden(value) != value)
