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
  - Attributes for O(template) are C(VN_MAD), C(BRIDGE), C(NETWORK_ADDRESS), C(NETWORK_MASK), C(GATEWAY) and C(DNS), for instance.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.attributes.wait
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
options:
  address_ranges:
    description:
      - The address ranges in OpenNebula's terms, each with C(TYPE), C(SIZE) and what identifies it, C(IP), C(MAC)
        or C(GLOBAL_PREFIX). C(TYPE) is C(IP4) where it is not given.
      - A range of the network is the one with the same first address. If nothing in it is an address, the position
        in the list counts.
      - Addresses and numbers are compared as values, however they are written.
      - Attributes of a range that the task does not name are kept. What the server decides by itself, such as C(AR_ID) and
        C(IP_END), cannot be given.
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
    description: IP or MAC addresses of the network that are on hold, so that no VM gets them. With O(update=replace) others are released.
    type: list
    elements: str
  cluster:
    description: Name or id of the cluster of a new network. Without it OpenNebula's default cluster is used.
    type: str
"""

EXAMPLES = r"""
- name: Create a network for the federation
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

- name: Hold the addresses of two printers
  opennebula.flower.one_virtual_network:
    name: private
    held: [192.168.150.20, 192.168.150.21]

- name: Reserve twenty addresses of it for the team
  opennebula.flower.one_virtual_network:
    name: private-team
    reservation:
      network: private
      size: 20
    group: team

- name: Remove the network
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

from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import compare, lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject, Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.network import facts as network_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import CONFLICT, INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.scalars import boolean

if TYPE_CHECKING:
    from ansible_collections.opennebula.flower.plugins.module_utils.one.network.apply import NetworkChanger

# Wishes that the server fulfils once and then keeps outside of the template: the attribute, and where it is kept.
_AUTOMATIC = {"AUTOMATIC_VLAN_ID": "VLAN_ID_AUTOMATIC", "AUTOMATIC_OUTER_VLAN_ID": "OUTER_VLAN_ID_AUTOMATIC"}
# Attributes the server adds to a network's template by itself.
_SERVER_ATTRIBUTES = frozenset({
    *_AUTOMATIC, "BRIDGE", "BRIDGE_TYPE", "OUTER_VLAN_ID", "PHYDEV", "SECURITY_GROUPS", "VLAN_ID", "VN_MAD",
})
_DEFAULT_CLUSTER = -1


