# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory of zones means: services, addresses, ports, certificates, keys, and all that is wrong with it.

From the inventory alone, so that it can be read, and refused, before any zone is contacted.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from . import addresses
from .addresses import Address, Network
from .context_values import KINDS, Limits, split_address
from .contextualization import BY_NAME
from .wireguard import peers
from .wireguard import values as tunnel_values
from .wireguard.plan import DEFAULT_PORT

PUBLIC = "public"
WIREGUARD = "wireguard"
WAYS = (PUBLIC, WIREGUARD)

COORDINATOR = "coordinator"
TRAINING = "training_sites"
EDGE = "edge_sites"
GROUPS = (COORDINATOR, TRAINING, EDGE)

PRESENT = "present"
ABSENT = "absent"

# What is read of a zone, so that nothing else of its variables, such as its password, is looked at.
SETTINGS = (
    "one_api_url", "one_oneflow_url", "zone_id", "zone_state", "flower_service_name", "flower_supernodes", "flower_supernodes_min", "flower_supernodes_max",
    "flower_connection", "flower_superlink_address", "flower_site_addresses", "flower_tunnel_network", "flower_tunnel_endpoint", "flower_tunnel_port",
    "flower_network", "flower_firewall", "flower_fleet_api_address", "flower_control_api_address", "flower_cert_extra_san", "flower_tls_enabled",
    "flower_ssl_ca_certfile", "flower_node_auth_enabled", "flower_node_keys",
    "flower_min_available_clients", "flower_min_fit_clients", "flower_fraction_fit", "flower_fraction_evaluate",
    "flower_num_rounds", "flower_model_megabytes", "flower_metrics_enabled", "flower_metrics_port", "flower_metrics_from", "ansible_host", "ansible_port",
)  # fmt: skip

# A program is started with no longer variable in its environment (MAX_ARG_STRLEN of Linux), and the guest agent starts its programs with the context.
_MOST_OF_A_VARIABLE = 128 << 10
_NODE_KEYS = "ONEAPP_FL_NODE_KEYS="
# A key of P-384 as it stands there, with the comma after it, and the longest number of a VM that is planned for.
_KEY_CHARACTERS = len("ecdsa-sha2-nistp384 ") + 184 + len(" ") + len(",")
_VM = "/vm-9999999"

_API_PORTS = {"http": 80, "https": 443}
_ONEGATE = 5030
_SSH = 22


@dataclass
class Zone:
    """One zone as the inventory describes it; what could not be read has its default and an error."""

    name: str
    groups: tuple[str, ...]
    given: Mapping[str, Any]
    state: str = PRESENT
    way: str = PUBLIC
    supernodes: int = 0
    least: int = 0
    most: int = 0
    superlink_address: str = ""
    site_addresses: tuple[Network, ...] = ()
    subnets: tuple[Network, ...] = ()
    errors: list[str] = field(default_factory=list)

    @property
    def coordinates(self) -> bool:
        """Whether the SuperLink runs here."""
        return COORDINATOR in self.groups

    @property
    def trains(self) -> bool:
        """Whether SuperNodes run here."""
        return TRAINING in self.groups or EDGE in self.groups

    @property
    def is_remote(self) -> bool:
        """Whether its SuperNodes reach the SuperLink from another zone."""
        return self.trains and not self.coordinates

    @property
    def is_machine(self) -> bool:
        """Whether it is one existing machine without an OpenNebula, configured over SSH."""
        return EDGE in self.groups

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{'edge site' if self.is_machine else 'zone'} {self.name}"

    @property
    def nodes_title(self) -> str:
        """What people call its SuperNodes."""
        return self.title if self.is_machine else f"{self.title}, SuperNodes"

    @property
    def machine_address(self) -> str:
        """Where the machine is reached over SSH."""
        return str(self.given.get("ansible_host") or self.name)

    def wrong(self, problem: str) -> None:
        """Keep a problem of this zone."""
        self.errors.append(f"{self.title}: {problem}")


@dataclass
class _Tunnels:
    """The tunnel that each VM of the zones with way wireguard has to the SuperLink's VM."""

    network: Network
    endpoint: str
    port: int


