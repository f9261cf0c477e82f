#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage virtual data centers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_vdc
short_description: Manage virtual data centers of OpenNebula
version_added: 0.2.0
description:
  - Makes, changes and removes virtual data centers, which let groups use clusters, hosts, datastores and networks.
  - OpenNebula turns them into rules of the access control list. It stores identical rules of two virtual
    data centers once, so a group that leaves one of them also loses that rule in the other. Take a group out of one before it joins another.
  - Every new group belongs to the virtual data center C(default), which lets it use everything.
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
  groups:
    description: Names or ids of the groups that belong to it.
    type: list
    elements: str
  absent_groups:
    description: Names or ids of groups that must not belong to it, whatever others do. Groups that do not exist are fine.
    type: list
    elements: str
    default: []
  zone:
    description:
      - Name or id of the zone that O(clusters), O(hosts), O(datastores) and O(networks) are in; what is in other zones is
        left alone. If not given, it is the only zone there is.
      - If there are several zones, names are only looked up in the one whose endpoint is O(api_url). In the others the
        ids have to be given.
    type: str
  clusters:
    description:
      - Names or ids of the clusters whose hosts, datastores and networks may be used, or V(all).
      - That includes all virtual networks of the clusters, also those of others.
    type: list
    elements: str
  hosts:
    description: Names or ids of the hosts that may be used, or V(all).
    type: list
    elements: str
  datastores:
    description: Names or ids of the datastores that may be used, or V(all).
    type: list
    elements: str
  networks:
    description: Names or ids of the virtual networks that may be used, or V(all).
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Take the hospital out of the virtual data center that may use everything
  opennebula.flower.one_vdc:
    name: default
    absent_groups: [hospital]

- name: Allow the hospital to use all hosts and two datastores, but nobody's networks
  opennebula.flower.one_vdc:
    name: hospital
    groups: [hospital]
    hosts: [all]
    datastores: [system, default]

- name: Remove the virtual data center
  opennebula.flower.one_vdc:
    name: hospital
    state: absent
