# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every state module goes from what is there to what its task wants.

The frame is the same for all of them: ``OneModule.reconcile`` takes a ``Transition``, which is the current state, the desired
one and the way between them. Looking up and checking come before it, so that a task that cannot be carried out changes nothing;
in check mode nothing is applied and the predicted facts are returned; ``changed`` and the difference follow from the two
states; what is applied waits, with the deadline of the task, and returns what there is then. Both are in files that every
module loads anyway, since this one costs a run that does without it.

``ReconciledObject`` fills the frame for what one task names and OpenNebula keeps in one document: clusters, datastores, groups,
hosts, images, marketplace apps, security groups, service templates, users, virtual data centers, virtual networks and VM
templates. The others fill it by themselves, since they would override every step of it:

- ACL rules (one_acl) have neither name nor template. A task is about several, and a rule never changes: it is there or not.
- A quota (one_quota) is a part of a user or group that others make and remove. Its absence is a set of defaults.
- VMs (one_vm) may be a numbered set, of which some are made, some changed and some terminated in step with each other, and
  desired is also whether they run.
- A service (one_service) is started by merging into a template, and then changed role by role, since OneFlow takes one action
  at a time and only from a service at rest. What is left to do is therefore compared again after every wait.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ..transport import xml
from ..transport.errors import INVALID, OneException
from . import compare, lookup
from .compare import Transition

if TYPE_CHECKING:
    from ...module import OneModule
    from .membership import Directory, Members
    from .ownership import Ownership