def zone_plan(groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the zones of an inventory are to become; ``errors`` in it holds one sentence for each problem.

    ``groups``: the hosts of each group. ``variables``: those of SETTINGS that each host has.
    """
    listed = {group: list(groups.get(group) or []) for group in GROUPS}
    names = list(dict.fromkeys(name for group in GROUPS for name in listed[group]))
    zones = [_read_zone(name, tuple(group for group in GROUPS if name in listed[group]), variables.get(name) or {}) for name in names]
    here = [zone for zone in zones if zone.state == PRESENT]
    errors = _check_groups(listed)
    errors += _check_twice(zones)
    coordinator = next((zone for zone in zones if zone.coordinates), None)
    tunnels = None
    if coordinator is not None and len(listed[COORDINATOR]) == 1:
        tunnels = _read_tunnels(coordinator, here)
        _check_coordinator(coordinator, here)
        _check_sites(coordinator, here)
        _check_tunnels(coordinator, zones, tunnels)
        _check_keys(coordinator, here)
    traffic = _traffic(coordinator, [zone for zone in here if zone.trains]) if coordinator else {}
    errors += [error for zone in zones for error in zone.errors]
    nodes = [zone for zone in here if zone.trains]
    blocks = _blocks(tunnels, zones) if tunnels and not errors else {}
    return {
        "federation": str(coordinator.given.get("flower_service_name", "")) if coordinator else "",
        "coordinator": coordinator.name if coordinator else "",
        "zones": [_zone_facts(zone, coordinator, blocks) for zone in zones],
        "nodes": {
            "now": sum(zone.supernodes for zone in nodes), "least": sum(zone.least for zone in nodes), "most": sum(zone.most for zone in nodes),
        },
        "traffic": traffic,
        "tunnel": _tunnel_facts(tunnels, blocks) if tunnels else {},
        "ports": list(_ports(coordinator, here, tunnels)) if coordinator and not errors else [],
        "names": _names(coordinator, here, blocks) if coordinator else [],
        "keys": list(_keys(coordinator, here, tunnels)) if coordinator else [],
        "errors": errors,
        "notes": _notes(coordinator, here) if coordinator and not errors else [],
    }  # fmt: skip


# ---- Reading --------------------------------------------------------------------------------------


def _read_zone(name: str, groups: tuple[str, ...], given: Mapping[str, Any]) -> Zone:
    zone = Zone(name, groups, given)
    zone.state = _one_of(zone, "zone_state", (PRESENT, ABSENT), PRESENT)
    zone.way = _one_of(zone, "flower_connection", WAYS, PUBLIC)
    if zone.is_machine:
        zone.supernodes = zone.least = zone.most = 1
    elif zone.trains:
        zone.supernodes = _count(zone, "flower_supernodes", 1)
        zone.least = _count(zone, "flower_supernodes_min", zone.supernodes)
        zone.most = _count(zone, "flower_supernodes_max", zone.supernodes)
        if not zone.errors and not zone.least <= zone.supernodes <= zone.most:
            zone.wrong(
                f"flower_supernodes is {zone.supernodes}, expected flower_supernodes_min to flower_supernodes_max, {zone.least} to {zone.most}"
            )
    zone.superlink_address = _parsed(zone, "flower_superlink_address", "remote_address", "host:port of one machine")
    zone.site_addresses = tuple(_networks(zone, "flower_site_addresses", given.get("flower_site_addresses")))
    zone.subnets = tuple(_subnets(zone))
    return zone


def _one_of(zone: Zone, name: str, choices: tuple[str, ...], default: str) -> str:
    value = zone.given.get(name, default)
    if value in choices:
        return str(value)
    zone.wrong(f"{name} is {value!r}, expected one of: {', '.join(choices)}")
    return default


def _count(zone: Zone, name: str, default: int) -> int:
    text = str(zone.given.get(name, default))
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    zone.wrong(f"{name} is {text!r}, expected a whole number of at least 1")
    return default


def _parsed(zone: Zone, name: str, kind: str, expected: str) -> Any:
    value = zone.given.get(name)
    if value in (None, ""):
        return ""
    try:
        return KINDS[kind].parse(str(value), Limits())
    except ValueError:
        zone.wrong(f"{name} is {value!r}, expected {expected}")
        return ""


def _networks(zone: Zone, name: str, given: object) -> Iterator[Network]:
    if given is None:
        return
    if not isinstance(given, (list, tuple)):
        zone.wrong(f"{name} is {given!r}, expected a list of addresses and networks like 198.51.100.7 or 198.51.100.0/28")
        return
    for entry in given:
        try:
            yield ipaddress.ip_network(addresses.ip_network(entry))
        except ValueError as problem:
            zone.wrong(f"{name}: {problem}")


def _subnets(zone: Zone) -> Iterator[Network]:
    """Yield what the inventory says of the addresses of the zone's VMs: the network's own, else its ranges."""
    network = zone.given.get("flower_network")
    if zone.is_machine or not isinstance(network, Mapping):
        return
    template = network.get("template") or {}
    address, mask = template.get("NETWORK_ADDRESS"), template.get("NETWORK_MASK")
    try:
        if address and mask:
            yield ipaddress.ip_network(f"{address}/{mask}", strict=False)
            return
        for entry in network.get("address_ranges") or []:
            if entry.get("IP"):
                first = ipaddress.ip_address(addresses.ip_address(entry["IP"]))
                yield from ipaddress.summarize_address_range(first, first + int(entry.get("SIZE", 1)) - 1)
    except (ValueError, AttributeError, TypeError) as problem:
        zone.wrong(f"flower_network: {problem}")


def _read_tunnels(coordinator: Zone, zones: Sequence[Zone]) -> _Tunnels | None:
    if not any(zone.is_remote and zone.way == WIREGUARD for zone in zones):
        return None
    given = coordinator.given
    port = given.get("flower_tunnel_port")
    endpoint = str(given.get("flower_tunnel_endpoint") or "")
    if not endpoint:
        coordinator.wrong("flower_tunnel_endpoint is not set, expected host:port with the UDP port at which the other zones reach the SuperLink's tunnel")
    else:
        try:
            endpoint = tunnel_values.endpoint(endpoint)
        except ValueError as problem:
            coordinator.wrong(f"flower_tunnel_endpoint {endpoint!r} {problem}, expected host:port with the UDP port of the tunnel")
            endpoint = ""
    try:
        listening = tunnel_values.port(port if port not in (None, "") else endpoint.rpartition(":")[2] or DEFAULT_PORT)
    except ValueError:
        coordinator.wrong(f"flower_tunnel_port is {port!r}, expected a UDP port from 1 to 65535")
        listening = DEFAULT_PORT
    text = given.get("flower_tunnel_network")
    try:
        if text in (None, ""):
            raise ValueError("is not set, expected a private network such as 10.10.9.0/24 that no zone uses")
        network = ipaddress.ip_network(addresses.ip_network(text))
    except ValueError as problem:
        coordinator.wrong(f"flower_tunnel_network {problem}" if text in (None, "") else f"flower_tunnel_network: {problem}")
        return None
    return _Tunnels(network, endpoint, listening)


# ---- Checking -------------------------------------------------------------------------------------


def _check_groups(listed: Mapping[str, Sequence[str]]) -> list[str]:
    errors = []
    coordinators = listed[COORDINATOR]
    if len(coordinators) != 1:
        which = f" ({', '.join(coordinators)})" if coordinators else ""
        errors.append(f"the inventory group 'coordinator' has {len(coordinators)} hosts{which}, expected exactly one zone that runs the SuperLink")
    if not listed[TRAINING] and not listed[EDGE]:
        errors.append("the inventory group 'training_sites' has no hosts, expected the zones that run SuperNodes")
    both = [(name, group) for group in (COORDINATOR, TRAINING) for name in listed[group] if name in listed[EDGE]]
    errors += [f"zone {name} is in the groups '{group}' and 'edge_sites', expected one of them: an edge site is a machine" for name, group in both]
    return errors


def _check_twice(zones: Sequence[Zone]) -> list[str]:
    """An edge site may be machines without an OpenNebula of their own."""
    errors = []
    clouds = [zone for zone in zones if zone.coordinates or TRAINING in zone.groups]
    if len(clouds) > 1:
        for zone in clouds:
            if not zone.given.get("one_api_url"):
                zone.wrong("one_api_url is not set, expected the URL of its API: of several zones the environment (ONE_XMLRPC) cannot say which it means")
    for what, key in (("endpoint", _endpoint), ("zone_id", _zone_id)):
        seen: dict[str, list[str]] = {}
        for zone in clouds:
            value = key(zone)
            if value:
                seen.setdefault(value, []).append(zone.name)
        errors += [
            f"zones {' and '.join(names)} have the same {what} {value}, expected each zone once"
            for value, names in seen.items()
            if len(names) > 1
        ]
    return errors


def _endpoint(zone: Zone) -> str | None:
    """Return where a zone's API is, in one spelling; empty where the environment says it."""
    text = str(zone.given.get("one_api_url") or "")
    if not text:
        return ""
    try:
        url = urlsplit(text)
        port = url.port or _API_PORTS.get(url.scheme, 0)
    except ValueError as problem:
        zone.wrong(f"one_api_url is {text!r}: {problem}")
        return None
    if url.scheme not in _API_PORTS or not url.hostname:
        zone.wrong(f"one_api_url is {text!r}, expected a URL such as https://frontend.example.org:2633/RPC2")
        return None
    return f"{url.hostname.lower()}:{port}{url.path.rstrip('/') or '/RPC2'}"


def _zone_id(zone: Zone) -> str | None:
    value = zone.given.get("zone_id")
    return None if value in (None, "") else str(value)


def _check_coordinator(coordinator: Zone, zones: Sequence[Zone]) -> None:
    if coordinator.state == ABSENT:
        coordinator.wrong("zone_state is absent for the coordinator, which takes the whole federation away; use teardown.yml for that")
    _parsed(coordinator, "flower_fleet_api_address", "address", "host:port")
    _check_names(coordinator)
    remote = [zone for zone in zones if zone.is_remote]
    if remote and _is_loopback(_listening_host(coordinator)):
        coordinator.wrong(
            f"flower_fleet_api_address is {coordinator.given['flower_fleet_api_address']}, which no other zone can reach, expected an address of its network"
        )
    if remote and not _truth(coordinator.given.get("flower_tls_enabled", True)):
        coordinator.wrong("flower_tls_enabled is false, but models go from zone to zone, expected true")
    nodes = sum(zone.supernodes for zone in zones if zone.trains)
    needed = coordinator.given.get("flower_min_available_clients", BY_NAME["FL_MIN_AVAILABLE_CLIENTS"].typed_default)
    if str(needed).isdecimal() and int(needed) > nodes and not coordinator.errors:
        coordinator.wrong(f"minimum clients above the number of nodes: flower_min_available_clients is {needed}, but there are only {nodes} SuperNodes")


def _check_names(coordinator: Zone) -> None:
    given = coordinator.given.get("flower_cert_extra_san")
    for entry in given if isinstance(given, (list, tuple)) else str(given or "").split(","):
        if not str(entry).strip():
            continue
        try:
            KINDS["alternative_names"].parse(str(entry), Limits())
        except ValueError:
            coordinator.wrong(f"flower_cert_extra_san names {str(entry).strip()!r}, expected IP:address or DNS:name")


def _check_sites(coordinator: Zone, zones: Sequence[Zone]) -> None:
    for zone in zones:
        if not zone.is_remote:
            continue
        if zone.way == WIREGUARD:
            if zone.given.get("flower_superlink_address"):
                zone.wrong("flower_superlink_address is set, but with flower_connection wireguard the tunnel says where the SuperLink is, expected nothing")
            continue
        if not zone.superlink_address:
            if not zone.given.get("flower_superlink_address"):
                zone.wrong("flower_superlink_address is not set, expected host:port at which its SuperNodes reach the SuperLink")
            continue
        host = split_address(zone.superlink_address)[0]
        if _is_loopback(host):
            zone.wrong(f"flower_superlink_address is {zone.superlink_address}, where its SuperNodes find themselves, expected the SuperLink's")
        address = _address(host)
        own = next((subnet for subnet in zone.subnets if address is not None and address in subnet), None)
        if own is not None:
            zone.wrong(
                f"flower_superlink_address is {zone.superlink_address}, but {own} is its own network, where the SuperLink of zone {coordinator.name} is not"
            )
        if coordinator.given.get("flower_firewall") is not None and not zone.site_addresses and not zone.given.get("flower_site_addresses"):
            zone.wrong("flower_site_addresses is not set, expected the addresses that its SuperNodes come from, which flower_firewall lets in")


def _check_tunnels(coordinator: Zone, zones: Sequence[Zone], tunnels: _Tunnels | None) -> None:
    if tunnels is None:
        return
    host = _listening_host(coordinator)
    address = _address(host)
    if not _is_loopback(host) and (address is None or not address.is_unspecified):
        coordinator.wrong(
            f"flower_fleet_api_address is {_fleet_address(coordinator)}, where nothing of a tunnel arrives, expected 0.0.0.0:port with tunnels"
        )
    network = tunnels.network
    for zone in zones:
        for subnet in zone.subnets if zone.state == PRESENT else ():
            if subnet.version == network.version and subnet.overlaps(network):
                zone.wrong(f"its network {subnet} overlaps with flower_tunnel_network {network}, expected a tunnel network that no zone uses")
    address = tunnel_values.endpoint_address(tunnels.endpoint) if tunnels.endpoint else None
    if address is not None and address in network:
        coordinator.wrong(f"flower_tunnel_endpoint {tunnels.endpoint} is in flower_tunnel_network {network}, which is reached through the tunnel itself")
    wanted = 1 + sum(zone.most for zone in zones if zone.is_remote and zone.way == WIREGUARD)
    usable = peers.usable(network)
    if usable < wanted:
        coordinator.wrong(
            f"flower_tunnel_network {network} has {usable} addresses, expected at least {wanted}: the SuperLink's and one for each SuperNode there may be"
        )


def _check_keys(coordinator: Zone, zones: Sequence[Zone]) -> None:
    """Refuse more nodes in other zones than the SuperLink's context has room for the keys of: its VM would not boot."""
    if not _truth(coordinator.given.get("flower_node_auth_enabled", True)):
        return
    given = coordinator.given.get("flower_node_keys") or []
    own = len(given if isinstance(given, str) else ",".join(map(str, given)))
    remote = [zone for zone in zones if zone.is_remote]
    wanted = len(_NODE_KEYS) + own + 1 + sum(zone.most * (_KEY_CHARACTERS + len(zone.name) + len(_VM)) for zone in remote)
    if wanted > _MOST_OF_A_VARIABLE:
        coordinator.wrong(
            f"the keys of {sum(zone.most for zone in remote)} SuperNodes of other zones (flower_supernodes_max) take {wanted} bytes in ONEAPP_FL_NODE_KEYS, "
            f"expected at most {_MOST_OF_A_VARIABLE}, some 580 nodes: lower flower_supernodes_max, or make several federations"
        )


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _listening_host(coordinator: Zone) -> str:
    return split_address(_fleet_address(coordinator))[0]


def _fleet_address(coordinator: Zone) -> str:
    default = BY_NAME["FL_FLEET_API_ADDRESS"].default
    try:
        return str(KINDS["address"].parse(str(coordinator.given.get("flower_fleet_api_address") or default), Limits()))
    except ValueError:  # said already
        return default


def _truth(value: object) -> bool:
    return str(value).lower() not in ("false", "no", "0", "off", "n", "f")


# ---- Planning -------------------------------------------------------------------------------------


def _blocks(tunnels: _Tunnels, zones: Iterable[Zone]) -> dict[str, list[str]]:
    """Return the first and the last tunnel address of each zone's SuperNodes; the SuperLink's VM has the first of the network.

    A zone that leaves keeps its place, so that the others keep their addresses.
    """
    hosts = peers.superlink_address(tunnels.network)
    position, blocks = 1, {"": [str(hosts)]}
    for zone in zones:
        if zone.is_remote and zone.way == WIREGUARD:
            blocks[zone.name] = [str(hosts + position), str(hosts + position + zone.most - 1)]
            position += zone.most
    return blocks


def _zone_facts(zone: Zone, coordinator: Zone | None, blocks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    roles = [{"name": "superlink", "cardinality": 1, "least": 1, "most": 1}] if zone.coordinates else []
    if zone.trains:
        roles.append({"name": "supernode", "cardinality": zone.supernodes, "least": zone.least, "most": zone.most})
    network = None if zone.is_machine else zone.given.get("flower_network")
    address = zone.superlink_address
    if zone.is_remote and zone.way == WIREGUARD and blocks and coordinator:
        address = _joined(blocks[""][0], split_address(_fleet_address(coordinator))[1])
    return {
        "name": zone.name,
        "title": zone.title,
        "groups": list(zone.groups),
        "machine": zone.machine_address if zone.is_machine else "",
        "state": zone.state,
        "endpoint": "" if zone.is_machine else str(zone.given.get("one_api_url") or ""),
        "connection": zone.way if zone.is_remote else "",
        "service": "" if zone.is_machine else str(zone.given.get("flower_service_name", "")),
        "roles": roles if zone.state == PRESENT else [],
        "network": str(network.get("name", "")) if isinstance(network, Mapping) else "",
        "subnets": [str(subnet) for subnet in zone.subnets],
        "site_addresses": [str(address) for address in zone.site_addresses],
        "tunnel_addresses": list(blocks.get(zone.name, [])) if not zone.coordinates else list(blocks.get("", [])),
        "superlink_address": address if zone.is_remote else "",
    }


def _traffic(coordinator: Zone, nodes: Sequence[Zone]) -> dict[str, Any]:
    """Return the MB that a round and a training send: the model to each node that trains, back, and the new one to each that evaluates."""
    if coordinator.given.get("flower_model_megabytes") in (None, ""):
        return {}
    model, fit, evaluate = (_positive(coordinator, name) for name in ("flower_model_megabytes", "flower_fraction_fit", "flower_fraction_evaluate"))
    rounds = _count(coordinator, "flower_num_rounds", BY_NAME["FL_NUM_ROUNDS"].typed_default)
    zones = {zone.name: round(zone.supernodes * model * (2 * fit + evaluate), 1) for zone in nodes}
    total = sum(zones.values())
    return {"model": model, "zones": zones, "round": round(total, 1), "rounds": rounds, "training": round(total * rounds, 1)}


def _positive(zone: Zone, name: str) -> float:
    try:
        number = float(zone.given.get(name, 1))
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        zone.wrong(f"{name} is {zone.given[name]!r}, expected a number above 0")
        return 1.0
    return number


def _tunnel_facts(tunnels: _Tunnels, blocks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {"network": str(tunnels.network), "endpoint": tunnels.endpoint, "port": tunnels.port, "superlink": blocks[""][0] if blocks else ""}


def _ports(coordinator: Zone, zones: Sequence[Zone], tunnels: _Tunnels | None) -> Iterator[dict[str, str]]:
    fleet = split_address(_fleet_address(coordinator))[1]
    clouds = [zone for zone in zones if zone.coordinates or TRAINING in zone.groups]
    for zone in clouds:
        api = urlsplit(str(zone.given.get("one_api_url") or "http://:2633"))
        flow = urlsplit(str(zone.given.get("one_oneflow_url") or "http://:2474"))
        for url, why in ((api, "OpenNebula's API, to deploy"), (flow, "OneFlow, to deploy")):
            yield _port("the control node", f"zone {zone.name}, front-end {url.hostname or ''}".rstrip(), "TCP", url.port or _API_PORTS.get(url.scheme, 0), why)
        yield _port(f"zone {zone.name}, VMs", f"zone {zone.name}, OneGate", "TCP", _ONEGATE, "readiness and what the VMs publish; within the zone")
    if coordinator.trains:
        yield _port(f"zone {coordinator.name}, SuperNodes", f"zone {coordinator.name}, SuperLink", "TCP", fleet, "Fleet API with TLS; within the zone")
    yield _port("the control node", f"zone {coordinator.name}, SuperLink", "TCP", fleet, "models and events of ended trainings; optional")
    for zone in zones:
        if zone.is_machine:
            yield _port("the control node", f"{zone.title}, {zone.machine_address}", "TCP", _number(zone, "ansible_port", _SSH), "SSH, to configure it")
        if not zone.is_remote:
            continue
        sources = ", ".join(map(str, zone.site_addresses))
        source = zone.nodes_title + (f" as {sources}" if sources else "")
        if zone.way == PUBLIC:
            host, port = split_address(zone.superlink_address)
            behind = "" if port == fleet else f", which is forwarded to port {fleet} of the SuperLink"
            yield _port(source, f"zone {coordinator.name}, {_joined(host, port)}", "TCP", port, f"Fleet API with TLS{behind}")
        elif tunnels:
            port = int(tunnels.endpoint.rpartition(":")[2])
            behind = "" if port == tunnels.port else f", which is forwarded to port {tunnels.port} of the SuperLink"
            yield _port(source, f"zone {coordinator.name}, {tunnels.endpoint}", "UDP", port, f"WireGuard{behind}; the Fleet API is inside")
    firewall = coordinator.given.get("flower_firewall")
    for place in (firewall.get("ssh_from") or []) if isinstance(firewall, Mapping) else []:
        yield _port(str(place), f"zone {coordinator.name}, VMs", "TCP", _SSH, "SSH of the operators")
    for zone in zones:
        target = f"{zone.title}, {zone.machine_address}" if zone.is_machine else f"zone {zone.name}, VMs"
        for place in _metrics_from(zone):
            yield _port(place, target, "TCP", _number(zone, "flower_metrics_port", int(BY_NAME["FL_METRICS_PORT"].default)), "metrics, for Prometheus")


def _metrics_from(zone: Zone) -> list[str]:
    """Return who may read the metrics; the check of all settings says what is wrong with them."""
    if not _truth(zone.given.get("flower_metrics_enabled") or False):
        return []
    given = zone.given.get("flower_metrics_from") or []
    entries = given if isinstance(given, (list, tuple)) else str(given).split(",")
    return [text for entry in entries if (text := str(entry).strip())]


def _number(zone: Zone, name: str, default: int) -> int:
    text = str(zone.given.get(name) or default)
    return int(text) if text.isascii() and text.isdecimal() else default


def _port(source: str, target: str, protocol: str, port: int, why: str) -> dict[str, Any]:
    return {"from": source, "to": target, "protocol": protocol, "port": port, "why": why}


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _names(coordinator: Zone, zones: Sequence[Zone], blocks: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names beyond the VM's own that the SuperLink's certificate has to have: what the nodes of each zone dial."""
    given = coordinator.given.get("flower_cert_extra_san") or []
    entries = [str(entry).strip() for entry in (given if isinstance(given, (list, tuple)) else str(given).split(","))]
    dialled = [split_address(zone.superlink_address)[0] for zone in zones if zone.is_remote and zone.superlink_address and zone.way == PUBLIC]
    names = [*entries, *(f"IP:{host}" if _address(host) else f"DNS:{host}" for host in dialled), *(f"IP:{address}" for address in blocks.get("", []))]
    return [name for name in dict.fromkeys(names) if name]


def _keys(coordinator: Zone, zones: Sequence[Zone], tunnels: _Tunnels | None) -> Iterator[dict[str, Any]]:
    superlink = f"zone {coordinator.name}, SuperLink's VM"
    if coordinator.given.get("flower_ssl_ca_certfile"):
        yield _key("key of the CA", "with the operator", True)
    else:
        yield _key("key of the CA", f"{superlink}: /opt/flower/ca", True)
    yield _key("key of the SuperLink's certificate", f"{superlink}: /opt/flower/certs/server.pem", True)
    for zone in zones:
        if zone.trains and _truth(coordinator.given.get("flower_node_auth_enabled", True)):
            yield _key("key of each node, by which it joins", f"{zone.nodes_title}: /opt/flower/certs", True)
        if zone.trains:
            yield _key("certificate of the CA", f"{zone.nodes_title}: /opt/flower/certs/ca.crt", False)
    if tunnels:
        yield _key("key of the tunnel", f"{superlink}: /etc/wireguard", True)
        for zone in zones:
            if zone.is_remote and zone.way == WIREGUARD:
                yield _key("key of the tunnel, each its own", f"{zone.nodes_title}: /etc/wireguard", True)


def _key(what: str, where: str, secret: bool) -> dict[str, Any]:
    return {"what": what, "where": where, "secret": secret}


def _notes(coordinator: Zone, zones: Sequence[Zone]) -> list[str]:
    public = [zone.name for zone in zones if zone.is_remote and zone.way == PUBLIC]
    notes = []
    if public and coordinator.given.get("flower_firewall") is None:
        notes.append(
            f"zone {coordinator.name}: flower_firewall is not set, so that only the network's own security groups say who reaches the Fleet port, expected "
            f"the addresses of {', '.join(public)} alone"
        )
    least = sum(zone.least for zone in zones if zone.trains)
    needed = coordinator.given.get("flower_min_fit_clients", BY_NAME["FL_MIN_FIT_CLIENTS"].typed_default)
    largest = max((zone for zone in zones if zone.trains), key=lambda zone: zone.supernodes, default=None)
    remaining = sum(zone.supernodes for zone in zones if zone.trains) - (largest.supernodes if largest else 0)
    if largest and len([zone for zone in zones if zone.trains]) > 1 and str(needed).isdecimal() and remaining < int(needed):
        notes.append(
            f"{largest.title}: without its SuperNodes {remaining} are left, fewer than flower_min_fit_clients, {needed}: its loss stops the training"
        )
    if str(needed).isdecimal() and least < int(needed):
        notes.append(f"with the fewest SuperNodes that every zone may have there are {least}, fewer than flower_min_fit_clients, {needed}")
    return notes
