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
  - Makes, changes and removes virtual networks, their address ranges and reservations, and keeps addresses on hold.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
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
      - What a range says besides and the task does not name stays.
    type: list
    elements: dict
  reservation:
    description:
      - Makes the network a reservation of another one, which gives some of its addresses to it. What the task does not
        say in O(template) it has from there.
      - A reservation that exists with fewer addresses gets more of them; it cannot get smaller, nor move to another
        network.
    type: dict
    suboptions:
      network:
        description: Name or id of the network that the addresses come from.
        type: str
        required: true
      size:
        description: The number of addresses.
        type: int
        required: true
      address_range:
        description: The id of that network's address range that new addresses come from. Without it any range will do.
        type: int
      address:
        description: The first new address, IP or MAC, which takes O(reservation.address_range). Without it any will do.
        type: str
  held:
    description: IP or MAC addresses of the network that are on hold, so that no VM gets them.
    type: list
    elements: str
  cluster:
    description: Name or id of the cluster of a new network. Without it OpenNebula's default cluster is used.
    type: str
  update:
    description:
      - What happens to attributes, address ranges and addresses on hold of an existing network that the task does not
        name.
      - With V(merge) they stay, with V(replace) they are removed, as far as the server does not set them itself.
        Ranges are only removed if O(address_ranges) is given, and addresses released only if O(held) is.
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

- name: The addresses of two printers are never given to VMs
  opennebula.flower.one_virtual_network:
    name: private
    held: [192.168.150.20, 192.168.150.21]

- name: Twenty addresses of it for the team
  opennebula.flower.one_virtual_network:
    name: private-team
    reservation:
      network: private
      size: 20
    group: team

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
    mode:
      description: Its permissions as three octal digits.
      returned: when it exists
      type: str
      sample: "640"
    state:
      description: Its state.
      returned: when it exists
      type: str
      sample: READY
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
    reservation:
      description: The id of the C(network) it is a reservation of and its C(size), empty for a network of its own.
      returned: always
      type: dict
      sample: {"network": 0, "size": 20}
    held:
      description: Its addresses that are on hold.
      returned: always
      type: list
      elements: str
      sample: [192.168.150.20]
