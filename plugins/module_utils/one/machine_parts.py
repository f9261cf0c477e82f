# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, disks and PCI devices of virtual machines: which are there, which are wanted, what they refer to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from . import resources, xml
from .client import Client
from .errors import INVALID, OneException
from .values import scalar

# One of these says what a part is; NETWORK_MODE leaves it to the scheduler.
_IDENTITIES = {
    "nics": ("NETWORK", "NETWORK_ID", "NETWORK_MODE"), "disks": ("IMAGE", "IMAGE_ID", "SIZE"),
    "pcis": ("SHORT_ADDRESS", "VENDOR", "DEVICE", "CLASS"),
}


def checked_parts(option: str, parts: list | None) -> list[dict] | None:
    """Return NICs, disks or PCI devices, names in upper case and values as text; None if the task says nothing.

    Raises OneException of kind invalid for one that refers to nothing.
    """
    if parts is None:
        return None
    result = []
    for part in parts:
        upper = {str(name).upper(): _text(value) for name, value in part.items()}
        for key in ("NETWORK", "IMAGE"):
            if resources.is_id(upper.get(key, "")):
                upper[f"{key}_ID"] = upper.pop(key)
        if not upper.keys() & set(_IDENTITIES[option]):
            raise OneException(INVALID, f"One of {option} is {part!r}, it must have {' or '.join(_IDENTITIES[option])}.")
        result.append(upper)
    return result


class References:
    """Names of networks, security groups and images, and their ids; each pool is asked for once, when needed.

    unresolved: called with the exception for a name that means nothing; it may raise it.
    """

    def __init__(self, client: Client, unresolved: Callable[[OneException], None]) -> None:
        self._client = client
        self._unresolved = unresolved
        self._pools: dict[str, list[dict]] = {}

    def nic(self, nic: dict) -> dict:
        """Return a wanted NIC with ids in the place of names: the server knows only the user's own by name."""
        return self._with_groups(self._with_id(nic, "NETWORK", "network"))

    def nic_template(self, nic: dict) -> dict:
        """Return a NIC for a VM template: with ids of security groups; its network can stay a name."""
        groups = next((name for name in nic if str(name).upper() == "SECURITY_GROUPS"), None)
        if groups is None:
            return nic
        rest = {name: value for name, value in nic.items() if name != groups}
        return {**rest, **self._with_groups({"SECURITY_GROUPS": _text(nic[groups])})}

    def _with_groups(self, nic: dict) -> dict:
        if "SECURITY_GROUPS" not in nic:
            return nic
        numbers = sorted(self.security_groups(nic))
        return {**nic, "SECURITY_GROUPS": ",".join(str(number) for number in numbers)}

    def disk(self, disk: dict) -> dict:
        """Return a wanted disk with the id in the place of its image's name."""
        return self._with_id(disk, "IMAGE", "image")

    def security_groups(self, nic: dict) -> set[int]:
        """Return the ids of the security groups of a wanted NIC."""
        names = [name.strip() for name in nic.get("SECURITY_GROUPS", "").split(",") if name.strip()]
        numbers = {int(name) for name in names if resources.is_id(name)}
        for name in names:
            if not resources.is_id(name):
                numbers |= self._found("security group", name, self._security_groups)
        return numbers

    @cached_property
    def _security_groups(self) -> list[dict]:
        return self._client.pool("one.secgrouppool.info", "SECURITY_GROUP")

    def _with_id(self, part: dict, key: str, kind: str) -> dict:
        # With an owner said, the name is for the server to resolve.
        if key not in part or part.keys() & {f"{key}_UNAME", f"{key}_UID"}:
            return dict(part)
        if kind not in self._pools:
            self._pools[kind] = resources.pool(self._client, kind)
        found = self._found(resources.KINDS[kind].label, part[key], self._pools[kind])
        return {f"{key}_ID": str(number) for number in found} | {name: part[name] for name in part if name != key}

    def _found(self, label: str, name: str, pool: list[dict]) -> set[int]:
        numbers = [int(item["ID"]) for item in pool if item["NAME"] == name]
        if not numbers:
            self._unresolved(resources.missing(self._client, label, name))
            return set()
        return {resources.only(numbers, label, name)}


