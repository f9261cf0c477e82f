# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address plan of a WireGuard overlay: from the sites as an operator lists them to what each site's interface holds.

All checks happen here, before anything is changed on any machine. Made once for all sites: checking costs about the same
for each site however many there are.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import addresses, scalars
from ..addresses import Address, Network
from . import values

HUB_AND_SPOKE = "hub_and_spoke"
MESH = "mesh"
FAILOVER = "failover"
TOPOLOGIES = (HUB_AND_SPOKE, MESH, FAILOVER)

DEFAULT_PORT = 51820

_KEYS = {"name", "host", "hub", "addresses", "endpoint", "port", "subnets", "public_key"}
# This network itself, what is reserved, and IPv4 in the form of IPv6.
_NOWHERE = tuple(map(ipaddress.ip_network, ("0.0.0.0/8", "240.0.0.0/4", "::ffff:0:0/96")))
# Names become parts of file names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class PlanError(ValueError):
    """The description of the overlay cannot be used; ``errors`` holds one sentence for each problem."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__(" ".join(self.errors))


@dataclass(frozen=True)
class Site:
    """One site: a gateway with tunnel addresses, and the subnets behind it."""

    name: str
    host: str
    hub: bool
    addresses: tuple[Address, ...]
    endpoint: str
    port: int
    subnets: tuple[Network, ...]
    public_key: str

    @property
    def tunnel(self) -> list[str]:
        """The tunnel addresses as networks of one address."""
        return [str(ipaddress.ip_network(address)) for address in self.addresses]

    @property
    def prefixes(self) -> list[str]:
        """Everything that is reached at this site."""
        return self.tunnel + [str(subnet) for subnet in self.subnets]


@dataclass
class _Overlay:
    sites: list[Site]
    networks: list[Network]
    topology: str
    pairs: set[frozenset[str]] = field(default_factory=set)

    @property
    def hubs(self) -> list[Site]:
        return [site for site in self.sites if site.hub] if self.topology != MESH else []

    def talk(self, one: Site, other: Site) -> bool:
        return frozenset((one.name, other.name)) in self.pairs


def make_plan(
    sites: Sequence[Mapping[str, Any]],
    networks: Sequence[str],
    topology: str = HUB_AND_SPOKE,
    flows: Sequence[Sequence[str]] | None = None,
    keepalive: int = 25,
) -> dict[str, dict[str, Any]]:
    """Return what each site's interface holds, by site name.

    ``sites``: name (required), host (inventory name, default: name), hub, addresses (of the tunnel), endpoint (host:port), port
    (to listen on, default: the endpoint's or 51820), subnets, public_key (of a site that Ansible does not manage).
    ``networks``: the tunnel's networks. ``flows``: pairs of site names that talk, instead of the topology's own (every spoke with
    every hub; in a mesh everybody with everybody). ``keepalive``: seconds between keepalives.

    Raises:
        PlanError: the description is wrong; every problem is named.
    """
    errors: list[str] = []
    overlay = _Overlay(_read_sites(sites, errors), _read_networks(networks, errors), topology)
    keepalive = _read(values.keepalive, keepalive, "keepalive", errors)
    if topology not in TOPOLOGIES:
        errors.append(f"There is no topology '{topology}', expected one of: {', '.join(TOPOLOGIES)}.")
    if errors:
        raise PlanError(errors)
    errors += _check_names(overlay.sites) + _check_keys(overlay.sites) + _check_hubs(overlay) + _check_addresses(overlay) + _check_subnets(overlay)
    overlay.pairs = _pairs(overlay, flows, errors)
    if not errors:
        errors += _check_endpoints(overlay)
    if errors:
        raise PlanError(errors)
    return {site.name: _site_plan(overlay, site, keepalive) for site in overlay.sites}


def interface_peers(
    peers: Sequence[Mapping[str, Any]], public_keys: Mapping[str, str], secrets: Mapping[str, str], new_secrets: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Return the peers of a site's plan as the interface takes them.

    ``public_keys`` and ``secrets`` (files with the pre-shared key) are by site name; ``new_secrets`` are the sites whose file changed.

    Raises:
        ValueError: two sites have the same key.
    """
    new = set(new_secrets)
    for key in _repeated([key for key in public_keys.values() if key]):
        names = ", ".join(f"'{name}'" for name, own in public_keys.items() if own == key)
        raise ValueError(f"sites {names} have the same key, as copies of one machine do; remove the key file of all but one of them")
    return [
        {
            "site": peer["site"],
            "public_key": public_keys[peer["site"]],
            "preshared_key_file": secrets.get(peer["site"], ""),
            "preshared_key_changed": peer["site"] in new,
            "endpoint": peer["endpoint"],
            "allowed_ips": peer["allowed_ips"],
            "keepalive": peer["keepalive"],
        }
        for peer in peers
    ]


# ---- Reading --------------------------------------------------------------------------------------


def _read_sites(given: Sequence[Mapping[str, Any]], errors: list[str]) -> list[Site]:
    entries = _list(given, "The list of sites", errors)
    if not entries and not given:
        errors.append("There are no sites, expected at least two.")
    return [site for site in (_read_site(entry, number, errors) for number, entry in enumerate(entries, 1)) if site]


def _read_site(entry: Mapping[str, Any], number: int, errors: list[str]) -> Site | None:
    if not isinstance(entry, Mapping):
        errors.append(f"Site number {number} is '{entry}', expected a dictionary.")
        return None
    name = str(entry.get("name") or "")
    label = f"Site '{name}'" if name else f"Site number {number}"
    before = len(errors)
    secret = sorted(str(key) for key in entry if "private" in str(key).lower())
    if secret:
        errors.append(
            f"{label} has a private key in the inventory ({', '.join(secret)}): remove it and make a new one, it is not a secret any "
            f"more; each site makes its own key, which never leaves it."
        )
    unknown = sorted(str(key) for key in set(entry) - _KEYS if str(key) not in secret)
    if unknown:
        errors.append(f"{label} has unknown keys: {', '.join(unknown)}, expected: {', '.join(sorted(_KEYS))}.")
    if not _NAME.fullmatch(name):
        errors.append(f"{label} has no usable name, expected letters, digits, '.', '_' and '-'.")
    endpoint = _read_endpoint(str(entry.get("endpoint") or ""), label, errors)
    hub = _read(scalars.boolean, entry["hub"], f"{label}: hub", errors) if entry.get("hub") is not None else False
    port = entry.get("port")
    if port in (None, ""):
        port = endpoint.rpartition(":")[2] or DEFAULT_PORT
    elif _read(values.port, port, None, errors) is None:
        errors.append(f"{label}: port '{port}' is not a port, expected 1 to 65535.")
    tunnel = [_parse(addresses.ip_address, ipaddress.ip_address, text, label, "tunnel address", errors)
              for text in _list(entry.get("addresses"), f"{label}: addresses", errors)]
    subnets = [_parse(_routed_network, ipaddress.ip_network, text, label, "subnet", errors)
               for text in _list(entry.get("subnets"), f"{label}: subnets", errors)]
    public_key = str(entry.get("public_key") or "")
    if public_key and not values.is_key(public_key):
        errors.append(f"{label}: public key '{public_key}' is not a WireGuard key, expected 32 bytes in base64.")
    if len(errors) > before:
        return None
    return Site(name, str(entry.get("host") or name), bool(hub), tuple(tunnel), endpoint, values.port(port), tuple(subnets), public_key)


def _read_networks(given: Sequence[str], errors: list[str]) -> list[Network]:
    entries = _list(given, "The overlay: networks", errors)
    if not entries and not given:
        errors.append("The overlay has no tunnel network, expected at least one.")
    networks = [_parse(_routed_network, ipaddress.ip_network, text, "The overlay", "tunnel network", errors) for text in entries]
    return [network for network in networks if network is not None]


def _read_endpoint(text: str, label: str, errors: list[str]) -> str:
    try:
        return values.endpoint(text) if text else ""
    except ValueError as problem:
        errors.append(f"{label}: endpoint '{text}' {problem}, expected host:port or [IPv6]:port.")
        return ""


def _list(given: object, what: str, errors: list[str]) -> list[Any]:
    if given is None or isinstance(given, (list, tuple)):
        return list(given or [])
    errors.append(f"{what} is {given!r}, expected a list.")
    return []


def _read(form: Callable[[Any], Any], value: object, what: str | None, errors: list[str]) -> Any:
    """Return a value in its one form, none where it has none; what: what it is in the error, none for no error."""
    try:
        return form(value)
    except ValueError as problem:
        if what:
            errors.append(f"{what}: {problem}.")
        return None


def _parse(form: Callable[[object], str], kind: Callable[[str], Any], text: object, label: str, what: str, errors: list[str]) -> Any:
    try:
        return kind(form(text))
    except ValueError as problem:
        errors.append(f"{label}: {what} '{text}' is not usable: {problem}.")
        return None


def _routed_network(value: object) -> str:
    text = addresses.ip_network(value)
    network = ipaddress.ip_network(text)
    if not network.prefixlen:
        raise ValueError("it stands for every address there is, the way to the other sites too")
    if network.is_multicast or network.is_loopback or network.is_link_local:
        raise ValueError("it is multicast, loopback or link-local, which is not routed")
    if any(network.version == other.version and network.subnet_of(other) for other in _NOWHERE):
        raise ValueError("no machine can have an address in it")
    return text


# ---- Checking -------------------------------------------------------------------------------------


def _check_names(sites: list[Site]) -> list[str]:
    errors = []
    for what, names in (("Site", [site.name for site in sites]), ("Host", [site.host for site in sites])):
        errors += [f"{what} '{name}' is listed {names.count(name)} times." for name in _repeated(names)]
    return errors


def _check_keys(sites: list[Site]) -> list[str]:
    errors = []
    for what, found in (("public key", {site.name: site.public_key for site in sites}), ("endpoint", {site.name: site.endpoint for site in sites})):
        for value in _repeated([value for value in found.values() if value]):
            names = ", ".join(f"'{name}'" for name, own in found.items() if own == value)
            errors.append(f"Sites {names} have the same {what} '{value}', which can belong to one of them only.")
    return errors


def _check_hubs(overlay: _Overlay) -> list[str]:
    hubs = [site.name for site in overlay.sites if site.hub]
    if overlay.topology == HUB_AND_SPOKE and len(hubs) != 1:
        return [f"Topology {HUB_AND_SPOKE} has {len(hubs)} hubs{_listed(hubs)}, expected exactly one site with hub: true."]
    if overlay.topology == FAILOVER and len(hubs) < 2:
        return [f"Topology {FAILOVER} has {len(hubs)} hubs{_listed(hubs)}, expected at least two sites with hub: true."]
    if overlay.topology == MESH and hubs:
        return [f"Topology {MESH} has no hubs, but hub: true is set for {', '.join(hubs)}."]
    return []


def _check_addresses(overlay: _Overlay) -> list[str]:
    errors = []
    for network in overlay.networks:
        usable = _usable(network)
        if usable < len(overlay.sites):
            errors.append(f"Tunnel network {network} has {usable} addresses, too few for {len(overlay.sites)} sites.")
    errors += [f"The tunnel networks {one} and {other} overlap." for one, other in _overlaps([(n, "") for n in overlay.networks], keep_names=False)]
    owners: dict[Address, str] = {}
    for site in overlay.sites:
        used: list[Network] = []
        for address in site.addresses:
            if address in owners:
                errors.append(f"Tunnel address {address} is given twice, to site '{owners[address]}' and to site '{site.name}'.")
            owners.setdefault(address, site.name)
            home = next((network for network in overlay.networks if address in network), None)
            if home is None:
                networks = ", ".join(map(str, overlay.networks))
                errors.append(f"Tunnel address {address} of site '{site.name}' is in none of the tunnel networks ({networks}).")
            elif _reserved(address, home):
                errors.append(f"Tunnel address {address} of site '{site.name}' stands for the whole network {home}, not for one machine.")
            else:
                used.append(home)
        lacking = [str(network) for network in overlay.networks if network not in used]
        if lacking and not (site.addresses and len(used) < len(site.addresses)):
            errors.append(f"Site '{site.name}' has no tunnel address in {', '.join(lacking)}.")
    return errors


def _check_subnets(overlay: _Overlay) -> list[str]:
    """Subnets must not overlap, since their owner is found by address. The hubs of a failover lead to the same subnets."""
    errors = []
    ranges: list[tuple[Network, str]] = [(network, "the tunnel network") for network in overlay.networks]
    shared: set[Network] = set()
    for site in overlay.sites:
        for subnet in site.subnets:
            if overlay.topology == FAILOVER and site.hub:
                if subnet in shared:
                    continue
                shared.add(subnet)
            ranges.append((subnet, f"site '{site.name}'"))
    if overlay.topology == FAILOVER:
        sets = {site.name: frozenset(site.subnets) for site in overlay.hubs}
        if len(set(sets.values())) > 1:
            errors.append(f"The hubs {', '.join(sets)} lead to different subnets, but in a failover each stands in for the other.")
    errors += [f"Subnets overlap: {one} and {other}." for one, other in _overlaps(ranges)]
    return errors


def _check_endpoints(overlay: _Overlay) -> list[str]:
    errors = [f"Hub '{hub.name}' has no endpoint, the other sites cannot find it." for hub in overlay.hubs if not hub.endpoint]
    routed = [*overlay.networks, *(subnet for site in overlay.sites for subnet in site.subnets)]
    for site in overlay.sites:
        address = values.endpoint_address(site.endpoint)
        inside = next((network for network in routed if address is not None and address in network), None)
        if inside is not None:
            errors.append(f"Endpoint '{site.endpoint}' of site '{site.name}' is in {inside}, which is reached through the tunnel itself.")
    if overlay.topology == MESH:
        silent = [site.name for site in overlay.sites if not site.endpoint]
        for position, one in enumerate(silent):
            errors += [
                f"Sites '{one}' and '{other}' should talk, but neither has an endpoint."
                for other in silent[position + 1 :]
                if frozenset((one, other)) in overlay.pairs
            ]
    return errors


def _pairs(overlay: _Overlay, flows: Sequence[Sequence[str]] | None, errors: list[str]) -> set[frozenset[str]]:
    names = [site.name for site in overlay.sites]
    if flows is not None:
        known = set(names)
        flows = _list(flows, "The list of flows", errors)
        for pair in flows:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(name, str) for name in pair) or pair[0] == pair[1]:
                errors.append(f"Flow {pair!r} is not a pair of two different sites.")
            else:
                errors += [f"Flow {list(pair)!r} names '{name}', which is not a site." for name in pair if name not in known]
        return {frozenset(pair) for pair in flows} if not errors else set()
    if overlay.topology == MESH:
        return {frozenset((one, other)) for position, one in enumerate(names) for other in names[position + 1 :]}
    return {frozenset((hub.name, name)) for hub in overlay.hubs for name in names if name != hub.name}


