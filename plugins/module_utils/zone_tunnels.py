# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which SuperNodes of other zones have a tunnel to the SuperLink: the keys that their VMs publish, the addresses that the plan has for them, and how far a
replacement of the keys is."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from .wireguard.peers import Peer, read_peer
from .wireguard.values import is_key
from .zone_plan import PRESENT, WIREGUARD

# What a VM publishes for its end of a tunnel.
KEY_ATTRIBUTE = "FL_TUNNEL_PUBLIC_KEY"
_OF_A_ZONE = re.compile(r"(.+)/vm-([0-9]+)")
_NUMBER = re.compile(r"[0-9]{1,6}")
_NEXT_NUMBER = "ONEAPP_FL_TUNNEL_NEXT_NUMBER"
# What is read of the contexts of the ends while their keys are replaced.
ROTATION_CONTEXT = ("ONEAPP_FL_TUNNEL_NUMBER", _NEXT_NUMBER, "ONEAPP_FL_TUNNEL_PEERS", "ONEAPP_FL_TUNNEL_SUPERLINK_NEXT_PUBLIC_KEY")


def tunnel_keys(vms: Iterable[Mapping[str, Any]], place: str) -> dict[str, Any]:
    """Return the public keys of the tunnels of VMs, by number, and one sentence for each VM that publishes something else.

    ``place``: the zone, for the sentences. What a VM publishes is its own doing, so that one with nonsense is left out and the others have tunnels.
    """
    keys, refused = {}, []
    for vm in vms:
        published = vm["attributes"].get(KEY_ATTRIBUTE, "")
        # Given twice, an attribute is a list; with parts, a dictionary.
        if isinstance(published, str) and is_key(published):
            keys[str(vm["id"])] = published
        else:
            refused.append(f"zone {place}: the key of a tunnel that VM {vm['id']} publishes is not taken: it is not 32 bytes in base64")
    return {"keys": keys, "refused": refused}


def joined_peers(known: str, plan: Mapping[str, Any], reached: Mapping[str, Mapping[str, str]], superlink: str = "") -> dict[str, list[str]]:
    """Return the nodes that have a tunnel to the SuperLink, as lines of key, address and ZONE/vm-ID, and one sentence for each that gets none.

    ``known``: what the SuperLink was given before, by commas. ``plan``: that of the zones. ``reached``: the keys of the zones that were reached, by zone
    and number of the VM; of the others the known nodes stay, since a zone that does not answer has not left. ``superlink``: the key of the other end.
    A node keeps its address as long as the plan has it for its zone; others get the first that are free, by the number of their VM.
    :raises ValueError: for a zone that was reached, but has no addresses in the plan.
    """
    blocks = dict(_blocks(plan))
    for zone in reached:
        if zone not in blocks:
            raise ValueError(f"zone {zone}: the plan has no addresses in the tunnel network for it")
    before = {peer.name: peer for peer in _known(known)}
    kept = [peer for peer in before.values() if _zone_of(peer) in blocks and _zone_of(peer) not in reached and _is_in(peer, plan)]
    holders = {superlink: "the SuperLink", **{peer.public_key: peer.name for peer in kept}}
    taken = {peer.address for peer in kept}
    joined, refused = [*kept], []
    for zone, block in blocks.items():
        accepted = []
        # Whoever had a key before is not robbed of it by one that publishes the same.
        for number, key in sorted(reached.get(zone, {}).items(), key=lambda item: (_had(before, zone, *item) is False, int(item[0]))):
            name = f"{zone}/vm-{number}"
            if key in holders:
                refused.append(f"zone {zone}: the key of a tunnel that VM {number} publishes is not taken: it is that of {holders[key]}")
                continue
            holders[key] = name
            accepted.append((name, key))
        addresses = {name: before[name].address for name, _key in accepted if name in before and before[name].address in block}
        addresses = {name: address for name, address in addresses.items() if address not in taken}
        taken.update(addresses.values())
        for name, key in sorted(accepted, key=lambda item: int(item[0].rpartition("-")[2])):
            address = addresses.get(name) or next((address for address in block if address not in taken), "")
            if not address:
                refused.append(f"zone {zone}: VM {name.rpartition('-')[2]} gets no tunnel, because flower_supernodes_max is {len(block)} there, and the "
                               f"plan has as many addresses")  # fmt: skip
                continue
            taken.add(address)
            joined.append(Peer(key, address, name))
    return {"peers": [peer.line for peer in sorted(joined, key=lambda peer: ipaddress.ip_address(peer.address))], "refused": refused}


def tunnel_addresses(peers: Iterable[str], zone: str) -> dict[str, str]:
    """Return the tunnel addresses of a zone's VMs by their number."""
    found = [read_peer(line) for line in peers]
    return {peer.name.rpartition("-")[2]: peer.address for peer in found if _zone_of(peer) == zone}


