#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_user
short_description: Manage users of OpenNebula
version_added: 0.2.0
description:
  - Makes, changes and removes users, their password, groups and attributes.
  - A user cannot be renamed, as OpenNebula has no way to do that.
  - Attributes for O(template) are C(SSH_PUBLIC_KEY) and C(EMAIL), for instance. C(TOKEN_PASSWORD), which is the server's, always stays.
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
  password:
    description:
      - The password, without white space. A new user of the driver V(core) needs one.
      - A password that is already set makes no difference, because OpenNebula shows administrators its digest.
      - A new password ends all sessions and removes all login tokens of the user.
    type: str
  update_password:
    description:
      - When O(password) is set, with V(always) whenever it is not the user's, with V(on_create) only for a new user.
    type: str
    choices: [always, on_create]
    default: always
  auth_driver:
    description:
      - The driver that checks the user's identity, such as V(core), V(public), V(ssh), V(x509) or V(ldap).
      - A new user has V(core) where it is not given.
    type: str
  group:
    description:
      - Name or id of the primary group, to which belongs what the user makes.
      - A new user is in the group V(users), or in the one of the user that makes it, where it is not given.
      - The former primary group is left unless it is one of O(groups).
    type: str
  groups:
    description: Names or ids of the other groups.
    type: list
    elements: str
  enabled:
    description:
      - Whether the user may log in. A new user may.
      - OpenNebula's own user C(oneadmin) cannot be disabled.
    type: bool
"""

EXAMPLES = r"""
- name: Create a user of the hospital
  opennebula.flower.one_user:
    name: alice
    password: "{{ alice_password }}"
    group: hospital
    template:
      EMAIL: alice@hospital.example

- name: Set another password, and take the user out of all other groups
  opennebula.flower.one_user:
    name: alice
    password: "{{ alice_new_password }}"
    groups: []
    update: replace

- name: Keep the user from logging in
  opennebula.flower.one_user:
    name: alice
    enabled: false

- name: Remove the user
  opennebula.flower.one_user:
    name: alice
    state: absent
"""

RETURN = r"""
user:
  description: The user as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 2
    name:
      description: Its name.
      returned: always
      type: str
      sample: alice
    auth_driver:
      description: The driver that checks its identity.
      returned: always
      type: str
      sample: core
    enabled:
      description: Whether it may log in.
      returned: always
      type: bool
      sample: true
    group:
      description: Its primary group.
      returned: always
      type: str
      sample: hospital
    groups:
      description: Its other groups, sorted.
      returned: always
      type: list
      elements: str
      sample: [users]
    template:
      description: Its attributes, values as text, without C(TOKEN_PASSWORD).
      returned: always
      type: dict
      sample: {"EMAIL": "alice@hospital.example"}
