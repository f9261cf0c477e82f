# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to happen so that VMs can have the devices somebody names, and why it must not. No Ansible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..addresses import hexadecimal, pci_address
from .host import Hardware, forbidding_parameters
from .pci import Device

DRIVER = "vfio-pci"
# What a graphics card has beside the graphics: sound, USB, USB-C.
_BESIDE_GRAPHICS = ("0403", "0c03", "0c80")


@dataclass(frozen=True)
class Machine:
    """What is there: devices by address, why some must stay (by address), what VMs have (by address), the running kernel."""

    hardware: Hardware
    devices: dict[str, Device]
    kept: dict[str, str] = field(default_factory=dict)
    in_vms: dict[str, str] = field(default_factory=dict)
    kernel_parameters: list[str] = field(default_factory=list)
    boot_loader: str = ""


@dataclass
class Plan:
    """What is to be done.

    ids: the kinds that were asked for, in their one form. devices: all that VFIO holds in the end. bind, release: addresses whose driver
    changes. deferred: those of bind that only a boot can bind. reboot: why the machine has to boot. problems: why nothing may be done.
    Texts are sentences without a full stop.
    """

    devices: list[Device] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    bind: list[str] = field(default_factory=list)
    release: list[str] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    reboot: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Return what modules give away."""
        return {**self.__dict__, "devices": [device.to_dict() for device in self.devices]}


def make_plan(machine: Machine, addresses: Iterable[str], identities: Iterable[str], configured: Iterable[str], parameters: list[str] | None) -> Plan:
    """Plan for the devices with the addresses and those of the kinds in identities, 10de:26b9.

    configured: addresses of devices that an earlier plan was for; those that are not wanted any more go back to their drivers.
    parameters: of the kernel, instead of those that the machine needs by itself.
    """
    plan = Plan(parameters=machine.hardware.parameters if parameters is None else parameters)
    wanted = _named(machine, addresses, plan) | _of_kind(machine, identities, plan)
    bound = wanted | _companions(machine, wanted)
    plan.devices = [machine.devices[address] for address in sorted(bound)]
    plan.bind = [device.address for device in plan.devices if device.driver != DRIVER]
    plan.release = sorted(address for address in set(configured) - bound if address in machine.devices)
    plan.deferred = [address for address in plan.bind if _holds_fast(machine.devices[address])]
    _refuse_kept(machine, bound, plan)
    _refuse_physical_functions(machine, bound, plan)
    _refuse_shared_groups(machine, bound, plan)
    if bound:
        _look_at_the_machine(machine, plan)
    return plan


def _named(machine: Machine, addresses: Iterable[str], plan: Plan) -> set[str]:
    found = set()
    for text in addresses:
        try:
            address = pci_address(text)
        except ValueError as problem:
            plan.problems.append(str(problem))
            continue
        if address in machine.devices:
            found.add(address)
        else:
            plan.problems.append(f"there is no PCI device {address}")
    return found


def _of_kind(machine: Machine, identities: Iterable[str], plan: Plan) -> set[str]:
    found = set()
    for text in identities:
        vendor, _colon, device_id = text.partition(":")
        try:
            identity = f"{hexadecimal(vendor)}:{hexadecimal(device_id)}"
        except ValueError:
            plan.problems.append(f"{text!r} is not a valid vendor and device id, expected one such as 10de:26b9, in quotes")
            continue
        matching = {address for address, device in machine.devices.items() if device.identity == identity}
        if not matching:
            plan.problems.append(f"there is no PCI device with the vendor and device id {identity}")
        plan.ids.append(identity)
        found |= matching
    return found


def _companions(machine: Machine, wanted: set[str]) -> set[str]:
    """Return the other functions of wanted devices that go with them."""
    return {
        other.address
        for device in (machine.devices[address] for address in wanted)
        for other in machine.devices.values()
        if other.slot == device.slot and other.address not in wanted and _goes_with(other, device)
    }


def _goes_with(other: Device, device: Device) -> bool:
    if device.group is None:
        # Groups are not known before the IOMMU is on; the functions of a graphics card always share one.
        return device.is_display and other.kind in _BESIDE_GRAPHICS
    return other.group == device.group and not other.is_bridge


def _holds_fast(device: Device) -> bool:
    """Tell whether a device's driver may hang instead of letting go."""
    return device.is_display and device.driver not in ("", DRIVER)


