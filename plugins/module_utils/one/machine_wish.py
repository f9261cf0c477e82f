# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task wants of its virtual machines, and what that means for one that exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from . import compare, xml
from .client import Client
from .errors import INVALID, OneException
from .ownership import Ownership
from .values import scalar

if TYPE_CHECKING:
    from .machine_parts import PartList, PartsWish

SIZES = ("CPU", "MEMORY", "VCPU")
# The options that are about parts.
_PARTS = ("nics", "disks", "pcis")
# What updateconf changes in a VM that exists.
_CONFIGURATION = frozenset({"CONTEXT", "CPU_MODEL", "FEATURES", "GRAPHICS", "INPUT", "OS", "RAW", "VIDEO"})
# What only counts when a VM is made.
_FIXED = frozenset({
    "BACKUP_CONFIG", "CPU_COST", "DISK_COST", "EMULATOR", "MEMORY_COST", "MEMORY_MAX", "MEMORY_RESIZE_MODE",
    "MEMORY_SLOTS", "NIC_ALIAS", "NIC_DEFAULT", "NUMA_NODE", "SCHED_ACTION", "SUBMIT_ON_HOLD", "TM_MAD_SYSTEM",
    "TOPOLOGY", "TPM", "VCPU_MAX", "VMGROUP",
})
# Attributes of the user template that the server, its scheduler and OneFlow set.
_SERVER_ATTRIBUTES = frozenset({"ERROR", "ROLE_NAME", "SCHED_MESSAGE", "SERVICE_ID"})
_OPTIONS = {"NAME": "name", "CPU": "cpu", "MEMORY": "memory", "VCPU": "vcpu", "NIC": "nics", "DISK": "disks", "PCI": "pcis"}


class Plan(NamedTuple):
    """What has to change in a VM: its state before and after, and what to hand to the server for it.

    parts: by option, those that the task speaks of.
    """

    vm: dict
    before: dict
    after: dict
    size: dict
    configuration: dict
    parts: dict[str, PartList]

    def differs(self, name: str) -> bool:
        """Tell whether this part of the state changes."""
        return self.before.get(name) != self.after.get(name)

    @property
    def has_room(self) -> bool:
        """Tell whether the VM was made with room for its new size, so that it can get it while it runs."""
        machine = xml.section(self.vm, "TEMPLATE")
        limits = {name: float(machine.get(f"{name}_MAX") or 0) for name in ("MEMORY", "VCPU")}
        return any(limits.values()) and all(float(self.size.get(name, 0)) <= limit for name, limit in limits.items())


class MachineWish:
    """The wish, checked.

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
        self.attributes = {str(name).upper(): value for name, value in (params["template"] or {}).items()}
        for name, option in _OPTIONS.items():
            if name in self.attributes:
                raise OneException(INVALID, f"{name} in template: it is the option {option} that says so.")
        parts = {name: params[name] for name in _PARTS if params[name] is not None}
        self.parts = _parts_wish(client, parts, params["update"] == "replace", unresolved) if parts else None
        self.exclusive = params["update"] == "replace"
        self.drops_attributes = self.exclusive and params["template"] is not None

    def instantiation(self, template: dict) -> dict:
        """Return the attributes that differ from those of the VM template, vectors complete.

        Raises OneException of kind invalid for what cannot be said to the server.
        """
        current = xml.section(template, "TEMPLATE")
        wanted = {**self.attributes, **self.size, **(self.parts.attributes() if self.parts else {})}
        return compare.changes(current, compare.wanted_template(current, wanted))

    def plan(self, vm: dict) -> Plan:
        """Return what has to change in a VM, but for its state."""
        machine, user_attributes = xml.section(vm, "TEMPLATE"), xml.section(vm, "USER_TEMPLATE")
        size = {name: machine[name] for name in SIZES if name in machine}
        configuration = {name: value for name, value in machine.items() if name in _CONFIGURATION}
        target_size = compare.wanted_template(size, self.size)
        target_configuration = compare.wanted_template(configuration, self._configuration(configuration))
        own = {
            name: value for name, value in self.attributes.items() if name not in _FIXED and name not in _CONFIGURATION
        }
        target_attributes = compare.wanted_template(user_attributes, own, self.drops_attributes, _SERVER_ATTRIBUTES)
        parts = self.parts.lists(vm) if self.parts else {}
        identity = {"name": vm["NAME"], **self.ownership.before(vm)}
        target_identity = {"name": self.new_name or vm["NAME"], **self.ownership.after(vm)}
        return Plan(
            vm,
            {**identity, "size": size, "configuration": configuration, "attributes": user_attributes,
             **{name: part.before for name, part in parts.items()}},
            {**target_identity, "size": target_size, "configuration": target_configuration,
             "attributes": target_attributes, **{name: part.after for name, part in parts.items()}},
            compare.changes(size, target_size),
            _changed_keys(configuration, target_configuration),
            parts,
        )

    def _configuration(self, current: dict) -> dict:
        """What is wanted of the configuration; the server keeps variables of a context with their values filled in."""
        wanted = {name: value for name, value in self.attributes.items() if name in _CONFIGURATION}
        there = current.get("CONTEXT")
        if isinstance(wanted.get("CONTEXT"), dict) and isinstance(there, dict):
            wanted["CONTEXT"] = {
                name: value for name, value in wanted["CONTEXT"].items()
                if "$" not in scalar(value) or str(name).upper() not in there
            }
        return wanted


def _parts_wish(
    client: Client, given: dict[str, list], exclusive: bool, unresolved: Callable[[OneException], None]
) -> PartsWish:
    from .machine_parts import PartsWish
    from .references import References

    return PartsWish(given, exclusive, References(client, unresolved))


def _check_positive(size: dict) -> None:
    for name, value in size.items():
        if value <= 0:
            raise OneException(INVALID, f"{name.lower()} is {value}, it must be positive.")


def _changed_keys(current: dict, target: dict) -> dict:
    """Return the changed attributes, of vectors only the changed keys: updateconf merges inside vectors."""
    changed = compare.changes(current, target)
    return {
        name: compare.changes(current[name], value)
        if isinstance(value, dict) and isinstance(current.get(name), dict) else value
        for name, value in changed.items()
    }
