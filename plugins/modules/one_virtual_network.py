#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage virtual networks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_virtual_network
short_description: Manage virtual networks of OpenNebula
version_added: 0.1.0
description:
  - Makes, changes and removes virtual networks and their address ranges.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.wait
options:
  name:
    description: Name of the virtual network, or the id of one that exists.
    type: str
    required: true
  template:
    description:
      - Attributes of the network in OpenNebula's terms, such as C(VN_MAD), C(BRIDGE), C(NETWORK_ADDRESS),
        C(NETWORK_MASK), C(GATEWAY) and C(DNS).
    type: dict
    default: {}
  address_ranges:
    description:
      - The address ranges in OpenNebula's terms, each with C(TYPE), C(SIZE) and what identifies it, C(IP), C(MAC)
        or C(GLOBAL_PREFIX). C(TYPE) is C(IP4) where it is not given.
      - A range of the network is the one with the same first address. If nothing in it is an address, the position
        in the list counts.
    type: list
    elements: dict
  cluster:
    description: Name or id of the cluster of a new network. Without it OpenNebula's default cluster is used.
    type: str
  update:
    description:
      - What happens to attributes and address ranges of an existing network that the task does not name.
      - With V(merge) they stay, with V(replace) they are removed, as far as the server does not set them itself.
        Ranges are only removed if O(address_ranges) is given.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether the virtual network should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A network for the federation
  opennebula.flower.one_virtual_network:
    name: private
    template:
      VN_MAD: bridge
      BRIDGE: br0
      NETWORK_ADDRESS: 192.168.150.0
      NETWORK_MASK: 255.255.255.0
      GATEWAY: 192.168.150.1
    address_ranges:
      - IP: 192.168.150.10
        SIZE: 100

- name: The network is gone
  opennebula.flower.one_virtual_network:
    name: private
    state: absent
"""

RETURN = r"""
virtual_network:
  description: The virtual network as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 0
    name:
      description: Its name.
      returned: always
      type: str
      sample: private
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
    used_leases:
      description: Number of addresses in use.
      returned: when it exists
      type: int
      sample: 3
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {"BRIDGE": "br0", "VN_MAD": "bridge"}
    address_ranges:
      description: Its address ranges, values as text.
      returned: always
      type: list
      elements: dict
      sample: [{"AR_ID": "0", "IP": "192.168.150.10", "SIZE": "100", "TYPE": "IP4"}]
"""

from collections.abc import Callable

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one import compare, resources, states, xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import INVALID, WRONG_STATE, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.wait import wait_until

# Attributes the server adds to a network's template by itself.
_SERVER_ATTRIBUTES = frozenset({
    "BRIDGE", "BRIDGE_TYPE", "OUTER_VLAN_ID", "OUTER_VLAN_ID_AUTOMATIC", "PHYDEV", "SECURITY_GROUPS", "VLAN_ID",
    "VLAN_ID_AUTOMATIC", "VN_MAD",
})
# What an address range is recognized by.
_FIRST_ADDRESS = ("IP", "GLOBAL_PREFIX", "ULA_PREFIX", "IP6", "MAC")
# Parts of an address range that are results, not settings.
_RANGE_RESULTS = frozenset({
    "AR_ID", "IP_END", "IP6_END", "IP6_GLOBAL", "IP6_GLOBAL_END", "IP6_ULA", "IP6_ULA_END", "LEASES", "MAC_END",
    "NEXT_INDEX", "SHARED", "USED_LEASES",
})
_DEFAULT_CLUSTER = -1


class VirtualNetwork:
    """One virtual network and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.replace = module.params["update"] == "replace"

    def ensure(self) -> dict:
        """Bring the network to the wanted state and return the module's result."""
        current = resources.find(self.client, "network", self.name)
        if self.params["state"] == "absent":
            return self._absent(current)
        if current is None:
            return self._create()
        return self._change(current)

    def _absent(self, current: dict | None) -> dict:
        if current and not self.module.check_mode:
            number = int(current["ID"])
            self.client.call("one.vn.delete", number)
            self._wait(number, lambda network: network is None, "removed")
        return self.module.result(_attributes(current) if current else {}, {}, virtual_network={})

    def _create(self) -> dict:
        if resources.is_id(self.name):
            raise resources.missing(self.client, "virtual network", self.name)
        ranges = [_new_range(wanted) for wanted in self.params["address_ranges"] or []]
        template = compare.wanted_template({}, self.params["template"])
        after = {"name": self.name, "template": template, "address_ranges": ranges}
        cluster = self._cluster()
        if self.module.check_mode:
            return self.module.result({}, after, virtual_network=after)
        text = render({**template, "NAME": self.name, "AR": ranges})
        number = self.client.call("one.vn.allocate", text, cluster)
        return self.module.result({}, after, virtual_network=_facts(self._ready(number)))

    def _cluster(self) -> int:
        if self.params["cluster"] is None:
            return _DEFAULT_CLUSTER
        return int(resources.require(self.client, "cluster", self.params["cluster"])["ID"])

    def _change(self, current: dict) -> dict:
        before = _attributes(current)
        template = compare.wanted_template(
            before["template"], self.params["template"], self.replace, keep=_SERVER_ATTRIBUTES
        )
        there = xml.items(xml.section(current, "AR_POOL"), "AR")
        plan = RangePlan(there, self.params["address_ranges"], self.replace)
        after = {"name": before["name"], "template": template, "address_ranges": plan.result}
        facts = _facts(current)
        if before != after and self.module.check_mode:
            facts.update(after)
        elif before != after:
            self._write(int(current["ID"]), before["template"], template, plan)
            facts = _facts(self._ready(int(current["ID"])))
        return self.module.result(before, after, virtual_network=facts)

    def _write(self, number: int, before: dict, template: dict, plan: RangePlan) -> None:
        if before != template:
            self.client.call("one.vn.update", number, *compare.update(before, template))
        for range_id in plan.removed:
            self.client.call("one.vn.rm_ar", number, range_id)
        for changed in plan.changed:
            self.client.call("one.vn.update_ar", number, render({"AR": changed}))
        for added in plan.added:
            self.client.call("one.vn.add_ar", number, render({"AR": added}))

    def _ready(self, number: int) -> dict:
        self._wait(number, lambda network: network is not None and _state(network) == "READY", "READY")
        return resources.get(self.client, "network", number)

    def _wait(self, number: int, done: Callable[[dict | None], bool], goal: str) -> None:
        if not self.params["wait"]:
            return
        seen = {"state": ""}

        def probe() -> bool | None:
            network = resources.get(self.client, "network", number)
            seen["state"] = _state(network) if network else ""
            if seen["state"] in ("ERROR", "UPDATE_FAILURE"):
                raise OneException(
                    WRONG_STATE, f"Virtual network {self.name!r} (id {number}) is in state {seen['state']}."
                )
            return True if done(network) else None

        wait_until(
            probe, lambda: f"its state is {seen['state']}", self.params["wait_timeout"],
            progress=self.module.progress, what=f"Virtual network {self.name!r} (id {number}) is not {goal}",
        )


