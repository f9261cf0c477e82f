# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What lies between the zones in a box: a router in a network namespace that translates addresses, forgets idle connections and counts.

``python -m lab.router up`` waits for the networks of the zones, joins them and lets through what the plan opens: from each site to the public address
of the SuperLink, and nothing else. ``show`` prints what was counted, ``down`` removes the namespace. Zones are named coordinator first; each has to
have one network whose subnet has a free address .254, which its VMs route the public addresses to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass

from lab.checkout import CHECKOUT
from lab.driver.docker import machine_prefix
from lab.engine import EngineError, docker

NAMESPACE = f"one-{CHECKOUT}-router"
# Documentation networks: the world outside of all zones. Each site appears as one address of the second.
PUBLIC_ADDRESS = "203.0.113.10"
SITES = "198.51.100"
OWN_HOST = 254
SUPERLINK_HOST = 10  # the first lease of the coordinator's network
FLEET_PORT = 9092
NETWORKS_SECONDS = 1800
_POLL_SECONDS = 1


@dataclass(frozen=True)
class Joined:
    """A zone's network: its bridge on this machine, and the beginning of its addresses."""

    zone: str
    bridge: str
    prefix: str


def up(zones: list[str], idle: int) -> None:
    """Join the networks of the zones; connections that are silent for that many seconds are forgotten."""
    joined = [_network(zone) for zone in zones]
    down()
    _run("ip", "netns", "add", NAMESPACE)
    try:
        _inside("ip", "link", "set", "lo", "up")
        for number, network in enumerate(joined):
            _join(number, network)
        for setting in ("net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_tcp_loose=0", f"net.netfilter.nf_conntrack_tcp_timeout_established={idle}"):
            _inside("sysctl", "--quiet", "--write", setting)
        _inside("nft", "-f", "-", stdin=rules(joined))
    except BaseException:
        down()
        raise


def rules(joined: list[Joined]) -> str:
    """Return the rules: only the sites' connections to the Fleet port of the public address pass, each site as an address of its own."""
    coordinator, *sites = joined
    superlink = f"{coordinator.prefix}.{SUPERLINK_HOST}"
    lines = ["table ip router {"]
    for site in sites:
        lines += [f"  counter {site.zone}_passed {{}}", f"  counter {site.zone}_refused {{}}"]
    lines += [
        f"  counter {coordinator.zone}_answered {{}}", f"  counter {coordinator.zone}_refused {{}}",
        "  chain before { type nat hook prerouting priority dstnat;",
        f"    ip daddr {PUBLIC_ADDRESS} tcp dport {FLEET_PORT} dnat to {superlink}:{FLEET_PORT}", "  }",
        "  chain after { type nat hook postrouting priority srcnat;",
        *(f"    iifname zone{number} oifname zone0 snat to {SITES}.{number}" for number in range(1, len(joined))), "  }",
        # Behind the translation and before the routes, so that what leads nowhere is counted too. What conntrack has forgotten is no connection any more:
        # a packet in the middle of one is not a beginning.
        "  chain through { type filter hook prerouting priority dstnat + 10; policy drop;",
        *(
            f"    iifname zone{number} ip daddr {superlink} tcp dport {FLEET_PORT} "
            f"ct state {{ new, established }} counter name {site.zone}_passed accept"
            for number, site in enumerate(sites, 1)
        ),
        f"    iifname zone0 ct state established counter name {coordinator.zone}_answered accept",
        *(f"    iifname zone{number} counter name {network.zone}_refused drop" for number, network in enumerate(joined)),
        "  }", "}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def counted() -> dict[str, int]:
    """Return the packets of each counter by its name."""
    listed = json.loads(_inside("nft", "--json", "list", "counters"))["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}


def down() -> None:
    """Remove the namespace and with it the ends of its cables."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    if NAMESPACE in names:
        _run("ip", "netns", "delete", NAMESPACE)


def _network(zone: str) -> Joined:
    """Return the zone's network as soon as it is there."""
    prefix = f"{machine_prefix(zone)}-net-"
    deadline = time.monotonic() + NETWORKS_SECONDS
    while not (found := docker("network", "ls", "--quiet", "--no-trunc", "--filter", f"name=^{prefix}")):
        if time.monotonic() > deadline:
            raise EngineError(f"Zone {zone} had no network within {NETWORKS_SECONDS} s.")
        time.sleep(_POLL_SECONDS)
    identity = found.split()[0]
    (config,) = json.loads(docker("network", "inspect", "--format", "{{json .IPAM.Config}}", identity))
    return Joined(zone, f"br-{identity[:12]}", config["Subnet"].rpartition(".")[0])


def _join(number: int, network: Joined) -> None:
    """Put a cable from the router into the bridge of a zone."""
    outside = f"r{CHECKOUT}{number}"
    _run("ip", "link", "add", outside, "type", "veth", "peer", "name", f"zone{number}", "netns", NAMESPACE)
    _run("ip", "link", "set", outside, "master", network.bridge, "up")
    _inside("ip", "address", "add", f"{network.prefix}.{OWN_HOST}/24", "dev", f"zone{number}")
    _inside("ip", "link", "set", f"zone{number}", "up")


def _inside(*command: str, stdin: str | None = None) -> str:
    return _run("ip", "netns", "exec", NAMESPACE, *command, stdin=stdin)


def _run(*command: str, stdin: str | None = None) -> str:
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError as error:
        raise EngineError(f"There is no command {error.filename}; install iproute2, nftables and procps.") from error
    except subprocess.CalledProcessError as error:
        raise EngineError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error


def main() -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m lab.router", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("up", "show", "down"))
    parser.add_argument("zones", nargs="*", help="up: names of the zones, the coordinator first")
    parser.add_argument("--idle", type=int, default=30, help="seconds after which a silent connection is forgotten (%(default)s)")
    args = parser.parse_args()
    try:
        if args.command == "up":
            up(args.zones, args.idle)
        elif args.command == "show":
            print("\n".join(f"{name} {packets}" for name, packets in counted().items()))
        else:
            down()
    except EngineError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
