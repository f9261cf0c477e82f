#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage groups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_group
short_description: Manage groups of OpenNebula
version_added: 0.1.0
description:
  - Makes, changes and removes groups, their administrators and attributes.
  - Users join and leave groups with M(opennebula.flower.one_user).
  - A new group belongs to OpenNebula's virtual data center C(default), whose members may use all virtual networks,
    hosts and datastores; M(opennebula.flower.one_vdc) takes it out. Its users may make nothing before
    M(opennebula.flower.one_acl) allows them to.
  - A group cannot be renamed, as OpenNebula has no way to do that, and only removed when no user is in it.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
options:
  name:
    description: Name of the group, or the id of one that exists.
    type: str
    required: true
  admins:
    description:
      - Names or ids of the group's administrators, who have to belong to it.
      - They may make and manage its users and manage what belongs to it.
    type: list
    elements: str
  template:
    description: Attributes of the group in OpenNebula's terms.
    type: dict
  update:
    description:
      - What happens to attributes and administrators of an existing group that the task does not name.
      - With V(merge) they stay, with V(replace) they are removed, attributes if O(template) is given and administrators
        if O(admins) is.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether the group should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The group of the hospital
  opennebula.flower.one_group:
    name: hospital
    template:
      DESCRIPTION: Everybody who trains at the hospital

- name: A user in it
  opennebula.flower.one_user:
    name: alice
    password: "{{ alice_password }}"
    group: hospital

- name: She administers it, and nobody else does
  opennebula.flower.one_group:
    name: hospital
    admins: [alice]
    update: replace

- name: The group is gone
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

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import compare, lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException


class Group:
    """One group and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.users = Names(module.client)
        self.replace = module.params["update"] == "replace"

    def ensure(self) -> dict:
        """Bring the group to the wanted state and return the module's result."""
        current = lookup.find(self.client, "group", self.name)
        if self.params["state"] == "present":
            return self._present(current)
        if current and not self.module.check_mode:
            lookup.delete(self.client, "group", int(current["ID"]))
        return self.module.result(self._settings(current), {}, group={})

    def _present(self, current: dict | None) -> dict:
        if current is None and lookup.is_id(self.name):
            raise lookup.missing(self.client, "group", self.name)
        before = self._settings(current)
        there = _ids(current, "ADMINS")
        replace = self.replace and self.params["template"] is not None
        admins = self._wanted_admins(there, _ids(current, "USERS"))
        after = {
            "name": before.get("name", self.name),
            "admins": self._described(admins),
            "template": compare.wanted_template(before.get("template", {}), self.params["template"] or {}, replace),
        }
        number = int(current["ID"]) if current else None
        if before != after and not self.module.check_mode:
            number = self._write(number, before.get("template", {}), after["template"])
            for user in sorted(admins - there):
                self.client.call("one.group.addadmin", number, user)
            for user in sorted(there - admins):
                self.client.call("one.group.deladmin", number, user)
        identity = {} if number is None else {"id": number, "users": sorted(_ids(current, "USERS"))}
        return self.module.result(before, after, group={**identity, **after})

    def _write(self, number: int | None, before: dict, after: dict) -> int:
        if number is None:
            number = self.client.call("one.group.allocate", self.name)
            if after:
                self.client.call("one.group.update", number, after, 1)
        elif before != after:
            self.client.call("one.group.update", number, *compare.update(before, after))
        return number

    def _wanted_admins(self, there: set[int], members: set[int]) -> set:
        kept = set() if self.replace and self.params["admins"] is not None else there
        return kept | {self._member(name, members) for name in self.params["admins"] or []}

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

    def _settings(self, group: dict | None) -> dict:
        if group is None:
            return {}
        return {
            "name": group["NAME"], "admins": self._described(_ids(group, "ADMINS")),
            "template": xml.section(group, "TEMPLATE"),
        }

    def _described(self, admins: set) -> list[str]:
        return sorted(self.users.name("user", admin) if isinstance(admin, int) else admin for admin in admins)


def _ids(group: dict | None, section: str) -> set[int]:
    return {int(number) for number in xml.items(xml.section(group or {}, section), "ID")}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "admins": {"type": "list", "elements": "str"},
            "template": {"type": "dict"},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: Group(module).ensure())


if __name__ == "__main__":
    main()