class VirtualNetwork(ReconciledObject):
    """One virtual network and what the task wants of it."""

    kind = "network"
    fact = "virtual_network"
    owned = True
    server = _SERVER_ATTRIBUTES
    own = {"AR": "address_ranges"}

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self._document: dict = {}
        self._check_reservation()

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        self._document = document
        parent = document.get("PARENT_NETWORK_ID")
        return {
            "name": document["NAME"],
            "template": self.template(document),
            "address_ranges": [network_facts.settings(item) for item in network_facts.ranges(document)],
            "reservation": {"network": int(parent), "size": network_facts.size(document)} if parent else {},
            "held": sorted(network_facts.address(lease) for lease in network_facts.on_hold(document)),
        }

    def template(self, document: dict) -> dict:
        """Return the network's template, with what the server keeps outside of it."""
        automatic = {name: "YES" for name, kept in _AUTOMATIC.items() if document.get(kept) == "1"}
        return {name: value for name, value in super().template(document).items() if name != "ERROR"} | automatic

    def requested_template(self) -> dict:
        """Return the template that the task asks for, without asking for what is automatic not to be where it is not."""
        asked = {str(name).upper(): value for name, value in self.params["template"].items()}
        for name, kept in _AUTOMATIC.items():
            if asked.get(name) in (None, ""):
                continue
            try:
                asked[name] = boolean(asked[name])
            except ValueError as error:
                raise OneException(INVALID, f"{name}: {error}.") from None
            if not asked[name] and self._document.get(kept) != "1":
                del asked[name]
        return asked

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        if before:
            return {**before, "template": self.desired_template(before), **self._addresses(), "reservation": self._reservation(before["reservation"])}
        changer, parent = self._changer(), self._parent()
        self._cluster = _DEFAULT_CLUSTER
        if self.params["cluster"] is not None:
            self._cluster = int(lookup.require(self.client, "cluster", self.params["cluster"])["ID"])
        return {
            "name": self.name, "template": self.desired_template({}), "address_ranges": changer.new_ranges(), "held": changer.holds({}).after,
            "reservation": {"network": parent, "size": self.params["reservation"]["size"]} if parent is not None else {},
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        ranges = network_facts.ranges(document)
        return {
            **lookup.identity(document),
            **self.attributes(document),
            "mode": mode(document),
            "state": network_facts.state(document),
            "address_ranges": [{name: value for name, value in item.items() if name != "LEASES"} for item in ranges],
            "used_leases": network_facts.used(document),
        }

    def is_leaving(self, document: dict) -> bool:
        """Tell whether the network is being removed."""
        return network_facts.state(document) == "LOCK_DELETE"

    def is_gone(self, number: int) -> bool:
        """Tell whether a removed network is gone. One that cannot be removed stays with the reason in it."""
        left = lookup.get(self.client, "network", number)
        if left:
            network_facts.check_failed(left)
        return left is None

    def change(self, current: dict) -> Transition:
        """Return the way from a network that there is, once it is ready, to what it should be. Raises OneException."""
        network_facts.check_failed(current)
        return super().change(current if self.module.check_mode else self.settled(int(current["ID"]), current))

    def create(self, after: dict) -> int:
        """Make the network and return its id."""
        changer, parent = self._changer(), after["reservation"].get("network")
        if parent is None:
            number = changer.create(after["template"], after["address_ranges"], self._cluster)
        else:
            number = changer.reserve(parent, after["reservation"]["size"], {"NAME": self.name})
        made = self.template(self.settled(number, None))
        # A reservation inherits attributes, and every new network is given the default security group besides its own.
        self.update_template(number, {"template": made}, {"template": compare.wanted_template(made, after["template"])})
        changer.hold(number, changer.holds({}))
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the network."""
        self.update_template(number, before, after)
        self._changer().change(self._document, before["reservation"], after["reservation"])

    def settled(self, number: int, document: dict | None) -> dict:
        """Return the network, once it is ready if the task says so."""
        if document and network_facts.state(document) == "READY" or not self.params["wait"]:
            return document or self.read(number)
        seen = {}

        def probe() -> dict | None:
            network = self.read(number)
            seen["state"] = network_facts.state(network)
            network_facts.check_failed(network)
            return network if seen["state"] == "READY" else None

        return self.wait(probe, lambda: f"its state is {seen['state']}", number, "READY")

    def remove(self, document: dict) -> None:
        """Remove the network, and wait until it is gone if the task says so."""
        self._changer().release_holds(document)
        super().remove(document)

    def _check_reservation(self) -> None:
        reservation = self.params["reservation"]
        if reservation is None:
            return
        if reservation["size"] < 1:
            raise OneException(INVALID, f"The reservation's size is {reservation['size']}, it must be 1 or more.")
        if reservation["address"] and reservation["address_range"] is None:
            raise OneException(INVALID, "The reservation's address needs the address_range it is in.")

    def _parent(self) -> int | None:
        """Return the id of the network the addresses are reserved of, in check mode 0 for one that is not there yet."""
        if self.params["reservation"] is None:
            return None
        return max(0, int(self.resolve("network", self.params["reservation"]["network"])["ID"]))

    def _addresses(self) -> dict:
        """Return the address ranges and the addresses on hold as they should be, if the task speaks of them."""
        if self.params["address_ranges"] is None and self.params["held"] is None:
            return {}
        changer = self._changer()
        return {"address_ranges": changer.ranges(self._document).result, "held": changer.holds(self._document).after}

    def _reservation(self, there: dict) -> dict:
        """Return the reservation as it should be. Raises OneException of kind conflict for what it cannot become."""
        wanted = self.params["reservation"]
        if wanted is None:
            return there
        parent, label = self._parent(), self.label(int(self._document["ID"]))
        if there.get("network") != parent:
            has = f"a reservation of network {there['network']}" if there else "no reservation"
            raise OneException(CONFLICT, f"{label} is {has}, it cannot become one of network {wanted['network']!r}.")
        if there["size"] > wanted["size"]:
            raise OneException(
                CONFLICT, f"{label} has {there['size']} addresses reserved, their number cannot become {wanted['size']}."
            )
        return {"network": parent, "size": wanted["size"]}

    def _changer(self) -> NetworkChanger:
        from ansible_collections.opennebula.flower.plugins.module_utils.one.network.apply import NetworkChanger

        return NetworkChanger(self.client, self.params)


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **WAIT_OPTIONS,
            **OPTIONS,
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
        },
        mutually_exclusive=[("reservation", "address_ranges"), ("reservation", "cluster")],
        supports_check_mode=True,
    )
    module.reconcile(lambda: VirtualNetwork(module).transition())


if __name__ == "__main__":
    main()
