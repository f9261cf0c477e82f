# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, disks and PCI devices of VMs: which are there and which are wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..core import lookup
from ..transport import xml
from ..transport.errors import CONFLICT, INVALID, OneException
from . import device_values
from . import facts as vm_facts

if TYPE_CHECKING:
    from .references import References

_ATTRIBUTES = {"nics": "NIC", "disks": "DISK", "pcis": "PCI"}
# The attributes of a VM, and the options that say something about each.
_SHARED = {"NIC": ("nics",), "DISK": ("disks",), "PCI": ("pcis", "nics")}
# What an interface that is a PCI device is chosen by.
_DEVICE = ("SHORT_ADDRESS", "VENDOR", "DEVICE", "CLASS")
# One of these says what a device is; NETWORK_MODE leaves it to the scheduler.
_IDENTITIES = {
    "nics": ("NETWORK", "NETWORK_ID", "NETWORK_MODE"), "disks": ("IMAGE", "IMAGE_ID", "SIZE"),
    "pcis": _DEVICE,
}
# What a device is chosen by; an empty one says nothing.
_CHOICES = frozenset({*_DEVICE, "PROFILE", "NETWORK", "NETWORK_ID", "IMAGE", "IMAGE_ID", "IP", "IP6", "MAC"})
# What a disk without an image can be.
_VOLATILE = ("fs", "swap")
# The addresses that an interface may be asked for with.
_ADDRESSES = ("IP", "MAC")


class DesiredDevices:
    """The wanted NICs, disks and PCI devices, checked. given: by option. exclusive: whether others go.

    Raises OneException of kind invalid for one that refers to nothing.
    """

    def __init__(self, given: dict[str, list], exclusive: bool, references: References) -> None:
        self._devices = {option: _checked(option, devices) for option, devices in given.items()}
        self._exclusive = exclusive
        self._references = references

    def attributes(self, template: dict) -> dict[str, list[dict]]:
        """Return the attributes of a new VM. Raises OneException of kind invalid for what cannot be said of one.

        template: that of its VM template, whose interfaces and PCI devices share an attribute.
        """
        wanted = {option: [self._resolved(option, device) for device in devices] for option, devices in self._devices.items()}
        result = {}
        for attribute, options in _SHARED.items():
            devices = []
            for option in options:
                kept = present({"TEMPLATE": template}, option)
                devices += [device for device in wanted.get(option, kept) if attribute_of(option, device) == attribute]
            given = [option for option in options if option in wanted]
            if given and not devices and (attribute in template or not any(wanted.values())):
                raise OneException(
                    INVALID, f"{given[0]} leave out {attribute}: a new VM cannot be made without those of its VM template."
                    if wanted[given[0]] else f"{given[0]} is empty: a new VM cannot be made without those of its VM template.",
                )
            if given and devices:
                result[attribute] = devices
        return result

    def _resolved(self, option: str, device: dict) -> dict:
        if option == "pcis":
            return dict(device)
        return self._references.nic(device) if option == "nics" else self._references.disk(device)

    def lists(self, vm: dict) -> dict[str, DeviceList]:
        """Return what has to be done to the devices of a VM, by option."""
        compared = {"nics": DeviceList.of_nics, "disks": DeviceList.of_disks, "pcis": DeviceList.of_pcis}
        return {
            option: compared[option](vm, devices, self._exclusive, self._references) for option, devices in self._devices.items()
        }