"""

import hashlib

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

_CORE = "core"
_DEFAULT_GROUP = "users"
_DEFAULT_GROUP_ID = 1
# OneGate's tokens are made with it: the server's own, and a secret.
_SERVER_ATTRIBUTES = frozenset({"TOKEN_PASSWORD"})


class User(ReconciledObject):
    """One user and what the task wants of it."""

    kind = "user"
    fact = "user"

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self._check_password()
        self._names = Names(module.client)
        self._password: str | None = None
        self._hidden: dict = {}

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is: of the password only that it differs, if it does."""
        self._groups = Memberships(self.module, self._names, document)
        self._hidden = {name: value for name, value in xml.section(document, "TEMPLATE").items() if name in _SERVER_ATTRIBUTES}
        if self.params["state"] == "present":
            self._password = self._new_password(document)
            if self.params["enabled"] is False and "ENABLED" not in document:
                raise OneException(INVALID, f"{self.client.place} cannot disable users, it is too old for that.")
        return {**self._settings(document), **({"password": "the former one"} if self._password is not None else {})}

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        params = self.params
        if not before:
            self._groups = Memberships(self.module, self._names, None)
        driver = params["auth_driver"] or before.get("auth_driver", _CORE)
        if not before and params["password"] is None and driver == _CORE:
            raise OneException(INVALID, f"There is no user {self.name!r}, and a new one needs a password.")
        return {
            "name": before.get("name", self.name),
            "auth_driver": driver,
            "enabled": before.get("enabled", True) if params["enabled"] is None else params["enabled"],
            **self._groups.after,
            "template": self.desired_template(before),
            **({"password": "a new one"} if "password" in before else {}),
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        self._groups = Memberships(self.module, self._names, document)
        return {"id": int(document["ID"]), **self._settings(document)}

    def predicted(self, current: dict, after: dict) -> dict:
        """Return the facts as they would be."""
        return {name: value for name, value in super().predicted(current, after).items() if name != "password"}

    def template(self, document: dict) -> dict:
        """Return the user's template without the server's secrets."""
        return {name: value for name, value in super().template(document).items() if name not in _SERVER_ATTRIBUTES}

    def server_template(self, state: dict) -> dict:
        """Return what is compared as the server keeps it."""
        return {**state["template"], **self._hidden}

    def create(self, after: dict) -> int:
        """Make the user and return its id."""
        number = self.client.call("one.user.allocate", self.name, self.params["password"] or "", after["auth_driver"], self._groups.ids)
        self.update_template(number, {"template": {}}, after)
        if not after["enabled"]:
            self.client.call("one.user.enable", number, False)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the user."""
        if before["auth_driver"] != after["auth_driver"]:
            self.client.call("one.user.chauth", number, after["auth_driver"], self._password or "")
        elif self._password is not None:
            self.client.call("one.user.passwd", number, self._password)
        if before["enabled"] != after["enabled"]:
            self.client.call("one.user.enable", number, after["enabled"])
        self._groups.apply(number)
        self.update_template(number, before, after)

    def _settings(self, document: dict) -> dict:
        return {
            "name": document["NAME"],
            "auth_driver": document.get("AUTH_DRIVER", ""),
            "enabled": document.get("ENABLED", "1") != "0",
            **self._groups.before,
            "template": self.template(document),
        }

    def _check_password(self) -> None:
        password = self.params["password"]
        if password is not None and (not password or any(character.isspace() for character in password)):
            raise OneException(INVALID, f"The password of user {self.name!r} is empty or contains white space.")

    def _new_password(self, document: dict) -> str | None:
        """Return the password to set, None if it is set already or not to be touched."""
        password = self.params["password"]
        if password is None or self.params["update_password"] == "on_create":
            return None
        driver = self.params["auth_driver"] or document.get("AUTH_DRIVER", "")
        kept = hashlib.sha256(password.encode()).hexdigest() if driver == _CORE else password
        return None if kept == document.get("PASSWORD") else password


class Memberships:
    """The groups a user (None: a new one) has, and the ones it should have."""

    def __init__(self, module: OneModule, names: Names, user: dict | None) -> None:
        params = module.params
        self._module = module
        self._names = names
        self._user = user
        self._old_primary = int(user["GID"]) if user else None
        self._old = _group_ids(user) if user else set()
        self._primary = self._old_primary if params["group"] is None else self._find(params["group"])
        wanted = {self._find(name) for name in params["groups"] or []}
        replace = params["update"] == "replace" and params["groups"] is not None
        kept = set() if replace else self._old - {self._old_primary}
        self._others = (kept | wanted) - {self._primary}

    @property
    def ids(self) -> list[int]:
        """What a new user is made with: the primary group and then the others, or nothing for the server's choice."""
        if self._primary is None and not self._others:
            return []
        first = _DEFAULT_GROUP_ID if self._primary is None else self._primary
        return [first, *sorted(self._others - {first})]

    @property
    def before(self) -> dict:
        """The names of the user's groups."""
        return self._described(self._old_primary, self._old - {self._old_primary})

    @property
    def after(self) -> dict:
        """The names of the groups it should have."""
        return self._described(self._primary, self._others)

    def apply(self, number: int) -> None:
        """Make the user a member of what it should be, and of nothing else. Raises OneException."""
        client, there = self._module.client, self._old
        if self._old_primary != self._primary:
            client.call("one.user.chgrp", number, self._primary)
            # The server lets the user leave the old one, unless it belonged to the new one before.
            left = set() if self._primary in there else {self._old_primary}
            there = (there | {self._primary}) - left
        for group in sorted(self._others - there):
            client.call("one.user.addgroup", number, group)
        for group in sorted(there - self._others - {self._primary}):
            client.call("one.user.delgroup", number, group)

    def _find(self, name_or_id: str) -> int | str:
        """Return the id of a group, or its name in check mode when an earlier task would make it."""
        number = self._names.find("group", name_or_id)
        if number in self._names.ids("group"):
            return number
        self._module.unresolved(self._names.missing("group", name_or_id))
        return name_or_id

    def _described(self, primary: int | str | None, others: set) -> dict:
        name = _DEFAULT_GROUP if primary is None else self._name(primary)
        return {"group": name, "groups": sorted(self._name(number) for number in others)}

    def _name(self, group: int | str) -> str:
        if isinstance(group, str):
            return group
        if self._user and group == int(self._user["GID"]):
            return self._user["GNAME"]
        return self._names.name("group", group)


def _group_ids(user: dict) -> set[int]:
    return {int(number) for number in xml.items(xml.section(user, "GROUPS"), "ID")}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            "password": {"type": "str", "no_log": True},
            "update_password": {
                "type": "str", "choices": ["always", "on_create"], "default": "always", "no_log": False,
            },
            "auth_driver": {"type": "str"},
            "group": {"type": "str"},
            "groups": {"type": "list", "elements": "str"},
            "template": {"type": "dict"},
            "enabled": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: User(module).transition())


if __name__ == "__main__":
    main()
