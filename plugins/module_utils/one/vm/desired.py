# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task wants of its VMs, and what that changes in one that exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..core import compare
from ..core.ownership import Ownership
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import CONFLICT, INVALID, OneException

if TYPE_CHECKING:
    from .attributes import DesiredAttributes
    from .devices import DesiredDevices, DeviceList

SIZES = ("CPU", "MEMORY", "VCPU")
# The options that are about devices.
_DEVICES = ("nics", "disks", "pcis")
# Attributes of the user template that the server, its scheduler and OneFlow set.
_SERVER_ATTRIBUTES = frozenset({"ERROR", "ROLE_NAME", "SCHED_MESSAGE", "SERVICE_ID"})
_OPTIONS = {"NAME": "name", "CPU": "cpu", "MEMORY": "memory", "VCPU": "vcpu", "NIC": "nics", "DISK": "disks", "PCI": "pcis"}
# What the server says of every VM by itself.
_SERVERS_OWN = ("DEPLOY_ID", "TEMPLATE_ID", "VMID", "VROUTER_ID")


class Plan(NamedTuple):
    """What has to change in a VM: its state before and after, and what to hand to the server for it.

    devices: by option, those that the task speaks of.
    """

    vm: dict
    before: dict
    after: dict
    size: dict
    configuration: dict
    devices: dict[str, DeviceList]

    def differs(self, name: str) -> bool:
        """Tell whether this part of the state changes."""
        return self.before.get(name) != self.after.get(name)

    @property
    def has_room(self) -> bool:
        """Tell whether the VM was made with room for its new size, so that it can get it while it runs."""
        template = xml.section(self.vm, "TEMPLATE")
        limits = {name: float(template.get(f"{name}_MAX") or 0) for name in ("MEMORY", "VCPU")}
        return any(limits.values()) and all(float(self.size.get(name, 0)) <= limit for name, limit in limits.items())


class DesiredVm:
    """What a task wants of a VM, checked.

    params: the options of the task. unresolved: called with the exception for a name that means nothing; it may raise it.
    Raises OneException of kind invalid.
    """

    def __init__(
        self, client: Client, params: dict, ownership: Ownership, unresolved: Callable[[OneException], None]
    ) -> None:
        self.ownership = ownership
        self.new_name = params["new_name"]
        self.size = {name: params[name.lower()] for name in SIZES if params[name.lower()] is not None}
        _check_positive(self.size)
        if "CPU" in self.size:
            # The server keeps so many digits.
            self.size["CPU"] = float(f"{self.size['CPU']:g}")
        given = {str(name).upper(): value for name, value in (params["template"] or {}).items()}
        for name, option in _OPTIONS.items():
            if name in given:
                raise OneException(INVALID, f"{name} in template: it is the option {option} that says so.")
        for name in _SERVERS_OWN:
            if name in given:
                raise OneException(INVALID, f"{name} in template: the server decides it by itself.")
        self._attributes = _desired_attributes(client, given) if given else None
        devices = {name: params[name] for name in _DEVICES if params[name] is not None}
        self.devices = _desired_devices(client, devices, params["update"] == "replace", unresolved) if devices else None
        self.exclusive = params["update"] == "replace"
        self.drops_attributes = self.exclusive and params["template"] is not None

    def instantiation(self, template: dict) -> dict:
        """Return the attributes that differ from those of the VM template, vectors complete.

        Raises OneException of kind invalid for what cannot be said to the server.
        """
        current = xml.section(template, "TEMPLATE")
        attributes = self._attributes.attributes if self._attributes else {}
        wanted = {**attributes, **self.size, **(self.devices.attributes(current) if self.devices else {})}
        return compare.changes(current, compare.wanted_template(current, wanted))

    def plan(self, vm: dict) -> Plan:
        """Return what has to change in a VM, but for its state."""
        template, user_attributes = xml.section(vm, "TEMPLATE"), xml.section(vm, "USER_TEMPLATE")
        size = {name: template[name] for name in SIZES if name in template}
        target_size = compare.wanted_template(size, self._size(vm))
        own, configuration, target_configuration, told = {}, {}, {}, {}
        if self._attributes:
            own = self._attributes.own(user_attributes)
            configuration, target_configuration, told = self._attributes.configuration(vm)
        target_attributes = compare.wanted_template(user_attributes, own, self.drops_attributes, _SERVER_ATTRIBUTES)
        devices = self.devices.lists(vm) if self.devices else {}
        identity = {"name": vm["NAME"], **self.ownership.before(vm)}
        target_identity = {"name": self.new_name or vm["NAME"], **self.ownership.after(vm)}
        return Plan(
            vm,
            {**identity, "size": size, "configuration": configuration, "attributes": user_attributes,
             **{name: device.before for name, device in devices.items()}},
            {**target_identity, "size": target_size, "configuration": target_configuration,
             "attributes": target_attributes, **{name: device.after for name, device in devices.items()}},
            compare.changes(size, target_size),
            told,
            devices,
        )

    def _size(self, vm: dict) -> dict:
        """Return the wanted size. Raises OneException of kind conflict for one that the VM cannot have."""
        if "CPU" not in self.size:
            return self.size
        cpu = self.size["CPU"]
        template = xml.section(vm, "TEMPLATE")
        policy = xml.section(template, "TOPOLOGY").get("PIN_POLICY") or "NONE"
        vcpu = self.size.get("VCPU", template.get("VCPU"))
        if policy.upper() != "NONE" and cpu != float(vcpu or 1):
            raise OneException(
                CONFLICT, f"VM {vm['NAME']!r} (id {vm['ID']}) has PIN_POLICY {policy}: its cpu is its vcpu, {vcpu}, and cannot become {cpu:g}."
            )
        return self.size


def _desired_attributes(client: Client, given: dict) -> DesiredAttributes:
    from .attributes import DesiredAttributes

    return DesiredAttributes(client, given)


def _desired_devices(
    client: Client, given: dict[str, list], exclusive: bool, unresolved: Callable[[OneException], None]
) -> DesiredDevices:
    from .devices import DesiredDevices
    from .references import References

    return DesiredDevices(given, exclusive, References(client, unresolved))


def _check_positive(size: dict) -> None:
    for name, value in size.items():
        if value <= 0:
            raise OneException(INVALID, f"{name.lower()} is {value}, it must be positive.")
