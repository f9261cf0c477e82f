# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A round that takes longer than a firewall between a node and its SuperLink remembers a silent connection, in real Flower."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from bench.checkpoints import app_with_model
from lab.addresses import free_subnet
from lab.checkout import CHECKOUT

FORGETS_SECONDS, TRAINS_SECONDS = 30, 180
ROUTER, NODE, CABLE = f"idle{CHECKOUT}r", f"idle{CHECKOUT}n", f"i{CHECKOUT}"
RULES = """
table ip idle {
  counter forgotten {}
  chain after { type nat hook postrouting priority srcnat; oifname up0 masquerade
  }
  chain before { type filter hook prerouting priority dstnat; ct state invalid counter name forgotten drop
  }
}
"""
# Asks for the health on a connection that was silent for so long, and says how that ended.
SILENT = """
import socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with socket.create_connection((host, port), timeout=20) as connection:
    time.sleep(seconds)
    connection.sendall(b"GET /health HTTP/1.1\\r\\nHost: superlink\\r\\n\\r\\n")
    try:
        print("answered" if connection.recv(100) else "closed")
    except OSError:
        print("forgotten")
"""


@dataclass(frozen=True)
class Way:
    """The address of this machine, and how to run something behind the router."""

    host: str
    inside: list[str]


def run(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout


def clean() -> None:
    for what in (("link", "delete", CABLE), ("netns", "delete", NODE), ("netns", "delete", ROUTER)):
        with suppress(subprocess.CalledProcessError):
            run("ip", *what)


@pytest.fixture
def way() -> Iterator[Way]:
    """A node's machine behind a router that translates addresses and forgets."""
    prefix = free_subnet("10.88", first=int(CHECKOUT, 16)).rpartition(".")[0]
    router = ("ip", "netns", "exec", ROUTER)
    clean()
    try:
        for name in (ROUTER, NODE):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", CABLE, "type", "veth", "peer", "name", "up0", "netns", ROUTER)
        run("ip", "-n", ROUTER, "link", "add", "down0", "type", "veth", "peer", "name", "eth0", "netns", NODE)
        for where, device, address in (
            ([], CABLE, f"{prefix}.1/24"), (["-n", ROUTER], "up0", f"{prefix}.2/24"), (["-n", ROUTER], "down0", "192.0.2.1/24"),
            (["-n", NODE], "eth0", "192.0.2.2/24"),
        ):  # fmt: skip
            run("ip", *where, "address", "add", address, "dev", device)
            run("ip", *where, "link", "set", device, "up")
        run("ip", "-n", NODE, "route", "add", "default", "via", "192.0.2.1")
        for setting in ("ip_forward=1", "netfilter.nf_conntrack_tcp_loose=0", f"netfilter.nf_conntrack_tcp_timeout_established={FORGETS_SECONDS}"):
            name = f"net.ipv4.{setting}" if setting.startswith("ip") else f"net.{setting}"
            run(*router, "sysctl", "--quiet", "--write", name)
        run(*router, "nft", "-f", "-", given=RULES)
        yield Way(f"{prefix}.1", [shutil.which("ip"), "netns", "exec", NODE])
    finally:
        clean()


def test_a_round_takes_longer_than_the_firewall_remembers_a_silent_connection(way: Way, tmp_path: Path) -> None:
    app = app_with_model(tmp_path, 0.01)
    use_case = app / "federation/usecases/digits.py"
    trains = "def train(arrays, data, options):"
    use_case.write_text("import time\n" + use_case.read_text().replace(trains, f"{trains}\n    time.sleep({TRAINS_SECONDS})"))
    with Federation(make_flower_venv(), app, tmp_path, way.host) as federation:
        federation.add_node(inside=way.inside)
        host, port = federation.address.split(":")
        command = [*way.inside, sys.executable, "-c", SILENT, host, port, str(2 * FORGETS_SECONDS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as silent:
            trained = federation.run(num_server_rounds=1, **dict.fromkeys(("min_available_clients", "min_fit_clients", "min_evaluate_clients"), 1))
            assert silent.communicate(timeout=120)[0] == "forgotten\n", "the firewall has to be one that forgets"
    assert trained.status == "finished:completed", trained.details
    (ended,) = trained.data("round_end")
    assert ended["round_duration_seconds"] > TRAINS_SECONDS > FORGETS_SECONDS
    assert (ended["num_clients_responded"], trained.data("client_failure")) == (1, [])
