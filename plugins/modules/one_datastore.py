#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage datastores."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_datastore
short_description: Manage datastores of OpenNebula
version_added: 0.2.0
description:
  - Makes, changes and removes datastores, and says which clusters they belong to.
  - A datastore with images cannot be removed.
  - Attributes for O(template) are C(SAFE_DIRS), C(LIMIT_MB) or C(POOL_NAME), for instance. What follows from the transfer driver, such as
    C(CLONE_TARGET) or C(SHARED), makes no difference there.
  - The passwords and tokens that OpenNebula encrypts, such as C(RESTIC_PASSWORD), are never shown.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
options:
  type:
    description: What the datastore keeps. Without it a new datastore is an V(image) datastore.
    type: str
    choices: [image, system, file, backup]
  ds_mad:
    description: The datastore driver, such as V(fs) or V(ceph). Needed for a new datastore unless O(type=system).
    type: str
  tm_mad:
    description: The transfer driver, such as V(local), V(ssh) or V(shared). Needed for a new one unless O(type=backup).
    type: str
  clusters:
    description:
      - Names or ids of the clusters the datastore belongs to.
      - Without it a new datastore goes to OpenNebula's default cluster.
    type: list
    elements: str
  status:
    description: Whether VMs are placed on a system datastore; other datastores are always enabled.
    type: str
    choices: [enabled, disabled]
"""

EXAMPLES = r"""
- name: Create a datastore for images on the shared file system of two racks
  opennebula.flower.one_datastore:
    name: images
    ds_mad: fs
    tm_mad: shared
    clusters: [rack1, rack2]

- name: Keep new VMs off a system datastore
  opennebula.flower.one_datastore:
    name: system
    status: disabled

- name: Remove the datastore
  opennebula.flower.one_datastore:
    name: images
    state: absent
