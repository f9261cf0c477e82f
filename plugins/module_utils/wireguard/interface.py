# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running WireGuard interface: read with `wg show` and `ip`, brought to what is wanted without taking it down."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import addresses, scalars
from . import values

# Runs an argument list and returns its standard output; raises when the command fails.
Run = Callable[[Sequence[str]], str]

_NONE = "(none)"
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
# IPv4 must not have less; of IPv6 Linux takes no address at all where it has less than this.
_LEAST_MTU, _LEAST_MTU_6, _LAST_MTU = 576, 1280, 65535
# A peer that answered within this many seconds is alive: WireGuard makes a new session at least every 120 s of traffic and gives one up after 180.
ALIVE_SECONDS = 180


@dataclass
class Peer:
    """A peer as the interface has it. ``handshake`` is seconds since the epoch, 0 for never."""

    public_key: str
    has_preshared_key: bool = False
    endpoint: str = ""
    allowed_ips: list[str] = field(default_factory=list)
    keepalive: int = 0
    handshake: int = 0


@dataclass
class State:
    """An interface as it is. Holds no secret: of the keys only the public ones."""

    public_key: str
    port: int
    peers: dict[str, Peer]
    mtu: int = 0
    addresses: list[str] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)


def parse_dump(text: str) -> State:
    """Return the state in the output of `wg show INTERFACE dump` (wg(8))."""
    first, *others = [line.split("\t") for line in text.strip().splitlines()]
    peers = {}
    for key, preshared, endpoint, allowed, handshake, _received, _sent, keepalive in others:
        peers[key] = Peer(
            key,
            preshared != _NONE,
            "" if endpoint == _NONE else endpoint,
            [] if allowed == _NONE else allowed.split(","),
            0 if keepalive == "off" else int(keepalive),
            int(handshake),
        )
    return State("" if first[1] == _NONE else first[1], int(first[2]), peers)


def read_state(run: Run, name: str) -> State:
    """Return how an interface is."""
    state = parse_dump(run(["wg", "show", name, "dump"]))
    link = json.loads(run(["ip", "-json", "address", "show", "dev", name]))[0]
    state.mtu = link["mtu"]
    state.addresses = [
        addresses.ip_interface(f"{entry['local']}/{entry['prefixlen']}") for entry in link["addr_info"] if not _is_kernels_own(entry)
    ]
    for family in (4, 6):
        routes = json.loads(run(["ip", "-json", f"-{family}", "route", "show", "dev", name]) or "[]")
        state.routes += [_destination(route["dst"], family) for route in routes if route.get("protocol") != "kernel"]
    return state


def checked(wanted: Mapping[str, Any], keys_may_lack: bool = False) -> dict[str, Any]:
    """Return what is wanted of an interface with every value in the one form that `wg` and `ip` show it in; see ``commands``.

    ``keys_may_lack``: whether a public key may be empty, as it is where check mode merely would have made it.

    Raises:
        ValueError: something cannot be; the sentence has no full stop.
    """
    found = {
        **wanted,
        "name": values.interface_name(wanted["name"]),
        "public_key": _key(wanted["public_key"], "public_key", keys_may_lack),
        "port": _named("port", values.port, wanted["port"]),
        "mtu": _named("mtu", lambda value: scalars.whole_number(value, _LEAST_MTU, _LAST_MTU), wanted["mtu"]),
        "addresses": _each("addresses", addresses.ip_interface, wanted["addresses"]),
        "routes": _each("routes", lambda value: _destination(value, 4), wanted["routes"]),
        "floating": _each("floating", addresses.ip_network, wanted["floating"]),
        "peers": [_checked_peer(peer, keys_may_lack) for peer in wanted["peers"]],
    }
    if found["mtu"] < _LEAST_MTU_6 and any(":" in item for item in found["addresses"]):
        raise ValueError(f"mtu is {found['mtu']}, but with an IPv6 address it must be {_LEAST_MTU_6} or more")
    _check_peers(found)
    return found


