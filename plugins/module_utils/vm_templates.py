# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VM templates of a federation and the rules of their security groups, from settings that are checked."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .context_values import split_address
from .contextualization import ROLES, context_section

# IPv6 networks with more addresses than OpenNebula's rules count are refused.
_SHORTEST_IP6 = 96
_GRAPHICS = ("none", "vnc", "spice")
_PREFIXES = ("vd", "sd", "hd")


def vm_template(
    role: str, settings: Mapping[str, Any], *, image: str, cpu: Any, memory: Any, network: str, service: str, security_groups: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the VM template of a role of a federation in OpenNebula's terms.

    settings: docs/machines.md lists them; those that are not given change nothing. image, network: names. cpu: CPUs. memory: MB. service: name of the
    federation. security_groups: names, for the first NIC.
    :raises ValueError: for an unknown setting or an impossible value; it names both.
    """
    if role not in ROLES:
        raise ValueError(f"there is no role '{role}', expected one of: {', '.join(ROLES)}")
    chosen = _checked(settings)
    queues = chosen["virtio_queues"]
    disk = {"IMAGE": image, "SIZE": chosen["disk_size"], "DEV_PREFIX": chosen["disk_prefix"], **chosen["disk"]}
    first = {"NETWORK": network, "SECURITY_GROUPS": ",".join(security_groups)}
    nics = [{**nic, "MODEL": nic.get("MODEL", chosen["nic_model"]), "VIRTIO_QUEUES": nic.get("VIRTIO_QUEUES", queues)} for nic in (first, *chosen["nics"])]
    template: dict[str, Any] = {
        "CPU": cpu,
        "VCPU": max(math.ceil(float(cpu)), 1),
        "MEMORY": memory,
        "DISK": _given(disk),
        "NIC": [_given(nic) for nic in nics] if len(nics) > 1 else _given(nics[0]),
        "CONTEXT": context_section(role),
        "DESCRIPTION": f"Flower {role} of {service}",
        "CPU_MODEL": _given({"MODEL": chosen["cpu_model"]}),
        "OS": _given({
            "MACHINE": chosen["machine"], "FIRMWARE": chosen["firmware"], "FIRMWARE_SECURE": True if chosen["secure_boot"] else "",
        }),
        "FEATURES": _given({"VIRTIO_BLK_QUEUES": queues, "VIRTIO_SCSI_QUEUES": queues if chosen["disk_prefix"] == "sd" else ""}),
        "GRAPHICS": {} if chosen["graphics"] == "none" else {"TYPE": chosen["graphics"].upper(), "LISTEN": chosen["graphics_listen"]},
        "SCHED_REQUIREMENTS": chosen["placement"],
        "SCHED_RANK": chosen["placement_rank"],
        "PCI": chosen["pci"],
    }  # fmt: skip
    return {name: value for name, value in template.items() if value not in ("", {}, [])}


def security_rules(
    role: str, fleet_address: str, fleet_from: Iterable[str], ssh_from: Iterable[str], metrics_port: int = 0, metrics_from: Iterable[str] = (),
    tunnel_port: int = 0, tunnel_from: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Return the rules of the security group of a role: out to everywhere, in to SSH, the metrics and, for a SuperLink, the Fleet port and that of tunnels.

    fleet_address: what the SuperLink listens at. fleet_from, ssh_from, metrics_from, tunnel_from: names of virtual networks, or networks like
    10.0.0.0/8; nowhere if empty. tunnel_port: UDP.
    :raises ValueError: for a network that cannot be.
    """
    inside = [("TCP", split_address(fleet_address)[1], fleet_from), ("UDP", tunnel_port, tunnel_from)] if role == "superlink" else []
    ports = [("TCP", 22, ssh_from), *inside, ("TCP", metrics_port, metrics_from)]
    inbound = [
        {"RULE_TYPE": "INBOUND", "PROTOCOL": protocol, "RANGE": str(port), **_source(where)} for protocol, port, places in ports for where in places
    ]
    return [{"RULE_TYPE": "OUTBOUND", "PROTOCOL": "ALL"}, *inbound]


def _source(where: Any) -> dict[str, Any]:
    """Return the part of a rule that says where from: nothing for everywhere, else addresses or a virtual network."""
    if not isinstance(where, str) or not where.strip():
        raise ValueError(f"{where!r} is not valid, expected the name of a virtual network or a network like 10.0.0.0/8")
    try:
        network = ipaddress.ip_network(where, strict=False)
    except ValueError:
        if "/" in where and re.fullmatch(r"[0-9a-fA-F.:]+/\d*", where):
            raise ValueError(f"'{where}' is not valid, expected the name of a virtual network or a network like 10.0.0.0/8") from None
        return {"NETWORK": where}
    if network.prefixlen == 0:
        return {}
    if network.version == 6 and network.prefixlen < _SHORTEST_IP6:
        raise ValueError(f"'{where}' is not valid, expected an IPv6 network of /{_SHORTEST_IP6} or smaller, or the name of a virtual network")
    return {"IP": str(network.network_address), "SIZE": network.num_addresses}


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value != ""}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("a text of one line")
    return value.strip()


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of: {', '.join(choice or 'nothing' for choice in choices)}")
        return value

    return check


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _megabytes(value: Any) -> Any:
    if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d*|", str(value)):
        raise ValueError("a whole number of MB")
    return int(value) if value != "" else ""


