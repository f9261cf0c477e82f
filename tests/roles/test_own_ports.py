# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Who of a SuperLink's machine reaches which of its ports: the role's rules, loaded by nftables in a network namespace, and real connections."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.tests.support.rendered_roles import rendered

FLOWER, RUNTIME, CONTROL, OTHER = 18000, 18002, 9093, 18001
USERS = {"root": 0, "app": 49999, "flower-supervisor": 49998, "haproxy": 41001, "flower-registrar": 41002, "flower-artifacts": 41003, "somebody": 41004}
OF_FLOWER = ("root", "flower-supervisor", "haproxy", "flower-registrar")
OWN_ADDRESS = "10.99.0.1"
ADDRESSES = ("127.0.0.1", "::1", OWN_ADDRESS)
REFUSED = 0
# Runs in namespaces of its own: listens on every port, and tells which of them answered each user.
PROGRAM = """
import itertools, json, os, select, socket, subprocess, sys

settings = json.load(sys.stdin)
subprocess.run(["mount", "--bind", settings["passwd"], "/etc/passwd"], check=True)
for command in ("ip link set lo up", f"ip addr add {settings['own_address']}/32 dev lo"):
    subprocess.run(command.split(), check=True)
for _time in range(2):
    subprocess.run(["nft", "--file", settings["rules"]], check=True)
for command in settings["commands"]:
    subprocess.run(["nft", *command.split()], check=True)
listeners = {}
for port in settings["ports"]:
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1000)
    listeners[listener.fileno()] = listener

def ask(uid, address, port, writer):
    # As another user, who may read no more modules of this Python.
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
        try:
            connection.connect((address, port))
            os.write(writer, connection.recv(5))
        except ConnectionRefusedError:
            os.write(writer, b"0")

def answered(uid, address, port):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            ask(uid, address, port, writer)
        finally:
            os._exit(0)
    os.close(writer)
    while True:
        ready, _w, _x = select.select([reader, *listeners], [], [])
        if reader in ready:
            break
        for number in ready:
            connection, _address = listeners[number].accept()
            connection.sendall(str(connection.getsockname()[1]).encode())
            connection.close()
    said = os.read(reader, 5)
    os.close(reader)
    os.waitpid(child, 0)
    return int(said)

asked = itertools.product(settings["users"].items(), settings["addresses"], settings["ports"])
table = subprocess.run(["nft", "list", "table", "inet", "flower_loopback"], capture_output=True, text=True, check=True).stdout
json.dump({"answers": [[name, address, port, answered(uid, address, port)] for (name, uid), address, port in asked], "table": table}, sys.stdout)
"""


class Machine:
    """What a machine with the rules answered: by user, address and port, the port that did."""

    def __init__(self, directory: Path, *commands: str, **settings: str) -> None:
        values = table.validate({f"ONEAPP_{name}": text for name, text in settings.items()}, "superlink")
        (directory / "rules").write_text(rendered("superlink", values, "container")["firewall.nft"])
        (directory / "passwd").write_text("".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in USERS.items()))
        asked = {
            "passwd": str(directory / "passwd"), "rules": str(directory / "rules"), "own_address": OWN_ADDRESS, "commands": commands, "users": USERS,
            "addresses": ADDRESSES, "ports": (FLOWER, RUNTIME, CONTROL, OTHER),
        }  # fmt: skip
        command = ["unshare", "--net", "--mount", sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        self.table = told["table"]
        self._answers = {(user, address, port): answered for user, address, port, answered in told["answers"]}

    def answers(self, user: str, port: int) -> set[int]:
        return {self._answers[user, address, port] for address in ADDRESSES}


pytestmark = pytest.mark.skipif(not shutil.which("nft"), reason="nftables is not installed")


@pytest.fixture(scope="module", params=["YES", "NO"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A SuperLink with and without the host firewall."""
    return Machine(tmp_path_factory.mktemp("machine"), FL_HOST_FIREWALL_ENABLED=request.param)


@pytest.mark.parametrize("user", OF_FLOWER)
def test_what_stands_beside_flower_reaches_all_of_it(machine: Machine, user: str) -> None:
    assert machine.answers(user, FLOWER) == {FLOWER}


def test_an_app_that_asks_for_flower_gets_the_gateway(machine: Machine) -> None:
    assert machine.answers("app", FLOWER) == {RUNTIME}


def test_nobody_else_of_the_machine_reaches_flower(machine: Machine) -> None:
    assert machine.answers("somebody", FLOWER) == {REFUSED}


def test_neither_an_app_nor_who_talks_to_strangers_reaches_where_operators_start_runs(machine: Machine) -> None:
    assert machine.answers("app", CONTROL) == machine.answers("flower-artifacts", CONTROL) == {REFUSED}
    assert machine.answers("somebody", CONTROL) == machine.answers("root", CONTROL) == {CONTROL}


@pytest.mark.parametrize("user", USERS)
def test_other_ports_are_as_they_were(machine: Machine, user: str) -> None:
    assert machine.answers(user, OTHER) == {OTHER}
    assert machine.answers(user, RUNTIME) == {RUNTIME}


def test_rules_that_are_loaded_again_are_there_once(machine: Machine) -> None:
    assert machine.table.count("redirect to") == 1
    assert machine.table.count(f"tcp dport {CONTROL}") == 1


def test_another_port_for_operators_is_kept_from_apps_too(tmp_path: Path) -> None:
    moved = Machine(tmp_path, FL_CONTROL_API_ADDRESS=f"127.0.0.1:{OTHER + 900}")
    assert f"tcp dport {OTHER + 900} meta skuid" in moved.table


def test_without_the_way_to_the_gateway_an_app_gets_nothing(tmp_path: Path) -> None:
    assert Machine(tmp_path, "flush chain inet flower_loopback divert").answers("app", FLOWER) == {REFUSED}