def _is_kernels_own(entry: Mapping[str, Any]) -> bool:
    """Say whether an address is one that Linux gave to the interface by itself: a link-local one, or one from a router."""
    return str(entry.get("protocol", "")).startswith("kernel") or bool(entry.get("stable-privacy")) or bool(entry.get("dynamic"))


def _destination(value: object, family: int) -> str:
    return _EVERYTHING[family] if value == "default" else addresses.ip_network(value)


def _checked_peer(peer: Mapping[str, Any], key_may_lack: bool) -> dict[str, Any]:
    label = f"of peer {peer['site']!r}"
    endpoint = peer.get("endpoint") or ""
    try:
        endpoint = values.endpoint(endpoint) if endpoint else ""
    except ValueError as problem:
        raise ValueError(f"endpoint {endpoint!r} {label} {problem}, expected host:port or [IPv6]:port") from None
    # wg takes an address within a network for the network.
    allowed = _each(f"allowed_ips {label}", lambda value: addresses.ip_network(value, strict=False), peer["allowed_ips"])
    return {
        **peer,
        "public_key": _key(peer["public_key"], f"public_key {label}", key_may_lack),
        "endpoint": endpoint,
        "allowed_ips": allowed,
        "keepalive": _named(f"keepalive {label}", values.keepalive, peer["keepalive"]),
    }


def _check_peers(wanted: Mapping[str, Any]) -> None:
    owners: dict[str, str] = {wanted["public_key"]: "this interface itself"}
    holders: dict[str, str] = {}
    for peer in wanted["peers"]:
        key = peer["public_key"]
        if key and key in owners:
            raise ValueError(f"public_key of peer {peer['site']!r} is that of {owners[key]}")
        owners[key] = f"peer {peer['site']!r}"
        for network in peer["allowed_ips"]:
            if network in holders:
                raise ValueError(f"allowed_ips {network} is at peer {holders[network]!r} and at peer {peer['site']!r}, WireGuard gives it to one")
            holders[network] = peer["site"]


def _key(text: str, what: str, may_lack: bool) -> str:
    if not values.is_key(text) and not (may_lack and not text):
        raise ValueError(f"{what} is {text!r}, expected 32 bytes in base64")
    return text


def _named(what: str, form: Callable[[Any], Any], value: object) -> Any:
    try:
        return form(value)
    except ValueError as problem:
        raise ValueError(f"{what}: {problem}") from None


def _each(what: str, form: Callable[[Any], str], given: Sequence[object]) -> list[str]:
    return list(dict.fromkeys(_named(what, form, value) for value in given))


def commands(state: State, name: str, wanted: Mapping[str, Any], now: float) -> list[list[str]]:
    """Return the commands that bring an interface to what is wanted; none when it is there.

    ``wanted``: public_key, private_key_file, port, mtu, addresses, routes, floating and peers (public_key, preshared_key_file,
    endpoint, allowed_ips, keepalive). ``floating`` prefixes stay at the peer that has them, as a failover leaves them.
    ``now``: seconds since the epoch.
    """
    found = []
    change = _interface_changes(state, wanted) + _peer_changes(state, wanted, now)
    if change:
        # One call is one transaction: an address that moves from peer to peer is never without one.
        found.append(["wg", "set", name, *change])
    if state.mtu != wanted["mtu"]:
        found.append(["ip", "link", "set", "dev", name, "mtu", str(wanted["mtu"])])
    gone = [item for item in state.addresses if item not in wanted["addresses"]]
    late = _taken_along(gone, wanted["addresses"])
    found += [["ip", "address", "add", item, "dev", name] for item in wanted["addresses"] if item not in state.addresses and item not in late]
    found += [["ip", "address", "del", item, "dev", name] for item in gone]
    found += [["ip", "address", "replace", item, "dev", name] for item in late]
    found += [["ip", "route", "replace", item, "dev", name] for item in wanted["routes"] if late or item not in state.routes]
    found += [["ip", "route", "del", item, "dev", name] for item in state.routes if item not in wanted["routes"]]
    return found


