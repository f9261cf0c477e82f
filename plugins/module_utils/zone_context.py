# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of several zones puts into the contexts of their VMs, and how many SuperNodes the zones have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .contextualization import context_values
from .zone_plan import PUBLIC, WIREGUARD


def superlink_context(plan: Mapping[str, Any], *, keys: Sequence[str], peers: Sequence[str], had_tunnels: bool) -> dict[str, str]:
    """Return what the SuperLink's context says of the zones: names of its certificate, keys that may join, and the tunnels that end there.

    had_tunnels: a VM that had tunnels has to be told that there are none any more; nothing is said where there never was one.
    """
    values: dict[str, Any] = {"flower_cert_extra_san": plan["names"], "flower_node_keys": keys}
    if plan["tunnel"]:
        values |= {"flower_tunnel_network": plan["tunnel"]["network"], "flower_tunnel_port": plan["tunnel"]["port"], "flower_tunnel_peers": peers}
    elif had_tunnels:
        values |= {"flower_tunnel_network": "", "flower_tunnel_peers": []}
    return context_values(values)


def supernode_context(
    plan: Mapping[str, Any], *, zone: str, node_config: Mapping[str, Any], authority: str, tunnel_end: str, keepalive: int, had_tunnels: bool
) -> dict[str, str]:
    """Return what the contexts of a zone's SuperNodes say: their zone, where the SuperLink is and whom they trust, as far as it is known.

    authority: the CA, as PEM. tunnel_end: the public key of the SuperLink's end of the tunnels. keepalive: seconds.
    """
    planned = next(each for each in plan["zones"] if each["name"] == zone)
    values: dict[str, Any] = {"flower_node_config": {**node_config, "zone": zone}}
    if planned["superlink_address"]:
        values["flower_superlink_address"] = planned["superlink_address"]
    if authority:
        values["flower_ssl_ca_certfile"] = authority
    if planned["connection"] == WIREGUARD:
        values |= {
            "flower_tunnel_network": plan["tunnel"]["network"],
            "flower_tunnel_endpoint": plan["tunnel"]["endpoint"],
            "flower_tunnel_superlink_public_key": tunnel_end,
            "flower_tunnel_keepalive": keepalive,
        }
    elif had_tunnels and planned["connection"] == PUBLIC:
        values["flower_tunnel_network"] = ""
    return context_values(values)


def nodes(plan: Mapping[str, Any], without: Collection[str] = ()) -> int:
    """Return how many SuperNodes the zones of a plan have, without some zones."""
    roles = [role for zone in plan["zones"] if zone["name"] not in without for role in zone["roles"]]
    return sum(role["cardinality"] for role in roles if role["name"] == "supernode")
