# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose VMs out of one listing."""

from __future__ import annotations

from collections.abc import Callable

from ..core import lookup, patterns, states
from ..service import facts as service_facts
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import INVALID, OneException
from ..transport.values import scalar
from . import facts as vm_facts

_STATES = frozenset({*states.VM, *states.LCM})


class VmFilter:
    """What VMs have to meet. params: the filters, None or empty for those that are not given.

    Raises OneException of kind invalid for a state or pattern there is not, of kind missing for a service or cluster.
    """

    def __init__(self, client: Client, params: dict) -> None:
        self._client = client
        self._name = params["name"]
        self._states = {state.upper() for state in params["states"]}
        unknown = sorted(self._states - _STATES)
        if unknown:
            raise OneException(INVALID, f"There is no VM state {', '.join(unknown)}.")
        self._conditions: list[Callable[[dict], bool]] = []
        self._add_conditions(params)

    def facts(self) -> list[dict]:
        """Return the facts about the VMs that meet everything, in the order of their ids."""
        found = [vm for vm in self._listing() if all(condition(vm) for condition in self._conditions)]
        vm_facts.warn_of_odd(self._client, found)
        return [vm_facts.facts(vm) for vm in sorted(found, key=lambda vm: int(vm["ID"]))]

    def _listing(self) -> list[dict]:
        state = vm_facts.ANY_STATE if "DONE" in self._states else vm_facts.NOT_DONE
        if self._name and lookup.is_id(self._name):
            return list(vm_facts.by_id(self._client, [int(self._name)], state).values())
        return vm_facts.listing(self._client, state)

    def _add_conditions(self, params: dict) -> None:
        if self._name and not lookup.is_id(self._name):
            self._require(patterns.matcher(self._name), lambda vm: vm["NAME"])
        if self._states:
            self._conditions.append(self._is_in_state)
        labels = set(params["labels"])
        if labels:
            self._conditions.append(lambda vm: labels <= set(vm_facts.labels(vm)))
        for name, value in params["attributes"].items():
            self._require_attribute(str(name).upper(), scalar(value))
        if params["role"] is not None:
            self._require_attribute("ROLE_NAME", params["role"])
        if params["service"] is not None:
            self._require_attribute("SERVICE_ID", self._service_id(params["service"]))
        if params["host"] is not None:
            key = "HID" if lookup.is_id(params["host"]) else "HOSTNAME"
            self._require(patterns.matcher(params["host"]), lambda vm: vm_facts.placement(vm).get(key))
        if params["cluster"] is not None:
            cluster = self._cluster_id(params["cluster"])
            self._conditions.append(lambda vm: vm_facts.placement(vm).get("CID") == cluster)

    def _require_attribute(self, name: str, pattern: str) -> None:
        self._require(patterns.matcher(pattern), lambda vm: xml.section(vm, "USER_TEMPLATE").get(name))

    def _require(self, means: Callable[[str], bool], text_of: Callable[[dict], object]) -> None:
        def condition(vm: dict) -> bool:
            text = text_of(vm)
            return isinstance(text, str) and means(text)

        self._conditions.append(condition)

    def _is_in_state(self, vm: dict) -> bool:
        return bool(self._states & {states.vm_state(vm), states.name(states.VM, vm["STATE"])})

    def _service_id(self, name_or_id: str) -> str:
        if lookup.is_id(name_or_id):
            return str(int(name_or_id))
        return service_facts.get_service(self._client, name_or_id)["ID"]

    def _cluster_id(self, name_or_id: str) -> str:
        if lookup.is_id(name_or_id):
            return str(int(name_or_id))
        return lookup.require(self._client, "cluster", name_or_id)["ID"]