class RangePlan:
    """What to do to the address ranges a network has so that it has the wanted ones.

    added, changed: attributes to write. removed: ids. result: the settings of all ranges afterwards.
    """

    def __init__(self, there: list[dict], wanted: list[dict] | None, replace: bool) -> None:
        self.added: list[dict] = []
        targets: dict[str, dict] = {}
        for position, settings in enumerate(wanted or []):
            free = [item for item in there if item["AR_ID"] not in targets]
            found = _matching(free, _upper(settings), there[position] if position < len(there) else None)
            if found is None:
                self.added.append(_new_range(settings))
            else:
                targets[found["AR_ID"]] = compare.wanted_template(_settings(found), settings)
        drop_others = replace and wanted is not None
        kept = [item for item in there if item["AR_ID"] in targets or not drop_others]
        self.removed = [int(item["AR_ID"]) for item in there if item not in kept]
        self.changed = [
            {"AR_ID": item["AR_ID"], **compare.changes(_settings(item), targets[item["AR_ID"]])}
            for item in kept
            if targets.get(item["AR_ID"], _settings(item)) != _settings(item)
        ]
        self.result = [targets.get(item["AR_ID"], _settings(item)) for item in kept] + self.added


def _matching(there: list[dict], wanted: dict, at_position: dict | None) -> dict | None:
    for key in _FIRST_ADDRESS:
        if wanted.get(key):
            return next((item for item in there if item.get(key) == str(wanted[key]).strip()), None)
    return at_position if at_position in there else None


def _new_range(settings: dict) -> dict:
    result = {"TYPE": "IP4", **compare.wanted_template({}, settings)}
    if not result.get("SIZE", "").isdigit() or int(result["SIZE"]) < 1:
        raise OneException(INVALID, f"Address range {result} needs a SIZE, the number of its addresses.")
    return result


def _upper(settings: dict) -> dict:
    return {str(name).upper(): value for name, value in settings.items()}


def _settings(address_range: dict) -> dict:
    return {name: value for name, value in address_range.items() if name not in _RANGE_RESULTS}


def _state(network: dict) -> str:
    # OpenNebula before 6.4 had no states.
    return states.name(states.NETWORK, network.get("STATE", "1"))


def _attributes(network: dict) -> dict:
    ranges = xml.items(xml.section(network, "AR_POOL"), "AR")
    return {
        "name": network["NAME"],
        "template": xml.section(network, "TEMPLATE"),
        "address_ranges": [_settings(item) for item in ranges],
    }


def _facts(network: dict) -> dict:
    ranges = xml.items(xml.section(network, "AR_POOL"), "AR")
    return {
        **resources.identity(network),
        **_attributes(network),
        "address_ranges": [{name: value for name, value in item.items() if name != "LEASES"} for item in ranges],
        "used_leases": int(network.get("USED_LEASES") or 0),
    }


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "template": {"type": "dict", "default": {}},
            "address_ranges": {"type": "list", "elements": "dict"},
            "cluster": {"type": "str"},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "float", "default": 600},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: VirtualNetwork(module).ensure())


if __name__ == "__main__":
    main()