def _refuse_kept(machine: Machine, bound: set[str], plan: Plan) -> None:
    for device in plan.devices:
        if device.address in machine.kept:
            plan.problems.append(f"{device.label} {machine.kept[device.address]}; it is never passed through")
        elif device.is_bridge:
            plan.problems.append(f"{device.label} is a bridge, which cannot be passed through")
    for address in plan.bind + plan.release:
        if address in machine.in_vms:
            verb = "taken from its driver" if address in bound else "given back to its driver"
            plan.problems.append(f"{machine.devices[address].label} {machine.in_vms[address]}; it cannot be {verb} now")


def _refuse_physical_functions(machine: Machine, bound: set[str], plan: Plan) -> None:
    """Refuse to change the driver of a device whose virtual functions are needed: they go with the driver that made them."""
    for address in plan.bind + plan.release:
        device = machine.devices[address]
        virtual = [other for other in machine.devices.values() if other.physical == address]
        problems = len(plan.problems)
        for other in virtual:
            if other.address in machine.in_vms or other.address in machine.kept:
                reason = machine.in_vms.get(other.address) or machine.kept[other.address]
                plan.problems.append(f"{device.label} cannot change drivers: its virtual function {other.address} {reason}")
            elif other.address in bound:
                plan.problems.append(f"{device.label} cannot change drivers: its virtual function {other.address}, which would go, is wanted as well")
        if virtual and len(plan.problems) == problems:
            plan.warnings.append(f"{device.label} loses its virtual functions {', '.join(other.address for other in virtual)}")


def _refuse_shared_groups(machine: Machine, bound: set[str], plan: Plan) -> None:
    groups = {device.group: device for device in reversed(plan.devices) if device.group is not None}
    for group, device in sorted(groups.items()):
        others = [
            other.label for other in machine.devices.values()
            if other.group == group and other.address not in bound and not other.is_passed_over
        ]
        if others:
            plan.problems.append(
                f"IOMMU group {group} of {device.label} also holds {', '.join(others)}; list these too, or move the card to another slot"
            )


def _look_at_the_machine(machine: Machine, plan: Plan) -> None:
    plan.problems += [f"{parameter} among the kernel parameters switches the IOMMU off" for parameter in forbidding_parameters(plan.parameters)]
    missing = [parameter for parameter in plan.parameters if parameter not in machine.kernel_parameters]
    if missing:
        plan.reboot.append(f"the running kernel was started without {' '.join(missing)}")
    if not machine.hardware.groups:
        plan.reboot.append("there are no IOMMU groups")
        settings, forbidding = machine.hardware.missing_settings(), forbidding_parameters(machine.kernel_parameters)
        plan.problems += settings
        plan.problems += [
            f"the kernel was started with {parameter}, which no parameter after it undoes; remove it from the boot loader's configuration"
            for parameter in forbidding
        ]
        if not (missing or settings or forbidding):
            plan.problems.append(
                f"there are no IOMMU groups although the kernel was started with {' '.join(plan.parameters)}; see `dmesg | grep -i iommu`"
            )
    for address in plan.deferred:
        device = machine.devices[address]
        plan.reboot.append(f"{device.label} is in its driver's hands, which may hang instead of letting go")
    if missing and not machine.boot_loader:
        plan.problems.append(f"no boot loader was found that could be told {' '.join(missing)}")
    if not machine.hardware.virtualization:
        plan.warnings.append("the CPU shows neither vmx nor svm: switch virtualization (VT-x, SVM) on in the BIOS settings, or no VM will run")
    plan.warnings += [
        f"{device.label} shows this machine's console, which will go dark" for device in plan.devices if device.boot_vga
    ]
