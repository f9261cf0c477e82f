# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""PCI devices of hosts: which a VM asks for, and which it gets."""

from __future__ import annotations

from lab.core.call import as_list

#: by these, in hexadecimal, any device of a kind is meant; SHORT_ADDRESS means one device
_KIND = ("VENDOR", "DEVICE", "CLASS")
_GIVEN = ("ADDRESS", "BUS", "CLASS", "DEVICE", "DOMAIN", "FUNCTION", "SHORT_ADDRESS", "SLOT", "VENDOR")


def owners(machines: list[dict]) -> dict[str, int]:
    """Return the VM of each device that one has, by the device's address. machines: the VMs of one host."""
    return {pci["ADDRESS"]: vm["id"] for vm in machines for pci in as_list(vm["template"].get("PCI")) if "ADDRESS" in pci}


def problem(request: dict) -> str:
    """Return what is wrong with a PCI attribute, empty if nothing is."""
    kind = [name for name in _KIND if request.get(name)]
    for name in kind:
        try:
            int(request[name], 16)
        except ValueError:
            return f"Wrong Hex value for PCI attribute {name}"
    if not kind and not request.get("SHORT_ADDRESS"):
        return "SHORT_ADDRESS, DEVICE, VENDOR or CLASS must be defined for PCI."
    if kind and request.get("SHORT_ADDRESS"):
        return "SHORT_ADDRESS cannot be set with DEVICE, VENDOR or CLASS"
    return ""


def choose(host: dict, machines: list[dict], requests: list[dict]) -> list[dict] | None:
    """Return a free device of the host for each PCI attribute, None if there are not enough.

    machines: the VMs on the host. Attributes that mean one device go first, so that no other gets it.
    """
    taken = owners(machines)
    free = [device for device in host.get("devices", ()) if device["ADDRESS"] not in taken]
    chosen: dict[int, dict] = {}
    for number in sorted(range(len(requests)), key=lambda number: "SHORT_ADDRESS" not in requests[number]):
        device = next((device for device in free if _is_meant(device, requests[number])), None)
        if device is None:
            return None
        free.remove(device)
        chosen[number] = device
    return [chosen[number] for number in range(len(requests))]


def give(requests: list[dict], chosen: list[dict]) -> None:
    """Note in the PCI attributes which devices they got."""
    for request, device in zip(requests, chosen, strict=True):
        request |= {name: device[name] for name in _GIVEN if name in device}


def _is_meant(device: dict, request: dict) -> bool:
    if request.get("SHORT_ADDRESS"):
        return device["SHORT_ADDRESS"] == request["SHORT_ADDRESS"]
    return all(int(device[name], 16) == int(request[name], 16) for name in _KIND if request.get(name))
