# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""site.yml over zones that boot nothing and whose nodes reach the SuperLink through tunnels of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

pytestmark = pytest.mark.long

RELEASES = {"munich": "7.4", "lyon": "6.10", "madrid": "7.4"}
SHARED = {
    "flower_superlink_address": "", "flower_connection": "wireguard", "flower_tunnel_network": "10.10.9.0/24",
    "flower_tunnel_endpoint": "vpn.example.org:51000", "flower_tunnel_port": 51820, "flower_supernodes_max": 2, "flower_min_available_clients": 2,
    "flower_min_fit_clients": 2, "flower_tunnel_keepalive": 15,
}  # fmt: skip
SETTINGS = {
    "munich": {"flower_firewall": {}},
    "lyon": {"flower_supernodes": 2},
    "madrid": {"flower_supernodes": 1, "flower_site_addresses": ["203.0.113.16/28"]},
}


def published(zones: Zones, name: str, role: str = "supernode") -> dict[str, str]:
    """The keys of the tunnels that the VMs of a zone publish, by name."""
    return {f"{name}/vm-{vm['id']}": vm["user_template"]["FL_TUNNEL_PUBLIC_KEY"] for vm in zones.vms(name, role)}


def given(zones: Zones, name: str) -> dict[str, str]:
    """The addresses that the nodes of a zone were given, by name."""
    return {f"{name}/vm-{vm['id']}": vm["user_template"]["FL_TUNNEL_ADDRESS"] for vm in zones.vms(name)}


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with open_zones(tmp_path_factory.mktemp("zones"), RELEASES) as made:
        status, output = made.play("--check", shared=SHARED, **SETTINGS)
        assert made.writes() == {}, output
        status, output = made.play(shared=SHARED, **SETTINGS)
        assert status == 0, output
        yield made


def test_both_ends_of_every_tunnel_know_the_key_and_the_address_of_the_other(zones):
    nodes = published(zones, "lyon") | published(zones, "madrid")
    addresses = given(zones, "lyon") | given(zones, "madrid")
    assert zones.tunnels("munich") == {name: (nodes[name], addresses[name]) for name in nodes}
    assert sorted(given(zones, "lyon").values()) == ["10.10.9.2", "10.10.9.3"]
    assert sorted(given(zones, "madrid").values()) == ["10.10.9.4"], "the plan keeps two addresses for each zone"
    (superlink,) = published(zones, "munich", "superlink").values()
    for context in zones.contexts("lyon") + zones.contexts("madrid"):
        assert context["ONEAPP_FL_TUNNEL_SUPERLINK_PUBLIC_KEY"] == superlink
        assert context["ONEAPP_FL_TUNNEL_ENDPOINT"] == "vpn.example.org:51000"
        assert context["ONEAPP_FL_TUNNEL_KEEPALIVE"] == "15"
        assert context["ONEAPP_FL_SUPERLINK_ADDRESS"] == "10.10.9.1:9092"
    for context in zones.contexts("munich"):
        assert not context.get("ONEAPP_FL_TUNNEL_NETWORK"), "in its own zone a node needs no tunnel"


def test_the_superlink_has_its_address_in_the_tunnel_and_lets_in_nothing_but_tunnels(zones):
    (context,) = zones.contexts("munich", "superlink")
    assert (context["ONEAPP_FL_TUNNEL_NETWORK"], context["ONEAPP_FL_TUNNEL_PORT"]) == ("10.10.9.0/24", "51820")
    assert context["ONEAPP_FL_CERT_EXTRA_SAN"] == "IP:10.10.9.1"
    rules = [rule for rule in zones.security_group("munich").split("<RULE>") if "inbound" in rule.lower()]
    udp = [rule for rule in rules if "UDP" in rule]
    assert len(udp) == 1 and "51820" in udp[0] and "<IP>" not in udp[0], "lyon does not say where its nodes come from"
    assert not any("203.0.113" in rule for rule in rules), "the Fleet port is open to its own zone alone"


