# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A real federation as the roles make it, SuperLink behind its gateway and nodes with keys, each node behind a link of its own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION, superlink_command, supernode_command
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.nodes import Nodes, NodesError
from ansible_collections.opennebula.flower.tests.app.event_schema import checked
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.support.cables import GOOD, Cable, Cables, Quality
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.rendered_roles import rendered
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=flower -keyout {0}.key -out {0}.crt"
    " -addext subjectAltName=IP:127.0.0.1,IP:{1} -addext keyUsage=critical,digitalSignature,keyCertSign"
)
# Deadline of everything that is waited for, on a machine that is busy otherwise.
PATIENCE = 1800
# As in the role: looking more often for work, many nodes would take the processors.
NODE = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
# What a node says of each message to train that it gets.
RECEIVING = "Receiving: train message"

Event = dict[str, Any]


@dataclass
class LinkedNode:
    """A SuperNode and its link."""

    name: str
    cable: Cable
    log: Path
    process: subprocess.Popen = field(repr=False)

    def asked(self) -> int:
        """How often it was asked to train so far."""
        return self.log.read_text(errors="replace").count(RECEIVING)

    def resident_mib(self) -> float:
        """The memory of its own process."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024

    def is_running(self) -> bool:
        """Whether it is the process that was started."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Let it leave in order, as systemd does."""
        self.process.send_signal(signal.SIGTERM)


