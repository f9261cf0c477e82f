# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address plan of an overlay: who has which networks behind which peer, and every way to describe it wrongly."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.plan import PlanError, interface_peers, make_plan

TUNNEL = ("10.109.0.0/24",)
KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


def site(number: int, **extra: object) -> dict:
    return {"name": f"s{number}", "addresses": [f"10.109.0.{number}"], "subnets": [f"10.110.{number}.0/24"], **extra}


def hub(number: int, **extra: object) -> dict:
    return site(number, hub=True, endpoint=f"s{number}.example.org:51820", **extra)


def allowed(plan: dict, name: str, peer: str) -> list[str]:
    return next(entry["allowed_ips"] for entry in plan[name]["peers"] if entry["site"] == peer)


def problems(sites: list[dict], networks: Sequence[str] = TUNNEL, **options: object) -> list[str]:
    with pytest.raises(PlanError) as problem:
        make_plan(sites, networks, **options)
    return problem.value.errors


def test_spokes_reach_the_hub_and_what_is_behind_it_only() -> None:
    plan = make_plan([hub(1), site(2), site(3)], TUNNEL)
    assert allowed(plan, "s2", "s1") == ["10.109.0.1/32", "10.110.1.0/24"]
    assert allowed(plan, "s1", "s2") == ["10.109.0.2/32", "10.110.2.0/24"]
    assert [peer["site"] for peer in plan["s2"]["peers"]] == ["s1"]
    assert {check["site"]: check["reachable"] for check in plan["s2"]["checks"]} == {"s1": True, "s3": False}
    assert plan["s1"]["forward_between"] == []


def test_spokes_that_are_declared_to_talk_do_so_through_the_hub() -> None:
    plan = make_plan([hub(1), site(2), site(3), site(4)], TUNNEL, flows=[["s2", "s3"]])
    assert allowed(plan, "s2", "s1") == ["10.109.0.1/32", "10.109.0.3/32", "10.110.3.0/24"]
    assert plan["s1"]["forward_between"] == [{"one": ["10.109.0.2/32", "10.110.2.0/24"], "other": ["10.109.0.3/32", "10.110.3.0/24"]}]
    assert plan["s1"]["accept_from"] == []
    assert plan["s2"]["routes"] == ["10.110.3.0/24"]


def test_a_mesh_has_a_tunnel_for_each_pair_that_talks() -> None:
    sites = [site(number, endpoint=f"s{number}.example.org:51820") for number in (1, 2, 3)]
    plan = make_plan(sites, TUNNEL, topology="mesh")
    assert [peer["site"] for peer in plan["s2"]["peers"]] == ["s1", "s3"]
    plan = make_plan(sites, TUNNEL, topology="mesh", flows=[["s1", "s2"]])
    assert [peer["site"] for peer in plan["s3"]["peers"]] == []


def test_in_a_failover_the_first_hub_has_what_is_behind_both_at_first() -> None:
    plan = make_plan([hub(1, subnets=["10.110.0.0/24"]), hub(2, subnets=["10.110.0.0/24"]), site(3)], TUNNEL, topology="failover")
    assert allowed(plan, "s3", "s1") == ["10.109.0.1/32", "10.110.0.0/24"]
    assert allowed(plan, "s3", "s2") == ["10.109.0.2/32"]
    assert plan["s3"]["floating"] == ["10.110.0.0/24"]
    assert plan["s3"]["hubs"] == ["10.109.0.1", "10.109.0.2"]
    assert allowed(plan, "s1", "s2") == ["10.109.0.2/32"]
    assert plan["s1"]["hubs"] == []


def test_a_site_without_endpoint_asks_its_peers_since_they_cannot_find_it_after_a_restart() -> None:
    plan = make_plan([hub(1), site(2), site(3, endpoint="s3.example.org:51820")], TUNNEL)
    assert {name: mine["probes"] for name, mine in plan.items()} == {"s1": [], "s2": ["10.109.0.1"], "s3": []}
    mesh = [site(1, endpoint="s1.example.org:1"), site(2), site(3, endpoint="s3.example.org:1")]
    assert make_plan(mesh, TUNNEL, topology="mesh")["s2"]["probes"] == ["10.109.0.1", "10.109.0.3"]


def test_the_watch_of_a_failover_asks_often_enough() -> None:
    plan = make_plan([hub(1, subnets=[]), hub(2, subnets=[]), site(3)], TUNNEL, topology="failover")
    assert plan["s3"]["probes"] == []


