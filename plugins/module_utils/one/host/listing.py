# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing hosts out of one listing, and what is returned of each."""

from __future__ import annotations

from collections.abc import Callable

from ... import addresses
from ..core import lookup, patterns, states
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import INVALID, OneException
from ..transport.values import scalar
from ..vm import facts as vm_facts
from . import facts as host_facts

# What is returned of a PCI device, and the attribute it comes from.
_DEVICE = {
    "address": "ADDRESS", "short_address": "SHORT_ADDRESS", "vendor": "VENDOR", "vendor_name": "VENDOR_NAME",
    "device": "DEVICE", "device_name": "DEVICE_NAME", "class": "CLASS", "class_name": "CLASS_NAME",
    "interface": "IFNAME", "profiles": "PROFILES",
}
# Those of them that are values with more than one spelling.
_FORMS = {
    "address": addresses.pci_address, "short_address": addresses.short_pci_address, "vendor": addresses.hexadecimal,
    "device": addresses.hexadecimal, "class": addresses.hexadecimal,
}
# OpenNebula's words for nothing.
_NOTHING = "-"
_PERCENT = 100
_KB = 1024


def listed(client: Client, params: dict) -> list[dict]:
    """Return the facts about the hosts that meet every filter, in the order of their ids.

    params: name, cluster, states, attributes and pci_device; None or empty for those that are not given.
    Raises OneException of kind invalid for a filter that cannot hold.
    """
    wanted_states = {state.upper() for state in params["states"]}
    for state in sorted(wanted_states - set(states.HOST)):
        raise OneException(INVALID, f"{state!r} is not a state of a host; the states are {', '.join(states.HOST)}.")
    for name in sorted(map(str, params["pci_device"].keys() - _DEVICE.keys())):
        raise OneException(INVALID, f"{name!r} is nothing a PCI device has; that is {', '.join(_DEVICE)}.")
    is_device = _device_matcher(params["pci_device"])
    found = [
        host for host in lookup.pool(client, "host")
        if _is_named(params["name"], host["ID"], host["NAME"])
        and _is_named(params["cluster"], host["CLUSTER_ID"], host["CLUSTER"])
        and (not wanted_states or host_facts.state(host) in wanted_states)
        and _has(xml.section(host, "TEMPLATE"), params["attributes"])
        and (not params["pci_device"] or any(is_device(device) for device in _devices(host)))
    ]
    users = _users(client) if any(_user_id(device) is not None for host in found for device in _devices(host)) else {}
    return [_facts(host, users) for host in sorted(found, key=lambda host: int(host["ID"]))]


def _is_named(pattern: str | None, number: str, name: str) -> bool:
    if pattern is None:
        return True
    return int(pattern) == int(number) if lookup.is_id(pattern) else patterns.matcher(pattern)(name)


def _has(template: dict, attributes: dict) -> bool:
    for name, value in attributes.items():
        there = template.get(str(name).upper())
        if not isinstance(there, str) or not patterns.matcher(scalar(value))(there):
            return False
    return True


def _device_matcher(wanted: dict) -> Callable[[dict], bool]:
    matchers = {name: _value_matcher(name, value) for name, value in wanted.items()}
    return lambda device: all(matches(device.get(_DEVICE[name], "")) for name, matches in matchers.items())


def _value_matcher(name: str, value: object) -> Callable[[str], bool]:
    if name not in _FORMS:
        return _pattern_matcher(value)
    form = _FORMS[name]
    if isinstance(value, str) and patterns.is_pattern(value):
        matches = _pattern_matcher(value)
        return lambda text: matches(text) or matches(_one_form(form, text))
    try:
        meant = form(value)
    except ValueError as error:
        raise OneException(INVALID, f"{name} of pci_device: {error}.") from None
    return lambda text: _one_form(form, text) == meant


def _pattern_matcher(value: object) -> Callable[[str], bool]:
    matches = patterns.matcher(scalar(value).lower())
    return lambda text: matches(text.lower())


def _one_form(form: Callable[[object], str], text: str) -> str:
    """Return what the server says in its one form, or as it is where it is no such value."""
    try:
        return form(text)
    except ValueError:
        return text


def _devices(host: dict) -> list[dict]:
    return xml.vectors(xml.section(host, "HOST_SHARE", "PCI_DEVICES"), "PCI")


def _user_id(device: dict) -> int | None:
    number = int(device.get("VMID") or -1)
    return number if number >= 0 else None


def _users(client: Client) -> dict[int, dict]:
    """Return the VMs that are not DONE, by id."""
    return {int(vm["ID"]): vm for vm in client.pool("one.vmpool.info", "VM", vm_facts.NOT_DONE)}


def _facts(host: dict, users: dict[int, dict]) -> dict:
    share = xml.section(host, "HOST_SHARE")
    return {
        "id": int(host["ID"]),
        "name": host["NAME"],
        "status": host_facts.status(host),
        "state": host_facts.state(host),
        "reason": host_facts.reason(host),
        "cluster": host["CLUSTER"],
        "cluster_id": int(host["CLUSTER_ID"]),
        "im_mad": host["IM_MAD"],
        "vm_mad": host["VM_MAD"],
        "cpu": {name: amount / _PERCENT for name, amount in _capacity(share, "CPU").items()},
        "memory": {name: amount // _KB for name, amount in _capacity(share, "MEM").items()},
        "vms": [int(number) for number in xml.items(xml.section(host, "VMS"), "ID")],
        "pci_devices": [_device_facts(device, users) for device in _devices(host)],
        "template": xml.section(host, "TEMPLATE"),
    }


def _capacity(share: dict, what: str) -> dict[str, int]:
    total, usable, used = (int(share.get(name) or 0) for name in (f"TOTAL_{what}", f"MAX_{what}", f"{what}_USAGE"))
    return {"total": total, "usable": usable, "used": used, "free": usable - used}


def _device_facts(device: dict, users: dict[int, dict]) -> dict:
    texts = {name: device.get(attribute, "") for name, attribute in _DEVICE.items()}
    user = _user_id(device)
    vm = users.get(user, {})
    node = device.get("NUMA_NODE", _NOTHING)
    return {
        **{name: "" if text == _NOTHING else text for name, text in texts.items()},
        "numa_node": int(node) if node.isdigit() else None,
        "vm_id": user,
        "vm": vm.get("NAME", ""),
        "owner": vm.get("UNAME", ""),
    }
