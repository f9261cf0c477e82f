# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenNebula has to be told about devices that are passed through: its PCI monitoring, and templates of VMs. No Ansible."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..addresses import hexadecimal, short_pci_address
from ..scalars import whole_number

_OLDEST = (6, 8)
# From here on OpenNebula picks the firmware of the hypervisor itself; before that it wants the path, one of its OVMF_UEFIS.
_PICKS_FIRMWARE = (7, 3)
_FIRMWARE_FILE = "/usr/share/OVMF/OVMF_CODE.fd"
PICKS = ("kind", "address")
PIN_POLICIES = ("CORE", "THREAD", "SHARED", "NONE")
# A filter that no device meets.
_NOTHING = "0:0"


def vm_template(
    devices: list[dict], release: str, cores: int = 1, pick: str = "kind", pin_policy: str = "CORE", firmware: str | None = None
) -> dict:
    """Return the part of a VM template that gives devices to VMs.

    devices: as vfio_info and one_host_info return them. release: OpenNebula's, 7.4. cores: of the VM. pick: any device of the kind, or
    those at the addresses. pin_policy: CORE, THREAD or SHARED pin the VM to CPUs beside the devices. firmware: another than UEFI's.

    :raises ValueError: when OpenNebula would not take it.
    """
    if pick not in PICKS:
        raise ValueError(f"'{pick}' is not a way to pick devices, expected one of {', '.join(PICKS)}")
    if pin_policy not in PIN_POLICIES:
        raise ValueError(f"'{pin_policy}' is not a pin policy, expected one of {', '.join(PIN_POLICIES)}")
    if not devices:
        raise ValueError("there is no device for the VM")
    if not isinstance(devices, list) or not all(isinstance(device, dict) for device in devices):
        raise ValueError(f"{devices!r} is not a list of devices, expected what vfio_info and one_host_info return")
    try:
        cores = whole_number(cores, 1)
    except ValueError:
        raise ValueError(f"a VM with {cores} cores cannot be, expected 1 or more") from None
    pinned = pin_policy != "NONE"
    if pinned:
        _check_nodes(devices)
    template = {
        "CPU": cores,
        "VCPU": cores,
        # The driver reads MACHINE here, and not in FEATURES.
        "OS": {"ARCH": "x86_64", "MACHINE": "q35", "FIRMWARE": firmware or _firmware(release)},
        "CPU_MODEL": {"MODEL": "host-passthrough"},
        "PCI": [_request(device, pick) for device in devices],
    }
    if pinned:
        # One socket is one NUMA node. OpenNebula prefers the node that the devices are on.
        template["TOPOLOGY"] = {"PIN_POLICY": pin_policy, "SOCKETS": 1, "CORES": cores, "THREADS": 1}
    return template


def monitored(filters: str | list[str], devices: Iterable[dict]) -> list[str]:
    """Return the filters of OpenNebula's PCI monitoring that let it see devices, besides what they let it see already.

    filters: vendor:device:class with * or nothing for any, as a list or separated by commas.
    """
    texts = [filters] if isinstance(filters, str) else list(filters)
    numbers = [text for text in texts if not isinstance(text, str)]
    if numbers:
        raise ValueError(f"the filter {numbers[0]!r} is not a text: write it in quotes, as YAML may read digits with a colon as a number")
    kept = [part.strip() for text in texts for part in text.split(",") if part.strip() not in ("", _NOTHING)]
    for device in devices:
        if not any(_lets_see(one, device) for one in kept):
            kept.append(f"{device['vendor']}:{device['device']}")
    return kept


def with_filters(text: str, filters: list[str]) -> str:
    """Return the text of pci.conf with other filters. Comments and other settings stay."""
    lines = "".join(f"  - '{one}'\n" for one in filters)
    setting = re.compile(r"^:filter:.*\n(?:[ \t]*-.*\n)*", re.MULTILINE)
    if not text.endswith("\n"):
        text += "\n"
    return setting.sub(f":filter:\n{lines}", text, count=1) if setting.search(text) else f"{text}:filter:\n{lines}"


def _firmware(release: str) -> str:
    if not isinstance(release, str):
        raise ValueError(f"the release {release!r} is not a text: write it in quotes, as YAML reads 6.10 without them as 6.1")
    match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})(?:\.[0-9A-Za-z.~+-]+)?", release)
    if not match:
        raise ValueError(f"'{release}' is not a release of OpenNebula, expected one such as 7.4")
    number = (int(match.group(1)), int(match.group(2)))
    if number < _OLDEST:
        raise ValueError(f"OpenNebula {release} is too old, expected {'.'.join(map(str, _OLDEST))} or newer")
    return "UEFI" if number >= _PICKS_FIRMWARE else _FIRMWARE_FILE


def _check_nodes(devices: list[dict]) -> None:
    nodes = {device["numa_node"]: device["short_address"] for device in devices if device.get("numa_node") is not None}
    if len(nodes) > 1:
        where = ", ".join(f"{address} on node {node}" for node, address in sorted(nodes.items()))
        raise ValueError(f"the devices are on different NUMA nodes ({where}), and a pinned VM is on one; use devices of one node, or pin_policy NONE")


def _request(device: dict, pick: str) -> dict:
    # OpenNebula refuses both at once.
    names = ["short_address"] if pick == "address" else ["vendor", "device", "class"]
    lacking = [name for name in names if name not in device]
    if lacking:
        raise ValueError(f"the device {device!r} has no {lacking[0]}, expected what vfio_info and one_host_info return")
    form = short_pci_address if pick == "address" else hexadecimal
    return {name.upper(): form(device[name]) for name in names}


def _lets_see(text: str, device: dict) -> bool:
    parts = text.lower().split(":")
    values = (device["vendor"], device["device"], device["class"])
    # A filter may be shorter.
    return all(part in ("", "*") or part.zfill(4) == values[index] for index, part in enumerate(parts[: len(values)]))
