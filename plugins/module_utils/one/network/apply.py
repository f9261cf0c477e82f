# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and change virtual networks, their address ranges and the addresses on hold."""

from __future__ import annotations

from ..transport.client import Client
from . import facts as network_facts
from .address_plan import HoldPlan, RangePlan, lease_of, new_range, read_lease

_PREFIX = "one.vn"


class NetworkChanger:
    """What is done to a virtual network.

    params: the options of the task. Everything raises OneException.
    """

    def __init__(self, client: Client, params: dict) -> None:
        self._client = client
        self._params = params
        self._replace = params["update"] == "replace"

    def new_ranges(self) -> list[dict]:
        """Return the address ranges of a new network."""
        return [new_range(wanted) for wanted in self._params["address_ranges"] or []]

    def ranges(self, network: dict) -> RangePlan:
        """Return what to do to the address ranges of a network."""
        return RangePlan(network_facts.ranges(network), self._params["address_ranges"], self._replace)

    def holds(self, network: dict) -> HoldPlan:
        """Return which addresses of a network to hold, empty for a new one."""
        return HoldPlan(network, self._params["held"], self._replace)

    def create(self, template: dict, ranges: list[dict], cluster: int) -> int:
        """Make a network and return its id."""
        return self._client.call(f"{_PREFIX}.allocate", {**template, "NAME": self._params["name"], "AR": ranges}, cluster)

    def reserve(self, parent: int, size: int, target: dict) -> int:
        """Reserve addresses of another network, for a new network (NAME) or one that exists (NETWORK_ID), and return its id."""
        wanted = self._params["reservation"]
        source = {} if wanted["address_range"] is None else {"AR_ID": wanted["address_range"]}
        first = lease_of(read_lease(wanted["address"], "reservation")) if wanted["address"] else {}
        return self._client.call(f"{_PREFIX}.reserve", parent, {"SIZE": size, **target, **source, **first})

    def change(self, network: dict, before: dict, after: dict) -> None:
        """Bring a network's address ranges, its reservation, which is before and should be after, and its holds to the wanted state."""
        number, plan, held = int(network["ID"]), self.ranges(network), self.holds(network)
        for added in plan.added:
            self._client.call(f"{_PREFIX}.add_ar", number, {"AR": added})
        for changed in plan.changed:
            self._client.call(f"{_PREFIX}.update_ar", number, {"AR": changed})
        if before != after:
            self.reserve(after["network"], after["size"] - before["size"], {"NETWORK_ID": number})
        self.hold(number, held)
        # What goes does so last: by then everything that takes its place is there.
        for range_id in plan.removed:
            self._client.call(f"{_PREFIX}.rm_ar", number, range_id)

    def hold(self, number: int, plan: HoldPlan) -> None:
        """Put addresses on hold, and others back into use."""
        for lease in plan.held:
            self._client.call(f"{_PREFIX}.hold", number, {"LEASES": lease})
        for lease in plan.released:
            self._client.call(f"{_PREFIX}.release", number, {"LEASES": lease})

    def release_holds(self, network: dict) -> None:
        """Put all addresses back into use if nothing else keeps the network: the server removes none with leases, be they of nobody."""
        held = HoldPlan(network, [], replace=True)
        if len(held.before) == network_facts.used(network):
            self.hold(int(network["ID"]), held)
