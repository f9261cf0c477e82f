# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that limits what a SuperNode sends, on the interfaces of a machine that is a network namespace; the SuperLink is in another one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from lab.checkout import CHECKOUT

ROLE = Path(__file__).resolve().parents[2] / "roles/flower_supernode"
PROGRAM = ROLE / "files/flower-uplink"
NODE, SUPERLINK = f"node{CHECKOUT}", f"link{CHECKOUT}"
HOSTS = Path("/etc/netns") / NODE / "hosts"
FLEET, OTHER = 9092, 9093
PAYLOAD = 250_000  # bytes
# Takes what is sent to both ports, and answers when it has all of it.
SERVER = """
import socket, threading

def take(connection):
    with connection:
        while connection.recv(65536):
            pass
        connection.sendall(b"!")

def serve(listener):
    while True:
        threading.Thread(target=take, args=(listener.accept()[0],)).start()

for port in (9092, 9093):
    threading.Thread(target=serve, args=(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True),)).start()
print("ready", flush=True)
"""
CLIENT = """
import socket, sys, time
started = time.monotonic()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(bytes(int(sys.argv[3])))
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1)
print(time.monotonic() - started)
"""


# Sends a reply as Flower does, which waits 30 s for any progress, while another connection asks again and again whether anybody is there.
REPLY = """
import socket, sys, threading

def ask(size):
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as connection:
        data = memoryview(bytes(size))
        while data:
            data = data[connection.send(data):]
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1)

done, beats = threading.Event(), []
def beat():
    while not done.wait(1):
        ask(200)
        beats.append(done.is_set())
heart = threading.Thread(target=beat, daemon=True)
heart.start()
ask(int(sys.argv[3]))
done.set()
heart.join()
print(beats.count(False))
"""


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def node(*command: str | Path) -> str:
    return ip("netns", "exec", NODE, *map(str, command))