def test_both_families_have_addresses_of_their_own() -> None:
    sites = [hub(1), site(2)]
    for entry in sites:
        entry["addresses"].append(f"fd00::{entry['addresses'][0][-1]}")
    plan = make_plan(sites, [*TUNNEL, "fd00::/64"])
    assert plan["s2"]["addresses"] == ["10.109.0.2/24", "fd00::2/64"]
    assert "fd00::1/128" in allowed(plan, "s2", "s1")


@given(st.integers(2, 12), st.sampled_from(["hub_and_spoke", "mesh", "failover"]), st.data())
def test_no_network_is_ever_behind_two_peers_and_traffic_is_allowed_on_both_ends(count: int, topology: str, data: st.DataObject) -> None:
    hubs = {"hub_and_spoke": 1, "mesh": 0, "failover": min(2, count - 1)}[topology]
    if topology == "failover" and hubs < 2:
        return
    sites = [site(n, endpoint=f"s{n}.example.org:1", hub=n <= hubs) for n in range(1, count + 1)]
    for entry in sites[:hubs] if topology == "failover" else []:
        entry["subnets"] = ["10.110.0.0/24"]
    names = [entry["name"] for entry in sites]
    flows = data.draw(st.none() | st.lists(st.sampled_from(list(combinations(names, 2))), unique=True))
    plan = make_plan(sites, TUNNEL, topology=topology, flows=flows)
    for name, mine in plan.items():
        networks = [ipaddress.ip_network(item) for peer in mine["peers"] for item in peer["allowed_ips"]]
        assert all(not one.overlaps(other) for one, other in combinations(networks, 2))
        for check in mine["checks"]:
            routed = any(ipaddress.ip_address(check["address"]) in network for network in networks)
            assert routed or not check["reachable"], (name, check)
            assert check["reachable"] == next(c["reachable"] for c in plan[check["site"]]["checks"] if c["site"] == name)


def test_everything_wrong_is_named_at_once() -> None:
    found = problems([hub(1), {**site(2), "endpoint": "s2.example.org"}, {**site(3), "subnet": "10.0.0.0/8"}], ["10.109.0.0/33"])
    assert len(found) == 3


