# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both ends of the tunnels of VMs want of their interfaces, and whom they refuse."""

from __future__ import annotations

import base64
import ipaddress

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import ContextError, check
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard import peers
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.interface import Peer, State

NETWORK = ipaddress.ip_network("10.10.9.0/24")
ONE, TWO = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def test_the_superlink_has_the_first_address_and_each_node_its_own_alone():
    made = peers.superlink_interface(NETWORK, 51820, [f"{ONE} 10.10.9.2 lyon/vm-1", f"{TWO} 10.10.9.7 madrid/vm-1"])
    assert (made["addresses"], made["port"]) == (["10.10.9.1/24"], 51820)
    assert [(peer["site"], peer["allowed_ips"]) for peer in made["peers"]] == [("lyon/vm-1", ["10.10.9.2/32"]), ("madrid/vm-1", ["10.10.9.7/32"])]


def test_the_next_key_of_a_node_is_known_without_an_address_until_it_is_used():
    made = peers.superlink_interface(NETWORK, 51820, [f"{ONE} 10.10.9.2 lyon/vm-1"], [f"{TWO} 10.10.9.2 lyon/vm-1"])
    assert [(peer["public_key"], peer["allowed_ips"]) for peer in made["peers"]] == [(ONE, ["10.10.9.2/32"]), (TWO, [])]
    before = State("", 51820, {ONE: Peer(ONE, allowed_ips=["10.10.9.2/32"]), TWO: Peer(TWO)})
    assert peers.waiting(before, made["successors"]) == {"10.10.9.2/32": TWO}
    assert peers.take_over({ONE: 1000, TWO: 0}, made["successors"]) == []
    assert peers.take_over({ONE: 1000, TWO: 999}, made["successors"]) == ["peer", TWO, "allowed-ips", "10.10.9.2/32"]
    after = State("", 51820, {ONE: Peer(ONE), TWO: Peer(TWO, allowed_ips=["10.10.9.2/32"])})
    assert peers.waiting(after, made["successors"]) == {}


@pytest.mark.parametrize("line", [f"{ONE} 10.10.9.2 lyon/vm-1", f"{TWO} 10.10.9.3 lyon/vm-1", f"{TWO} 10.10.9.2 lyon/vm-2"])
def test_a_next_key_of_nobody_who_has_a_tunnel_is_left_out(line):
    made = peers.superlink_interface(NETWORK, 51820, [f"{ONE} 10.10.9.2 lyon/vm-1"], [line])
    assert len(made["peers"]) == 1 and made["successors"] == {}


@pytest.mark.parametrize(("holder", "kept"), [(ONE, [25, 0]), (TWO, [0, 25])])
def test_a_node_keeps_the_key_of_the_superlink_known_that_is_in_use(holder, kept):
    superlink = {"public_key": ONE, "next_public_key": TWO, "endpoint": "vpn.example.org:51820", "keepalive": 25}
    state = State("", 40000, {key: Peer(key, allowed_ips=["10.10.9.1/32"] if key == holder else []) for key in (ONE, TWO)})
    made = peers.node_interface(NETWORK, "10.10.9.2", superlink, state)
    assert [peer["keepalive"] for peer in made["peers"]] == kept
    assert made["successors"] == {"10.10.9.1/32": TWO} and made["floating"] == ["10.10.9.1/32"]


def test_a_node_takes_packets_of_the_superlink_alone_and_keeps_its_port():
    made = peers.node_interface(NETWORK, "10.10.9.2", {"public_key": ONE, "endpoint": "vpn.example.org:51820", "keepalive": 25}, State("", 40000, {}))
    assert (made["addresses"], made["port"]) == (["10.10.9.2/24"], 40000)
    (superlink,) = made["peers"]
    assert (superlink["allowed_ips"], superlink["endpoint"], superlink["keepalive"]) == (["10.10.9.1/32"], "vpn.example.org:51820", 25)


def test_a_node_keeps_its_address_while_nobody_says_another_but_none_of_another_network():
    state = State("", 40000, {}, addresses=["10.10.9.5/24", "10.99.0.5/24"])
    assert peers.node_interface(NETWORK, "", {"public_key": "", "endpoint": "", "keepalive": 25}, state) == {
        "port": 40000, "addresses": ["10.10.9.5/24"], "peers": [], "floating": [], "successors": {},
    }  # fmt: skip


@pytest.mark.parametrize(("text", "network"), [
    ("10.10.9.1", "10.10.9.0/24"), ("10.10.9.0", "10.10.9.0/24"), ("10.10.9.255", "10.10.9.0/24"), ("10.10.8.2", "10.10.9.0/24"), ("", "10.10.9.0/24"),
    ("10.10.9.2/24", "10.10.9.0/24"), ("x" * 10_000, "10.10.9.0/24"), (["10.10.9.2"], "10.10.9.0/24"), ("fd00:9::", "fd00:9::/64"),
    ("fd00:9::1", "fd00:9::/64"), ("10.10.9.2", "fd00:9::/64"),
])  # fmt: skip
def test_an_address_that_no_node_can_have_is_refused_in_one_sentence(text, network):
    with pytest.raises(ValueError, match="is not the address of a node in the tunnel network") as refused:
        peers.node_address(text, ipaddress.ip_network(network))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["10.10.9.2", "10.10.9.254"])
def test_every_other_address_of_the_network_can_be_a_nodes(text):
    assert peers.node_address(text, NETWORK) == text


@pytest.mark.parametrize("lines", [
    [f"{ONE} 10.10.9.2 a", f"{ONE} 10.10.9.3 b"], [f"{ONE} 10.10.9.2 a", f"{TWO} 10.10.9.2 b"], [f"{ONE} 10.10.9.2 a", f"{TWO} 10.10.9.3 a"],
    [f"{ONE} 10.10.9.2"], [f"{ONE[:-1]} 10.10.9.2 a"], [f"{ONE} 10.10.9.2/24 a"], [f"{ONE} 10.10.9.2 a b"], [f"{ONE} 10.10.9.2 -a"],
    [f"{'A' * 43}= 10.10.9.2 a"],
])  # fmt: skip
def test_a_context_with_peers_that_cannot_be_is_refused(lines):
    with pytest.raises(ContextError, match="ONEAPP_FL_TUNNEL_PEERS: .* is not valid"):
        check({"ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24", "ONEAPP_FL_TUNNEL_PEERS": ",".join(lines)}, "superlink")


def test_a_context_whose_peers_have_no_address_of_the_network_is_refused():
    given = {"ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24", "ONEAPP_FL_TUNNEL_PEERS": f"{ONE} 10.10.8.2 lyon/vm-1"}
    with pytest.raises(ContextError, match="ONEAPP_FL_TUNNEL_PEERS: '10.10.8.2' is not the address of a node in the tunnel network 10.10.9.0/24"):
        check(given, "superlink")
    with pytest.raises(ContextError, match="ONEAPP_FL_TUNNEL_NEXT_PEERS: '10.10.8.2' is not the address of a node"):
        check({"ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24", "ONEAPP_FL_TUNNEL_NEXT_PEERS": f"{ONE} 10.10.8.2 lyon/vm-1"}, "superlink")
    assert "is ignored" in " ".join(check({**given, "ONEAPP_FL_TUNNEL_NETWORK": ""}, "superlink").ignored)


def test_a_node_that_knows_whose_but_not_where_the_other_end_is_says_so():
    with pytest.raises(ContextError, match="ONEAPP_FL_TUNNEL_ENDPOINT: nothing was given"):
        check({"ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24", "ONEAPP_FL_TUNNEL_SUPERLINK_PUBLIC_KEY": ONE}, "supernode")
