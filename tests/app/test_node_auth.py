# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Who may join: a real SuperLink and real SuperNodes with keys, and the registrar between them and what OneGate tells."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION, superlink_command, supernode_command
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.nodes import Node, Nodes, NodesError
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.registrar import Config, Registrar
from ansible_collections.opennebula.flower.tests.support.ports import free_port

pytestmark = pytest.mark.flower

# A SuperNode that its SuperLink does not want any more interrupts itself: whether it ends or the signal ends it is a matter of moments.
LEFT = (0, -signal.SIGINT)
DEADLINE = 900
CONNECTED = "SuperNode ID:"
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=flower -keyout {0}.key -out {0}.crt"
    " -addext subjectAltName=IP:127.0.0.1 -addext keyUsage=critical,digitalSignature,keyCertSign"
)


def eventually(condition: Callable[[], object], what: str) -> object:
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {DEADLINE} s for {what}"
        time.sleep(0.2)
    return found


class Service:
    """What OneGate tells of a service: the key that each VM publishes, nothing for one that publishes none."""

    def __init__(self) -> None:
        self.published: dict[int, str] = {}
        self.attributes: dict[str, str] = {}

    def get_service(self) -> dict:
        nodes = [
            {"deploy_id": number, "vm_info": {"VM": {"ID": str(number), "STATE": "3", "USER_TEMPLATE": {"FL_NODE_KEY": key} if key else {}}}}
            for number, key in self.published.items()
        ]
        return {"name": "service", "roles": [{"name": "supernode", "nodes": nodes}]}

    def put(self, attributes: dict[str, str]) -> None:
        self.attributes |= attributes


class Place:
    """A SuperLink that asks its nodes for keys, SuperNodes, and the keys they have."""

    def __init__(self, flower_bin: Path, directory: Path) -> None:
        self._bin = flower_bin
        self.directory = directory
        self.address = f"127.0.0.1:{free_port()}"
        self.database = "first.db"
        self._processes: list[subprocess.Popen] = []
        self.ca = self.certificate("flower")
        self.nodes = Nodes(f"https://{self.address}", str(self.ca))

    def certificate(self, name: str) -> Path:
        path = self.directory / name
        subprocess.run(CERTIFICATE.format(path).split(), check=True, capture_output=True)
        return path.with_suffix(".crt")

    def key(self, name: str, bits: int = 384) -> str:
        """Make a key; return its public line."""
        path = self.directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", str(bits), "-N", "", "-C", "", "-f", path], check=True)
        return path.with_suffix(".pub").read_text().strip()

    def start_superlink(self, node_auth: bool = True) -> None:
        certificates = {"ca": str(self.ca), "certificate": str(self.ca), "key": str(self.ca.with_suffix(".key"))}
        host, port = self.address.split(":")
        self._superlink = self._start("superlink", superlink_command(
            DEFAULT_VERSION, host=host, port=int(port), database=self.database, certificates=certificates, node_auth=node_auth,
        ))  # fmt: skip
        eventually(self.known, "the SuperLink to answer")

    def stop_superlink(self) -> None:
        self._superlink.terminate()
        self._superlink.wait(DEADLINE)

    def start_node(self, key: str, name: str = "", ca: Path | None = None) -> subprocess.Popen:
        private = str(self.directory / key) if key else ""
        command = supernode_command(DEFAULT_VERSION, self.address, root_certificates=str(ca or self.ca), private_key=private, port=free_port())
        return self._start(name or key, command)

    def ended(self, process: subprocess.Popen) -> int:
        return process.wait(DEADLINE)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def known(self) -> list[Node] | None:
        with suppress(NodesError):
            return [*self.nodes.listed(), Node(0, "", "", "")]
        return None

    def status(self, name: str) -> str:
        return next((node.status for node in self.nodes.listed() if node.name == name and node.status != "unregistered"), "")

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _start(self, name: str, command: list[str]) -> subprocess.Popen:
        environment = {
            **os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}", "FLWR_HOME": str(self.directory / "home"), "PYTHONPATH": "",
            "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
        }  # fmt: skip
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([self._bin / command[0], *command[1:]], env=environment, cwd=self.directory, stdout=log, stderr=subprocess.STDOUT)
        self._processes.append(process)
        return process