"""

RETURN = r"""
vdc:
  description: The virtual data center as it is now, empty when it is absent.
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
    groups:
      description: Names of its groups, sorted.
      returned: always
      type: list
      elements: str
      sample: [hospital]
    clusters:
      description: Ids of its clusters in the zone of the task, or V(all).
      returned: always
      type: list
      elements: str
      sample: []
    hosts:
      description: Ids of its hosts, or V(all).
      returned: always
      type: list
      elements: str
      sample: [all]
    datastores:
      description: Ids of its datastores, or V(all).
      returned: always
      type: list
      elements: str
      sample: ["0", "1"]
    networks:
      description: Ids of its virtual networks, or V(all).
      returned: always
      type: list
      elements: str
      sample: []
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {}
"""

from urllib.parse import urlsplit

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject, Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

# Option: the kind of object, and what the server calls it in documents (a list of the plural) and methods.
_RESOURCES = {
    "clusters": ("cluster", "CLUSTER"),
    "hosts": ("host", "HOST"),
    "datastores": ("datastore", "DATASTORE"),
    "networks": ("network", "VNET"),
}
_ALL = "all"
# What stands for all resources of a zone in a document.
_ALL_ID = "-10"


class Vdc(ReconciledObject):
    """One virtual data center and what the task wants of it."""

    kind = "vdc"
    fact = "vdc"

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self.names = Names(module.client)
        self._zone = 0
        # Groups and resources by option, ids as the server keeps them.
        self._there: dict[str, set] = {}
        self._target: dict[str, set] = {}

    def find(self) -> dict | None:
        """Return the virtual data center's document, None if there is none. Raises OneException."""
        current = super().find()
        self._zone = self._zone_id()
        return current

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {"name": document["NAME"], "template": self.template(document), **self._described(_members(document, self._zone))}

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        self._target = {"groups": self._groups()}
        for option in _RESOURCES:
            self._target[option] = self._resources(option, self._there.get(option, set()), self._zone)
        return {"name": before.get("name", self.name), "template": self.desired_template(before), **self._described(self._target)}

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {"id": int(document["ID"]), **self.attributes(document)}

    def change(self, current: dict) -> Transition:
        """Return the way from a virtual data center that there is to what it should be. Raises OneException."""
        self._there = _members(current, self._zone)
        return super().change(current)

    def create(self, after: dict) -> int:
        """Make the virtual data center and return its id."""
        number = self.client.call("one.vdc.allocate", {**after["template"], "NAME": self.name})
        self._write_members(number)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the virtual data center."""
        self.update_template(number, before, after)
        self._write_members(number)

    def _write_members(self, number: int) -> None:
        there, target = self._there.get("groups", set()), self._target["groups"]
        for group in sorted(there - target):
            self.client.call("one.vdc.delgroup", number, group)
        for option, (_kind, element) in _RESOURCES.items():
            old, new = self._there.get(option, set()), self._target[option]
            method = f"{element.lower()}"
            for resource in sorted(new - old):
                self.client.call(f"one.vdc.add{method}", number, self._zone, _id(resource))
            # The server itself takes the single ones out when all are in.
            gone = set() if _ALL in new else old - new
            for resource in sorted(gone):
                self.client.call(f"one.vdc.del{method}", number, self._zone, _id(resource))
        for group in sorted(target - there):
            self.client.call("one.vdc.addgroup", number, group)

    def _groups(self) -> set:
        wanted = {self._find("group", name) for name in self.params["groups"] or []}
        unwanted = {self.names.find("group", name) for name in self.params["absent_groups"]}
        if wanted & unwanted:
            raise OneException(INVALID, f"A group cannot be in groups and in absent_groups of {self.name!r} at once.")
        kept = set() if self.replaces("groups") else self._there.get("groups", set())
        return (kept | wanted) - unwanted

    def _resources(self, option: str, there: set[str], zone: int) -> set[str]:
        wanted = self.params[option]
        if wanted is None:
            return there
        kind = _RESOURCES[option][0]
        named = [name for name in wanted if name != _ALL and not lookup.is_id(name)]
        if named and not self._is_here(zone):
            raise OneException(
                INVALID, f"The {option} {', '.join(named)} have to be given by their ids: {self.client.place} is not "
                         f"known to be the endpoint of zone {zone}.",
            )
        result = {name if name == _ALL else str(self._find(kind, name)) for name in wanted}
        if not self.replaces(option):
            result |= there
        return {_ALL} if _ALL in result else result

    def _zone_id(self) -> int:
        """Return the id of the zone the resources are in."""
        wanted = self.params["zone"]
        if wanted is not None:
            number = self.names.find("zone", wanted)
            if number is None:
                raise self.names.missing("zone", wanted)
            return number
        zones = self.names.ids("zone")
        if len(zones) > 1 and any(self.params[option] is not None for option in _RESOURCES):
            raise OneException(INVALID, f"There are {len(zones)} zones, so the resources of {self.name!r} need a zone.")
        return zones[0] if zones else 0

    def _is_here(self, zone: int) -> bool:
        """Tell whether names are those of this zone: it is the only one, or its endpoint is the one that is asked."""
        if len(self.names.ids("zone")) == 1:
            return True
        document = lookup.get(self.client, "zone", zone) or {}
        endpoint = urlsplit(xml.section(document, "TEMPLATE").get("ENDPOINT", ""))
        asked = urlsplit(self.client.api_url)
        return (endpoint.hostname, endpoint.port) == (asked.hostname, asked.port)

    def _find(self, kind: str, name_or_id: str) -> int | str:
        """Return the id of an object, or its name in check mode when an earlier task would make it."""
        number = self.names.find(kind, name_or_id)
        if number is None:
            self.module.unresolved(self.names.missing(kind, name_or_id))
            return name_or_id
        return number

    def _described(self, members: dict[str, set]) -> dict[str, list]:
        """Return groups and resources as sorted lists, groups by name."""
        groups = [self.names.name("group", item) if isinstance(item, int) else item for item in members["groups"]]
        return {"groups": sorted(groups), **{option: sorted(members[option]) for option in _RESOURCES}}


def _members(vdc: dict, zone: int) -> dict[str, set]:
    result: dict[str, set] = {"groups": {int(number) for number in xml.items(xml.section(vdc, "GROUPS"), "ID")}}
    for option, (_kind, element) in _RESOURCES.items():
        listed = [item for item in xml.items(xml.section(vdc, f"{element}S"), element) if item["ZONE_ID"] == str(zone)]
        ids = {item[f"{element}_ID"] for item in listed}
        result[option] = {_ALL if number == _ALL_ID else number for number in ids}
    return result


def _id(resource: str) -> int:
    return int(_ALL_ID if resource == _ALL else resource)


def main() -> None:
    """Run the module."""
    names = {"type": "list", "elements": "str"}
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            "template": {"type": "dict"},
            "groups": names,
            "absent_groups": {**names, "default": []},
            "zone": {"type": "str"},
            **{option: names for option in _RESOURCES},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: Vdc(module).transition())


if __name__ == "__main__":
    main()
