# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What an inventory of zones means, and what is said of one that means nothing."""

from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.opennebula.flower.plugins.module_utils.zone_plan import SETTINGS, zone_plan

PUBLIC = {"flower_service_name": "fl", "flower_superlink_address": "fl.example.org:9092", "flower_supernodes": 2, "flower_supernodes_max": 4}
TUNNELS = {
    "flower_connection": "wireguard", "flower_tunnel_network": "10.10.9.0/24", "flower_tunnel_endpoint": "fl.example.org:51820", "flower_supernodes": 2,
}  # fmt: skip

NETWORK = {"name": "private", "template": {"NETWORK_ADDRESS": "10.0.0.0", "NETWORK_MASK": "255.255.255.0"}}


def public_key() -> str:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def plan(shared: dict | None = None, coordinator: list | None = None, sites: list | None = None, **zones: dict) -> dict:
    """The plan of zones a, b and c, of which a coordinates; keywords are variables of one zone."""
    shared = PUBLIC if shared is None else shared
    groups = {"coordinator": ["a"] if coordinator is None else coordinator, "training_sites": ["a", "b", "c"] if sites is None else sites}
    names = {name for group in groups.values() for name in group}
    variables = {name: {**shared, "one_api_url": f"http://{name}.example.org:2633/RPC2", **zones.get(name, {})} for name in names}
    return zone_plan(groups, variables)


def test_each_zone_has_its_service_and_its_nodes():
    made = plan(c={"flower_supernodes": 3, "flower_supernodes_min": 3})
    assert made["errors"] == []
    roles = {zone["name"]: {role["name"]: (role["cardinality"], role["least"], role["most"]) for role in zone["roles"]} for zone in made["zones"]}
    assert roles == {
        "a": {"superlink": (1, 1, 1), "supernode": (2, 2, 4)}, "b": {"supernode": (2, 2, 4)}, "c": {"supernode": (3, 3, 4)},
    }  # fmt: skip
    assert made["nodes"] == {"now": 7, "least": 7, "most": 12}


def test_a_coordinator_that_does_not_train_has_a_superlink_only():
    made = plan(sites=["b", "c"])
    assert [role["name"] for role in made["zones"][0]["roles"]] == ["superlink"]
    assert made["nodes"]["now"] == 4


def test_what_the_nodes_of_other_zones_dial_is_in_the_certificate():
    made = plan(a={"flower_cert_extra_san": ["DNS:more.example.org"]}, c={"flower_superlink_address": "198.51.100.1:443"})
    assert made["names"] == ["DNS:more.example.org", "DNS:fl.example.org", "IP:198.51.100.1"]


def test_only_nodes_call_and_only_the_superlink_is_called_between_zones():
    made = plan(b={"flower_site_addresses": ["192.0.2.7"]}, c={"flower_superlink_address": "198.51.100.1:443"})
    between = {
        (port["from"], port["to"], port["protocol"], port["port"])
        for port in made["ports"]
        if port["from"].startswith("zone") and port["from"].split(",")[0] != port["to"].split(",")[0]
    }
    assert between == {
        ("zone b, SuperNodes as 192.0.2.7/32", "zone a, fl.example.org:9092", "TCP", 9092),
        ("zone c, SuperNodes", "zone a, 198.51.100.1:443", "TCP", 443),
    }
    assert all(port["why"] for port in made["ports"])


def test_tunnels_have_an_address_for_every_node_there_may_be():
    made = plan(TUNNELS, b={"flower_supernodes_max": 10}, c={"flower_supernodes_max": 5})
    assert made["errors"] == []
    assert {zone["name"]: zone["tunnel_addresses"] for zone in made["zones"]} == {
        "a": ["10.10.9.1"], "b": ["10.10.9.2", "10.10.9.11"], "c": ["10.10.9.12", "10.10.9.16"],
    }  # fmt: skip
    assert made["zones"][1]["superlink_address"] == "10.10.9.1:9092"
    assert "IP:10.10.9.1" in made["names"]
    assert [(port["protocol"], port["port"]) for port in made["ports"] if "b, SuperNodes" in port["from"]] == [("UDP", 51820)]
    assert any(key["secret"] and "b, SuperNodes: /etc/wireguard" in key["where"] for key in made["keys"])


def test_a_zone_that_leaves_keeps_its_addresses_in_the_tunnel_network_for_the_others_sake():
    made = plan(TUNNELS, b={"zone_state": "absent"})
    assert made["zones"][2]["tunnel_addresses"] == plan(TUNNELS)["zones"][2]["tunnel_addresses"]