def test_another_run_changes_nothing(zones):
    status, output = zones.play(shared=SHARED, **SETTINGS)
    assert status == 0, output
    assert zones.writes() == {}


def rotate(zones: Zones, **shared: object) -> tuple[int, str]:
    return zones.play(playbook="rotate", shared={**SHARED, "flower_rotate": "tunnels", **shared}, **SETTINGS)


def test_all_keys_are_replaced_one_end_after_the_other_and_a_run_that_was_interrupted_goes_on(zones):
    def keys() -> dict[str, str]:
        return published(zones, "lyon") | published(zones, "madrid") | published(zones, "munich", "superlink")

    before, addresses = keys(), given(zones, "lyon") | given(zones, "madrid")
    (node,) = zones.vms("madrid")
    (superlink,) = zones.vms("munich", "superlink")
    for zone, vm in (("madrid", node), ("munich", superlink)):
        zones.deaf = {(zone, vm["id"])}
        status, output = rotate(zones, flower_rotate_timeout=10)
        assert status != 0
        assert f"VM {vm['id']} in zone {zone} did not do with its tunnel what it was told within 10 s" in output
        assert "the next run goes on here" in output
        assert zones.tunnels("munich") == {name: (before[name], address) for name, address in addresses.items()}, "those that are in use"
    zones.deaf = set()
    status, output = rotate(zones)
    assert status == 0, output
    after = keys()
    assert after.keys() == before.keys() and not set(after.values()) & set(before.values())
    assert zones.tunnels("munich") == {name: (after[name], address) for name, address in addresses.items()}
    (context,) = zones.contexts("munich", "superlink")
    assert not context["ONEAPP_FL_TUNNEL_NEXT_PEERS"] and context["ONEAPP_FL_TUNNEL_NUMBER"] == "2"
    for context in zones.contexts("lyon") + zones.contexts("madrid"):
        assert context["ONEAPP_FL_TUNNEL_SUPERLINK_PUBLIC_KEY"] == after[f"munich/vm-{superlink['id']}"]
        assert not context["ONEAPP_FL_TUNNEL_SUPERLINK_NEXT_PUBLIC_KEY"]
        assert context["ONEAPP_FL_TUNNEL_NUMBER"] == "2", "no end gets two keys in one replacement"

    status, output = zones.play(shared=SHARED, **SETTINGS)
    assert status == 0, output
    assert zones.writes() == {}, "the VM templates have them too"


def test_a_key_of_another_gets_no_tunnel_and_a_zone_that_leaves_takes_its_own_along(zones):
    before = zones.tunnels("munich")
    thief, victim = sorted(published(zones, "lyon"))
    stolen, number = published(zones, "lyon")[victim], thief.rpartition("-")[2]
    zones.zones["lyon"].call("one.vm.update", int(number), f'FL_TUNNEL_PUBLIC_KEY="{stolen}"', 1)
    status, output = zones.play(shared=SHARED, **{**SETTINGS, "madrid": {**SETTINGS["madrid"], "zone_state": "absent"}})
    assert status == 0, output
    assert f"the key of a tunnel that VM {number} publishes is not taken: it is that of {victim}" in output
    assert zones.tunnels("munich") == {victim: before[victim]}


def test_tunnels_that_are_no_longer_wanted_are_taken_back(zones):
    address = {"flower_superlink_address": "fl.example.org:9092", "flower_connection": "public"}
    settings = {**SETTINGS, "lyon": {**SETTINGS["lyon"], "flower_site_addresses": ["198.51.100.7"]}, "madrid": {"zone_state": "absent"}}
    for _again in range(2):
        status, output = zones.play(shared={**SHARED, **address}, **settings)
        assert status == 0, output
    assert zones.writes() == {}
    assert zones.tunnels("munich") == {}
    for context in zones.contexts("munich", "superlink") + zones.contexts("lyon"):
        assert not context.get("ONEAPP_FL_TUNNEL_NETWORK")