def _overlaps(ranges: list[tuple[Network, str]], keep_names: bool = True) -> list[tuple[str, str]]:
    """Return the pairs that overlap. Sorted by first address, a range overlaps an earlier one only if it starts within the widest."""
    found = []
    for version in (4, 6):
        widest: tuple[Network, str] | None = None
        same = sorted((entry for entry in ranges if entry[0].version == version), key=lambda entry: (entry[0].network_address, entry[0].prefixlen))
        for entry in same:
            if widest and entry[0].network_address <= widest[0].broadcast_address:
                found.append(tuple(f"{net} of {owner}" if keep_names else str(net) for net, owner in (widest, entry)))
            if widest is None or entry[0].broadcast_address > widest[0].broadcast_address:
                widest = entry
    return found


def _usable(network: Network) -> int:
    if network.version == 4 and network.prefixlen < 31:
        return network.num_addresses - 2
    return network.num_addresses


def _reserved(address: Address, network: Network) -> bool:
    return network.version == 4 and network.prefixlen < 31 and address in (network.network_address, network.broadcast_address)


def _repeated(values: list[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1}) if len(set(values)) < len(values) else []


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


# ---- Planning -------------------------------------------------------------------------------------


def _site_plan(overlay: _Overlay, site: Site, keepalive: int) -> dict[str, Any]:
    peers = _peers(overlay, site, keepalive)
    reached = [other for other in overlay.sites if other is not site and overlay.talk(site, other)]
    own = {str(subnet) for subnet in site.subnets}
    routes = [str(subnet) for other in reached for subnet in other.subnets]
    if site.hub:
        routes += [str(subnet) for other in overlay.sites if not other.hub for subnet in other.subnets]
    return {
        "name": site.name,
        "host": site.host,
        "public_key": site.public_key,
        "addresses": [_with_length(address, overlay.networks) for address in site.addresses],
        "endpoint": site.endpoint,
        "port": site.port,
        "peers": peers,
        "routes": [prefix for prefix in dict.fromkeys(routes) if prefix not in own],
        "floating": _floating(overlay, site),
        "hubs": [str(hub.addresses[0]) for hub in overlay.hubs] if overlay.topology == FAILOVER and not site.hub else [],
        "probes": _probes(overlay, site),
        "forward": bool(site.subnets) or (site.hub and bool(_forwarded(overlay, site))),
        "accept_from": [prefix for other in reached for prefix in other.prefixes],
        "local": sorted(own),
        "forward_between": _forwarded(overlay, site),
        "checks": [
            {"site": other.name, "address": str(address), "reachable": overlay.talk(site, other)}
            for other in overlay.sites
            if other is not site
            for address in other.addresses
        ],
    }


