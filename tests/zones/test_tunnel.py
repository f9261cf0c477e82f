# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that ends a tunnel in an appliance, at both ends, with namespaces in the place of the VMs and a OneGate that is a file in memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab.checkout import CHECKOUT

FILES = Path(__file__).resolve().parents[2] / "roles/flower_appliance/files"
NETWORK = {"ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24"}
# Looks after its tunnel, or runs a command, for each line that it is given, and answers with what the VM has published, or what the command said.
PROGRAM = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tunnel
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException

class Gate:
    def get_vm(self):
        if attributes is None:
            raise OneException("unreachable", "OneGate is away.")
        return {"USER_TEMPLATE": dict(attributes)}
    def put(self, given):
        attributes.update(given)

tunnel.DIRECTORY = Path(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    if "command" in asked:
        done = subprocess.run(asked["command"], capture_output=True, text=True, check=False)
        answer = {"status": done.returncode, "said": done.stdout + done.stderr}
    else:
        attributes, answer = asked["attributes"], {"problem": ""}
        try:
            tunnel.keep_watch(lambda: tunnel.look_after(asked["context"], asked["role"], lambda context: Gate()), asked["watch"])
        except (tunnel.TunnelError, OneException) as problem:
            answer["problem"] = str(problem)
        answer["attributes"] = attributes
    print(json.dumps(answer), flush=True)
"""
# wg-quick@.service as systemd runs it.
SYSTEMCTL = """#!/bin/sh
[ "$*" = "restart wg-quick@flower0.service" ] && exec wg-quick up {directory}/flower0.conf
"""
# Says as whom it reached the port, or nothing.
CLIENT = """
import socket
try:
    with socket.create_connection(("10.10.9.1", 9092), timeout=2) as connection:
        print(connection.recv(100).decode(), end="")
except OSError:
    pass
"""
SERVER = """
import socket, threading
listener = socket.create_server(("", 9092))
print("ready", flush=True)
def serve(connection, source):
    with connection:
        connection.sendall(source[0].encode())
        while connection.recv(100):
            connection.sendall(b"again")
while True:
    threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
"""


# Asks the port once and again on one connection until it is told to end, and says the longest time that an answer took.
TALKER = """
import select, socket, sys, time
with socket.create_connection(("10.10.9.1", 9092), timeout=60) as connection:
    connection.recv(100)
    print("ready", flush=True)
    longest = 0
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        begun = time.monotonic()
        connection.sendall(b"hello")
        assert connection.recv(100)
        longest = max(longest, time.monotonic() - begun)
print(longest)
"""
# WireGuard tries a handshake again after this time, so that whatever takes less is one handshake.
HANDSHAKE_SECONDS = 5


class End:
    """One end of the tunnel: a namespace with its own /run, in which wireguard-go keeps its sockets."""

    def __init__(self, name: str, directory: Path, role: str, vm_id: str) -> None:
        self.role, self.directory = role, directory
        self.inside = ["ip", "netns", "exec", name]
        self.context: dict[str, str] = {"VMID": vm_id, **NETWORK}
        self.attributes: dict[str, str] = {}
        directory.mkdir()
        shutil.copy(FILES / "flower0.conf", directory)
        (directory / "flower0.conf").chmod(0o600)
        (directory / "systemctl").write_text(SYSTEMCTL.format(directory=directory))
        (directory / "systemctl").chmod(0o755)
        inside = 'mount -t tmpfs none /run && mkdir /run/wireguard && exec "$@"'
        command = [*self.inside, "unshare", "--mount", "sh", "-c", inside, "sh", sys.executable, "-c", PROGRAM, directory, FILES]
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
        self._process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def _ask(self, **asked: object) -> dict:
        self._say(**asked)
        return json.loads(self._process.stdout.readline())

    def _say(self, **asked: object) -> None:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def begin(self, onegate: bool = True, watch: int = 0, **more: str) -> None:
        """Begin to look after the tunnel, with more of the context, and as long as other ends get new keys, for so many seconds."""
        self.context |= {f"ONEAPP_FL_TUNNEL_{name}": value for name, value in more.items()}
        self._say(context=self.context, role=self.role, attributes=self.attributes if onegate else None, watch=watch)

    def done(self) -> str:
        """Return what is wrong with what was begun, once it is done."""
        answer = json.loads(self._process.stdout.readline())
        self.attributes = answer["attributes"] or self.attributes
        return answer["problem"]

    def look(self, onegate: bool = True, **more: str) -> str:
        """Look after the tunnel once, with more of the context; return what is wrong."""
        self.begin(onegate, **more)
        return self.done()

    @property
    def keys(self) -> list[str]:
        """The names of the files with keys."""
        return sorted(file.name for file in self.directory.glob("*.key"))

    def run(self, *command: str) -> str:
        """Return what a command says that succeeds here."""
        answer = self._ask(command=command)
        assert answer["status"] == 0, answer["said"]
        return answer["said"]

    def reaches(self) -> str:
        """As whom a client here reaches the SuperLink, empty if it does not."""
        return self.run(sys.executable, "-c", CLIENT)

    def stop(self) -> None:
        """End what runs here; with its interface, wireguard-go ends as well."""
        with suppress(BrokenPipeError, json.JSONDecodeError):
            self._ask(command=["ip", "link", "delete", "flower0"])
        self._process.kill()
        self._process.wait()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[End, End]]:
    """The ends of the SuperLink, which listens, and of a node, with a cable between them."""
    names = {"superlink": f"tun{CHECKOUT}s", "supernode": f"tun{CHECKOUT}n"}
    made: list[End] = []
    server = None
    try:
        for number, (role, name) in enumerate(names.items(), 1):
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            if role == "supernode":
                cable = ["type", "veth", "peer", "name", "up1", "netns", names["superlink"]]
                subprocess.run(["ip", "link", "add", "up2", "netns", name, *cable], check=True)
            made.append(End(name, tmp_path / role, role, str(number)))
        for number, end in enumerate(made, 1):
            end.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", f"up{number}")
            end.run("ip", "link", "set", f"up{number}", "up")
        inside = ["ip", "netns", "exec", names["superlink"], sys.executable, "-c", SERVER]
        server = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        yield made[0], made[1]
    finally:
        for process in made:
            process.stop()
        if server:
            server.kill()
            server.wait()
        for name in names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False)


def connect(superlink: End, node: End) -> None:
    """Let both ends know each other, as site.yml does."""
    assert superlink.look() == ""
    given = {"SUPERLINK_PUBLIC_KEY": superlink.attributes["FL_TUNNEL_PUBLIC_KEY"], "ENDPOINT": "192.0.2.1:51820", "KEEPALIVE": "5"}
    assert node.look(**given) == ""
    node.attributes["FL_TUNNEL_ADDRESS"] = "10.10.9.2"
    assert node.look() == ""
    assert node.reaches() == "", "the SuperLink does not know it yet"
    assert superlink.look(PEERS=f"{node.attributes['FL_TUNNEL_PUBLIC_KEY']} 10.10.9.2 lyon/vm-2") == ""
    wait_until(lambda: node.reaches() == "10.10.9.2", "the node reaches the SuperLink as itself")


def test_a_tunnel_passes_once_both_ends_know_each_other_and_no_longer(ends):
    superlink, node = ends
    connect(superlink, node)
    assert superlink.look() == node.look() == ""
    wait_until(lambda: node.reaches() == "10.10.9.2", "the tunnel passes")

    node.attributes["FL_TUNNEL_ADDRESS"] = "10.10.9.3"
    assert node.look() == ""
    assert "inet 10.10.9.3/24" in node.run("ip", "address", "show", "flower0")
    assert node.reaches() == "", "the address is another node's"
    node.attributes["FL_TUNNEL_ADDRESS"] = "10.10.9.2"
    assert node.look() == ""
    wait_until(lambda: node.reaches() == "10.10.9.2", "the tunnel passes")

    assert superlink.look(PEERS="") == ""
    assert node.reaches() == "", "the SuperLink knows it no more"


def test_the_tunnel_comes_back_with_its_key_after_a_restart(ends):
    superlink, node = ends
    connect(superlink, node)
    key = node.attributes["FL_TUNNEL_PUBLIC_KEY"]
    for end in ends:
        end.run("ip", "link", "delete", "flower0")
    node.attributes.pop("FL_TUNNEL_PUBLIC_KEY")
    assert superlink.look() == node.look() == ""
    assert node.attributes["FL_TUNNEL_PUBLIC_KEY"] == key
    wait_until(lambda: node.reaches() == "10.10.9.2", "the node reaches the SuperLink again")


def test_a_tunnel_outlives_onegate_and_what_others_write_there(ends):
    superlink, node = ends
    connect(superlink, node)
    superlink.run("ip", "link", "delete", "flower0")
    assert "OneGate is away" in superlink.look(onegate=False)
    assert "OneGate is away" in node.look(onegate=False)
    wait_until(lambda: node.reaches() == "10.10.9.2", "the tunnel passes without OneGate")

    node.attributes["FL_TUNNEL_ADDRESS"] = "10.10.9.1"
    assert node.look(KEEPALIVE="7") == "FL_TUNNEL_ADDRESS is not taken: '10.10.9.1' is not the address of a node in the tunnel network 10.10.9.0/24"
    assert node.run("wg", "show", "flower0", "persistent-keepalive").split()[1] == "7", "what the context says counts all the same"
    wait_until(lambda: node.reaches() == "10.10.9.2", "the tunnel passes with the address that it had")


@contextmanager
def talking(node: End) -> Iterator[list[float]]:
    """A connection through the tunnel on which something is said all the time; the list gets the longest time without an answer."""
    with subprocess.Popen([*node.inside, sys.executable, "-c", TALKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as talker:
        assert talker.stdout.readline() == "ready\n"
        longest: list[float] = []
        yield longest
        said, _errors = talker.communicate(timeout=120)
        longest.append(float(said))
        print(f"longest time without an answer: {said.strip()} s")


def known(*keys: str) -> str:
    return hashlib.sha256(",".join(sorted(keys)).encode()).hexdigest()


def test_a_node_gets_another_key_and_its_connections_wait_for_one_handshake(ends):
    superlink, node = ends
    connect(superlink, node)
    first = node.attributes["FL_TUNNEL_PUBLIC_KEY"]
    with talking(node) as longest:
        assert node.look(NEXT_NUMBER="2") == ""
        following = node.attributes["FL_TUNNEL_NEXT_PUBLIC_KEY"]
        assert node.attributes["FL_TUNNEL_PUBLIC_KEY"] == first and len(node.keys) == 2
        assert superlink.look(NEXT_PEERS=f"{following} 10.10.9.2 lyon/vm-2") == ""
        assert superlink.attributes["FL_TUNNEL_NEXT_KNOWN"] == known(following)

        superlink.begin(watch=120)
        assert node.look(NUMBER="2", NEXT_NUMBER="0") == ""
        assert superlink.done() == ""
    assert longest[0] < HANDSHAKE_SECONDS
    assert node.attributes["FL_TUNNEL_PUBLIC_KEY"] == following and node.keys == ["flower0-vm-2-2.key"]

    assert superlink.look(PEERS=f"{following} 10.10.9.2 lyon/vm-2", NEXT_PEERS="") == ""
    assert node.reaches() == "10.10.9.2"
    assert first not in superlink.run("wg", "show", "flower0", "peers")
    assert superlink.attributes["FL_TUNNEL_NEXT_KNOWN"] == ""


@pytest.mark.parametrize("says", [talking, lambda _node: nullcontext([0.0])], ids=["talks", "is silent"])
def test_the_superlink_gets_another_key_and_a_node_waits_for_one_handshake_whether_it_talks_or_not(ends, says):
    superlink, node = ends
    connect(superlink, node)
    with says(node) as longest:
        assert superlink.look(NEXT_NUMBER="2") == ""
        following = superlink.attributes["FL_TUNNEL_NEXT_PUBLIC_KEY"]
        assert node.look(SUPERLINK_NEXT_PUBLIC_KEY=following) == ""
        assert node.attributes["FL_TUNNEL_NEXT_KNOWN"] == known(following)
        assert node.look() == "", "the tunnel stays as it is"

        node.begin(watch=60)
        begun = time.monotonic()
        assert superlink.look(NUMBER="2", NEXT_NUMBER="0") == ""
        assert node.done() == ""
        took = time.monotonic() - begun
    assert max(*longest, took) < HANDSHAKE_SECONDS
    assert superlink.attributes["FL_TUNNEL_PUBLIC_KEY"] == following and superlink.keys == ["flower0-vm-1-2.key"]
    assert superlink.run("wg", "show", "flower0", "persistent-keepalive").split()[1] == "off"

    assert node.look(SUPERLINK_PUBLIC_KEY=following, SUPERLINK_NEXT_PUBLIC_KEY="") == ""
    assert node.reaches() == "10.10.9.2"
    assert node.run("wg", "show", "flower0", "peers").split() == [following]
    assert node.run("wg", "show", "flower0", "persistent-keepalive").split()[1] == "5"


def test_a_key_that_nobody_uses_takes_nothing_over(ends):
    superlink, node = ends
    connect(superlink, node)
    stranger = superlink.run("sh", "-c", "wg genkey | wg pubkey").strip()
    peer = node.attributes["FL_TUNNEL_PUBLIC_KEY"]
    assert superlink.look(NEXT_PEERS=f"{stranger} 10.10.9.2 lyon/vm-2") == ""
    superlink.begin(watch=3)
    assert superlink.done() == ""
    assert f"{peer}\t10.10.9.2/32" in superlink.run("wg", "show", "flower0", "allowed-ips")
    assert node.reaches() == "10.10.9.2"
    superlink.attributes["FL_TUNNEL_NEXT_KNOWN"] = ""
    assert superlink.look(NEXT_PEERS=f"{stranger} 10.10.9.9 rome/vm-1") == ""
    assert superlink.attributes["FL_TUNNEL_NEXT_KNOWN"] == "", "who has no tunnel gets none with its next key"


def test_only_root_reads_the_key_and_nobody_is_told(ends):
    superlink, _node = ends
    assert superlink.look() == ""
    (file,) = superlink.directory.glob("*.key")
    assert file.name == "flower0-vm-1.key" and file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() not in json.dumps(superlink.attributes)
    file.write_text("something else\n")
    assert superlink.look() == f"{file} holds something else than a WireGuard key; move it away to have a new one made"