@dataclass
class PartList:
    """The NICs, disks or PCI devices of a VM: those to attach, those to detach, and security groups to add, by NIC id."""

    before: list = field(default_factory=list)
    after: list = field(default_factory=list)
    attach: list[dict] = field(default_factory=list)
    detach: list[int] = field(default_factory=list)
    groups: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of_nics(cls, vm: dict, wanted: list[dict] | None, exclusive: bool, references: References) -> PartList:
        """Compare the VM's NICs with the wanted ones; a NIC is known by its network, and IP and MAC where given."""
        there = xml.items(xml.section(vm, "TEMPLATE"), "NIC")
        pairs, missing, surplus = _match(there, wanted, _same_nic, exclusive)
        result = cls._of(there, missing, surplus, "NIC_ID", ("NETWORK", "NETWORK_ID", "IP"))
        result.attach = [references.nic(nic) for nic in missing]
        for nic, wish in pairs:
            present = {int(number) for number in nic.get("SECURITY_GROUPS", "").split(",") if number}
            lacking = sorted(references.security_groups(wish) - present)
            if lacking:
                result.groups[int(nic["NIC_ID"])] = lacking
                result.after.append({"NIC_ID": nic["NIC_ID"], "SECURITY_GROUPS": sorted({*present, *lacking})})
        return result

    @classmethod
    def of_disks(cls, vm: dict, wanted: list[dict] | None, exclusive: bool, references: References) -> PartList:
        """Compare the VM's disks with the wanted ones; a disk is known by its image, a volatile one by its size."""
        there = xml.items(xml.section(vm, "TEMPLATE"), "DISK")
        _pairs, missing, surplus = _match(there, wanted, _same_disk, exclusive)
        result = cls._of(there, missing, surplus, "DISK_ID", ("IMAGE", "IMAGE_ID", "SIZE"))
        result.attach = [references.disk(disk) for disk in missing]
        return result

    @classmethod
    def of_pcis(cls, vm: dict, wanted: list[dict] | None, exclusive: bool) -> PartList:
        """Compare the VM's PCI devices with the wanted ones, known by whatever is said of them."""
        # Those that are interfaces are attached and detached as such.
        there = [pci for pci in xml.items(xml.section(vm, "TEMPLATE"), "PCI") if pci.get("TYPE") != "NIC"]
        _pairs, missing, surplus = _match(there, wanted, _same_pci, exclusive)
        result = cls._of(there, missing, surplus, "PCI_ID", _IDENTITIES["pcis"])
        result.attach = missing
        return result

    @classmethod
    def _of(cls, there: list[dict], missing: list, surplus: list, key: str, shown: tuple[str, ...]) -> PartList:
        def view(part: dict) -> dict:
            return {name: part[name] for name in (key, *shown) if name in part}

        staying = [part for part in there if part not in surplus]
        return cls(
            before=[view(part) for part in there],
            after=[view(part) for part in staying] + missing,
            detach=[int(part[key]) for part in surplus],
        )


def _match(there: list[dict], wanted: list[dict] | None, same: Callable[[dict, dict], bool], exclusive: bool) -> tuple:
    """Return (pairs of an existing and a wanted part, wanted ones without, existing ones without)."""
    if wanted is None:
        return [], [], []
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
    return all(nic.get(name) == wish[name] for name in ("NETWORK", "NETWORK_ID", "IP", "MAC") if name in wish)


def _same_disk(disk: dict, wish: dict) -> bool:
    names = ("IMAGE", "IMAGE_ID") if wish.keys() & {"IMAGE", "IMAGE_ID"} else ("SIZE", "TYPE")
    if names[0] == "SIZE" and "IMAGE_ID" in disk:
        return False
    return all(disk.get(name) == wish[name] for name in names if name in wish)


def _same_pci(pci: dict, wish: dict) -> bool:
    names = [name for name in (*_IDENTITIES["pcis"], "PROFILE") if name in wish]
    return all(pci.get(name, "").lower() == wish[name].lower() for name in names)


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(scalar(item) for item in value)
    return scalar(value)