def _peers(overlay: _Overlay, site: Site, keepalive: int) -> list[dict[str, Any]]:
    peers = []
    for other in _direct(overlay, site):
        allowed = list(other.tunnel) if other.hub or site.hub else []
        if overlay.talk(site, other) and not (overlay.topology == FAILOVER and other.hub):
            allowed = other.prefixes
        elif site.hub and not other.hub:
            # What spokes say to each other passes through the hub, whether or not they talk to the hub itself.
            allowed = other.prefixes
        if overlay.topology == HUB_AND_SPOKE and other.hub:
            allowed += _beyond(overlay, site)
        if overlay.topology == FAILOVER and other is overlay.hubs[0] and not site.hub:
            allowed += _floating(overlay, site)
        # Behind NAT a site keeps its own way open; a hub without this would find a silent failure only when it sends.
        peers.append({"site": other.name, "host": other.host, "endpoint": other.endpoint, "allowed_ips": allowed, "keepalive": keepalive})
    return peers


def _direct(overlay: _Overlay, site: Site) -> list[Site]:
    """Return the sites that a site has a tunnel with."""
    others = [other for other in overlay.sites if other is not site]
    if overlay.topology == MESH:
        return [other for other in others if overlay.talk(site, other)]
    return others if site.hub else [other for other in others if other.hub]


