# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels that VMs end themselves, each node its own, at the VM of the SuperLink: who has which address, and what each end wants of its interface."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import addresses
from ..addresses import Address, Network
from . import values
from .interface import State

EXPECTED = "a public key of WireGuard, an address and a name, with blanks between"
# What a packet may have, so that it fits with its envelope into those of nearly every link.
MTU = 1420
# Longer than any peer, so that nothing long is looked at.
_LONGEST_LINE = 256
_LINE = re.compile(r"([A-Za-z0-9+/]{43}=) ([0-9A-Fa-f.:]{2,39}) ([A-Za-z0-9][A-Za-z0-9._:@/-]{0,63})")


@dataclass(frozen=True)
class Peer:
    """A node at the other end of a tunnel."""

    public_key: str
    address: str
    name: str

    @property
    def line(self) -> str:
        """Its one form as text."""
        return f"{self.public_key} {self.address} {self.name}"


def read_peer(text: str) -> Peer:
    """Return the peer in a line; ValueError, in a few words, when there is none."""
    match = _LINE.fullmatch(text.strip()) if len(text) <= _LONGEST_LINE else None
    if not match or not values.is_key(match[1]):
        raise ValueError(f"it is not {EXPECTED}")
    return Peer(match[1], addresses.ip_address(match[2]), match[3])


def read_peers(lines: Sequence[str]) -> list[Peer]:
    """Return the peers in lines; ValueError when one has no form, or when a key, an address or a name occurs twice."""
    found = [read_peer(line) for line in lines]
    for what, seen in (("key", [p.public_key for p in found]), ("address", [p.address for p in found]), ("name", [p.name for p in found])):
        if len(set(seen)) < len(seen):
            raise ValueError(f"a {what} occurs twice")
    return found


def superlink_address(network: Network) -> Address:
    """Return the address that the VM of the SuperLink has in a tunnel network: the first one that a machine may have."""
    return network.network_address + (1 if _has_ends(network) else 0)


def usable(network: Network) -> int:
    """Return how many addresses of a tunnel network machines may have."""
    return network.num_addresses - ((2 if network.version == 4 else 1) if _has_ends(network) else 0)


def node_address(text: object, network: Network) -> str:
    """Return the address that a node was given; ValueError, without a full stop, for one that no node of the network can have."""
    try:
        address = ipaddress.ip_address(addresses.ip_address(text))
    except ValueError:
        address = None
    first = superlink_address(network)
    if address is None or address not in network or not first < address < first + usable(network):
        raise ValueError(f"{str(text)[:60]!r} is not the address of a node in the tunnel network {network}")
    return str(address)


def superlink_interface(network: Network, port: int, peers: Sequence[str], next_peers: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the interface of the SuperLink's VM is to be, for ``interface.checked``. Peers outside of the network are a ValueError.

    ``next_peers``: nodes with the key that they get next; those count that have a tunnel. See ``take_over`` for ``successors``.
    """
    found = read_peers(peers)
    for peer in found:
        node_address(peer.address, network)
    keys, places = {peer.public_key for peer in found}, {(peer.name, peer.address) for peer in found}
    later = [peer for peer in read_peers(next_peers) if (peer.name, peer.address) in places and peer.public_key not in keys]
    successors = {_alone(peer.address): peer.public_key for peer in later}
    return {
        "port": port,
        "addresses": [f"{superlink_address(network)}/{network.prefixlen}"],
        "peers": [
            *({"site": peer.name, "public_key": peer.public_key, "endpoint": "", "allowed_ips": [_alone(peer.address)], "keepalive": 0} for peer in found),
            *(_without_networks(f"{peer.name}, next", peer.public_key) for peer in later),
        ],
        "floating": list(successors),
        "successors": successors,
    }


def node_interface(network: Network, address: str, superlink: Mapping[str, Any], state: State) -> dict[str, Any]:
    """Return what the interface of a node is to be, for ``interface.checked``.

    ``address``: empty for the one it has. ``superlink``: public_key, endpoint and keepalive of the other end, and next_public_key, which it gets next;
    nothing is wanted of it without a key. A node listens where it does: nobody asks for it there. See ``take_over`` for ``successors``.
    """
    there = [entry for entry in state.addresses if ipaddress.ip_interface(entry).ip in network]
    prefix = _alone(str(superlink_address(network)))
    reached = {name: superlink[name] for name in ("endpoint", "keepalive")}
    hub = {"site": "superlink", "public_key": superlink["public_key"], "allowed_ips": [prefix], **reached}
    wanted, successors = [hub] if hub["public_key"] else [], {}
    following = superlink.get("next_public_key", "")
    if hub["public_key"] and following and following != hub["public_key"]:
        after = _without_networks("superlink, next", following)
        # The one that has the address is the one to keep known to what is on the way.
        if following in state.peers and prefix in state.peers[following].allowed_ips:
            after |= reached
            hub["keepalive"] = 0
        wanted.append(after)
        successors = {prefix: following}
    return {
        "port": state.port,
        "addresses": [f"{address}/{network.prefixlen}"] if address else there,
        "peers": wanted,
        "floating": list(successors),
        "successors": successors,
    }


def waiting(state: State, successors: Mapping[str, str]) -> dict[str, str]:
    """Return the successors that have not taken over; a successor is the next key of the peer with an address, by that address as a network."""
    return {prefix: key for prefix, key in successors.items() if key not in state.peers or prefix not in state.peers[key].allowed_ips}


def take_over(used: Mapping[str, int], successors: Mapping[str, str]) -> list[str]:
    """Return the words with which `wg set` gives addresses to the next keys that are in use now. ``used``: last handshakes by key, 0 for none."""
    return [word for prefix, key in successors.items() if used.get(key) for word in ("peer", key, "allowed-ips", prefix)]


def _without_networks(site: str, public_key: str) -> dict[str, Any]:
    """Return a peer that is known, but has no address yet. Nothing is sent to it: a handshake that comes too early would be tried again only after 5 s."""
    return {"site": site, "public_key": public_key, "endpoint": "", "allowed_ips": [], "keepalive": 0}


def _has_ends(network: Network) -> bool:
    """Say whether its first address, and of IPv4 its last, means more than one machine."""
    return network.prefixlen < network.max_prefixlen - 1


def _alone(address: str) -> str:
    return str(ipaddress.ip_network(address))
