# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: what the zones of an inventory are to become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.module_utils import zone_context, zone_keys, zone_plan, zone_tunnels


def plan(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the plan of the zones in the groups coordinator, training_sites and edge_sites.

    ``hostvars``: the variables of all hosts. They are evaluated as they are read, so only those are that count.
    """
    hosts = {host for group in zone_plan.GROUPS for host in groups.get(group) or []}
    given = {}
    for host in hosts:
        variables = hostvars[host]
        given[host] = {name: variables[name] for name in zone_plan.SETTINGS if name in variables}
    return zone_plan.zone_plan(groups, given)


def _as_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ValueError as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return call


class FilterModule:
    """The filters for zones."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = {
            "flower_zone_plan": plan,
            "flower_zone_nodes": zone_context.nodes,
            "flower_superlink_context": zone_context.superlink_context,
            "flower_supernode_context": zone_context.supernode_context,
            "flower_zone_keys": zone_keys.zone_keys,
            "flower_joined_keys": zone_keys.joined_keys,
            "flower_tunnel_keys": zone_tunnels.tunnel_keys,
            "flower_joined_peers": zone_tunnels.joined_peers,
            "flower_tunnel_addresses": zone_tunnels.tunnel_addresses,
            "flower_tunnel_rotation": zone_tunnels.tunnel_rotation,
        }
        return {name: _as_filter(function) for name, function in functions.items()}
