#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage groups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_group
short_description: Manage groups of OpenNebula
version_added: 0.2.0
description:
  - Makes, changes and removes groups, their administrators and attributes.
  - Users join and leave groups with M(opennebula.flower.one_user).
  - A new group belongs to OpenNebula's virtual data center C(default), whose members may use all virtual networks,
    hosts and datastores; M(opennebula.flower.one_vdc) takes it out. Its users cannot create anything until
    M(opennebula.flower.one_acl) grants them rights.
  - A group cannot be renamed, as OpenNebula has no way to do that, and only removed when no user is in it.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.object
  - opennebula.flower.object.given_template
  - opennebula.flower.object.name
options:
  admins:
    description:
      - Names or ids of the group's administrators, who have to belong to it.
      - They may make and manage its users and manage what belongs to it.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Create the group of the hospital
  opennebula.flower.one_group:
    name: hospital
    template:
      DESCRIPTION: Everybody who trains at the hospital

- name: Put a user into it
  opennebula.flower.one_user:
    name: alice
    password: "{{ alice_password }}"
    group: hospital

- name: Make her its only administrator
  opennebula.flower.one_group:
    name: hospital
    admins: [alice]
    update: replace

- name: Remove the group
  opennebula.flower.one_group:
    name: hospital
    state: absent
"""

RETURN = r"""
group:
  description: The group as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 100
    name:
      description: Its name.
      returned: always
      type: str
      sample: hospital
    users:
      description: Ids of its users.
      returned: when it exists
      type: list
      elements: int
      sample: [2]
    admins:
      description: Names of its administrators, sorted.
      returned: always
      type: list
      elements: str
      sample: [alice]
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {"DESCRIPTION": "Everybody who trains at the hospital"}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject, Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException


class Group(ReconciledObject):
    """One group and what the task wants of it."""

    kind = "group"
    fact = "group"

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self.users = Names(module.client)
        # Ids of users, or in check mode names of those that an earlier task would make.
        self._members: set[int] = set()
        self._admins: set[int] = set()
        self._wanted_admins: set[int | str] = set()

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {
            "name": document["NAME"], "admins": self._described(_ids(document, "ADMINS")), "template": self.template(document),
        }

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        kept = set() if self.replaces("admins") else self._admins
        self._wanted_admins = kept | {self._member(name, self._members) for name in self.params["admins"] or []}
        return {
            "name": before.get("name", self.name), "admins": self._described(self._wanted_admins), "template": self.desired_template(before),
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {"id": int(document["ID"]), "users": sorted(_ids(document, "USERS")), **self.attributes(document)}

    def change(self, current: dict) -> Transition:
        """Return the way from a group that there is to what it should be. Raises OneException."""
        self._members, self._admins = _ids(current, "USERS"), _ids(current, "ADMINS")
        return super().change(current)

    def create(self, after: dict) -> int:
        """Make the group and return its id."""
        number = self.client.call("one.group.allocate", self.name)
        self.apply(number, {"template": {}}, after)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the group."""
        self.update_template(number, before, after)
        for user in sorted(self._wanted_admins - self._admins):
            self.client.call("one.group.addadmin", number, user)
        for user in sorted(self._admins - self._wanted_admins):
            self.client.call("one.group.deladmin", number, user)

    def _member(self, name_or_id: str, members: set[int]) -> int | str:
        """Return the id of a user who belongs to the group, or the name in check mode when one would."""
        number = self.users.find("user", name_or_id)
        if number in members:
            return number
        if number in self.users.ids("user"):
            error = OneException(
                INVALID, f"User {name_or_id!r} does not belong to group {self.name!r} and so cannot administer it."
            )
        else:
            error = self.users.missing("user", name_or_id)
        self.module.unresolved(error)
        return name_or_id

    def _described(self, admins: set) -> list[str]:
        return sorted(self.users.name("user", admin) if isinstance(admin, int) else admin for admin in admins)


def _ids(group: dict, section: str) -> set[int]:
    return {int(number) for number in xml.items(xml.section(group, section), "ID")}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={**STATE_OPTIONS, "template": {"type": "dict"}, "admins": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    module.reconcile(lambda: Group(module).transition())


if __name__ == "__main__":
    main()