def _beyond(overlay: _Overlay, spoke: Site) -> list[str]:
    """Return what a spoke reaches through its hub beside the hub's own."""
    return [prefix for other in overlay.sites if other is not spoke and not other.hub and overlay.talk(spoke, other) for prefix in other.prefixes]


def _probes(overlay: _Overlay, site: Site) -> list[str]:
    """Return the peers that could not find a site once they have restarted, by address; those of a failover are asked by its watch."""
    if site.endpoint or overlay.topology == FAILOVER:
        return []
    return [str(other.addresses[0]) for other in _direct(overlay, site)]


def _floating(overlay: _Overlay, site: Site) -> list[str]:
    """Return what belongs to whichever hub of a failover is in use."""
    if overlay.topology != FAILOVER or site.hub:
        return []
    behind = [str(subnet) for hub in overlay.hubs[:1] for subnet in hub.subnets if overlay.talk(site, hub)]
    return behind + _beyond(overlay, site)


def _forwarded(overlay: _Overlay, site: Site) -> list[dict[str, list[str]]]:
    """Return the pairs of prefixes that pass through a hub from one tunnel into another."""
    if not site.hub:
        return []
    spokes = {other.name: other for other in overlay.sites if not other.hub}
    pairs = sorted(tuple(sorted(pair)) for pair in overlay.pairs if all(name in spokes for name in pair))
    return [{"one": spokes[one].prefixes, "other": spokes[other].prefixes} for one, other in pairs]


def _with_length(address: Address, networks: list[Network]) -> str:
    return f"{address}/{next(network.prefixlen for network in networks if address in network)}"