"""

from collections.abc import Callable

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one import address_ranges, compare, resources, states, xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.address_ranges import HoldPlan, RangePlan
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import (
    CONFLICT,
    INVALID,
    WRONG_STATE,
    OneException,
)
from ansible_collections.opennebula.flower.plugins.module_utils.one.ownership import OPTIONS, Ownership, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.wait import wait_until

# Wishes that the server fulfils once and then keeps outside of the template: the attribute, and where it is kept.
_AUTOMATIC = {"AUTOMATIC_VLAN_ID": "VLAN_ID_AUTOMATIC", "AUTOMATIC_OUTER_VLAN_ID": "OUTER_VLAN_ID_AUTOMATIC"}
# Attributes the server adds to a network's template by itself.
_SERVER_ATTRIBUTES = frozenset({
    *_AUTOMATIC, "BRIDGE", "BRIDGE_TYPE", "OUTER_VLAN_ID", "PHYDEV", "SECURITY_GROUPS", "VLAN_ID", "VN_MAD",
})
_FAILED = ("ERROR", "UPDATE_FAILURE")
_DEFAULT_CLUSTER = -1
_PREFIX = "one.vn"


class VirtualNetwork:
    """One virtual network and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.replace = module.params["update"] == "replace"
        self.ownership = Ownership(module.client, module.params)
        self._check_options()

    def ensure(self) -> dict:
        """Bring the network to the wanted state and return the module's result."""
        current = resources.find(self.client, "network", self.name)
        if self.params["state"] == "absent":
            return self._absent(current)
        if current is None:
            return self._create()
        return self._change(current)

    def _check_options(self) -> None:
        reservation = self.params["reservation"]
        if reservation is None:
            return
        if reservation["size"] < 1:
            raise OneException(INVALID, f"The reservation's size is {reservation['size']}, it must be 1 or more.")
        if reservation["address"] and reservation["address_range"] is None:
            raise OneException(INVALID, "The reservation's address needs the address_range it is in.")

    def _absent(self, current: dict | None) -> dict:
        if current and not self.module.check_mode:
            number = int(current["ID"])
            held = HoldPlan(current, [], replace=True)
            if len(held.before) == _used(current):
                # The server removes no network with leases, be they of nobody.
                self._hold(number, held)
            if _state(current) != "LOCK_DELETE":
                self.client.call(f"{_PREFIX}.delete", number)
            self._wait(number, lambda network: network is None, "removed")
        return self.module.result(_attributes(current) if current else {}, {}, virtual_network={})

    def _create(self) -> dict:
        if resources.is_id(self.name):
            raise resources.missing(self.client, "virtual network", self.name)
        ranges = [address_ranges.new_range(wanted) for wanted in self.params["address_ranges"] or []]
        template = compare.wanted_template({}, self.params["template"])
        parent, cluster = self._parent(), self._cluster()
        held = HoldPlan({}, self.params["held"], self.replace)
        self.ownership.check({}, self.ownership.given(), self.module.unresolved)
        after = {
            "name": self.name, "template": template, "address_ranges": ranges, "held": held.after,
            "reservation": {"network": parent, "size": self.params["reservation"]["size"]} if parent is not None else {},
            **self.ownership.given(),
        }
        if self.module.check_mode:
            return self.module.result({}, after, virtual_network=after)
        if parent is None:
            number = self.client.call(f"{_PREFIX}.allocate", {**template, "NAME": self.name, "AR": ranges}, cluster)
        else:
            number = self._reserve(parent, self.params["reservation"]["size"], {"NAME": self.name})
        network = self._ready(number)
        # A reservation inherits attributes, and every new network is given the default security group besides its own.
        made = _attributes(network)["template"]
        self._update(number, made, compare.wanted_template(made, template))
        self._hold(number, held)
        self.ownership.write(_PREFIX, network)
        return self.module.result({}, after, virtual_network=_facts(self._ready(number)))

    def _cluster(self) -> int:
        if self.params["cluster"] is None:
            return _DEFAULT_CLUSTER
        return int(resources.require(self.client, "cluster", self.params["cluster"])["ID"])

    def _parent(self) -> int | None:
        """Return the id of the network the addresses are reserved of, in check mode 0 for one that is not there yet."""
        if self.params["reservation"] is None:
            return None
        wanted = self.params["reservation"]["network"]
        parent = resources.find(self.client, "network", wanted)
        if parent is None:
            self.module.unresolved(resources.missing(self.client, "virtual network", wanted))
        return int(parent["ID"]) if parent else 0

    def _change(self, current: dict) -> dict:
        number = int(current["ID"])
        self._check_failed(current)
        if _state(current) != "READY" and not self.module.check_mode:
            current = self._ready(number)
        before = {**_attributes(current), **self.ownership.before(current)}
        template = compare.wanted_template(
            before["template"], self.params["template"], self.replace, keep=_SERVER_ATTRIBUTES
        )
        plan = RangePlan(address_ranges.ranges(current), self.params["address_ranges"], self.replace)
        held = HoldPlan(current, self.params["held"], self.replace)
        after = {
            **before, "template": template, "address_ranges": plan.result, "held": held.after,
            "reservation": self._reservation(current, before["reservation"]), **self.ownership.after(current),
        }
        self.ownership.check(before, after, self.module.unresolved)
        facts = _facts(current)
        if before != after and self.module.check_mode:
            facts.update(after)
        elif before != after:
            self._write(current, before, after, plan, held)
            facts = _facts(self._ready(number))
        return self.module.result(before, after, virtual_network=facts)

    def _reservation(self, network: dict, there: dict) -> dict:
        """Return the reservation as it should be. Raises OneException of kind conflict for what it cannot become."""
        wanted = self.params["reservation"]
        if wanted is None:
            return there
        parent = self._parent()
        label = f"Virtual network {network['NAME']!r} (id {network['ID']})"
        if there.get("network") != parent:
            has = f"a reservation of network {there['network']}" if there else "no reservation"
            raise OneException(CONFLICT, f"{label} is {has}, it cannot become one of network {wanted['network']!r}.")
        if there["size"] > wanted["size"]:
            raise OneException(
                CONFLICT, f"{label} has {there['size']} addresses reserved, their number cannot become {wanted['size']}."
            )
        return {"network": parent, "size": wanted["size"]}

    def _write(self, network: dict, before: dict, after: dict, plan: RangePlan, held: HoldPlan) -> None:
        number = int(network["ID"])
        self._update(number, before["template"], after["template"])
        for range_id in plan.removed:
            self.client.call(f"{_PREFIX}.rm_ar", number, range_id)
        for changed in plan.changed:
            self.client.call(f"{_PREFIX}.update_ar", number, {"AR": changed})
        for added in plan.added:
            self.client.call(f"{_PREFIX}.add_ar", number, {"AR": added})
        if before["reservation"] != after["reservation"]:
            lacking = after["reservation"]["size"] - before["reservation"]["size"]
            self._reserve(after["reservation"]["network"], lacking, {"NETWORK_ID": number})
        self._hold(number, held)
        self.ownership.write(_PREFIX, network)

    def _update(self, number: int, before: dict, after: dict) -> None:
        if before != after:
            self.client.call(f"{_PREFIX}.update", number, *compare.update(before, after))

    def _reserve(self, parent: int, size: int, target: dict) -> int:
        wanted = self.params["reservation"]
        source = {} if wanted["address_range"] is None else {"AR_ID": wanted["address_range"]}
        first = address_ranges.lease_of(wanted["address"].strip().lower()) if wanted["address"] else {}
        return self.client.call(f"{_PREFIX}.reserve", parent, {"SIZE": size, **target, **source, **first})

    def _hold(self, number: int, plan: HoldPlan) -> None:
        for lease in plan.released:
            self.client.call(f"{_PREFIX}.release", number, {"LEASES": lease})
        for lease in plan.held:
            self.client.call(f"{_PREFIX}.hold", number, {"LEASES": lease})

    def _check_failed(self, network: dict) -> None:
        if _state(network) in _FAILED:
            reason = xml.section(network, "TEMPLATE").get("ERROR", "the server gives no reason").strip().rstrip(".")
            raise OneException(
                WRONG_STATE, f"Virtual network {network['NAME']!r} (id {network['ID']}) is in state {_state(network)}: {reason}."
            )

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
            if network:
                self._check_failed(network)
            return True if done(network) else None

        wait_until(
            probe, lambda: f"its state is {seen['state']}", self.params["wait_timeout"],
            progress=self.module.progress, what=f"Virtual network {self.name!r} (id {number}) is not {goal}",
        )


