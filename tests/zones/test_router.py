# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The router between zones in a box, with a namespace in the place of each VM: what passes, as whom, and what is forgotten."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lab import router
from lab.addresses import free_subnet
from lab.driver.docker import machine_prefix
from lab.engine import EngineError, docker

ZONES = ("routed-a", "routed-b", "routed-c")
IDLE_SECONDS = 5
# Answers each line with the address that it came from.
SERVER = """
import socketserver
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            self.wfile.write((self.client_address[0] + "\\n").encode())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("", 9092), Answer).serve_forever()
"""
# Asks, waits for so many seconds, and asks again on the same connection.
CLIENT = """
import socket, sys, time
address, port, pause, keepalive = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
connection = socket.create_connection((address, port), timeout=5)
if keepalive:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive)
for number in range(2):
    connection.sendall(b"hello\\n")
    print(connection.recv(100).decode().strip(), flush=True)
    time.sleep(pause * (1 - number))
"""


def machine(zone: str) -> str:
    return f"{router.NAMESPACE}-{zone}"


def cable(number: int) -> str:
    """The outer end of a machine's cable, in the namespace that all checkouts share."""
    return f"t{router.CHECKOUT}{number}"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def routed() -> Iterator[None]:
    """Three zones with one machine each, the first of which listens, and the router between them."""
    networks = {zone: f"{machine_prefix(zone)}-net-0" for zone in ZONES}
    try:
        for number, (zone, network) in enumerate(networks.items()):
            subnet = free_subnet("10.87", first=number * 7)
            prefix = subnet.rpartition(".")[0]
            docker("network", "create", "--subnet", subnet, "--opt", "com.docker.network.bridge.enable_ip_masquerade=false", network)
            bridge = "br-" + docker("network", "ls", "--quiet", "--no-trunc", "--filter", f"name=^{network}$")[:12]
            run("ip", "netns", "add", machine(zone))
            run("ip", "link", "add", cable(number), "type", "veth", "peer", "name", "eth0", "netns", machine(zone))
            run("ip", "link", "set", cable(number), "master", bridge, "up")
            inside = ("ip", "-n", machine(zone))
            run(*inside, "address", "add", f"{prefix}.10/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            for world in ("203.0.113.0/24", "198.51.100.0/24"):
                run(*inside, "route", "add", world, "via", f"{prefix}.254")
        router.up(list(ZONES), IDLE_SECONDS)
        server = subprocess.Popen(["ip", "netns", "exec", machine(ZONES[0]), sys.executable, "-c", SERVER])
        try:
            deadline = time.monotonic() + 60
            while asked(ZONES[1]) != ["198.51.100.1"] * 2:
                assert time.monotonic() < deadline, "the server behind the router did not answer within 60 s"
            yield
        finally:
            server.terminate()
            server.wait()
    finally:
        router.down()
        for number, (zone, network) in enumerate(networks.items()):
            for what in (("link", "delete", cable(number)), ("netns", "delete", machine(zone))):
                with suppress(subprocess.CalledProcessError):
                    run("ip", *what)
            docker("network", "rm", "--force", network)


def asked(zone: str, address: str = router.PUBLIC_ADDRESS, port: int = 9092, pause: float = 0, keepalive: int = 0) -> list[str]:
    """What the machine of a zone was answered."""
    arguments = [address, str(port), str(pause), str(keepalive)]
    done = subprocess.run(["ip", "netns", "exec", machine(zone), sys.executable, "-c", CLIENT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_each_site_appears_as_one_address_of_its_own(routed):
    assert asked(ZONES[1]) == ["198.51.100.1"] * 2
    assert asked(ZONES[2]) == ["198.51.100.2"] * 2


def test_nothing_but_the_fleet_port_passes_and_all_of_it_is_counted(routed):
    before = router.counted()
    assert asked(ZONES[1], port=9093) == [], "no Control API"
    assert asked(ZONES[1], address="198.51.100.2") == [], "no other site"
    assert asked(ZONES[0], address="198.51.100.1") == [], "nobody calls a site"
    assert asked(ZONES[1]) == ["198.51.100.1"] * 2
    after = router.counted()
    assert after["routed-b_refused"] > before["routed-b_refused"] and after["routed-a_refused"] > before["routed-a_refused"]
    assert after["routed-b_passed"] > before["routed-b_passed"] and after["routed-c_passed"] == before["routed-c_passed"]


def test_a_silent_connection_is_forgotten_unless_it_is_kept_alive(routed):
    assert asked(ZONES[1], pause=3 * IDLE_SECONDS) == ["198.51.100.1"]
    assert asked(ZONES[1], pause=3 * IDLE_SECONDS, keepalive=1) == ["198.51.100.1"] * 2


def test_the_links_of_sites_lose_packets_and_are_thin(routed):
    router.up(list(ZONES), IDLE_SECONDS, router.Link(rate="1mbit", loss=20))
    try:
        answered = 0
        for _ in range(5):
            answered += asked(ZONES[1]) == ["198.51.100.1"] * 2
        counted = router.counted()
        assert counted["routed-b_lost"] > 0 and counted["routed-c_lost"] == 0
        assert answered > 0, "TCP says again what was lost"
        for namespace, device in (([], f"r{router.CHECKOUT}1"), (["-n", router.NAMESPACE], "zone1")):
            shown = subprocess.run(["tc", *namespace, "qdisc", "show", "dev", device], check=True, capture_output=True, text=True).stdout
            assert "tbf" in shown and "rate 1Mbit" in shown
    finally:
        router.up(list(ZONES), IDLE_SECONDS)


def test_another_router_is_found_at_once(routed):
    assert asked(ZONES[1]) == ["198.51.100.1"] * 2
    router.up(list(ZONES), IDLE_SECONDS)
    assert asked(ZONES[1]) == ["198.51.100.1"] * 2


def test_a_link_that_is_cut_comes_back(routed):
    with subprocess.Popen([sys.executable, "-m", "lab.router", "cut", *ZONES, "--site", ZONES[1], "--seconds", "5"]) as cutting:
        while asked(ZONES[1]):
            assert cutting.poll() is None, "the link was never away"
        assert asked(ZONES[2]) == ["198.51.100.2"] * 2
        assert cutting.wait() == 0
    assert asked(ZONES[1]) == ["198.51.100.1"] * 2


def test_a_site_that_is_not_joined_is_named():
    with pytest.raises(EngineError, match="Zone moon is none of those that are joined: routed-a, routed-b, routed-c"):
        router.cut(list(ZONES), "moon", 1)
