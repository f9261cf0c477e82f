#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage clusters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_cluster
short_description: Manage clusters of OpenNebula
version_added: 0.2.0
description:
  - Makes, changes and removes clusters, and says which hosts, datastores and virtual networks belong to them.
  - A cluster with members cannot be removed.
  - Attributes for O(template) are C(RESERVED_CPU), C(RESERVED_MEM) or C(ONE_DRS), for instance.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
options:
  hosts:
    description:
      - Names or ids of hosts that belong to the cluster.
      - A host belongs to one cluster and leaves the one it is in for this one. A host that is removed from it goes to OpenNebula's default
        cluster.
    type: list
    elements: str
  datastores:
    description: Names or ids of datastores that belong to the cluster; they may belong to others as well.
    type: list
    elements: str
  networks:
    description: Names or ids of virtual networks that belong to the cluster; they may belong to others as well.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Create the cluster of a rack
  opennebula.flower.one_cluster:
    name: rack1
    hosts: [node1.example.com, node2.example.com]
    datastores: [system, default]
    networks: [private]
    template:
      RESERVED_MEM: 4194304

- name: Empty the cluster, and then remove it
  opennebula.flower.one_cluster:
    name: rack1
    hosts: []
    datastores: []
    networks: []
    update: replace

- name: Remove the cluster
  opennebula.flower.one_cluster:
    name: rack1
    state: absent
"""

RETURN = r"""
cluster:
  description: The cluster as it is now, empty when it is absent.
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
      sample: rack1
    host_ids:
      description: The ids of its hosts.
      returned: always
      type: list
      elements: int
      sample: [0, 1]
    datastore_ids:
      description: The ids of its datastores.
      returned: always
      type: list
      elements: int
      sample: [0, 1]
    network_ids:
      description: The ids of its virtual networks.
      returned: always
      type: list
      elements: int
      sample: [3]
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {"RESERVED_MEM": "4194304"}
"""

from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject
from ansible_collections.opennebula.flower.plugins.module_utils.one.host import facts as host_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import scalar

if TYPE_CHECKING:
    from ansible_collections.opennebula.flower.plugins.module_utils.one.core.membership import Members

_DEFAULT_CLUSTER = 0
# By option: kind, element of the cluster's document, fact, and the last part of the methods that add and remove one.
_MEMBERS = {
    "hosts": ("host", "HOSTS", "host_ids", "host"),
    "datastores": ("datastore", "DATASTORES", "datastore_ids", "datastore"),
    "networks": ("network", "VNETS", "network_ids", "vnet"),
}


class Cluster(ReconciledObject):
    """One cluster and what the task wants of it."""

    kind = "cluster"
    fact = "cluster"
    blank = host_facts.RESERVATIONS

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self._members: dict[str, Members] = {}

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is: members only of the kinds that the task speaks of."""
        self._find_members(document)
        before = {option: members.before for option, members in self._members.items()}
        return {"name": document["NAME"], **before, "template": self.template(document)}

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        if not before:
            self._find_members({})
        after = {option: members.after for option, members in self._members.items()}
        return {"name": before.get("name", self.name), **after, "template": self.desired_template(before)}

    def requested_template(self) -> dict:
        """Return the template that the task asks for. The server writes the scheduler's settings in small letters."""
        return {
            name: {key: scalar(item).strip().lower() for key, item in value.items()}
            if str(name).upper() == "ONE_DRS" and isinstance(value, dict) else value
            for name, value in super().requested_template().items()
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {
            "id": int(document["ID"]),
            "name": document["NAME"],
            **{fact: xml.ids(document, element) for _kind, element, fact, _method in _MEMBERS.values()},
            "template": self.template(document),
        }

    def predicted(self, current: dict, after: dict) -> dict:
        """Return the facts as they would be."""
        empty = {fact: [] for _kind, _element, fact, _method in _MEMBERS.values()}
        members = {_MEMBERS[option][2]: members.ids for option, members in self._members.items()}
        known = self.facts(current) if current else {}
        return {**empty, **known, **members, "name": after["name"], "template": after["template"]}

    def create(self, after: dict) -> int:
        """Make the cluster and return its id."""
        number = self.client.call("one.cluster.allocate", self.name)
        self.apply(number, {"template": {}}, after)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the cluster."""
        self.update_template(number, before, after)
        for option, members in self._members.items():
            method = _MEMBERS[option][3]
            for member in members.added:
                self.client.call(f"one.cluster.add{method}", number, member)
            for member in members.removed:
                self.client.call(f"one.cluster.del{method}", number, member)

    def _find_members(self, document: dict) -> None:
        replace = self.params["update"] == "replace"
        for option, (kind, element, _fact, _method) in _MEMBERS.items():
            if self.params[option] is not None and self.params["state"] == "present":
                self._members[option] = self.members(kind, xml.ids(document, element), self.params[option], replace)
        staying = self._members.get("hosts")
        if staying and staying.removed and int(document["ID"]) == _DEFAULT_CLUSTER:
            homeless = ", ".join(text for text in staying.before if text not in staying.after)
            raise OneException(
                INVALID,
                f"Host {homeless} cannot be taken out of the default cluster {document['NAME']!r}; "
                "add it to another cluster instead.",
            )


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **{option: {"type": "list", "elements": "str"} for option in _MEMBERS},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: Cluster(module).transition())


if __name__ == "__main__":
    main()
