# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a plan of several zones puts into the contexts of their VMs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.zone_context import nodes, superlink_context, supernode_context

TUNNEL = {"network": "10.10.9.0/24", "port": 51820, "endpoint": "fl.example.org:51820"}
AUTHORITY = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ROLES = [{"name": "superlink", "cardinality": 1}, {"name": "supernode", "cardinality": 2}]
MUNICH = {"name": "munich", "connection": "", "superlink_address": "", "roles": ROLES}
LYON = {"name": "lyon", "connection": "public", "superlink_address": "fl.example.org:9092", "roles": ROLES[1:]}
MADRID = {"name": "madrid", "connection": "wireguard", "superlink_address": "10.10.9.1:9092", "roles": [{"name": "supernode", "cardinality": 4}]}


def plan(tunnel: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"names": ["DNS:fl.example.org"], "tunnel": tunnel or {}, "zones": [MUNICH, LYON, MADRID, {"name": "rome", "connection": "", "roles": []}]}


def of_nodes(zone: str, **more: Any) -> dict[str, str]:
    settings = {"node_config": {"rate": 1}, "authority": "", "tunnel_end": "", "keepalive": 25, "had_tunnels": False}
    return supernode_context(plan(TUNNEL), zone=zone, **{**settings, **more})


def test_a_superlink_is_told_its_names_and_who_may_join() -> None:
    told = superlink_context(plan(), keys=["ecdsa AAAA lyon/vm-1", "ecdsa BBBB lyon/vm-2"], peers=[], had_tunnels=False)
    assert told == {"ONEAPP_FL_CERT_EXTRA_SAN": "DNS:fl.example.org", "ONEAPP_FL_NODE_KEYS": "ecdsa AAAA lyon/vm-1,ecdsa BBBB lyon/vm-2"}


def test_a_superlink_is_told_of_its_tunnels_and_that_there_are_none_any_more() -> None:
    told = superlink_context(plan(TUNNEL), keys=[], peers=["a peer"], had_tunnels=True)
    assert [told[f"ONEAPP_FL_TUNNEL_{name}"] for name in ("NETWORK", "PORT", "PEERS")] == ["10.10.9.0/24", "51820", "a peer"]
    told = superlink_context(plan(), keys=[], peers=["a peer"], had_tunnels=True)
    assert [told[f"ONEAPP_FL_TUNNEL_{name}"] for name in ("NETWORK", "PEERS")] == ["", ""]


def test_a_node_is_told_its_zone_where_the_superlink_is_and_whom_to_trust() -> None:
    assert of_nodes("munich") == {"ONEAPP_FL_NODE_CONFIG": "rate=1 zone=munich"}
    told = of_nodes("lyon", authority=AUTHORITY)
    assert told.keys() == {"ONEAPP_FL_NODE_CONFIG", "ONEAPP_FL_SUPERLINK_ADDRESS", "ONEAPP_FL_SSL_CA_CERTFILE"}
    assert told["ONEAPP_FL_SUPERLINK_ADDRESS"] == "fl.example.org:9092"


@pytest.mark.parametrize("keepalive", [25, "25"])
def test_a_node_is_told_of_its_tunnel(keepalive: Any) -> None:
    told = of_nodes("madrid", tunnel_end="the key", keepalive=keepalive)
    names = ("NETWORK", "ENDPOINT", "SUPERLINK_PUBLIC_KEY", "KEEPALIVE")
    assert [told[f"ONEAPP_FL_TUNNEL_{name}"] for name in names] == ["10.10.9.0/24", "fl.example.org:51820", "the key", "25"]


def test_only_a_node_that_had_a_tunnel_is_told_that_it_has_none() -> None:
    assert "ONEAPP_FL_TUNNEL_NETWORK" not in of_nodes("lyon")
    assert of_nodes("lyon", had_tunnels=True)["ONEAPP_FL_TUNNEL_NETWORK"] == ""
    assert "ONEAPP_FL_TUNNEL_NETWORK" not in of_nodes("munich", had_tunnels=True)


def test_nodes_are_counted_without_those_of_some_zones() -> None:
    assert (nodes(plan()), nodes(plan(), ["madrid", "nowhere"])) == (8, 4)