@pytest.mark.parametrize(
    ("sites", "options", "said"),
    [
        ([hub(1), site(2), site(2)], {}, "Site 's2' is listed 2 times."),
        ([hub(1), site(2), {**site(3), "host": "s2"}], {}, "Host 's2' is listed 2 times."),
        ([hub(1), site(2, private_key="x")], {}, "Site 's2' has a private key in the inventory (private_key): remove it and make a new one"),
        ([hub(1), site(2, endpoint="s2.example.org")], {}, "Site 's2': endpoint 's2.example.org' has no port"),
        ([hub(1), site(2, endpoint="fd00::2")], {}, "Site 's2': endpoint 'fd00::2' has an IPv6 address without brackets"),
        ([hub(1), site(2, endpoint="s2:70000")], {}, "endpoint 's2:70000' has no port between 1 and 65535 ('70000')"),
        ([hub(1), site(2, endpoint="a b:1")], {}, "holds 'a b', which is neither an address nor a host name"),
        ([hub(1), site(2, endpoint="10.0.0.256:51820")], {}, "holds '10.0.0.256', which is not an IPv4 address"),
        ([hub(1), site(2, endpoint="0.0.0.0:51820")], {}, "holds '0.0.0.0', which is not the address of one machine"),
        *[
            ([hub(1), site(2, subnets=[nowhere])], {}, f"Site 's2': subnet '{nowhere}' is not usable: no machine can have an address in it.")
            for nowhere in ("0.0.0.0/8", "240.0.0.0/4", "255.255.255.255", "::ffff:10.0.0.0/104")
        ],
        (
            [{**hub(1), "endpoint": "10.110.2.1:51820"}, site(2), site(3)],
            {},
            "Endpoint '10.110.2.1:51820' of site 's1' is in 10.110.2.0/24, which is reached through the tunnel itself.",
        ),
        ([hub(1), site(2, endpoint="[::]:51820")], {}, "holds '::', which is not the address of one machine"),
        ([hub(1), site(2, endpoint="[ff02::1]:51820")], {}, "holds 'ff02::1', which is not the address of one machine"),
        ([hub(1), site(2, endpoint="224.0.0.1:51820")], {}, "holds '224.0.0.1', which is not the address of one machine"),
        ([hub(1), site(2, endpoint="127.0.0.1:1")], {}, "holds '127.0.0.1', where no other machine can reach it"),
        ([hub(1), site(2, endpoint="[::1]:5")], {}, "holds '::1', where no other machine can reach it"),
        ([hub(1), site(2, endpoint="[fe80::1]:5")], {}, "holds 'fe80::1', where no other machine can reach it"),
        ([hub(1), site(2, endpoint="169.254.1.1:5")], {}, "holds '169.254.1.1', where no other machine can reach it"),
        ([hub(1), site(2, endpoint="LocalHost:5")], {}, "holds 'LocalHost', the machine itself, where no other one can reach it"),
        ([hub(1), site(2, endpoint="240.0.0.1:5")], {}, "holds '240.0.0.1', which no machine can have"),
        ([hub(1), site(2, endpoint="0.1.2.3:5")], {}, "holds '0.1.2.3', which no machine can have"),
        ([hub(1), site(2, endpoint="[::ffff:192.0.2.1]:1")], {}, "an IPv4 address in the form of IPv6, expected '192.0.2.1'"),
        ([hub(1), site(2, endpoint="0x7f000001:1")], {}, "holds '0x7f000001', which is not an IPv4 address"),
        ([hub(1), site(2, endpoint="http://s2:1")], {}, "endpoint 'http://s2:1' is a URL, expected host:port or [IPv6]:port"),
        ([hub(1), site(2, endpoint="[::1%x\nPostUp = evil]:1")], {}, "which is not an IPv6 address"),
        ([hub(1), site(2, endpoint="s2:\u0661")], {}, "has no port between 1 and 65535"),
        ([hub(1), site(2, endpoint="10.109.0.7:1")], {}, "is in 10.109.0.0/24, which is reached through the tunnel itself"),
        ([hub(1), site(2, endpoint="10.110.2.7:1")], {}, "is in 10.110.2.0/24, which is reached through the tunnel itself"),
        ([hub(1), site(2, endpoint="S1.example.org:51820")], {}, "Sites 's1', 's2' have the same endpoint 's1.example.org:51820'"),
        ([hub(1, public_key=KEY), site(2, public_key=KEY)], {}, f"Sites 's1', 's2' have the same public key '{KEY}'"),
        ([hub(1), site(2, public_key="A" * 43 + "=")], {}, "is not a WireGuard key"),
        ([hub(1), site(2, public_key=KEY[:-2] + "h=")], {}, "is not a WireGuard key"),
        ([hub(1), site(2, hub="perhaps")], {}, "Site 's2': hub: 'perhaps' is neither yes nor no, expected true or false."),
        ([hub(1), site(2, port=0)], {}, "Site 's2': port '0' is not a port, expected 1 to 65535."),
        ([hub(1), site(2, port=True)], {}, "Site 's2': port 'True' is not a port, expected 1 to 65535."),
        ([hub(1), site(2)], {"keepalive": -1}, "keepalive: -1 is out of range, expected a whole number from 0 to 65535."),
        ([hub(1), site(2)], {"keepalive": 99999}, "keepalive: 99999 is out of range, expected a whole number from 0 to 65535."),
        ([hub(1), site(2, addresses="10.109.0.2")], {}, "Site 's2': addresses is '10.109.0.2', expected a list."),
        ([hub(1), site(2, subnets="10.110.2.0/24")], {}, "Site 's2': subnets is '10.110.2.0/24', expected a list."),
        ([hub(1), site(2, addresses=["10.109.0.2/24"])], {}, "tunnel address '10.109.0.2/24' is not usable: '10.109.0.2/24' has a prefix length"),
        ([hub(1), site(2, subnets=["fe80::%x\nPostUp = evil/64"])], {}, "is not usable"),
        ([hub(1), site(2, subnets=["224.0.0.0/4"])], {}, "is multicast, loopback or link-local, which is not routed"),
        ([hub(1), site(2, subnets=["169.254.0.0/16"])], {}, "is multicast, loopback or link-local, which is not routed"),
        ([hub(1), site(2, subnets=["::/0"])], {}, "stands for every address there is"),
        ([hub(1), site(2, subnets=[10])], {}, "Site 's2': subnet '10' is not usable: 10 is a number"),
        ("s1, s2", {}, "The list of sites is 's1, s2', expected a list."),
        ([hub(1), site(2)], {"flows": "s1, s2"}, "The list of flows is 's1, s2', expected a list."),
        ([hub(1), site(2)], {"flows": [[["s1"], "s2"]]}, "is not a pair of two different sites."),
        ([hub(1), site(2, public_key="abc")], {}, "Site 's2': public key 'abc' is not a WireGuard key"),
        ([hub(1), site(2, name="../s2")], {}, "Site '../s2' has no usable name"),
        ([hub(1), site(2, addresses=["10.109.0.1"])], {}, "Tunnel address 10.109.0.1 is given twice, to site 's1' and to site 's2'."),
        ([hub(1), site(2, addresses=["10.108.0.2"])], {}, "Tunnel address 10.108.0.2 of site 's2' is in none of the tunnel networks"),
        ([hub(1), site(2, addresses=["10.109.0.255"])], {}, "stands for the whole network 10.109.0.0/24"),
        ([hub(1), site(2, addresses=[])], {}, "Site 's2' has no tunnel address in 10.109.0.0/24."),
        ([hub(1), site(2, subnets=["10.110.1.128/25"])], {}, "Subnets overlap: 10.110.1.0/24 of site 's1' and 10.110.1.128/25 of site 's2'."),
        ([hub(1), site(2, subnets=["10.109.0.0/28"])], {}, "Subnets overlap: 10.109.0.0/24 of the tunnel network and 10.109.0.0/28 of site 's2'."),
        ([hub(1), site(2, subnets=["10.110.2.1/24"])], {}, "Site 's2': subnet '10.110.2.1/24' is not usable"),
        ([site(1), site(2)], {}, "Topology hub_and_spoke has 0 hubs, expected exactly one"),
        ([hub(1), site(2)], {"topology": "failover"}, "Topology failover has 1 hubs (s1), expected at least two"),
        ([hub(1), hub(2), site(3)], {"topology": "failover"}, "The hubs s1, s2 lead to different subnets"),
        ([site(1), site(2)], {"topology": "mesh"}, "Sites 's1' and 's2' should talk, but neither has an endpoint."),
        ([site(1, hub=True), site(2)], {}, "Hub 's1' has no endpoint"),
        ([hub(1), site(2)], {"topology": "ring"}, "There is no topology 'ring'"),
        ([hub(1), site(2)], {"flows": [["s1", "s9"]]}, "names 's9', which is not a site."),
        ([hub(1), site(2)], {"flows": [["s1", "s1"]]}, "is not a pair of two different sites."),
    ],
)
def test_a_wrong_plan_is_refused_with_the_object_and_the_value(sites: list[dict], options: dict, said: str) -> None:
    assert any(said in error for error in problems(sites, **options))


