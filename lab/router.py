# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What lies between the zones in a box: a router in a network namespace that translates addresses, forgets idle connections and counts.

``python -m lab.router up`` waits for the networks of the zones, joins them and lets through what the plan opens: from each site to the public address
of the SuperLink, and nothing else. ``show`` prints what was counted, ``cut ZONE`` takes the link of a site away for a while, ``down`` removes the
namespace. Zones are named coordinator first; each has to have one network whose subnet has a free address .254, which its VMs route the public addresses
to. The links of the sites may be bad: thin in both directions, and some of their packets lost.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from lab.checkout import CHECKOUT
from lab.driver.docker import machine_prefix
from lab.engine import EngineError, docker, install

NAMESPACE = f"one-{CHECKOUT}-router"
# Documentation networks: the world outside of all zones. Each site appears as one address of the second.
PUBLIC_ADDRESS = "203.0.113.10"
SITES = "198.51.100"
WORLD = (f"{PUBLIC_ADDRESS}/32", f"{SITES}.0/24")
OWN_HOST = 254
SUPERLINK_HOST = 10  # the first lease of the coordinator's network
FLEET_PORT = 9092
NETWORKS_SECONDS = 1800
# Program -> Debian packages that bring it.
TOOLS = {"ip": ("iproute2",), "tc": ("iproute2",), "nft": ("nftables",), "sysctl": ("procps",)}
_POLL_SECONDS = 1


@dataclass(frozen=True)
class Joined:
    """A zone's network: its bridge on this machine, and the beginning of its addresses."""

    zone: str
    bridge: str
    prefix: str


@dataclass(frozen=True)
class Link:
    """How the links of sites are: the rate in each direction as tc writes it, empty for any, and how many of 100 packets are lost."""

    rate: str = ""
    loss: int = 0


def up(zones: list[str], idle: int, link: Link = Link()) -> None:
    """Join the networks of the zones; connections that are silent for that many seconds are forgotten."""
    missing = {tool: packages for tool, packages in TOOLS.items() if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")}
    if missing:
        install(missing)
    joined = [_network(zone) for zone in zones]
    down()
    _run("ip", "netns", "add", NAMESPACE)
    try:
        _inside("ip", "link", "set", "lo", "up")
        for number, network in enumerate(joined):
            _join(number, network)
            if number and link.rate:
                _narrow(number, link.rate)
        for setting in ("net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_tcp_loose=0", f"net.netfilter.nf_conntrack_tcp_timeout_established={idle}"):
            _inside("sysctl", "--quiet", "--write", setting)
        _inside("nft", "-f", "-", stdin=rules(joined, link.loss))
    except BaseException:
        down()
        raise


def rules(joined: list[Joined], loss: int = 0) -> str:
    """Return the rules: only the sites' connections to the Fleet port of the public address pass, each site as an address of its own.

    Of 100 packets from and to a site, ``loss`` are lost.
    """
    coordinator, *sites = joined
    superlink = f"{coordinator.prefix}.{SUPERLINK_HOST}"
    lines = ["table ip router {"]
    for site in sites:
        lines += [f"  counter {site.zone}_{what} {{}}" for what in ("passed", "refused", *(["lost"] if loss else []))]
    lines += [
        f"  counter {coordinator.zone}_answered {{}}", f"  counter {coordinator.zone}_refused {{}}",
        "  chain before { type nat hook prerouting priority dstnat;",
        f"    ip daddr {PUBLIC_ADDRESS} tcp dport {FLEET_PORT} dnat to {superlink}:{FLEET_PORT}", "  }",
        "  chain after { type nat hook postrouting priority srcnat;",
        *(f"    iifname zone{number} oifname zone0 snat to {SITES}.{number}" for number in range(1, len(joined))), "  }",
        # Behind the translation and before the routes, so that what leads nowhere is counted too. What conntrack has forgotten is no connection any more:
        # a packet in the middle of one is not a beginning.
        *([
            "  chain unlucky { type filter hook forward priority filter;",
            *(f"    {way} zone{number} numgen random mod 100 < {loss} counter name {site.zone}_lost drop"
              for number, site in enumerate(sites, 1) for way in ("iifname", "oifname")), "  }",
        ] if loss else []),
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


def cut(zones: list[str], site: str, seconds: float) -> None:
    """Take the link of a site away for some seconds; the zones are those that were joined, in their order."""
    if site not in zones:
        raise EngineError(f"Zone {site} is none of those that are joined: {', '.join(zones)}.")
    device = f"zone{zones.index(site)}"
    _inside("ip", "link", "set", device, "down")
    try:
        time.sleep(seconds)
    finally:
        _inside("ip", "link", "set", device, "up")


def counted() -> dict[str, int]:
    """Return the packets of each counter by its name."""
    listed = json.loads(_inside("nft", "--json", "list", "counters"))["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}


def down() -> None:
    """Remove the namespace and its cables. They would go with it, but in the kernel's own time: the next router could not have their names."""
    for link in json.loads(_run("ip", "-json", "link", "show")):
        if re.fullmatch(rf"r{CHECKOUT}[0-9]+", link["ifname"]):
            _run("ip", "link", "delete", link["ifname"])
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
    """Put a cable from the router into the bridge of a zone. The next router's card has the same address, which the machines know for a while."""
    outside = f"r{CHECKOUT}{number}"
    card = ("name", f"zone{number}", "address", f"02:00:5e:00:53:{number:02x}", "netns", NAMESPACE)
    _run("ip", "link", "add", outside, "type", "veth", "peer", *card)
    _run("ip", "link", "set", outside, "master", network.bridge, "up")
    _inside("ip", "address", "add", f"{network.prefix}.{OWN_HOST}/24", "dev", f"zone{number}")
    _inside("ip", "link", "set", f"zone{number}", "up")


def _narrow(number: int, rate: str) -> None:
    """Give the link of a site a rate in both directions: what goes to it, and what comes from its bridge."""
    limit = ("root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
    _inside("tc", "qdisc", "add", "dev", f"zone{number}", *limit)
    _run("tc", "qdisc", "add", "dev", f"r{CHECKOUT}{number}", *limit)


def _inside(*command: str, stdin: str | None = None) -> str:
    return _run("ip", "netns", "exec", NAMESPACE, *command, stdin=stdin)


def _run(*command: str, stdin: str | None = None) -> str:
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError as error:
        raise EngineError(f"There is no command {error.filename}; install {', '.join(TOOLS.get(command[0], (command[0],)))}.") from error
    except subprocess.CalledProcessError as error:
        raise EngineError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error


def main() -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m lab.router", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("up", "show", "cut", "down"))
    parser.add_argument("zones", nargs="*", help="up and cut: names of the zones, the coordinator first")
    parser.add_argument("--rate", default="", help="up: rate of the sites' links in each direction, such as 2mbit; any without it")
    parser.add_argument("--loss", type=int, default=0, choices=range(100), metavar="N", help="up: lost of 100 packets from and to sites (%(default)s)")
    parser.add_argument("--site", default="", help="cut: the zone whose link goes")
    parser.add_argument("--seconds", type=float, default=30, help="cut: for how long (%(default)s)")
    parser.add_argument("--idle", type=int, default=30, help="seconds after which a silent connection is forgotten (%(default)s)")
    args = parser.parse_args()
    try:
        if args.command == "up":
            up(args.zones, args.idle, Link(args.rate, args.loss))
        elif args.command == "cut":
            cut(args.zones, args.site, args.seconds)
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
