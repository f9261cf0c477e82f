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
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
options:
  name:
    description: Name of the user, or the id of one that exists.
    type: str
    required: true
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
  template:
    description: Attributes of the user in OpenNebula's terms, such as C(SSH_PUBLIC_KEY) and C(EMAIL).
    type: dict
  enabled:
    description:
      - Whether the user may log in. A new user may.
      - OpenNebula's own user C(oneadmin) cannot be disabled.
    type: bool
  update:
    description:
      - What happens to attributes and other groups of an existing user that the task does not name.
      - With V(merge) they stay, with V(replace) they are removed, attributes if O(template) is given and groups if
        O(groups) is. C(TOKEN_PASSWORD), which is the server's, stays in any case.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether the user should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A user of the hospital
  opennebula.flower.one_user:
    name: alice
    password: "{{ alice_password }}"
    group: hospital
    template:
      EMAIL: alice@hospital.example

- name: Another password, and nobody else's group
  opennebula.flower.one_user:
    name: alice
    password: "{{ alice_new_password }}"
    groups: []
    update: replace

- name: The user may not log in
  opennebula.flower.one_user:
    name: alice
    enabled: false

- name: The user is gone
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

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import compare, lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

_CORE = "core"
_DEFAULT_GROUP = "users"
_DEFAULT_GROUP_ID = 1
# OneGate's tokens are made with it: the server's own, and a secret.
_SERVER_ATTRIBUTES = frozenset({"TOKEN_PASSWORD"})


class User:
    """One user and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.replace = module.params["update"] == "replace"

    def ensure(self) -> dict:
        """Bring the user to the wanted state and return the module's result."""
        self._check_password()
        current = lookup.find(self.client, "user", self.name)
        if self.params["state"] == "absent":
            return self._absent(current)
        if current is None:
            return self._create()
        return self._change(current)

    def _check_password(self) -> None:
        password = self.params["password"]
        if password is not None and (not password or any(character.isspace() for character in password)):
            raise OneException(INVALID, f"The password of user {self.name!r} is empty or contains white space.")

    def _absent(self, current: dict | None) -> dict:
        if current and not self.module.check_mode:
            lookup.delete(self.client, "user", int(current["ID"]))
        before = _settings(current, Memberships(self.module, current)) if current else {}
        return self.module.result(before, {}, user={})

    def _create(self) -> dict:
        if lookup.is_id(self.name):
            raise lookup.missing(self.client, "user", self.name)
        params = self.params
        driver = params["auth_driver"] or _CORE
        if params["password"] is None and driver == _CORE:
            raise OneException(INVALID, f"There is no user {self.name!r}, and a new one needs a password.")
        groups = Memberships(self.module, None)
        template = compare.wanted_template({}, params["template"] or {})
        after = {
            "name": self.name, "auth_driver": driver, "enabled": params["enabled"] is not False,
            **groups.after, "template": template,
        }
        if self.module.check_mode:
            return self.module.result({}, after, user=after)
        number = self.client.call("one.user.allocate", self.name, params["password"] or "", driver, groups.ids)
        if template:
            self.client.call("one.user.update", number, template, 1)
        if params["enabled"] is False:
            self.client.call("one.user.enable", number, False)
        made = lookup.get(self.client, "user", number)
        after["group"] = made["GNAME"]
        return self.module.result({}, after, user={"id": number, **after})

    def _change(self, current: dict) -> dict:
        groups = Memberships(self.module, current)
        before = _settings(current, groups)
        own = xml.section(current, "TEMPLATE")
        replace = self.replace and self.params["template"] is not None
        template = compare.wanted_template(own, self.params["template"] or {}, replace, keep=_SERVER_ATTRIBUTES)
        after = {
            **before, **groups.after, "template": _shown(template),
            "auth_driver": self.params["auth_driver"] or before["auth_driver"], "enabled": self._enabled(current),
        }
        number = int(current["ID"])
        password = self._new_password(current, after["auth_driver"])
        if password is not None:
            # Neither is shown; that they differ is all there is to say.
            before["password"], after["password"] = "the former one", "a new one"
        if before != after and not self.module.check_mode:
            self._write(number, before, after, password)
            groups.write(number)
            if own != template:
                self.client.call("one.user.update", number, *compare.update(own, template))
        facts = {name: value for name, value in after.items() if name != "password"}
        return self.module.result(before, after, user={"id": number, **facts})

    def _write(self, number: int, before: dict, after: dict, password: str | None) -> None:
        if before["auth_driver"] != after["auth_driver"]:
            self.client.call("one.user.chauth", number, after["auth_driver"], password or "")
        elif password is not None:
            self.client.call("one.user.passwd", number, password)
        if before["enabled"] != after["enabled"]:
            self.client.call("one.user.enable", number, after["enabled"])

    def _new_password(self, current: dict, driver: str) -> str | None:
        """Return the password to set, None if it is set already or not to be touched."""
        password = self.params["password"]
        if password is None or self.params["update_password"] == "on_create":
            return None
        kept = hashlib.sha256(password.encode()).hexdigest() if driver == _CORE else password
        return None if kept == current.get("PASSWORD") else password

    def _enabled(self, current: dict) -> bool:
        wanted = self.params["enabled"]
        if "ENABLED" not in current and wanted is False:
            raise OneException(INVALID, f"{self.client.place} cannot disable users, it is too old for that.")
        return _is_enabled(current) if wanted is None else wanted


class Memberships:
    """The groups a user (None: a new one) has, and the ones it should have."""

    def __init__(self, module: OneModule, user: dict | None) -> None:
        params = module.params
        self._module = module
        self._names = Names(module.client)
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

    def write(self, number: int) -> None:
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


def _settings(user: dict, groups: Memberships) -> dict:
    return {
        "name": user["NAME"],
        "auth_driver": user.get("AUTH_DRIVER", ""),
        "enabled": _is_enabled(user),
        **groups.before,
        "template": _shown(xml.section(user, "TEMPLATE")),
    }


def _shown(template: dict) -> dict:
    return {name: value for name, value in template.items() if name not in _SERVER_ATTRIBUTES}


def _group_ids(user: dict) -> set[int]:
    return {int(number) for number in xml.items(xml.section(user, "GROUPS"), "ID")}


def _is_enabled(user: dict) -> bool:
    return user.get("ENABLED", "1") != "0"


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "no_log": True},
            "update_password": {
                "type": "str", "choices": ["always", "on_create"], "default": "always", "no_log": False,
            },
            "auth_driver": {"type": "str"},
            "group": {"type": "str"},
            "groups": {"type": "list", "elements": "str"},
            "template": {"type": "dict"},
            "enabled": {"type": "bool"},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: User(module).ensure())


if __name__ == "__main__":
    main()