def test_a_tunnel_network_too_small_for_the_sites_is_refused() -> None:
    sites = [{**hub(1), "addresses": ["10.109.0.0"]}, {**site(2), "addresses": ["10.109.0.1"]}, site(3)]
    assert "Tunnel network 10.109.0.0/31 has 2 addresses, too few for 3 sites." in problems(sites, ["10.109.0.0/31"])


def test_one_error_for_a_text_in_the_place_of_a_list() -> None:
    assert problems([hub(1), site(2)], "10.109.0.0/24")[0] == "The overlay: networks is '10.109.0.0/24', expected a list."
    assert len(problems([hub(1), site(2)], "10.109.0.0/24")) == 1


@pytest.mark.parametrize("no", ["no", "False", "off", "0", 0, False, None])
def test_a_site_whose_hub_says_no_is_a_spoke(no: object) -> None:
    plan = make_plan([hub(1), site(2, hub=no)], TUNNEL)
    assert [peer["site"] for peer in plan["s2"]["peers"]] == ["s1"]


def test_values_reach_the_interface_in_their_one_form() -> None:
    sites = [
        {"name": "s1", "hub": "yes", "addresses": ["FD00:0::1"], "endpoint": "[2001:DB8:0::1]:051820", "subnets": ["010.110.001.000/24", "FD01::/048"]},
        {"name": "s2", "addresses": ["fd00::2/128"]},
    ]
    plan = make_plan(sites, ["FD00:0::/64"])
    assert allowed(plan, "s2", "s1") == ["fd00::1/128", "10.110.1.0/24", "fd01::/48"]
    assert (plan["s1"]["endpoint"], plan["s1"]["port"], plan["s2"]["addresses"]) == ("[2001:db8::1]:51820", 51820, ["fd00::2/64"])


def test_the_same_key_on_two_machines_is_refused_as_on_copies_of_one() -> None:
    with pytest.raises(ValueError, match="sites 's1', 's2' have the same key, as copies of one machine do"):
        interface_peers([], {"s1": KEY, "s2": KEY, "s3": "", "s4": ""}, {})
