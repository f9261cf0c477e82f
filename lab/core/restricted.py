# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Attributes that only administrators set, as oned's configuration of 7.4 lists them."""

from __future__ import annotations

from lab.core.call import Call, as_list
from lab.core.errors import AUTHORIZATION, INTERNAL, OneError

_BANDWIDTH = tuple(f"{way}_{rate}" for way in ("INBOUND", "OUTBOUND") for rate in ("AVG_BW", "PEAK_BW", "PEAK_KB"))
_INTERFACE = ("BRIDGE", "MAC", "VLAN_ID")
_FILTER = ("FILTER", "FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING")
_THROTTLE = tuple(
    f"{what}_{unit}_SEC{limit}"
    for what in ("READ", "TOTAL", "WRITE") for unit in ("BYTES", "IOPS") for limit in ("", "_MAX", "_MAX_LENGTH")
)
_RULES = ("VM_ADMIN_OPERATIONS", "VM_MANAGE_OPERATIONS", "VM_USE_OPERATIONS")
#: by kind: attributes, and for vectors those in them that are restricted
_ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "vm": {
        "CONTEXT": ("FILES",), "CPU_COST": (), "DEPLOY_ID": (),
        "DISK": (*_THROTTLE, "OPENNEBULA_MANAGED", "ORIGINAL_SIZE", "SIZE_IOPS_SEC", "SIZE_PREV"),
        "DISK_COST": (), "EMULATOR": (), "MEMORY_COST": (),
        "NIC": (*_INTERFACE, *_FILTER, *_BANDWIDTH, "EXTERNAL", "OPENNEBULA_MANAGED", "VLAN_TAGGED_ID"),
        "NIC_ALIAS": (*_INTERFACE, *_BANDWIDTH, "OPENNEBULA_MANAGED"),
        "NIC_DEFAULT": (*_INTERFACE, "EXTERNAL", "FILTER"),
        "PCI": (), "RAW": ("DATA",), "TOPOLOGY": ("HUGEPAGE_SIZE", "PIN_POLICY"),
        "USER_INPUTS": ("CPU", "MEMORY", "VCPU"), "USER_PRIORITY": (),
    },
    "image": {"SOURCE": ()},
    # Only those of reservations; other networks have none.
    "vn": {
        "BRIDGE": (), "BRIDGE_CONF": (), "CLUSTER_IDS": (), "CONF": (), "EXTERNAL": (), "FILTER": (),
        "FILTER_IP_SPOOFING": (), "FILTER_MAC_SPOOFING": (), "IP_LINK_CONF": (), "OVS_BRIDGE_CONF": (), "PHYDEV": (),
        "QINQ_TYPE": (), "VN_MAD": (),
    },
    "user": dict.fromkeys(_RULES, ()),
    "group": dict.fromkeys(_RULES, ()),
}
_ATTRIBUTES["template"] = _ATTRIBUTES["vm"]
#: what messages call a new object
_NEW = {"vm": "VM Template", "template": "VM Template", "vn": "VNET Template", "image": "Template"}


def names(kind: str) -> list[str]:
    """Return the restricted attributes of a kind as oned's configuration lists them."""
    return [f"{name}/{part}" if part else name for name, inner in _ATTRIBUTES[kind].items() for part in inner or ("",)]


def check_new(call: Call, kind: str, template: dict, where: str = "") -> None:
    """Refuse restricted attributes of ordinary users. where: what the message says has them. Raises OneError."""
    name = "" if call.is_admin else _first(kind, template)
    if name:
        reason = f"{where or _NEW[kind]} includes a restricted attribute {name}"
        raise OneError(AUTHORIZATION, f"User [{call.user['id']}] : {reason}.")


def check_extra(call: Call, template: dict, base: dict, kind: str = "vm", where: str = "User Template") -> None:
    """Refuse extra attributes of a template that change restricted ones of an ordinary user. Raises OneError."""
    name = "" if call.is_admin else _changed(kind, template, base, append=True)
    if name:
        reason = f"{where} includes a restricted attribute {name}"
        raise OneError(AUTHORIZATION, f"User [{call.user['id']}] : {reason}.")


def check_update(call: Call, kind: str, template: dict, base: dict, append: bool, failed: str) -> dict:
    """Return the new template of an update, with the restricted attributes that only stay. Raises OneError."""
    if call.is_admin or kind not in _ATTRIBUTES:
        return template
    name = _changed(kind, template, base, append)
    if name:
        how = "User Template includes a restricted attribute " if append else "Tried to change restricted attribute: "
        raise OneError(INTERNAL, f"{failed}{how}{name}")
    kept = {name: base[name] for name, inner in _ATTRIBUTES[kind].items() if not inner and name in base}
    return {**kept, **template}


def _first(kind: str, template: dict) -> str:
    for name, inner in _ATTRIBUTES[kind].items():
        if not inner and name in template:
            return name
        for vector in as_list(template.get(name)):
            found = sorted(set(inner) & set(vector)) if isinstance(vector, dict) else []
            if found:
                return found[0]
    return ""


def _changed(kind: str, template: dict, base: dict, append: bool) -> str:
    for name, inner in _ATTRIBUTES[kind].items():
        there = name in template or (bool(inner) and not append and name in base)
        if there and _values(template, name, inner) != _values(base, name, inner):
            return name
    return ""


def _values(template: dict, name: str, inner: tuple[str, ...]) -> object:
    if not inner:
        return template.get(name, "")
    vectors = [vector for vector in as_list(template.get(name)) if isinstance(vector, dict)]
    return sorted(f"{part}={vector[part]}" for vector in vectors for part in inner if part in vector)
