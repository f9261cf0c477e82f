# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs a task is about: one by name or id, or a numbered set of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ..core import compare, lookup, states
from ..core.compare import Transition
from ..core.ownership import Ownership
from ..transport.client import Client
from ..transport.errors import INVALID, WRONG_STATE, OneException
from . import facts as vm_facts
from .desired import DesiredVm
from .diff import GOALS, VmDiff

if TYPE_CHECKING:
    from ..core.patterns import NumberedNames
    from .apply import VmChanger
    from .create import VmCreation

_DONE = "DONE"
_NOT_IN_NAMES = re.compile(r"""[&|:\\";/'#{}$<>]""")


class VmSelection:
    """The VMs of a task.

    params: the task's options. unresolved: called with the exception for a reference that means nothing yet; it may
    raise it.
    """

    def __init__(
        self,
        client: Client,
        params: dict,
        unresolved: Callable[[OneException], None],
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._params = params
        self._unresolved = unresolved
        self._name = params["name"]
        self._numbers = _numbered(self._name) if "#" in self._name else None
        self._check_options()
        self._ownership = Ownership(client, params)
        self._desired = DesiredVm(client, params, self._ownership, unresolved)
        self._progress = progress

    def transition(self) -> Transition:
        """Return the way from the VMs that there are to those that the task wants, both by name. Raises OneException."""
        found = self._found()
        leaving = [vm for vm in found if vm_facts.leads_to(states.vm_state(vm)) == _DONE]
        there = [vm for vm in found if vm not in leaving]
        if self._params["state"] == "absent":
            return self._removal(there, leaving)
        self._check_unique(there)
        new, surplus = self._counted(there)
        changes = [self._change(vm) for vm in there if vm not in surplus]
        creation = self._creation() if new else None
        before = {change.vm["NAME"]: change.before for change in changes}
        after = {change.vm["NAME"]: change.after for change in changes}
        before |= {vm["NAME"]: _standing(vm) for vm in surplus}
        goal = GOALS.get(self._params["state"], "RUNNING")
        after |= {name: {"name": name, "state": goal, "template": creation.attributes} for name in new}
        self._check_storable(new, changes, creation.attributes if creation else {})
        kept = [change.vm for change in changes]

        def apply() -> dict:
            is_needed = any(change.is_needed for change in changes)
            if is_needed:
                self._changer.apply(changes)
            made = creation.create(new, self._changer) if creation else []
            if surplus:
                self._changer.end(surplus, [])
            return {"vms": self._facts([*kept, *made], stale=is_needed or before != after)}

        return Transition(before, after, lambda: {"vms": [vm_facts.facts(vm) for vm in kept] + [{"name": name} for name in new]}, apply)

    def _check_options(self) -> None:
        count, state = self._params["count"], self._params["state"]
        if count is not None and not self._numbers:
            raise OneException(INVALID, f"count needs a name with # in the place of the number, not {self._name!r}.")
        if count is not None and count < 0:
            raise OneException(INVALID, f"count is {count}, it must be 0 or more.")
        if count is not None and state == "absent":
            raise OneException(INVALID, "count cannot be combined with state absent, which is about all VMs of the set.")
        if self._params["new_name"] is not None and (self._numbers or not self._params["new_name"]):
            raise OneException(INVALID, "new_name is for a single VM, and cannot be empty.")

    def _found(self) -> list[dict]:
        """Return the VMs the task means, in the order of their ids."""
        if lookup.is_id(self._name):
            found = list(vm_facts.by_id(self._client, [int(self._name)], vm_facts.ANY_STATE).values())
            if self._params["state"] != "absent":
                self._check_alive(found)
            return found
        listed = sorted(vm_facts.listing(self._client), key=lambda vm: int(vm["ID"]))
        if self._numbers:
            return self._own([vm for vm in listed if self._numbers.has(vm["NAME"])])
        names = [self._name] + ([self._params["new_name"]] if self._params["new_name"] else [])
        return next(filter(None, (self._own([vm for vm in listed if vm["NAME"] == name]) for name in names)), [])

    def _own(self, named: list[dict]) -> list[dict]:
        """Return the VMs of the task's owner and of the user who asks: others can use their names.

        Without any, and without an owner in the task, those of others are meant.
        """
        owner = self._params["owner"]
        preferred = lookup.of_owners(named, owner)
        taken = {vm["NAME"] for vm in preferred}
        own = preferred + [vm for vm in lookup.of_owners(named, self._client.username) if vm["NAME"] not in taken]
        others = ", ".join(f"{vm['ID']} of {vm['UNAME']}" for vm in named if vm not in own)
        if others and (own or owner is not None):
            self._client.warn(f"VMs of other users have a name of the task's too and are left alone: {others}.")
        elif others:
            self._client.warn(f"What {self._name!r} means belongs to other users: VM {others}; use ids if they are meant.")
        return own if own or owner is not None else named

    def _check_alive(self, found: list[dict]) -> None:
        if not found:
            raise lookup.missing(self._client, "VM", self._name)
        if vm_facts.leads_to(states.vm_state(found[0])) == _DONE:
            raise OneException(WRONG_STATE, f"{vm_facts.label(found[0])} is {states.vm_state(found[0])}: it is gone for good.")

    def _check_storable(self, new: list[str], changes: list[VmDiff], attributes: dict) -> None:
        """Refuse names and attributes that the server cannot keep, before anything is changed.

        Raises OneException of kind invalid, and TemplateSyntaxError.
        """
        renamed = [change.after["name"] for change in changes if change.after["name"] != change.vm["NAME"]]
        for name in (*new, *renamed):
            wrong = _NOT_IN_NAMES.search(name)
            if wrong:
                raise OneException(INVALID, f"VM name {name!r} has {wrong[0]!r}, which OpenNebula allows in no name.")
        changed = [compare.changes(change.before[part], change.after[part]) for change in changes for part in ("attributes", "configuration")]
        for template in filter(None, (attributes, *changed)):
            from ..transport.template import render

            render(template)

    def _check_unique(self, there: list[dict]) -> None:
        for name in sorted({vm["NAME"] for vm in there}):
            alike = [vm for vm in there if vm["NAME"] == name]
            if len(alike) > 1:
                lookup.named(self._client, "VM", alike, name)

    def _counted(self, there: list[dict]) -> tuple[list[str], list[dict]]:
        """Return the names of VMs to make and the VMs that are too many."""
        if not self._numbers:
            return ([] if there else [self._params["new_name"] or self._name]), []
        count = self._params["count"]
        if count is None:
            return [], []
        by_number = {self._numbers.number(vm["NAME"]): vm for vm in there}
        new = self._numbers.free(by_number.keys(), count - len(there))
        return new, [by_number[number] for number in sorted(by_number)][count:]

    def _change(self, vm: dict) -> VmDiff:
        plan = self._desired.plan(vm)
        self._ownership.check(plan.before, plan.after, self._unresolved)
        return VmDiff(plan, self._params["state"], self._params["restart"], self._params["wait"])

    def _creation(self) -> VmCreation:
        from .create import VmCreation

        return VmCreation(self._client, self._params, self._desired, self._unresolved)

    @cached_property
    def _changer(self) -> VmChanger:
        from .apply import VmChanger

        return VmChanger(self._client, self._params, self._ownership, self._progress)

    def _removal(self, there: list[dict], leaving: list[dict]) -> Transition:
        if not self._numbers:
            self._check_unique(there)
        leaving = [vm for vm in leaving if states.vm_state(vm) != _DONE]

        def apply() -> dict:
            self._changer.end(there, leaving)
            return {"vms": []}

        return Transition({vm["NAME"]: _standing(vm) for vm in there}, {}, lambda: {"vms": []}, apply if there or leaving else None)

    def _facts(self, vms: list[dict], stale: bool) -> list[dict]:
        if stale:
            vms = list(vm_facts.by_id(self._client, (int(vm["ID"]) for vm in vms)).values())
        vm_facts.warn_of_odd(self._client, vms)
        return [vm_facts.facts(vm) for vm in sorted(vms, key=lambda vm: int(vm["ID"]))]


def _numbered(name: str) -> NumberedNames:
    from ..core.patterns import NumberedNames

    return NumberedNames(name)


def _standing(vm: dict) -> dict:
    return {"name": vm["NAME"], "state": states.vm_state(vm)}