def tunnel_rotation(reached: Mapping[str, Iterable[Mapping[str, Any]]], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far the replacement of the keys of tunnels is, and what the SuperLink is to know of its nodes.

    ``reached``: the services of each zone by name, with the VMs and the entries ``ROTATION_CONTEXT`` of their contexts. An end gets another key in three
    steps: it makes it, the other end knows it, it uses it. The SuperLink comes last in the first and in the third, so that a replacement that was
    interrupted is one that goes on. Returned are the end of the ``superlink``, empty without one, those of the ``nodes``, whether a replacement
    ``begins``, the nodes that may use their next key (``switching``), ``next_peers`` and ``peers`` as lines, and one sentence for each key that is
    ``refused``.
    """
    ends = [_end(zone, vm) for zone, services in reached.items() for service in services for vm in service["vms"]]
    superlink = next((end for end in ends if (end["zone"], end["role"]) == (plan["coordinator"], "superlink")), None)
    if superlink is None:
        return {"superlink": {}, "nodes": [], "begins": False, "switching": [], "next_peers": [], "peers": [], "refused": []}
    zones = [zone for zone, _block in _blocks(plan)]
    nodes = [end for end in ends if end["zone"] in zones and end["role"] == "supernode"]
    published = {zone: {str(end["id"]): end["key"] for end in nodes if end["zone"] == zone and end["key"]} for zone in zones if zone in reached}
    joined = joined_peers(superlink["peers"], plan, published, superlink["key"])
    before = {peer.name: peer for peer in _known(superlink["peers"])}
    held = Counter(chain.from_iterable({end["key"], end["next_key"]} for end in [superlink, *nodes]))
    following, switching, refused = [], [], [*joined["refused"]]
    for end in nodes:
        key = end["next_key"] or end["key"]
        if not end["runs"] or not key or end["name"] not in before or key in {peer.public_key for peer in before.values()}:
            continue
        if held[key] > 1:
            refused.append(f"zone {end['zone']}: the next key of a tunnel that VM {end['id']} publishes is not taken: another VM publishes it, too")
            continue
        following.append(Peer(key, before[end["name"]].address, end["name"]).line)
        switching += [end] if end["next_key"] else []
    return {
        "superlink": superlink,
        "nodes": nodes,
        "begins": superlink["next_number"] == 0 and not any(end["told"] for end in nodes),
        "switching": switching,
        "next_peers": following,
        "peers": joined["peers"],
        "refused": refused,
    }


def _end(zone: str, vm: Mapping[str, Any]) -> dict[str, Any]:
    """Return one end of a tunnel: what its context says, which no VM can write, and what it publishes, which any VM of its service can."""
    number, following = (_number(vm["context"].get(name), default) for name, default in (("ONEAPP_FL_TUNNEL_NUMBER", 1), (_NEXT_NUMBER, 0)))
    key, next_key = (vm["attributes"].get(name, "") for name in (KEY_ATTRIBUTE, "FL_TUNNEL_NEXT_PUBLIC_KEY"))
    return {
        "zone": zone,
        "id": vm["id"],
        "role": vm["role"],
        "name": f"{zone}/vm-{vm['id']}",
        "runs": vm["state"] == "RUNNING",
        "number": number,
        "next_number": following,
        "key": key if isinstance(key, str) and is_key(key) else "",
        "next_key": next_key if following and isinstance(next_key, str) and is_key(next_key) else "",
        "told": vm["context"].get("ONEAPP_FL_TUNNEL_SUPERLINK_NEXT_PUBLIC_KEY", ""),
        "peers": vm["context"].get("ONEAPP_FL_TUNNEL_PEERS", ""),
    }


def _number(text: str | None, default: int) -> int:
    return int(text) if text and _NUMBER.fullmatch(text) else default


def _blocks(plan: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for zone in plan["zones"]:
        if zone["state"] == PRESENT and zone["connection"] == WIREGUARD and zone["tunnel_addresses"]:
            first, last = map(ipaddress.ip_address, zone["tunnel_addresses"])
            yield zone["name"], [str(first + offset) for offset in range(int(last) - int(first) + 1)]


def _known(text: str) -> Iterator[Peer]:
    """Yield the nodes that the SuperLink was given; what its template says otherwise, such as the name of an input, is none."""
    for line in text.split(","):
        try:
            yield read_peer(line)
        except ValueError:
            continue


def _is_in(peer: Peer, plan: Mapping[str, Any]) -> bool:
    return ipaddress.ip_address(peer.address) in ipaddress.ip_network(plan["tunnel"]["network"])


def _had(before: Mapping[str, Peer], zone: str, number: str, key: str) -> bool:
    return f"{zone}/vm-{number}" in before and before[f"{zone}/vm-{number}"].public_key == key


def _zone_of(peer: Peer) -> str:
    match = _OF_A_ZONE.fullmatch(peer.name)
    return match[1] if match else ""
