# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run on a live interface, from the output of wg and ip."""

from __future__ import annotations

import json

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.wireguard import interface

OWN, ONE, TWO = "own=", "one=", "two="
NOW = 1_700_000_000
KEYS = [f"{letter}TIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=" for letter in "xyz"]
# What `ip -json` of iproute2 6.1 says of an interface with each kind of address and route; the last address is the kernel's own.
ADDRESSES = [
    {"family": "inet", "local": "10.9.0.1", "prefixlen": 32, "scope": "global", "label": "wg0"},
    {"family": "inet6", "local": "fd00::1", "prefixlen": 64, "scope": "global"},
    {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
    {"family": "inet6", "local": "fe80::6eb8:795:689c:44bc", "prefixlen": 64, "scope": "link", "stable-privacy": True},
]
ROUTES = {
    "-4": [{"dst": "default", "scope": "link"}, {"dst": "10.7.0.5", "scope": "link"}],
    "-6": [
        {"dst": "fd00::/64", "protocol": "kernel", "metric": 256}, {"dst": "fd01::/48", "metric": 1024}, {"dst": "default", "metric": 1024},
        {"dst": "fe80::/64", "protocol": "kernel", "metric": 256},
    ],
}


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


def commands(current: interface.State, desired: dict) -> list[list[str]]:
    return interface.commands(current, "wg0", desired, NOW)


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
    assert commands(state(peer(ONE)), wanted(routes=[], addresses=["10.111.0.9/24"])) == [
        ["ip", "address", "add", "10.111.0.9/24", "dev", "wg0"],
        ["ip", "address", "del", "10.109.0.1/24", "dev", "wg0"],
        ["ip", "route", "del", "10.110.2.0/24", "dev", "wg0"],
    ]


def test_an_address_comes_after_another_of_its_network_went_because_linux_would_take_it_along() -> None:
    assert commands(state(peer(ONE)), wanted(addresses=["10.109.0.9/24"])) == [
        ["ip", "address", "del", "10.109.0.1/24", "dev", "wg0"],
        ["ip", "address", "replace", "10.109.0.9/24", "dev", "wg0"],
        ["ip", "route", "replace", "10.110.2.0/24", "dev", "wg0"],
    ]


def test_a_state_shows_no_secret() -> None:
    assert "secret" not in repr(state(peer(ONE))) + repr(interface.shown(state(peer(ONE)), {}))


def asked(**changes: object) -> dict:
    one = {"site": "one", "public_key": KEYS[1], "endpoint": "", "allowed_ips": ["10.109.0.2"], "keepalive": 25, **changes.pop("peer", {})}
    same = {"name": "wg0", "public_key": KEYS[0], "private_key_file": "/k", "port": 51820, "mtu": 1420, "addresses": ["10.9.0.1"]}
    return {**same, "routes": [], "floating": [], "peers": [one], **changes}


def on_this_machine(argv: list[str]) -> str:
    if argv[0] == "wg":
        return "\t".join(["secret", KEYS[0], "51820", "off"]) + "\n" + "\t".join(map(str, peer(KEYS[1], networks="10.109.0.0/24,fd00:109::2/128")))
    return json.dumps(ROUTES[argv[2]] if "route" in argv else [{"mtu": 1420, "addr_info": ADDRESSES}])


def test_what_is_there_is_wanted_however_it_is_written() -> None:
    desired = interface.checked(asked(
        addresses=["FD00:0::1/64", "010.009.000.001", "fe80::0:1/64", "10.9.0.1/32"], routes=["default", "::/0", "10.7.0.5", "FD01:0::/48"],
        peer={"allowed_ips": ["10.109.0.2/24", "FD00:109::0:2", "10.109.0.0/24"]},
    ))
    assert commands(interface.read_state(on_this_machine, "wg0"), desired) == []


def test_addresses_of_the_kernel_stay_and_others_go() -> None:
    found = commands(interface.read_state(on_this_machine, "wg0"), interface.checked(asked(addresses=["10.9.0.1/32"], routes=["default"])))
    removed = [command[3] for command in found if command[2] == "del"]
    assert removed == ["fd00::1/64", "fe80::1/64", "10.7.0.5/32", "fd01::/48", "::/0"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "wg0\n"}, "is not a name for an interface"),
        ({"name": "-h"}, "is not a name for an interface"),
        ({"port": 0}, "port: 0 is out of range, expected a whole number from 1 to 65535"),
        ({"mtu": 100}, "mtu: 100 is out of range, expected a whole number from 576 to 65535"),
        ({"mtu": 1000, "addresses": ["fd00::1/64"]}, "mtu is 1000, but with an IPv6 address it must be 1280 or more"),
        ({"public_key": "abc"}, "public_key is 'abc', expected 32 bytes in base64"),
        ({"public_key": ""}, "public_key is '', expected 32 bytes in base64"),
        ({"addresses": ["10.9.0.256/24"]}, "addresses: '10.9.0.256/24' is not an IP address or network"),
        ({"addresses": ["fe80::1%x\nPostUp = evil"]}, "is not an IP address or network"),
        ({"routes": ["10.9.0.1/24"]}, "routes: '10.9.0.1/24' is an address within a network, expected the network, '10.9.0.0/24'"),
        ({"peer": {"public_key": KEYS[0]}}, "public_key of peer 'one' is that of this interface itself"),
        ({"peer": {"public_key": "A" * 43 + "="}}, "public_key of peer 'one' is 'AAAA"),
        ({"peer": {"keepalive": -1}}, "keepalive of peer 'one': -1 is out of range, expected a whole number from 0 to 65535"),
        ({"peer": {"endpoint": "10.0.0.256:51820"}}, "endpoint '10.0.0.256:51820' of peer 'one' holds '10.0.0.256', which is not an IPv4 address"),
        ({"peer": {"allowed_ips": ["everything"]}}, "allowed_ips of peer 'one': 'everything' is not an IP address or network"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(changes: dict, said: str) -> None:
    with pytest.raises(ValueError) as problem:
        interface.checked(asked(**changes))
    assert said in str(problem.value)


def test_a_network_behind_two_peers_is_refused_as_wireguard_gives_it_to_one() -> None:
    one = {"site": "one", "public_key": KEYS[1], "endpoint": "", "allowed_ips": ["10.109.0.0/24"], "keepalive": 0}
    two = {"site": "two", "public_key": KEYS[2], "endpoint": "", "allowed_ips": ["10.109.0.7/24"], "keepalive": 0}
    with pytest.raises(ValueError, match="allowed_ips 10.109.0.0/24 is at peer 'one' and at peer 'two'"):
        interface.checked(asked(peers=[one, two]))
    with pytest.raises(ValueError, match="public_key of peer 'two' is that of peer 'one'"):
        interface.checked(asked(peers=[one, {**two, "public_key": KEYS[1], "allowed_ips": []}]))


def test_a_key_that_check_mode_would_have_made_may_lack() -> None:
    assert interface.checked(asked(public_key="", peer={"public_key": ""}), keys_may_lack=True)["public_key"] == ""