class LinkedFederation(Federation):
    """The SuperLink listens on loopback, the gateway with the role's own configuration at the near end of all links."""

    def __init__(self, flower_bin: Path, app: Path, directory: Path, cables: Cables) -> None:
        super().__init__(flower_bin, app, directory)
        self._cables = cables
        self.fleet = f"{cables.host}:{free_port()}"
        self.ca = directory / "flower.crt"
        self.nodes: list[LinkedNode] = []
        self._register = Nodes(f"https://{self.address}", str(self.ca))

    def __enter__(self) -> LinkedFederation:
        subprocess.run(CERTIFICATE.format(self.ca.with_suffix(""), self._cables.host).split(), check=True, capture_output=True)
        (self._directory / "server.pem").write_text(self.ca.read_text() + self.ca.with_suffix(".key").read_text())
        super().__enter__()
        self._write("home/config.toml", f'[superlink.local]\naddress = "{self.address}"\nroot-certificates = "{self.ca}"\n')
        self.start_gateway()
        return self

    # Nodes

    def add_linked_node(self, quality: Quality = GOOD, uplink: str = "") -> LinkedNode:
        """Start a node behind a link, what it sends limited as ``flower_uplink_limit`` does."""
        name = f"node-{len(self.nodes)}"
        key = self._directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "", "-f", key], check=True)
        self._register.register(read_key(key.with_suffix(".pub").read_text()).pem, name)
        cable = self._cables.add(quality)
        if uplink:
            self._limit(cable, uplink)
        command = supernode_command(DEFAULT_VERSION, self.fleet, root_certificates=str(self.ca), private_key=str(key))
        inside = cable.inside(str(self._bin / command[0]), *command[1:])
        process = self._start(name, [shutil.which(inside[0]), *inside[1:]], **NODE, FLWR_HOME=str(self._directory / f"home-{name}"))
        node = LinkedNode(name, cable, self._directory / f"{name}.log", process)
        self.nodes.append(node)
        return node

    def wait_for_nodes(self, number: int, seconds: float = PATIENCE) -> float:
        """Wait until so many nodes are connected and return when they were."""
        wait_until(lambda: len(self.online()) == number, f"{number} connected nodes", seconds, lambda: str(self.statuses()))
        return now()

    def statuses(self) -> dict[str, str]:
        """What the SuperLink says of each registered node, nothing while it does not answer."""
        try:
            return {f"{node.name} {node.node_id}": node.status for node in self._register.listed()}
        except NodesError:
            return {}

    def online(self) -> set[str]:
        """The nodes that the SuperLink has a connection with."""
        return {name for name, status in self.statuses().items() if status == "online"}

    # Trainings

    def train(self, name: str, **config: object) -> Path:
        """Start a training and return the directory of its files."""
        output = self._directory / name
        self.submit(output_directory=str(output), run_name=name, **config)
        return output

    def events(self, output: Path) -> list[Event]:
        """Return the events of a training so far."""
        path = output / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        # The last line may be half written.
        return checked([json.loads(line) for line in lines if line.endswith("\n")])

    def wait_for_event(self, output: Path, kind: str, after: float = 0, seconds: float = PATIENCE, **data: object) -> Event:
        """Wait for the first event of a kind with this data after a moment, and return it."""
        found: list[Event] = []

        def look() -> bool:
            for event in self.events(output):
                if event["event"] == kind and when(event) > after and data.items() <= event["data"].items():
                    found.append(event)
                    return True
            return False

        wait_until(look, f"event {kind} with {data}", seconds, lambda: str([event["message"] for event in self.events(output)[-5:]]))
        return found[0]

    # The SuperLink

    def start_gateway(self) -> None:
        """Start HAProxy with the role's own configuration, but for the places of its files and ports."""
        text = rendered("superlink", table.validate({}, "superlink"), "native")["haproxy.cfg"]
        places = {
            "0.0.0.0:9092": self.fleet, "127.0.0.1:9093": f"127.0.0.1:{free_port()}", "127.0.0.1:8405": f"127.0.0.1:{free_port()}",
            "127.0.0.1:18000": self.address, "127.0.0.1:18001": f"127.0.0.1:{free_port()}", "/opt/flower/certs/server.pem": str(self._directory / "server.pem"),
            "/opt/flower/certs/ca.crt": str(self.ca), "/opt/flower/loopback/flower.crt": str(self.ca),
        }  # fmt: skip
        for usual, here in places.items():
            text = text.replace(usual, here)
        # It runs as who runs the tests, and says what it has to say to a file.
        text = re.sub(r"^ +(user|group) haproxy\n", "", text, flags=re.MULTILINE).replace("log /dev/log local0", "log stdout format raw local0")
        path = self._write("haproxy.cfg", text)
        self._gateway = self._start("haproxy", [shutil.which("haproxy"), "-W", "-f", str(path)])
        wait_until(self._is_open, "the gateway to answer")

    def power_off(self) -> None:
        """Take the SuperLink and its gateway away at once, as when their machine loses its power."""
        self._gateway.kill()
        self._gateway.wait()
        self.kill_superlink()

    def power_on(self) -> float:
        """Start both again and return when the gateway answered."""
        self.start_superlink()
        self.start_gateway()
        return now()

    @contextmanager
    def locked_database(self) -> Iterator[None]:
        """Let nobody write to the SuperLink's database, as when a disk is slow."""
        with closing(sqlite3.connect(self._directory / "state.db", isolation_level=None, timeout=PATIENCE)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")

    def told_to_come_back(self) -> int:
        """How many requests of nodes the gateway answered with 503 so far."""
        return len(re.findall(r" 503 \d+ - - .*/v1/fleet/", (self._directory / "haproxy.log").read_text()))

    def start_superlink(self) -> None:
        """Start the SuperLink with TLS and node authentication, and wait until it answers."""
        host, port = self.address.split(":")
        certificates = {"ca": str(self.ca), "certificate": str(self.ca), "key": str(self.ca.with_suffix(".key"))}
        command = superlink_command(
            DEFAULT_VERSION, host=host, port=int(port), database=str(self._directory / "state.db"), certificates=certificates, node_auth=True
        )
        self._superlink = self._start("superlink", command, PYTHONPATH=str(self._without_sklearn))
        self._wait(self._answers, "the SuperLink to answer")

    def _answers(self) -> bool:
        assert self._superlink.poll() is None, (self._directory / "superlink.log").read_text()
        return self._is_healthy(self.address)

    def _is_open(self) -> bool:
        return self._is_healthy(self.fleet)

    def _is_healthy(self, address: str) -> bool:
        try:
            return requests.get(f"https://{address}/health", verify=str(self.ca), timeout=10).ok
        except requests.RequestException:
            return False

    def _limit(self, cable: Cable, rate: str) -> None:
        """Limit what goes to the SuperLink with the role's own program and its bound of what the kernel takes ahead."""
        program = Path(__file__).parents[2] / "roles/flower_supernode/files/flower-uplink"
        done = subprocess.run(cable.inside("python3", str(program), "--limit", rate, self.fleet), capture_output=True, text=True, check=False)
        assert done.stdout == "changed\n", done.stderr
        number = int(re.match(r"\d+", rate)[0]) * {"k": 1000, "m": 1_000_000}[rate[-4]]
        ahead = min(max(number // 4, 16384), 4194304)
        subprocess.run(cable.inside("sysctl", "--quiet", "--write", f"net.ipv4.tcp_wmem=4096 16384 {ahead}"), check=True)


def now() -> float:
    """The present, as events have it."""
    return datetime.now(UTC).timestamp()


def when(event: Event) -> float:
    """Return when an event happened, in seconds since the epoch."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()