def _queues(value: Any) -> Any:
    if isinstance(value, bool) or not re.fullmatch(r"auto|[1-9]\d?|", str(value)):
        raise ValueError("auto, for as many as the VM has CPUs, or a number from 1 to 99")
    return value


def _attributes(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a dictionary of attributes in OpenNebula's terms")
    return {str(name).upper(): item for name, item in value.items()}


def _nics(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list of networks' names, or of dictionaries in OpenNebula's terms")
    nics = [{"NETWORK": nic} if isinstance(nic, str) else _attributes(nic) for nic in value]
    if any(not nic.get("NETWORK") and not nic.get("NETWORK_ID") and str(nic.get("NETWORK_MODE")).lower() != "auto" for nic in nics):
        raise ValueError("a NETWORK, a NETWORK_ID or NETWORK_MODE auto in each")
    return nics


def _devices(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list of dictionaries in OpenNebula's terms, one for each device")
    devices = [_attributes(device) for device in value]
    if any(not {"VENDOR", "DEVICE", "CLASS", "SHORT_ADDRESS"} & set(device) for device in devices):
        raise ValueError("a VENDOR, DEVICE, CLASS or SHORT_ADDRESS in each")
    return devices


def _firmware(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(?i)bios|uefi|/\S+|", value):
        raise ValueError("BIOS, UEFI, or the path of a firmware on the hosts")
    return value


# Setting -> its default and what checks a value: it returns that, or raises ValueError with what is expected.
SETTINGS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "cpu_model": ("", _text),
    "machine": ("", _text),
    "firmware": ("", _firmware),
    "secure_boot": (False, _truth),
    "graphics": ("none", _one_of(*_GRAPHICS)),
    "graphics_listen": ("127.0.0.1", _text),
    "virtio_queues": ("", _queues),
    "placement": ("", _text),
    "placement_rank": ("", _text),
    "disk_size": ("", _megabytes),
    "disk_prefix": ("", _one_of("", *_PREFIXES)),
    "disk": ({}, _attributes),
    "nic_model": ("", _text),
    "nics": ([], _nics),
    "pci": ([], _devices),
}


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [str(name) for name in settings if name not in SETTINGS]
    if unknown:
        raise ValueError(f"there is no setting {', '.join(sorted(unknown))} of a VM, expected some of: {', '.join(SETTINGS)}")
    chosen = {}
    for name, (default, check) in SETTINGS.items():
        value = settings.get(name, default)
        try:
            chosen[name] = check(value)
        except ValueError as expected:
            raise ValueError(f"{name} of a VM: {value!r} is not valid, expected {expected}") from None
    if chosen["secure_boot"] and chosen["firmware"].lower() in ("", "bios"):
        raise ValueError("secure_boot of a VM: True is not valid, expected false unless firmware is UEFI or a path")
    return chosen