def limit(rate: str, superlink: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", "netns", "exec", NODE, sys.executable, PROGRAM, "--limit", rate, superlink], capture_output=True, text=True, check=False)


def limited(device: str) -> str:
    """Return the rate that the program holds an interface to, as tc shows it; empty for none."""
    found = re.search(r"^class htb f10e:\S+ .* rate (\S+)", node("tc", "class", "show", "dev", device), re.MULTILINE)
    return found[1] if found else ""


def counted(device: str) -> int:
    """Return how many bytes went through the limit."""
    return int(re.search(r"class htb f10e:.*?Sent (\d+) bytes", node("tc", "-s", "class", "show", "dev", device), re.DOTALL)[1])


def root_qdisc(device: str) -> tuple[str, str]:
    (found,) = [qdisc for qdisc in json.loads(node("tc", "-j", "qdisc", "show", "dev", device)) if qdisc.get("root")]
    return found["kind"], found["handle"]


def send(address: str, port: int) -> float:
    """Return the bytes in a second at which the payload arrived."""
    return PAYLOAD / float(node(sys.executable, "-c", CLIENT, address, port, PAYLOAD))


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Two cables from the node to the SuperLink; the second one is not used yet."""
    try:
        for name in (NODE, SUPERLINK):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for number in (1, 2):
            ip("link", "add", f"up{number}", "netns", NODE, "type", "veth", "peer", "name", f"down{number}", "netns", SUPERLINK)
            for name, device, host in ((NODE, f"up{number}", 1), (SUPERLINK, f"down{number}", 2)):
                ip("-n", name, "address", "add", f"10.77.{number}.{host}/24", "dev", device)
                ip("-n", name, "address", "add", f"fd77:{number}::{host}/64", "dev", device, "nodad")
                ip("-n", name, "link", "set", device, "up")
        yield
    finally:
        for name in (NODE, SUPERLINK):
            with suppress(subprocess.CalledProcessError):
                ip("netns", "delete", name)
        shutil.rmtree(HOSTS.parent, ignore_errors=True)


@pytest.fixture
def superlink() -> Iterator[None]:
    """What listens on the other side."""
    with subprocess.Popen(["ip", "netns", "exec", SUPERLINK, sys.executable, "-c", textwrap.dedent(SERVER)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        yield
        server.kill()


@pytest.mark.usefixtures("superlink")
@pytest.mark.parametrize("address", ["10.77.1.2", "fd77:1::2"])
def test_what_goes_to_the_superlink_is_not_faster_than_the_limit_and_everything_else_is_left_alone(address: str) -> None:
    unlimited = send(address, FLEET)
    assert limit("1mbit", f"[{address}]:{FLEET}" if ":" in address else f"{address}:{FLEET}").returncode == 0

    at_most = 1_000_000 / 8
    assert send(address, FLEET) <= at_most * 1.05 < unlimited
    through = counted("up1")
    assert through > PAYLOAD

    send(address, OTHER)
    # The end of the first connection may have come after its last byte, in some small packets.
    assert counted("up1") - through < PAYLOAD / 10


def test_a_second_call_changes_nothing() -> None:
    assert limit("1mbit", f"10.77.1.2:{FLEET}").stdout == "changed\n"
    before = node("tc", "class", "show", "dev", "up1")
    again = limit("1mbit", f"10.77.1.2:{FLEET}")
    assert (again.returncode, again.stdout) == (0, "")
    assert node("tc", "class", "show", "dev", "up1") == before


def test_another_limit_takes_the_place_of_the_one_before() -> None:
    limit("1mbit", f"10.77.1.2:{FLEET}")
    assert limit("64kbit", f"10.77.1.2:{FLEET}").stdout == "changed\n"
    assert limited("up1") == "64Kbit"


def test_it_follows_the_name_and_the_route_and_stays_while_the_name_is_not_known() -> None:
    HOSTS.parent.mkdir(parents=True)
    HOSTS.write_text("10.77.1.2 superlink.example.org\n")
    superlink = f"superlink.example.org:{FLEET}"
    assert limit("1mbit", superlink).returncode == 0
    assert (limited("up1"), limited("up2")) == ("1Mbit", "")

    HOSTS.write_text("10.77.2.2 superlink.example.org\n")
    assert limit("1mbit", superlink).stdout == "changed\n"
    assert (limited("up1"), limited("up2")) == ("", "1Mbit")

    HOSTS.write_text("")
    away = limit("1mbit", superlink)
    assert (away.returncode, away.stdout) == (0, "")
    assert limited("up2") == "1Mbit"


def bound(rate: str) -> str:
    """Return what the role bounds the kernel to."""
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    wanted = {name: variables[name] for name in ("flower_supernode_uplink_bits", "flower_supernode_uplink_buffer")}
    command = ["ansible", "localhost", "-i", "localhost,", "-m", "ansible.builtin.debug", "-a", "msg=BOUND={{ flower_supernode_uplink_buffer }}."]
    done = subprocess.run([*command, "-e", json.dumps({**wanted, "flower_uplink_limit": rate})], capture_output=True, text=True, check=True)
    return re.search(r"BOUND=(\d+)\.", done.stdout)[1]


@pytest.mark.parametrize(("rate", "most"), [("8kbit", "16384"), ("64kbit", "16384"), ("512kbit", "128000"), ("2mbit", "500000"), ("1gbit", "4194304")])
def test_the_kernel_takes_two_seconds_of_a_reply_ahead(rate: str, most: str) -> None:
    assert bound(rate) == most


@pytest.mark.usefixtures("superlink")
def test_a_reply_that_takes_longer_than_flower_waits_arrives_and_others_are_served_meanwhile() -> None:
    node("sysctl", "--write", f"net.ipv4.tcp_wmem=4096 16384 {bound('64kbit')}")
    limit("64kbit", f"10.77.1.2:{FLEET}")
    # 50 seconds, in which packets that are not cut up leave room for three.
    assert int(node(sys.executable, "-c", REPLY, "10.77.1.2", FLEET, 400_000)) >= 8


def test_an_interface_that_went_and_came_back_is_limited_again() -> None:
    limit("1mbit", f"10.77.1.2:{FLEET}")
    node("tc", "qdisc", "delete", "dev", "up1", "root")
    assert limit("1mbit", f"10.77.1.2:{FLEET}").stdout == "changed\n"
    assert limited("up1") == "1Mbit"


def piece(device: str) -> int:
    """Return how large the packets are that the network card is to cut up."""
    (found,) = json.loads(node("ip", "-json", "-details", "link", "show", "dev", device))
    return found["gso_max_size"]


def test_off_leaves_the_interface_as_it_was() -> None:
    before = root_qdisc("up1"), piece("up1")
    limit("512kbit", f"10.77.1.2:{FLEET}")
    assert (root_qdisc("up1"), piece("up1")) == (("htb", "f10e:"), 32_000)
    assert node(sys.executable, PROGRAM, "--off") == "changed\n"
    assert (root_qdisc("up1"), piece("up1")) == before
    assert node(sys.executable, PROGRAM, "--off") == ""


def test_a_traffic_control_of_somebody_else_stays_and_is_named() -> None:
    node("tc", "qdisc", "add", "dev", "up1", "root", "handle", "5:", "tbf", "rate", "1mbit", "burst", "16k", "latency", "100ms")
    refused = limit("1mbit", f"10.77.1.2:{FLEET}")
    assert refused.returncode == 1
    assert refused.stderr == "The uplink is not limited: interface up1 has a traffic control of its own (tbf), take that away or the limit\n"
    node(sys.executable, PROGRAM, "--off")
    assert root_qdisc("up1") == ("tbf", "5:")


@pytest.mark.parametrize(
    ("superlink", "reason"),
    [
        (f"10.99.0.1:{FLEET}", "there is no route to the SuperLink at 10.99.0.1"),
        (f"superlink.invalid:{FLEET}", "the name superlink.invalid of the SuperLink cannot be looked up: "),
    ],
)
def test_without_a_way_to_the_superlink_nothing_is_limited_and_the_call_fails(superlink: str, reason: str) -> None:
    HOSTS.parent.mkdir(parents=True)
    HOSTS.with_name("resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    refused = limit("1mbit", superlink)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"The uplink is not limited: {reason}")
    assert limited("up1") == limited("up2") == ""


def test_what_is_half_set_up_is_taken_away(tmp_path: Path) -> None:
    broken = tmp_path / "tc"
    broken.write_text(f'#!/bin/sh\n[ "$1" = filter ] && {{ echo "no such module" >&2; exit 2; }}\nexec {shutil.which("tc")} "$@"\n')
    broken.chmod(0o755)
    command = ["ip", "netns", "exec", NODE, "env", f"PATH={tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin", sys.executable, PROGRAM]
    done = subprocess.run([*command, "--limit", "1mbit", f"10.77.1.2:{FLEET}"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the kernel refused 'tc filter add" in done.stderr
    assert limited("up1") == ""


