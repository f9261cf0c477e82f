# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, disks and PCI devices of virtual machines: which are there and which are wanted."""

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
# One of these says what a part is; NETWORK_MODE leaves it to the scheduler.
_IDENTITIES = {
    "nics": ("NETWORK", "NETWORK_ID", "NETWORK_MODE"), "disks": ("IMAGE", "IMAGE_ID", "SIZE"),
    "pcis": _DEVICE,
}
# What a disk without an image can be.
_VOLATILE = ("fs", "swap")
# The addresses that an interface may be asked for with.
_ADDRESSES = ("IP", "MAC")


class DesiredDevices:
    """The wanted NICs, disks and PCI devices, checked. given: by option. exclusive: whether others go.

    Raises OneException of kind invalid for one that refers to nothing.
    """

    def __init__(self, given: dict[str, list], exclusive: bool, references: References) -> None:
        self._parts = {option: _checked(option, parts) for option, parts in given.items()}
        self._exclusive = exclusive
        self._references = references

    def attributes(self, template: dict) -> dict[str, list[dict]]:
        """Return the attributes of a new VM. Raises OneException of kind invalid for what cannot be said of one.

        template: that of its VM template, whose interfaces and devices share an attribute.
        """
        wanted = {option: [self._resolved(option, part) for part in parts] for option, parts in self._parts.items()}
        result = {}
        for attribute, options in _SHARED.items():
            parts = []
            for option in options:
                kept = present({"TEMPLATE": template}, option)
                parts += [part for part in wanted.get(option, kept) if attribute_of(option, part) == attribute]
            given = [option for option in options if option in wanted]
            if given and not parts and (attribute in template or not any(wanted.values())):
                raise OneException(
                    INVALID, f"{given[0]} leave out {attribute}: a new VM cannot be made without those of its VM template."
                    if wanted[given[0]] else f"{given[0]} is empty: a new VM cannot be made without those of its VM template.",
                )
            if given and parts:
                result[attribute] = parts
        return result

    def _resolved(self, option: str, part: dict) -> dict:
        if option == "pcis":
            return dict(part)
        return self._references.nic(part) if option == "nics" else self._references.disk(part)

    def lists(self, vm: dict) -> dict[str, DeviceList]:
        """Return what has to be done to the parts of a VM, by option."""
        compared = {"nics": DeviceList.of_nics, "disks": DeviceList.of_disks, "pcis": DeviceList.of_pcis}
        return {
            option: compared[option](vm, parts, self._exclusive, self._references) for option, parts in self._parts.items()
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
        for nic, wish in pairs:
            held = {int(number) for number in nic.get("SECURITY_GROUPS", "").split(",") if number}
            lacking = sorted(references.security_groups(wish) - held)
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
        for disk, wish in pairs:
            size = int(device_values.there("DISK", disk).get("SIZE") or 0)
            if wish.get("SIZE") and int(wish["SIZE"]) < size:
                raise OneException(
                    CONFLICT, f"Disk {disk['DISK_ID']} of VM {vm['NAME']!r} (id {vm['ID']}) has {size} MB, "
                              f"it cannot become smaller, {wish['SIZE']} MB.",
                )
            if wish.get("SIZE") and int(wish["SIZE"]) > size:
                sizes[int(disk["DISK_ID"])] = int(wish["SIZE"])
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
        def view(part: dict) -> dict:
            return {name: part[name] for name in (key, *shown) if name in part}

        staying = [part for part in there if part not in surplus]
        return cls(
            before=[view(part) for part in there],
            after=[view(part) for part in staying] + missing,
            detach=surplus,
        )


def present(vm: dict, option: str) -> list[dict]:
    """Return the NICs, disks or PCI devices that a VM has. A PCI device that is an interface counts as one."""
    if option == "nics":
        return vm_facts.interfaces(vm)
    parts = xml.items(xml.section(vm, "TEMPLATE"), _ATTRIBUTES[option])
    return [part for part in parts if part.get("TYPE") != "NIC"] if option == "pcis" else parts


def attribute_of(option: str, part: dict) -> str:
    """Return the attribute that the server knows a part by."""
    return "PCI" if option == "nics" and part.get("TYPE") == "NIC" else _ATTRIBUTES[option]


def _match(there: list[dict], wanted: list[dict], same: Callable[[dict, dict], bool], exclusive: bool) -> tuple:
    """Return (pairs of an existing and a wanted part, wanted ones without, existing ones without)."""
    left, pairs, missing = list(there), [], []
    for wish in wanted:
        found = next((part for part in left if same(part, wish)), None)
        if found is None:
            missing.append(wish)
        else:
            left.remove(found)
            pairs.append((found, wish))
    return pairs, missing, left if exclusive else []


def _same_nic(nic: dict, wish: dict) -> bool:
    if (nic.get("TYPE") == "NIC") != (wish.get("TYPE") == "NIC") or not _same_pci(nic, wish):
        return False
    return _agree("NIC", nic, wish, ("NETWORK", "NETWORK_ID", "IP", "IP6", "MAC"))


def _same_disk(disk: dict, wish: dict) -> bool:
    if wish.keys() & {"IMAGE", "IMAGE_ID"}:
        return _agree("DISK", disk, wish, ("IMAGE", "IMAGE_ID"))
    return "IMAGE_ID" not in disk and _agree("DISK", {**disk, "TYPE": disk.get("TYPE", "").lower()}, wish, ("SIZE", "TYPE"))


def _same_pci(pci: dict, wish: dict) -> bool:
    return _agree("PCI", pci, wish, (*_DEVICE, "PROFILE"))


def _agree(kind: str, part: dict, wish: dict, names: tuple[str, ...]) -> bool:
    """Tell whether a part has the wanted values under these names, as far as they are wanted."""
    known = device_values.there(kind, part)
    return all(known.get(name, "") == wish[name] for name in names if name in wish)


def _checked(option: str, parts: list) -> list[dict]:
    """Return NICs, disks or PCI devices, names in upper case and values in their one form as text."""
    result = []
    for part in parts:
        is_device = option == "nics" and any(str(name).upper() in _DEVICE for name in part)
        kind = "PCI" if is_device else _ATTRIBUTES[option]
        wish = device_values.normal(kind, part, f"one of {option}")
        if is_device:
            # A PCI device with a network.
            wish["TYPE"] = "NIC"
        for key in ("NETWORK", "IMAGE"):
            if lookup.is_id(wish.get(key, "")):
                wish[f"{key}_ID"] = wish.pop(key)
        if not wish.keys() & set(_IDENTITIES[option]):
            raise OneException(INVALID, f"One of {option} is {part!r}, it must have {' or '.join(_IDENTITIES[option])}.")
        result.append(_volatile(wish) if option == "disks" and not wish.keys() & {"IMAGE", "IMAGE_ID"} else wish)
    return result


def _volatile(disk: dict) -> dict:
    """Return a disk without an image with what the server has to be told. Raises OneException of kind invalid."""
    kind = disk.get("TYPE", "fs").lower()
    if kind not in _VOLATILE:
        raise OneException(INVALID, f"One of disks has TYPE {disk['TYPE']} and no image; without one it is {' or '.join(_VOLATILE)}.")
    if int(disk["SIZE"] or 0) < 1:
        raise OneException(INVALID, f"One of disks has SIZE {disk['SIZE']!r}, it must be 1 MB or more.")
    return {**disk, "TYPE": kind, **({"FORMAT": disk.get("FORMAT", "raw")} if kind == "fs" else {})}