def shown(state: State, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return what a diff shows of a state; ``labels`` gives names of peers by public key."""
    return {
        "public_key": state.public_key,
        "port": state.port,
        "mtu": state.mtu,
        "addresses": sorted(state.addresses),
        "routes": sorted(state.routes),
        "peers": {
            labels.get(key, key): {
                "public_key": key,
                "preshared_key": peer.has_preshared_key,
                "allowed_ips": sorted(peer.allowed_ips),
                "keepalive": peer.keepalive,
            }
            for key, peer in state.peers.items()
        },
    }


def predicted(state: State, wanted: Mapping[str, Any]) -> State:
    """Return the state after ``commands``."""
    peers = {}
    for peer in wanted["peers"]:
        key = peer["public_key"]
        there = state.peers.get(key, Peer(key))
        peers[key] = Peer(key, bool(peer.get("preshared_key_file")), there.endpoint, _allowed(state, wanted, peer), peer["keepalive"], there.handshake)
    return State(wanted["public_key"], wanted["port"], peers, wanted["mtu"], list(wanted["addresses"]), list(wanted["routes"]))


def _taken_along(gone: Sequence[str], addresses_wanted: Sequence[str]) -> list[str]:
    """Return the addresses that Linux may remove with those that go: with the first one of a network the others, and with the last one the routes."""
    networks = {addresses.read_interface(item).network for item in gone}
    return [item for item in addresses_wanted if addresses.read_interface(item).network in networks]


def _interface_changes(state: State, wanted: Mapping[str, Any]) -> list[str]:
    change = []
    if state.port != wanted["port"]:
        change += ["listen-port", str(wanted["port"])]
    if state.public_key != wanted["public_key"]:
        change += ["private-key", wanted["private_key_file"]]
    return change


def _peer_changes(state: State, wanted: Mapping[str, Any], now: float) -> list[str]:
    keys = {peer["public_key"] for peer in wanted["peers"]}
    change = [word for key in state.peers if key not in keys for word in ("peer", key, "remove")]
    for peer in wanted["peers"]:
        there = state.peers.get(peer["public_key"])
        words = _one_peer(there, peer, _allowed(state, wanted, peer), now)
        if words or there is None:
            change += ["peer", peer["public_key"], *words]
    return change


def _one_peer(there: Peer | None, peer: Mapping[str, Any], allowed: list[str], now: float) -> list[str]:
    words = []
    if peer.get("preshared_key_file"):
        # Whether it is the same secret is not asked: comparing would need it read. A new one comes with a new file, see the role.
        if there is None or not there.has_preshared_key or peer.get("preshared_key_changed"):
            words += ["preshared-key", peer["preshared_key_file"]]
    elif there is not None and there.has_preshared_key:
        words += ["preshared-key", "/dev/null"]
    if peer.get("endpoint") and _endpoint_is_stale(there, peer["endpoint"], now):
        words += ["endpoint", peer["endpoint"]]
    if (there.keepalive if there else 0) != peer["keepalive"]:
        words += ["persistent-keepalive", str(peer["keepalive"])]
    if sorted(there.allowed_ips if there else []) != sorted(allowed):
        words += ["allowed-ips", ",".join(allowed)]
    return words


def _endpoint_is_stale(there: Peer | None, endpoint: str, now: float) -> bool:
    """Peers may roam: a tunnel that is alive keeps the address it found."""
    if there is None or not there.endpoint:
        return True
    return now - there.handshake > ALIVE_SECONDS and there.endpoint not in _resolved(endpoint)


def _resolved(endpoint: str) -> list[str]:
    host, _colon, port = endpoint.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except OSError:
        # wg would fail on it as well; a tunnel is not broken for a name that does not resolve just now.
        return [endpoint]
    return [f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}" for *_rest, address in found]


def _allowed(state: State, wanted: Mapping[str, Any], peer: Mapping[str, Any]) -> list[str]:
    keys = {entry["public_key"] for entry in wanted["peers"]}
    held = {prefix: key for key, current in state.peers.items() if key in keys for prefix in current.allowed_ips if prefix in wanted["floating"]}
    own = [prefix for prefix in peer["allowed_ips"] if held.get(prefix, peer["public_key"]) == peer["public_key"]]
    return own + [prefix for prefix, key in held.items() if key == peer["public_key"] and prefix not in own]
