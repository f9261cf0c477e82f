# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, change and remove virtual networks, and wait for each step if the task says so."""

from __future__ import annotations

from collections.abc import Callable

from ..core import compare, lookup
from ..core.ownership import Ownership, write
from ..core.wait import wait_until
from ..transport.client import Client
from . import facts as network_facts
from .address_plan import HoldPlan, RangePlan, lease_of, new_range, read_lease

_PREFIX = "one.vn"


class NetworkChanger:
    """What is done to a virtual network.

    params: the options of the task. progress: called with how things stand. Everything raises OneException.
    """

    def __init__(self, client: Client, params: dict, ownership: Ownership, progress: Callable[[str], None]) -> None:
        self._client = client
        self._params = params
        self._name = params["name"]
        self._replace = params["update"] == "replace"
        self._ownership = ownership
        self._progress = progress

    def new_ranges(self) -> list[dict]:
        """Return the address ranges of a new network."""
        return [new_range(wanted) for wanted in self._params["address_ranges"] or []]

    def ranges(self, network: dict) -> RangePlan:
        """Return what to do to the address ranges of a network."""
        return RangePlan(network_facts.ranges(network), self._params["address_ranges"], self._replace)

    def holds(self, network: dict) -> HoldPlan:
        """Return which addresses of a network to hold, empty for a new one."""
        return HoldPlan(network, self._params["held"], self._replace)

    def create(self, template: dict, ranges: list[dict], cluster: int) -> dict:
        """Make a network and return its document."""
        attributes = {**template, "NAME": self._name, "AR": ranges}
        return self.ready(self._client.call(f"{_PREFIX}.allocate", attributes, cluster))

    def reserve(self, parent: int) -> dict:
        """Make a network of addresses reserved of another one, and return its document."""
        return self.ready(self._reserve(parent, self._params["reservation"]["size"], {"NAME": self._name}))

    def finish(self, network: dict, before: dict, after: dict, held: HoldPlan) -> dict:
        """Give a new network its template, its addresses on hold and its owner, and return its document."""
        number = int(network["ID"])
        self._update(number, before, after)
        self._hold(number, held)
        write(self._client, self._ownership, _PREFIX, network)
        return self.ready(number)

    def change(self, network: dict, before: dict, after: dict) -> dict:
        """Bring a network from one state to another and return its document."""
        number, plan = int(network["ID"]), self.ranges(network)
        held = self.holds(network)
        self._update(number, before["template"], after["template"])
        for added in plan.added:
            self._client.call(f"{_PREFIX}.add_ar", number, {"AR": added})
        for changed in plan.changed:
            self._client.call(f"{_PREFIX}.update_ar", number, {"AR": changed})
        if before["reservation"] != after["reservation"]:
            lacking = after["reservation"]["size"] - before["reservation"]["size"]
            self._reserve(after["reservation"]["network"], lacking, {"NETWORK_ID": number})
        self._hold(number, held)
        # What goes does so last: by then everything that takes its place is there.
        for range_id in plan.removed:
            self._client.call(f"{_PREFIX}.rm_ar", number, range_id)
        write(self._client, self._ownership, _PREFIX, network)
        return self.ready(number)

    def remove(self, network: dict) -> None:
        """Remove a network."""
        number, held = int(network["ID"]), HoldPlan(network, [], replace=True)
        if len(held.before) == network_facts.used(network):
            # The server removes no network with leases, be they of nobody.
            self._hold(number, held)
        if not network_facts.is_leaving(network):
            lookup.delete(self._client, "network", number, network_facts.is_leaving)
        if self._params["wait"]:
            self.wait_gone(number)

    def wait_gone(self, number: int) -> None:
        """Wait until a network that is being removed is gone."""
        self._wait(number, lambda left: left is None, "removed")

    def ready(self, number: int) -> dict:
        """Return a network's document, once it is ready."""
        if self._params["wait"]:
            self._wait(number, lambda network: network is not None and network_facts.state(network) == "READY", "READY")
        return lookup.get(self._client, "network", number)

    def _update(self, number: int, before: dict, after: dict) -> None:
        if before != after:
            self._client.call(f"{_PREFIX}.update", number, *compare.update(before, after))

    def _reserve(self, parent: int, size: int, target: dict) -> int:
        wanted = self._params["reservation"]
        source = {} if wanted["address_range"] is None else {"AR_ID": wanted["address_range"]}
        first = lease_of(read_lease(wanted["address"], "reservation")) if wanted["address"] else {}
        return self._client.call(f"{_PREFIX}.reserve", parent, {"SIZE": size, **target, **source, **first})

    def _hold(self, number: int, plan: HoldPlan) -> None:
        for lease in plan.held:
            self._client.call(f"{_PREFIX}.hold", number, {"LEASES": lease})
        for lease in plan.released:
            self._client.call(f"{_PREFIX}.release", number, {"LEASES": lease})

    def _wait(self, number: int, done: Callable[[dict | None], bool], goal: str) -> None:
        seen = {"state": ""}

        def probe() -> bool | None:
            network = lookup.get(self._client, "network", number)
            seen["state"] = network_facts.state(network) if network else ""
            if network:
                network_facts.check_failed(network)
            return True if done(network) else None

        wait_until(
            probe, lambda: f"its state is {seen['state']}", self._params["wait_timeout"],
            progress=self._progress, what=f"Virtual network {self._name!r} (id {number}) is not {goal}",
        )