"""

RETURN = r"""
datastore:
  description: The datastore as it is now, empty when it is absent.
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
      sample: images
    owner:
      description: The user it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    group:
      description: The group it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    mode:
      description: Its permissions as three octal digits.
      returned: when it exists
      type: str
      sample: "640"
    type:
      description: What it keeps.
      returned: always
      type: str
      sample: image
    status:
      description: Whether it is enabled or disabled.
      returned: always
      type: str
      sample: enabled
    ds_mad:
      description: The datastore driver, empty for a system datastore.
      returned: always
      type: str
      sample: fs
    tm_mad:
      description: The transfer driver, empty for a backup datastore.
      returned: always
      type: str
      sample: shared
    base_path:
      description: Where it is on the front-end and the hosts.
      returned: when it exists
      type: str
      sample: /var/lib/one/datastores/100
    total:
      description: Its size in MB, as monitored last.
      returned: when it exists
      type: int
      sample: 258020
    used:
      description: What is used of it in MB.
      returned: when it exists
      type: int
      sample: 27496
    free:
      description: What is free of it in MB.
      returned: when it exists
      type: int
      sample: 76402
    cluster_ids:
      description: The ids of the clusters it belongs to.
      returned: always
      type: list
      elements: int
      sample: [100, 101]
    image_ids:
      description: The ids of the images in it.
      returned: when it exists
      type: list
      elements: int
      sample: [3]
    template:
      description: Its other attributes, values as text, those that the server sets included.
      returned: always
      type: dict
      sample: {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM"}
"""

from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup, states
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

if TYPE_CHECKING:
    from ansible_collections.opennebula.flower.plugins.module_utils.one.core.membership import Members

# In the order of OpenNebula's numbers.
_TYPES = ("image", "system", "file", "backup")
_STATUS = ("enabled", "disabled")
# What OpenNebula writes where there is no driver.
_NO_DRIVER = "-"
# Attributes that follow from the transfer driver, and its modes.
_TRANSFER = ("CLONE_TARGET", "DISK_TYPE", "LN_TARGET")
_MODES = ("LOCAL", "SHARED", "SSH")
_READ_ONLY = frozenset({
    "ALLOW_ORPHANS", "DS_LIVE_MIGRATE", "DS_MIGRATE", "DS_MIGRATE_SNAP", "PERSISTENT_SNAPSHOTS", "SHARED",
    "TM_MAD_SYSTEM", "CLONE_TARGET", "LN_TARGET", *(f"{name}_{mode}" for name in _TRANSFER for mode in _MODES),
})
# Attributes the server keeps encrypted, and shows to administrators only.
_SECRETS = ("NETAPP_PASS", "PUREFA_API_TOKEN", "RESTIC_PASSWORD")


class Datastore(ReconciledObject):
    """One datastore and what the task wants of it."""

    kind = "datastore"
    fact = "datastore"
    owned = True
    own = {"TYPE": "type", "DS_MAD": "ds_mad", "TM_MAD": "tm_mad"}
    server = _READ_ONLY | {"DISK_TYPE", "DRIVER", "RESTRICTED_DIRS", "SAFE_DIRS"}
    read_only = _READ_ONLY

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self._clusters: Members | None = None
        self._hide(module.params["template"])

    def find(self) -> dict | None:
        """Return the datastore's document with its secrets, None if there is no such datastore."""
        found = super().find()
        return self.read(int(found["ID"])) if found else None

    def read(self, number: int) -> dict:
        """Return the datastore's document with its secrets, which nobody gets to see. Raises OneException."""
        decrypt = True
        document = self.client.call("one.datastore.info", number, decrypt)
        self._hide(xml.section(document, "TEMPLATE"))
        return document

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is: clusters only if the task speaks of them."""
        self._find_clusters(xml.ids(document, "CLUSTERS"))
        return {
            "name": document["NAME"],
            **_settings(document),
            **({"clusters": self._clusters.before} if self._clusters else {}),
            "template": self.template(document),
        }

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        if not before:
            self._find_clusters([])
        after = {
            "name": before.get("name", self.name),
            "type": self.params["type"] or before.get("type", "image"),
            "status": self.params["status"] or before.get("status", "enabled"),
            "ds_mad": self.params["ds_mad"] or before.get("ds_mad", ""),
            "tm_mad": self.params["tm_mad"] or before.get("tm_mad", ""),
            **({"clusters": self._clusters.after} if self._clusters else {}),
            "template": self.desired_template(before),
        }
        for option, free_of_it in (("ds_mad", "system"), ("tm_mad", "backup")):
            if not after[option] and after["type"] != free_of_it:
                raise OneException(INVALID, f"Datastore {self.name!r} of type {after['type']} needs {option}.")
        if after["status"] == "disabled" and after["type"] != "system":
            raise OneException(INVALID, f"Datastore {self.name!r} of type {after['type']} cannot be disabled.")
        return after

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {
            **lookup.identity(document),
            "mode": mode(document),
            **_settings(document),
            "base_path": document.get("BASE_PATH", ""),
            **{name: int(document.get(f"{name.upper()}_MB") or 0) for name in ("total", "used", "free")},
            "cluster_ids": xml.ids(document, "CLUSTERS"),
            "image_ids": xml.ids(document, "IMAGES"),
            "template": self.template(document),
        }

    def predicted(self, current: dict, after: dict) -> dict:
        """Return the facts as they would be."""
        clusters = {"cluster_ids": self._clusters.ids} if self._clusters else {} if current else {"cluster_ids": []}
        return {
            **(self.facts(current) if current else {}), **clusters,
            **{name: value for name, value in after.items() if name != "clusters"},
        }

    def server_template(self, state: dict) -> dict:
        """Return what is compared as the server keeps it."""
        drivers = {name.upper(): state[name] for name in ("ds_mad", "tm_mad") if state[name]}
        return {**state["template"], "TYPE": f"{state['type'].upper()}_DS", **drivers}

    def create(self, after: dict) -> int:
        """Make the datastore and return its id."""
        first = self._clusters.added[0] if self._clusters and self._clusters.added else -1
        number = self.client.call("one.datastore.allocate", {**self.server_template(after), "NAME": self.name}, first)
        # It was born into that cluster, the default one if none is wanted.
        document = self.read(number)
        self._find_clusters(xml.ids(document, "CLUSTERS"), replace=True)
        self.apply(number, {**after, "status": "enabled"}, after)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the datastore."""
        self.update_template(number, before, after)
        if before["status"] != after["status"]:
            self.client.call("one.datastore.enable", number, after["status"] == "enabled")
        for cluster in self._clusters.added if self._clusters else ():
            self.client.call("one.cluster.adddatastore", cluster, number)
        for cluster in self._clusters.removed if self._clusters else ():
            self.client.call("one.cluster.deldatastore", cluster, number)

    def _hide(self, template: dict) -> None:
        for name, value in template.items():
            if str(name).upper() in _SECRETS and value:
                self.module.no_log_values.add(str(value))

    def _find_clusters(self, there: list[int], replace: bool = False) -> None:
        if self.params["clusters"] is not None and self.params["state"] == "present":
            replace = replace or self.params["update"] == "replace"
            self._clusters = self.members("cluster", there, self.params["clusters"], replace)


def _settings(document: dict) -> dict:
    drivers = {name.lower(): document.get(name, "") for name in ("DS_MAD", "TM_MAD")}
    return {
        "type": states.name(_TYPES, document["TYPE"]),
        "status": states.name(_STATUS, document["STATE"]),
        **{name: "" if driver == _NO_DRIVER else driver for name, driver in drivers.items()},
    }


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **OPTIONS,
            "type": {"type": "str", "choices": list(_TYPES)},
            "ds_mad": {"type": "str"},
            "tm_mad": {"type": "str"},
            "clusters": {"type": "list", "elements": "str"},
            "status": {"type": "str", "choices": list(_STATUS)},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: Datastore(module).transition())


if __name__ == "__main__":
    main()