def _state(network: dict) -> str:
    # OpenNebula before 6.4 had no states.
    return states.name(states.NETWORK, network.get("STATE", "1"))


def _used(network: dict) -> int:
    return int(network.get("USED_LEASES") or 0)


def _attributes(network: dict) -> dict:
    parent = network.get("PARENT_NETWORK_ID")
    automatic = {name: "YES" for name, kept in _AUTOMATIC.items() if network.get(kept) == "1"}
    template = {name: value for name, value in xml.section(network, "TEMPLATE").items() if name != "ERROR"}
    return {
        "name": network["NAME"],
        "template": template | automatic,
        "address_ranges": [address_ranges.settings(item) for item in address_ranges.ranges(network)],
        "reservation": {"network": int(parent), "size": address_ranges.size(network)} if parent else {},
        "held": HoldPlan(network, None, replace=False).before,
    }


def _facts(network: dict) -> dict:
    ranges = address_ranges.ranges(network)
    return {
        **resources.identity(network),
        **_attributes(network),
        "mode": mode(network),
        "state": _state(network),
        "address_ranges": [{name: value for name, value in item.items() if name != "LEASES"} for item in ranges],
        "used_leases": _used(network),
    }


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "template": {"type": "dict", "default": {}},
            "address_ranges": {"type": "list", "elements": "dict"},
            "reservation": {
                "type": "dict",
                "options": {
                    "network": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                    "address_range": {"type": "int"},
                    "address": {"type": "str"},
                },
            },
            "held": {"type": "list", "elements": "str"},
            "cluster": {"type": "str"},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            **OPTIONS,
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "float", "default": 600},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        mutually_exclusive=[("reservation", "address_ranges"), ("reservation", "cluster")],
        supports_check_mode=True,
    )
    module.run(lambda: VirtualNetwork(module).ensure())


if __name__ == "__main__":
    main()