def test_a_zone_may_connect_otherwise_than_the_rest():
    made = plan({**PUBLIC, "flower_tunnel_network": "10.10.9.0/24", "flower_tunnel_endpoint": "fl.example.org:51820"},
                c={"flower_connection": "wireguard", "flower_superlink_address": ""})  # fmt: skip
    assert made["errors"] == []
    assert {zone["name"]: zone["connection"] for zone in made["zones"]} == {"a": "", "b": "public", "c": "wireguard"}


def test_a_zone_that_leaves_has_neither_nodes_nor_ports():
    made = plan(c={"zone_state": "absent"})
    assert made["errors"] == []
    assert made["zones"][2]["roles"] == [] and made["nodes"]["now"] == 4
    assert not any("zone c" in port["from"] + port["to"] for port in made["ports"])


def test_a_zone_of_its_own_needs_no_endpoint():
    assert plan({"flower_supernodes": 2}, sites=["a"])["errors"] == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"coordinator": ["a", "b"]}, "the inventory group 'coordinator' has 2 hosts (a, b), expected exactly one zone that runs the SuperLink"),
        ({"coordinator": []}, "the inventory group 'coordinator' has 0 hosts, expected exactly one zone"),
        ({"sites": []}, "the inventory group 'training_sites' has no hosts"),
        ({"b": {"flower_superlink_address": ""}}, "zone b: flower_superlink_address is not set, expected host:port at which its SuperNodes"),
        ({"b": {"flower_superlink_address": "fl.example.org"}}, "zone b: flower_superlink_address is 'fl.example.org', expected host:port of one machine"),
        ({"b": {"flower_superlink_address": "127.0.0.1:9092"}}, "zone b: flower_superlink_address is 127.0.0.1:9092, where its SuperNodes find themselves"),
        ({"b": {"one_api_url": "http://A.example.org:2633/RPC2/"}}, "zones a and b have the same endpoint a.example.org:2633/RPC2, expected each zone once"),
        ({"b": {"one_api_url": ""}}, "zone b: one_api_url is not set, expected the URL of its API: of several zones the environment (ONE_XMLRPC) cannot say"),
        ({"c": {"one_api_url": "", "zone_state": "absent"}}, "zone c: one_api_url is not set"),
        (
            {"b": {"flower_supernodes_max": 402}, "c": {"flower_supernodes_max": 200}},
            "zone a: the keys of 602 SuperNodes of other zones (flower_supernodes_max) take 131257 bytes in ONEAPP_FL_NODE_KEYS, expected at most 131072",
        ),
        ({"a": {"zone_id": 100}, "c": {"zone_id": "100"}}, "zones a and c have the same zone_id 100, expected each zone once"),
        ({"b": {"one_api_url": "frontend"}}, "zone b: one_api_url is 'frontend', expected a URL"),
        ({"a": {"flower_min_available_clients": 7}}, "minimum clients above the number of nodes: flower_min_available_clients is 7, but there are only 6"),
        ({"a": {"flower_cert_extra_san": "fl.example.org"}}, "zone a: flower_cert_extra_san names 'fl.example.org', expected IP:address or DNS:name"),
        ({"a": {"flower_cert_extra_san": ["IP:300.1.2.3"]}}, "zone a: flower_cert_extra_san names 'IP:300.1.2.3'"),
        ({"a": {"flower_fleet_api_address": "127.0.0.1:9092"}}, "zone a: flower_fleet_api_address is 127.0.0.1:9092, which no other zone can reach"),
        ({"a": {"flower_tls_enabled": False}}, "zone a: flower_tls_enabled is false, but models go from zone to zone"),
        ({"a": {"flower_firewall": {}}}, "zone b: flower_site_addresses is not set, expected the addresses that its SuperNodes come from"),
        ({"b": {"flower_site_addresses": "192.0.2.1"}}, "zone b: flower_site_addresses is '192.0.2.1', expected a list"),
        ({"b": {"flower_site_addresses": ["192.0.2.1/24"]}}, "zone b: flower_site_addresses: '192.0.2.1/24' is an address within a network"),
        ({"b": {"flower_supernodes": 0}}, "zone b: flower_supernodes is '0', expected a whole number of at least 1"),
        ({"b": {"flower_supernodes": 5}}, "zone b: flower_supernodes is 5, expected flower_supernodes_min to flower_supernodes_max, 5 to 4"),
        ({"b": {"flower_connection": "vpn"}}, "zone b: flower_connection is 'vpn', expected one of: public, wireguard"),
        ({"b": {"zone_state": "gone"}}, "zone b: zone_state is 'gone', expected one of: present, absent"),
        ({"a": {"zone_state": "absent"}}, "zone a: zone_state is absent for the coordinator"),
        (
            {"b": {"flower_superlink_address": "10.0.0.10:9092", "flower_network": NETWORK}},
            "zone b: flower_superlink_address is 10.0.0.10:9092, but 10.0.0.0/24 is its own network",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence_that_names_the_zone(given, sentence):
    errors = plan(**given)["errors"]
    assert any(sentence in error for error in errors), errors
    assert not any("\n" in error or error.endswith(".") for error in errors)


@pytest.mark.parametrize(
    ("shared", "zones", "sentence"),
    [
        ({"flower_tunnel_endpoint": ""}, {}, "zone a: flower_tunnel_endpoint is not set, expected host:port with the UDP port"),
        ({"flower_tunnel_endpoint": "fl.example.org"}, {}, "zone a: flower_tunnel_endpoint 'fl.example.org' has no port"),
        ({"flower_tunnel_port": 70000}, {}, "zone a: flower_tunnel_port is 70000, expected a UDP port from 1 to 65535"),
        ({"flower_tunnel_network": None}, {}, "zone a: flower_tunnel_network is not set, expected a private network"),
        ({"flower_tunnel_network": "10.10.9.1/24"}, {}, "zone a: flower_tunnel_network: '10.10.9.1/24' is an address within a network"),
        ({"flower_tunnel_network": "10.10.9.0/31"}, {}, "flower_tunnel_network 10.10.9.0/31 has 2 addresses, expected at least 5"),
        ({"flower_tunnel_network": "10.10.9.0/30"}, {}, "flower_tunnel_network 10.10.9.0/30 has 2 addresses, expected at least 5"),
        ({"flower_tunnel_endpoint": "10.10.9.1:51820"}, {}, "is in flower_tunnel_network 10.10.9.0/24, which is reached through the tunnel itself"),
        ({"flower_fleet_api_address": "192.0.2.1:9092"}, {}, "zone a: flower_fleet_api_address is 192.0.2.1:9092, where nothing of a tunnel arrives"),
        ({"flower_superlink_address": "fl:9092"}, {}, "zone b: flower_superlink_address is set, but with flower_connection wireguard"),
        (
            {},
            {"c": {"flower_network": {"address_ranges": [{"TYPE": "IP4", "IP": "10.10.9.200", "SIZE": 8}]}}},
            "zone c: its network 10.10.9.200/29 overlaps with flower_tunnel_network 10.10.9.0/24",
        ),
    ],
)
def test_tunnels_that_cannot_be_are_refused(shared, zones, sentence):
    errors = plan({**TUNNELS, **shared}, **zones)["errors"]
    assert any(sentence in error for error in errors), errors


def test_all_problems_are_said_at_once():
    errors = plan(b={"flower_superlink_address": "", "flower_supernodes": "many"}, c={"zone_state": "gone"})["errors"]
    assert len(errors) == 3


def test_a_loss_that_stops_the_training_is_worth_knowing():
    notes = plan(a={"flower_min_fit_clients": 5})["notes"]
    assert any("without its SuperNodes 4 are left, fewer than flower_min_fit_clients, 5" in note for note in notes)


def test_credentials_are_not_looked_at():
    assert not any("password" in name or "username" in name for name in SETTINGS)


def test_the_size_of_the_model_says_what_a_training_sends():
    made = plan(a={"flower_model_megabytes": 100, "flower_num_rounds": 10}, b={"flower_supernodes": 3})
    assert made["traffic"] == {"model": 100.0, "zones": {"a": 600.0, "b": 900.0, "c": 600.0}, "round": 2100.0, "rounds": 10, "training": 21000.0}
    half = plan(a={"flower_model_megabytes": "100", "flower_fraction_fit": 0.5}, b={"flower_supernodes": 3})
    assert half["traffic"]["round"] == 1400.0


def test_without_a_size_nothing_is_said_and_a_bad_one_is_refused():
    assert plan()["traffic"] == {}
    for size in (0, -1, "big", "nan", "inf", [1]):
        errors = plan(a={"flower_model_megabytes": size})["errors"]
        assert errors == [f"zone a: flower_model_megabytes is {size!r}, expected a number above 0"]


def test_an_edge_site_is_one_machine_without_an_opennebula():
    cloud = {**PUBLIC, "one_api_url": "http://a.example.org:2633/RPC2", "flower_min_available_clients": 1}
    machine = {**PUBLIC, "one_api_url": "http://a.example.org:2633/RPC2", "flower_network": NETWORK, "ansible_host": "192.0.2.9", "ansible_port": 2222}
    made = zone_plan({"coordinator": ["a"], "edge_sites": ["m"]}, {"a": cloud, "m": machine})
    assert made["errors"] == []
    (site,) = (zone for zone in made["zones"] if zone["name"] == "m")
    assert (site["title"], site["machine"], site["service"], site["endpoint"], site["network"]) == ("edge site m", "192.0.2.9", "", "", "")
    assert made["nodes"] == {"now": 1, "least": 1, "most": 1}, "whatever is said of the number of VMs"
    assert ("the control node", "edge site m, 192.0.2.9", 2222) in {(port["from"], port["to"], port["port"]) for port in made["ports"]}
    assert ("edge site m", "zone a, fl.example.org:9092", 9092) in {(port["from"], port["to"], port["port"]) for port in made["ports"]}
    assert {key["where"] for key in made["keys"] if "edge site" in key["where"]} == {"edge site m: /opt/flower/certs", "edge site m: /opt/flower/certs/ca.crt"}


METRICS = {"flower_metrics_enabled": True, "flower_metrics_from": ["10.20.0.0/16"]}


def metrics_ports(made: dict) -> set[tuple]:
    return {(port["from"], port["to"], port["protocol"], port["port"]) for port in made["ports"] if "metrics" in port["why"]}


def test_who_reads_the_metrics_reaches_all_machines_that_offer_them():
    cloud = {**PUBLIC, **METRICS, "one_api_url": "http://a.example.org:2633/RPC2", "flower_min_available_clients": 1}
    machine = {**PUBLIC, **METRICS, "flower_metrics_port": "9200", "flower_metrics_from": "10.20.0.0/16, 192.0.2.1", "ansible_host": "192.0.2.9"}
    made = zone_plan({"coordinator": ["a"], "edge_sites": ["m"]}, {"a": cloud, "m": machine})
    assert made["errors"] == []
    assert metrics_ports(made) == {
        ("10.20.0.0/16", "zone a, VMs", "TCP", 9101),
        ("10.20.0.0/16", "edge site m, 192.0.2.9", "TCP", 9200),
        ("192.0.2.1", "edge site m, 192.0.2.9", "TCP", 9200),
    }


@pytest.mark.parametrize("given", [{"flower_metrics_enabled": False}, {"flower_metrics_enabled": "no"}, {"flower_metrics_from": []}])
def test_without_metrics_or_readers_no_port_of_them_is_needed(given):
    assert metrics_ports(plan(PUBLIC | METRICS | given)) == set()


@pytest.mark.parametrize("group", ["coordinator", "training_sites"])
def test_a_machine_is_no_zone(group):
    made = zone_plan({"coordinator": ["a"], "training_sites": ["a"], "edge_sites": ["m"]} | {group: ["m"]}, {"a": PUBLIC, "m": PUBLIC})
    assert f"zone m is in the groups '{group}' and 'edge_sites', expected one of them: an edge site is a machine" in made["errors"]


def test_the_keys_that_the_plan_takes_fit_into_one_variable_of_an_environment():
    """The longest that the plan lets through is still one that Linux starts a program with."""
    longest = "site-with-a-long-name"
    line = f"{public_key()} {longest}/vm-9999999"
    most = next(
        number for number in range(1000, 0, -1)
        if not plan(sites=["a", longest], **{longest: {"flower_supernodes_max": number}})["errors"]
    )  # fmt: skip
    assert 500 < most < 600
    assert subprocess.run(["env"], env={"ONEAPP_FL_NODE_KEYS": ",".join([line] * most)}, stdout=subprocess.DEVNULL, check=False).returncode == 0
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/usr/bin/env"], env={"ONEAPP_FL_NODE_KEYS": ",".join([line] * (most + 1))}, check=False)


def test_without_keys_there_is_no_bound():
    assert plan(a={"flower_node_auth_enabled": False}, b={"flower_supernodes_max": 5000})["errors"] == []


def test_keys_of_the_operator_take_room_too():
    assert any("SuperNodes of other zones" in error for error in plan(a={"flower_node_keys": ["x" * 216] * 600})["errors"])