@dataclass
class DeviceList:
    """The NICs, disks or PCI devices of a VM: those to attach and to detach, security groups to add and new sizes, by id."""

    before: list = field(default_factory=list)
    after: list = field(default_factory=list)
    attach: list[dict] = field(default_factory=list)
    detach: list[dict] = field(default_factory=list)
    groups: dict[int, list[int]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of_nics(cls, vm: dict, wanted: list[dict], exclusive: bool, references: References) -> DeviceList:
        """Compare the VM's NICs with the wanted ones; a NIC is known by its network, and IP and MAC where given."""
        there = present(vm, "nics")
        pairs, missing, surplus = _match(there, wanted, _same_nic, exclusive)
        result = cls._of(there, missing, surplus, "NIC_ID", ("NETWORK", "NETWORK_ID", "IP"))
        result.attach = [references.nic(nic) for nic in missing]
        for nic in result.attach:
            if nic.keys() & set(_ADDRESSES):
                references.check_addresses(vm, nic, surplus)
        for nic, desired in pairs:
            held = {int(number) for number in nic.get("SECURITY_GROUPS", "").split(",") if number}
            lacking = sorted(references.security_groups(desired) - held)
            if lacking:
                result.groups[int(nic["NIC_ID"])] = lacking
                result.after.append({"NIC_ID": nic["NIC_ID"], "SECURITY_GROUPS": sorted({*held, *lacking})})
        return result

    @classmethod
    def of_disks(cls, vm: dict, wanted: list[dict], exclusive: bool, references: References) -> DeviceList:
        """Compare the VM's disks with the wanted ones; a disk is known by its image, a volatile one by its size.

        Raises OneException of kind conflict for a disk that would have to shrink.
        """
        there = present(vm, "disks")
        pairs, missing, surplus = _match(there, wanted, _same_disk, exclusive)
        sizes = {}
        for disk, desired in pairs:
            size = int(device_values.there("DISK", disk).get("SIZE") or 0)
            if desired.get("SIZE") and int(desired["SIZE"]) < size:
                raise OneException(
                    CONFLICT, f"Disk {disk['DISK_ID']} of VM {vm['NAME']!r} (id {vm['ID']}) has {size} MB, "
                              f"it cannot become smaller, {desired['SIZE']} MB.",
                )
            if desired.get("SIZE") and int(desired["SIZE"]) > size:
                sizes[int(disk["DISK_ID"])] = int(desired["SIZE"])
        result = cls._of(there, missing, surplus, "DISK_ID", ("IMAGE", "IMAGE_ID", "SIZE"))
        result.attach, result.sizes = [references.disk(disk) for disk in missing], sizes
        result.after = [
            {**disk, "SIZE": str(sizes[int(disk["DISK_ID"])])} if int(disk.get("DISK_ID", -1)) in sizes else disk
            for disk in result.after
        ]
        return result

    @classmethod
    def of_pcis(cls, vm: dict, wanted: list[dict], exclusive: bool, _references: References) -> DeviceList:
        """Compare the VM's PCI devices with the wanted ones, known by whatever is said of them."""
        there = present(vm, "pcis")
        _pairs, missing, surplus = _match(there, wanted, _same_pci, exclusive)
        result = cls._of(there, missing, surplus, "PCI_ID", _IDENTITIES["pcis"])
        result.attach = missing
        return result

    @classmethod
    def _of(cls, there: list[dict], missing: list, surplus: list, key: str, shown: tuple[str, ...]) -> DeviceList:
        def view(device: dict) -> dict:
            return {name: device[name] for name in (key, *shown) if name in device}

        staying = [device for device in there if device not in surplus]
        return cls(
            before=[view(device) for device in there],
            after=[view(device) for device in staying] + missing,
            detach=surplus,
        )


def present(vm: dict, option: str) -> list[dict]:
    """Return the NICs, disks or PCI devices that a VM has. A PCI device that is an interface counts as one."""
    if option == "nics":
        return vm_facts.interfaces(vm)
    devices = xml.items(xml.section(vm, "TEMPLATE"), _ATTRIBUTES[option])
    return [device for device in devices if device.get("TYPE") != "NIC"] if option == "pcis" else devices


def attribute_of(option: str, device: dict) -> str:
    """Return the attribute that the server knows a device by."""
    return "PCI" if option == "nics" and device.get("TYPE") == "NIC" else _ATTRIBUTES[option]


def _match(there: list[dict], wanted: list[dict], same: Callable[[dict, dict], bool], exclusive: bool) -> tuple:
    """Return (pairs of an existing and a wanted device, wanted ones without, existing ones without)."""
    left, pairs, missing = list(there), [], []
    for desired in wanted:
        found = next((device for device in left if same(device, desired)), None)
        if found is None:
            missing.append(desired)
        else:
            left.remove(found)
            pairs.append((found, desired))
    return pairs, missing, left if exclusive else []


def _same_nic(nic: dict, desired: dict) -> bool:
    if (nic.get("TYPE") == "NIC") != (desired.get("TYPE") == "NIC") or not _same_pci(nic, desired):
        return False
    return _agree("NIC", nic, desired, ("NETWORK", "NETWORK_ID", "IP", "IP6", "MAC"))


def _same_disk(disk: dict, desired: dict) -> bool:
    if desired.keys() & {"IMAGE", "IMAGE_ID"}:
        return _agree("DISK", disk, desired, ("IMAGE", "IMAGE_ID"))
    return "IMAGE_ID" not in disk and _agree("DISK", {**disk, "TYPE": disk.get("TYPE", "").lower()}, desired, ("SIZE", "TYPE"))


def _same_pci(pci: dict, desired: dict) -> bool:
    return _agree("PCI", pci, desired, (*_DEVICE, "PROFILE"))


def _agree(kind: str, device: dict, desired: dict, names: tuple[str, ...]) -> bool:
    """Tell whether a device has the wanted values under these names, as far as they are wanted."""
    known = device_values.there(kind, device)
    return all(known.get(name, "") == desired[name] for name in names if name in desired)


def _checked(option: str, devices: list) -> list[dict]:
    """Return NICs, disks or PCI devices, names in upper case and values in their one form as text."""
    result = []
    for device in devices:
        given = {name: value for name, value in device.items() if value not in (None, "") or str(name).upper() not in _CHOICES}
        is_device = option == "nics" and any(str(name).upper() in _DEVICE for name in given)
        kind = "PCI" if is_device else _ATTRIBUTES[option]
        desired = device_values.normal(kind, given, f"one of {option}")
        if is_device:
            # A PCI device with a network.
            desired["TYPE"] = "NIC"
        for key in ("NETWORK", "IMAGE"):
            if lookup.is_id(desired.get(key, "")):
                number = str(int(desired.pop(key)))
                if desired.setdefault(f"{key}_ID", number) != number:
                    raise OneException(INVALID, f"One of {option} is {device!r}, which names two of them: {key} and {key}_ID differ.")
        if not desired.keys() & set(_IDENTITIES[option]):
            raise OneException(INVALID, f"One of {option} is {device!r}, it must have {' or '.join(_IDENTITIES[option])}.")
        result.append(_volatile(desired) if option == "disks" and not desired.keys() & {"IMAGE", "IMAGE_ID"} else desired)
    return result


def _volatile(disk: dict) -> dict:
    """Return a disk without an image with what the server has to be told. Raises OneException of kind invalid."""
    kind = disk.get("TYPE", "fs").lower()
    if kind not in _VOLATILE:
        raise OneException(INVALID, f"One of disks has TYPE {disk['TYPE']} and no image; without one it is {' or '.join(_VOLATILE)}.")
    if int(disk["SIZE"] or 0) < 1:
        raise OneException(INVALID, f"One of disks has SIZE {disk['SIZE']!r}, it must be 1 MB or more.")
    return {**disk, "TYPE": kind, **({"FORMAT": disk.get("FORMAT", "raw")} if kind == "fs" else {})}