@pytest.fixture(scope="module")
def place(flower_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    running = Place(flower_bin, tmp_path_factory.mktemp("keys"))
    try:
        running.start_superlink()
        yield running
    finally:
        running.stop()


def registrar_of(place: Place, service: Service, **settings: object) -> Registrar:
    config = replace(Config(f"https://{place.address}", str(place.ca), gone_seconds=0), **settings)
    return Registrar(config, place.nodes, service)


def test_strangers_do_not_join(place: Place) -> None:
    """Without a key, with one that nobody registered, and to a SuperLink whose CA is another."""
    place.key("stranger")
    foreign = place.certificate("foreign")
    strangers = [place.start_node("", "keyless"), place.start_node("stranger"), place.start_node("stranger", "misled", foreign)]
    assert [place.ended(process) for process in strangers] == [1, 1, 1]
    assert all(CONNECTED not in place.log(name) for name in ("keyless", "stranger", "misled"))
    assert place.nodes.listed() == []


def test_a_vm_of_the_service_joins_and_is_out_when_it_is_gone(place: Place) -> None:
    service = Service()
    service.published = {12: place.key("vm-12"), 13: ""}
    registrar = registrar_of(place, service)
    registrar.step()
    assert place.status("service/vm-12") == "registered"
    node = place.start_node("vm-12")
    eventually(lambda: place.status("service/vm-12") == "online", "VM 12 to join")

    # The same key from a second place: Flower activates a node once.
    copy = place.start_node("vm-12", "copy")
    assert place.ended(copy) == 1
    assert CONNECTED not in place.log("copy")

    # Nothing is revoked because an attribute is away or OneGate is.
    service.published[12] = ""
    registrar.step()
    registrar_of(place, None, keys=[place.key("other")]).step()
    assert place.status("service/vm-12") == "online"

    service.published = {13: ""}
    registrar.step()
    assert place.status("service/vm-12") == ""
    assert place.ended(node) in LEFT

    # Flower never takes it again, and the VM is told so.
    service.published = {12: (place.directory / "vm-12.pub").read_text().strip()}
    registrar.step()
    assert service.attributes == {"FL_NODE_KEYS_REVOKED": read_key(service.published[12]).fingerprint}
    assert place.ended(place.start_node("vm-12", "back")) == 1


def test_a_key_of_the_operator_joins_a_new_database_and_is_out_when_it_leaves_the_list(place: Place) -> None:
    keys = [f"{place.key('berlin')} zone0/vm-3"]
    registrar = registrar_of(place, Service(), keys=keys, keys_only=True)
    registrar.step()
    node = place.start_node("berlin")
    eventually(lambda: place.status("operator/zone0/vm-3") == "online", "the listed node to join")

    place.stop_superlink()
    place.database = "second.db"
    place.start_superlink()
    assert place.ended(node) in LEFT
    registrar.step()
    node = place.start_node("berlin")
    eventually(lambda: place.status("operator/zone0/vm-3") == "online", "the node to join again")

    registrar_of(place, Service(), keys=[place.key("munich")], keys_only=True).step()
    assert place.status("operator/zone0/vm-3") == ""
    assert place.ended(node) in LEFT


def test_forty_vms_that_publish_at_once_are_registered_in_one_step(place: Place) -> None:
    service = Service()
    service.published = {number: place.key(f"many-{number}") for number in range(100, 140)}
    begin = time.monotonic()
    registrar_of(place, service).step()
    registered = [node.name for node in place.nodes.listed() if node.status == "registered"]
    assert {f"service/vm-{number}" for number in service.published} <= set(registered)
    print(f"40 keys registered in {time.monotonic() - begin:.1f} s")


def test_what_flower_refuses_is_a_reason_and_does_not_stop_the_others(place: Place) -> None:
    point_off_the_curve = read_key(place.key("off")).line.split()[1]
    damaged = point_off_the_curve[:-12] + ("A" * 11) + point_off_the_curve[-1]
    service = Service()
    service.published = {20: f"ecdsa-sha2-nistp384 {damaged}", 21: place.key("p256", 256), 22: "x" * 100_000, 23: place.key("vm-23")}
    registrar_of(place, service).step()
    assert [place.status(f"service/vm-{number}") for number in (20, 21, 22, 23)] == ["", "", "", "registered"]
