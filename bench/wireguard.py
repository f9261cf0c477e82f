# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a WireGuard overlay costs: throughput of a tunnel over that of the bare path, and configuration of many sites over that of few.

- Two network namespaces with a virtual cable between them; iperf3 through the cable, then through a tunnel over it.
- The plan and the two files of each site, checked and rendered by ansible-playbook as the role does, for 10 and for 100 sites.

Needs root, wg, iperf3 and, where the kernel has no WireGuard, wireguard-go.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ROLE = REPOSITORY / "roles" / "wireguard"
SECONDS = 5
FEW, MANY, MOST_PER_SITE = 10, 100, 1.5
# The sockets of wireguard-go are files that all namespaces share: each interface has a name of its own.
LEFT, RIGHT = ("bench-left", "wgbenchl", "10.109.1.1", "10.109.2.1"), ("bench-right", "wgbenchr", "10.109.1.2", "10.109.2.2")

PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  vars_files: [{role}/defaults/main.yml, {role}/vars/main.yml, {directory}/values.json]
  vars:
    ansible_python_interpreter: {python}
  tasks:
    - set_fact:
        wireguard_plan: "{{{{ wireguard_sites | opennebula.flower.wireguard_plan(wireguard_networks, flows=wireguard_flows) }}}}"
      run_once: true
    - template:
        src: "{role}/templates/{{{{ item }}}}.j2"
        dest: "{directory}/{{{{ inventory_hostname }}}}.{{{{ item }}}}"
        mode: "0600"
      loop: [wg.conf, wg.nft]
"""


def run(*argv: object, **options: object) -> str:
    """Run a command to its end and return its output."""
    done = subprocess.run(list(map(str, argv)), check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed: {done.stderr.strip() or done.stdout[-2000:]}")
    return done.stdout


def in_namespace(side: tuple, *argv: object) -> str:
    """Run a command in a side's namespace."""
    return run("ip", "netns", "exec", side[0], *argv)


def connect() -> str:
    """Make both namespaces and the tunnel between them; return which implementation carries it."""
    for side in (LEFT, RIGHT):
        run("ip", "netns", "add", side[0])
    run("ip", "link", "add", "bench0", "netns", LEFT[0], "type", "veth", "peer", "name", "bench0", "netns", RIGHT[0])
    keys = {side: run("wg", "genkey").strip() for side in (LEFT, RIGHT)}
    implementation = ""
    for side, other in ((LEFT, RIGHT), (RIGHT, LEFT)):
        namespace, interface, cable, tunnel = side
        in_namespace(side, "ip", "address", "add", f"{cable}/24", "dev", "bench0")
        in_namespace(side, "ip", "link", "set", "bench0", "up")
        if subprocess.run(["ip", "-n", namespace, "link", "add", interface, "type", "wireguard"], check=False, capture_output=True).returncode == 0:
            implementation = "kernel"
        else:
            implementation = "wireguard-go"
            in_namespace(side, "wireguard-go", interface)
        public = run("wg", "pubkey", input=keys[other]).strip()
        peer = ["peer", public, "endpoint", f"{other[2]}:51820", "allowed-ips", f"{other[3]}/32"]
        command = ["ip", "netns", "exec", namespace, "wg", "set", interface, "listen-port", "51820", "private-key", "/dev/stdin", *peer]
        run(*command, input=keys[side])
        in_namespace(side, "ip", "address", "add", f"{tunnel}/24", "dev", interface)
        in_namespace(side, "ip", "link", "set", interface, "mtu", "1420", "up")
    return implementation


def throughput(address: str) -> float:
    """Return what iperf3 carries to an address of the right side, in Mbit/s."""
    with subprocess.Popen(["ip", "netns", "exec", RIGHT[0], "iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True) as server:
        while "listening" not in server.stdout.readline():
            pass
        result = json.loads(in_namespace(LEFT, "iperf3", "-c", address, "-t", str(SECONDS), "-J"))
        server.communicate(timeout=10)
    return result["end"]["sum_received"]["bits_per_second"] / 1e6


def disconnect() -> None:
    """Remove the namespaces; their interfaces go with them, and with those wireguard-go ends."""
    for side in (LEFT, RIGHT):
        subprocess.run(["ip", "-n", side[0], "link", "delete", side[1]], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", side[0]], check=False, capture_output=True)


def seconds_per_site(count: int) -> float:
    """Return how long ansible-playbook takes to check the plan and write the files of each of so many sites."""
    with tempfile.TemporaryDirectory() as directory:
        sites = [
            {"name": f"s{n}", "addresses": [f"10.109.{n // 250}.{n % 250 + 1}"], "subnets": [f"10.110.{n}.0/24"], "hub": n == 0}
            | ({"endpoint": "s0.example.org:51820"} if n == 0 else {})
            for n in range(count)
        ]
        keys = {site["name"]: base64.b64encode(os.urandom(32)).decode() for site in sites}
        values = {"wireguard_sites": sites, "wireguard_public_keys": keys, "wireguard_networks": ["10.109.0.0/16"]}
        (Path(directory) / "values.json").write_text(json.dumps(values))
        playbook = Path(directory) / "playbook.yml"
        playbook.write_text(PLAYBOOK.format(role=ROLE, directory=directory, python=sys.executable))
        started = time.perf_counter()
        run("ansible-playbook", "-i", ",".join(keys) + ",", playbook, cwd=REPOSITORY)
        return (time.perf_counter() - started) / count


def main() -> int:
    """Print both ratios; return 1 when the second is above its limit."""
    missing = [tool for tool in ("wg", "iperf3") if not shutil.which(tool)]
    if missing:
        print(f"wireguard throughput: not measured, {' and '.join(missing)} not installed (packages wireguard-tools, wireguard-go, iperf3)")
    else:
        disconnect()
        try:
            implementation = connect()
            bare, tunnel = throughput(RIGHT[2]), throughput(RIGHT[3])
        finally:
            disconnect()
        print(f"wireguard throughput ({implementation}): {tunnel:.0f} of {bare:.0f} Mbit/s, ratio {tunnel / bare:.3f}")
    few, many = seconds_per_site(FEW), seconds_per_site(MANY)
    ratio = many / few
    print(f"wireguard configuration: {few:.3f} s a site for {FEW} sites, {many:.3f} s for {MANY}, ratio {ratio:.2f} (limit {MOST_PER_SITE})")
    return int(ratio > MOST_PER_SITE)


if __name__ == "__main__":
    sys.exit(main())