class ReconciledObject(ABC):
    """One object and what the task wants of it.

    What is compared is a dictionary with at least ``name`` and ``template``: ``attributes`` reads it from the server's
    document, ``desired`` says what it should be. Everything else follows from the difference of the two.
    """

    #: in lookup.KINDS
    kind: str
    #: the name of the object in the module's result
    fact: str
    #: whether it has an owner, a group and permissions, which the task may name; ownership.OPTIONS are its options then
    owned = False
    #: attributes that the server keeps in the template but that are options of the module, and those options
    own: dict[str, str] = {}
    #: attributes that the server sets in the template by itself
    server: Collection[str] = ()
    #: those of them that it sets whatever it is told
    read_only: Collection[str] = ()
    #: attributes that the server makes empty with every object, which means the same as none
    blank: Collection[str] = ()

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        # The task may name it by its id.
        self.called = self.name
        self.ownership = self._ownership() if self.owned else None

    @abstractmethod
    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""

    @abstractmethod
    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be; before is empty for a new object. Raises OneException."""

    @abstractmethod
    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""

    @abstractmethod
    def create(self, after: dict) -> int:
        """Create the object and return its id."""

    @abstractmethod
    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the object."""

    def predicted(self, current: dict, after: dict) -> dict:
        """Return the facts as they would be; current is empty for a new object."""
        return {**(self.facts(current) if current else {}), **after}

    def find(self) -> dict | None:
        """Return the object's document, None if there is no such object. Raises OneException."""
        return lookup.find(self.client, self.kind, self.name, self.params.get("owner"))

    def read(self, number: int) -> dict:
        """Return the object's document. Raises OneException."""
        return lookup.require(self.client, self.kind, number)

    def settled(self, number: int, document: dict | None) -> dict:
        """Return the object's document once it is as wanted, document being the last one known."""
        return document or self.read(number)

    def transition(self) -> Transition:
        """Return the way from what there is to what the task wants. Raises OneException."""
        self.check_template()
        current = self.find()
        self.called = current["NAME"] if current else self.name
        if self.params["state"] == "absent":
            return self._removal(current)
        if current and self.is_leaving(current) and not lookup.is_id(self.name):
            # Somebody removes it; another one takes its place then.
            if not self.module.check_mode:
                self.wait_gone(int(current["ID"]))
            current = None
        return self.creation({}) if current is None else self.change(current)

    def is_leaving(self, _document: dict) -> bool:
        """Tell whether the object is being removed."""
        return False

    def check_template(self) -> None:
        """Refuse attributes that are options of the module. Raises OneException."""
        for name in self.params["template"] or {}:
            option = {"NAME": "name", **self.own}.get(str(name).upper())
            if option:
                raise OneException(INVALID, f"The template has {name}; use the option {option} for it.")

    def template(self, document: dict) -> dict:
        """Return the object's template without what is an option of the module and without what says nothing."""
        return self._without_blank({
            name: value for name, value in xml.section(document, "TEMPLATE").items() if name not in self.own
        })

    def desired_template(self, before: dict) -> dict:
        """Return the template as it should be."""
        return self._without_blank(compare.wanted_template(
            before.get("template", {}), self.requested_template(), self.replaces("template"), keep=self.server
        ))

    def replaces(self, option: str) -> bool:
        """Tell whether what an option does not name has to go; an option that the task leaves out changes nothing."""
        return self.params["update"] == "replace" and self.params[option] is not None

    def requested_template(self) -> dict:
        """Return the template that the task asks for, without what the server sets whatever it is told."""
        return {
            name: value for name, value in (self.params["template"] or {}).items() if str(name).upper() not in self.read_only
        }

    def resolve(self, kind: str, name_or_id: str) -> dict:
        """Return another object that the task names. In check mode an earlier task may still have to make it."""
        found = lookup.find(self.client, kind, name_or_id)
        if found is None:
            self.module.unresolved(lookup.missing(self.client, lookup.KINDS[kind].label, name_or_id))
            return {"ID": "-1", "NAME": name_or_id}
        return found

    def directory(self, kind: str) -> Directory:
        """Return the names and ids of all objects of a kind."""
        from .membership import Directory

        return Directory(self.client, kind)

    def members(self, kind: str, there: list[int], wanted: list[str], replace: bool) -> Members:
        """Return what has to be done to the object's members of a kind. Raises OneException."""
        from .membership import Members

        return Members(self.directory(kind), there, wanted, replace, self.module.unresolved)

    def wait(self, probe: Callable, describe: Callable[[], str], number: int, goal: str) -> object:
        """Wait until probe returns something, see wait_until."""
        from .wait import wait_until

        return wait_until(
            probe, describe, self.params["wait_timeout"], progress=self.module.progress,
            what=f"{self.label(number)} is not {goal}",
        )

    def _ownership(self) -> Ownership:
        from .ownership import Ownership

        return Ownership(self.client, self.params)

    def give(self, document: dict) -> None:
        """Give the object the owner, group and permissions that the task names."""
        from .ownership import write

        write(self.client, self.ownership, lookup.KINDS[self.kind].prefix, document)

    def label(self, number: int) -> str:
        """Return the object as sentences begin with it."""
        label = lookup.KINDS[self.kind].label
        return f"{label[0].upper()}{label[1:]} {self.called!r} (id {number})"

    def _without_blank(self, template: dict) -> dict:
        return {name: value for name, value in template.items() if value or name not in self.blank}

    def _removal(self, current: dict | None) -> Transition:
        if current is None:
            return Transition({}, {}, self._no_facts)

        def apply() -> dict:
            self.remove(current)
            return self._no_facts()

        return Transition(self.compared(current), {}, self._no_facts, apply)

    def _no_facts(self) -> dict:
        return {self.fact: {}}

    def remove(self, document: dict) -> None:
        """Remove the object, and wait until it is gone if the task says so."""
        number = int(document["ID"])
        if not self.is_leaving(document):
            lookup.delete(self.client, self.kind, number, self.is_leaving)
        if self.params.get("wait"):
            self.wait_gone(number)

    def wait_gone(self, number: int) -> None:
        """Wait until an object that is being removed is gone."""
        self.wait(lambda: self.is_gone(number) or None, lambda: "it is still there", number, "removed")

    def is_gone(self, number: int) -> bool:
        """Tell whether a removed object is gone. Raises OneException if it cannot be removed."""
        return lookup.get(self.client, self.kind, number) is None

    def creation(self, before: dict) -> Transition:
        """Return the way to a new object. before: what is in its place, empty for nothing. Raises OneException."""
        after = self.desired_new()
        self.check_storable({}, after)
        return Transition(
            before, after, lambda: {self.fact: self.predicted({}, after)}, lambda: {self.fact: self.facts(self.created(after))}
        )

    def desired_new(self) -> dict:
        """Return what a new object is to be. Raises OneException."""
        if lookup.is_id(self.name) or (self.owned and "/" in self.name):
            raise lookup.missing(self.client, lookup.KINDS[self.kind].label, self.name)
        given = self.ownership.given() if self.ownership else {}
        after = {**self.desired({}), **given}
        if given:
            self.ownership.check({}, given, self.module.unresolved)
        return after

    def created(self, after: dict) -> dict:
        """Create the object and return its document."""
        number = self.create(after)
        if self.ownership and self.ownership.given():
            self.give(self.read(number))
        return self.settled(number, None)

    def change(self, current: dict) -> Transition:
        """Return the way from an object that there is to what it should be. Raises OneException."""
        before, number = self.compared(current), int(current["ID"])
        after = self.desired(before)
        if self.ownership:
            after |= self.ownership.after(current)
            self.ownership.check(before, after, self.module.unresolved)
        differs = before != after
        if differs:
            self.check_storable(before, after)

        def apply() -> dict:
            if differs:
                self.apply(number, before, after)
                if self.ownership:
                    self.give(current)
            return {self.fact: self.facts(self.settled(number, None if differs else current))}

        return Transition(before, after, lambda: {self.fact: self.predicted(current, after)}, apply)

    def check_storable(self, before: dict, after: dict) -> None:
        """Refuse attributes that the server cannot keep, before anything is changed. Raises TemplateSyntaxError."""
        changed = compare.changes(before.get("template", {}), after["template"])
        if changed:
            from ..transport.template import render

            render(changed)

    def compared(self, document: dict) -> dict:
        """Return what is compared, as it is, with owner, group and permissions if it has them."""
        return {**self.attributes(document), **(self.ownership.before(document) if self.ownership else {})}

    def server_template(self, state: dict) -> dict:
        """Return what is compared as the server keeps it: the template with the options that are part of it."""
        return state["template"]

    def update_template(self, number: int, before: dict, after: dict) -> None:
        """Write the server's template if it differs."""
        old, new = self.server_template(before), self.server_template(after)
        if old != new:
            self.client.call(f"{lookup.KINDS[self.kind].prefix}.update", number, *compare.update(old, new))
