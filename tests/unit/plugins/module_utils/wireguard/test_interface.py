# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run on a live interface, from the output of wg and ip."""

from __future__ import annotations

from ansible_collections.opennebula.flower.plugins.module_utils.wireguard import interface

OWN, ONE, TWO = "own=", "one=", "two="
NOW = 1_700_000_000


def dump(*peers: tuple) -> str:
    lines = [("secret", OWN, "51820", "off"), *peers]
    return "\n".join("\t".join(map(str, line)) for line in lines) + "\n"


def peer(key: str, endpoint: str = "192.0.2.1:51820", networks: str = "10.109.0.2/32", handshake: int = NOW - 10) -> tuple:
    return (key, "(none)", endpoint, networks, handshake, 10, 20, 25)


def state(*peers: tuple) -> interface.State:
    found = interface.parse_dump(dump(*peers))
    found.mtu, found.addresses, found.routes = 1420, ["10.109.0.1/24"], ["10.110.2.0/24"]
    return found


def wanted(**changes: object) -> dict:
    one = {"site": "one", "public_key": ONE, "preshared_key_file": "", "endpoint": "", "allowed_ips": ["10.109.0.2/32"], "keepalive": 25}
    same = {"public_key": OWN, "private_key_file": "/k", "port": 51820, "mtu": 1420, "addresses": ["10.109.0.1/24"]}
    return {**same, "routes": ["10.110.2.0/24"], "floating": [], "peers": [{**one, **changes.pop("peer", {})}], **changes}


def commands(current: interface.State, wish: dict) -> list[list[str]]:
    return interface.commands(current, "wg0", wish, NOW)


def test_nothing_is_run_when_everything_is_there() -> None:
    assert commands(state(peer(ONE)), wanted()) == []


def test_a_peer_that_is_replaced_goes_in_the_same_step_as_the_new_one_comes() -> None:
    assert commands(state(peer(TWO)), wanted()) == [
        ["wg", "set", "wg0", "peer", TWO, "remove", "peer", ONE, "persistent-keepalive", "25", "allowed-ips", "10.109.0.2/32"]
    ]


def test_a_living_tunnel_keeps_the_address_its_peer_was_found_at() -> None:
    assert commands(state(peer(ONE, endpoint="198.51.100.7:4000")), wanted(peer={"endpoint": "192.0.2.1:51820"})) == []


def test_a_silent_peer_is_looked_for_at_its_endpoint() -> None:
    silent = state(peer(ONE, endpoint="198.51.100.7:4000", handshake=NOW - 1000))
    assert commands(silent, wanted(peer={"endpoint": "192.0.2.1:51820"})) == [["wg", "set", "wg0", "peer", ONE, "endpoint", "192.0.2.1:51820"]]


def test_floating_networks_stay_where_a_failover_put_them() -> None:
    current = state(peer(ONE, networks="10.109.0.2/32"), peer(TWO, networks="10.109.0.3/32,10.111.0.0/24"))
    one = {"site": "one", "public_key": ONE, "endpoint": "", "allowed_ips": ["10.109.0.2/32", "10.111.0.0/24"], "keepalive": 25}
    two = {"site": "two", "public_key": TWO, "endpoint": "", "allowed_ips": ["10.109.0.3/32"], "keepalive": 25}
    assert commands(current, wanted(peers=[one, two], floating=["10.111.0.0/24"])) == []
    assert commands(current, wanted(peers=[one, two])) != []


def test_routes_and_addresses_that_are_not_wanted_go() -> None:
    assert commands(state(peer(ONE)), wanted(routes=[], addresses=["10.109.0.9/24"])) == [
        ["ip", "address", "add", "10.109.0.9/24", "dev", "wg0"],
        ["ip", "address", "del", "10.109.0.1/24", "dev", "wg0"],
        ["ip", "route", "del", "10.110.2.0/24", "dev", "wg0"],
    ]


def test_a_state_shows_no_secret() -> None:
    assert "secret" not in repr(state(peer(ONE))) + repr(interface.shown(state(peer(ONE)), {}))
