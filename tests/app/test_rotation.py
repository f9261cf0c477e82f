# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A training while all is replaced that its SuperLink and its nodes know each other by: real Flower, HAProxy, registrar and keeper of certificates.

With whole machines and the playbook: tests/recovery/test_rotation.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION, supernode_command
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.certificates import Config, Keeper
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.nodes import UNREGISTERED, Nodes
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.registrar import Config as RegistrarConfig
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.registrar import Registrar
from ansible_collections.opennebula.flower.tests.support.ports import free_port

from .shipped import APP, REPOSITORY
from .test_node_auth import CONNECTED, Place, Service, eventually

pytestmark = [pytest.mark.flower, pytest.mark.skipif(not shutil.which("haproxy"), reason="no HAProxy here")]

NODES = (11, 12)
COUNTS = dict.fromkeys(("min-available-clients", "min-fit-clients", "min-evaluate-clients"), len(NODES))
GATEWAY = """
global
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend fleet
    bind {address} ssl crt {directory}/certs/server.pem alpn http/1.1
    default_backend superlink
backend superlink
    server flower {superlink} ssl verify required ca-file {ca}
"""
# What flower-rest asks of a machine, of a process instead.
COMMANDS = {
    "systemctl": "[ $1 != show ] || echo run",
    "journalctl": """
while [ "$1" != --grep ]; do [ "$1" != --lines ] || lines=$2; shift; done
for number in $(cut -f 2- {home}/journal | grep -nP -e "$2" | tail -n "$lines" | cut -d : -f 1 | tac); do
  sed -n "${number}s/\\t/.5 host flower[1]: /p" {home}/journal
done
""",
}


class Renewing(Service):
    """A service whose VMs may publish a next key, too."""

    def __init__(self) -> None:
        super().__init__()
        self.following: dict[int, str] = {}

    def get_service(self) -> dict:
        service = super().get_service()
        for node in service["roles"][0]["nodes"]:
            if node["deploy_id"] in self.following:
                node["vm_info"]["VM"]["USER_TEMPLATE"]["FL_NODE_KEY_NEXT"] = self.following[node["deploy_id"]]
        return service


class Machine:
    """A SuperNode with what its machine has: a journal, the CAs it trusts, the key it uses."""

    def __init__(self, place: Federation, number: int) -> None:
        self._place = place
        self.home = place.directory / f"vm-{number}"
        (self.home / "commands").mkdir(parents=True)
        (self.home / "flower-supernode.service").touch()
        for name, text in COMMANDS.items():
            (self.home / "commands" / name).write_text(f"#!/bin/sh\n{text.replace('{home}', str(self.home))}\n")
            (self.home / "commands" / name).chmod(0o755)
        self.key = f"key-{number}"

    def start(self) -> None:
        """Start with the CAs of now, and wait until the SuperLink accepted the node."""
        (self.home / "flower-rest").unlink(missing_ok=True)
        (self.home / "journal").write_text("")
        shutil.copy(self._place.directory / "certs/ca.crt", self.home / "ca.crt")
        self.process = self._place.run_node(self.home, str(self._place.directory / self.key))
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        eventually(lambda: CONNECTED in self.journal or self.process.poll() is not None, f"{self.home.name} to connect")
        assert self.process.poll() is None, self.journal

    def restart(self) -> None:
        """Restart as the role does."""
        program = REPOSITORY / "roles/flower_supernode/files/flower-rest"
        # However long a round takes on a busy machine: the training goes on.
        script = program.read_text().replace("idle=120\n", "idle=86400\n")
        script = script.replace("/etc/systemd/system/", f"{self.home}/").replace("/run/", f"{self.home}/")
        environment = os.environ | {"PATH": f"{self.home}/commands:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", script, "flower-rest", "900"], env=environment, check=True)
        self.process.terminate()
        self.process.wait()
        self.start()

    @property
    def journal(self) -> str:
        return (self.home / "journal").read_text()

    def _listen(self, process: subprocess.Popen) -> None:
        with (self.home / "journal").open("a") as journal:
            for line in process.stdout:
                journal.write(f"{int(time.time())}\t{line}")
                journal.flush()


class Federation(Place):
    """A SuperLink behind a gateway, its registrar, and two nodes."""

    def __init__(self, flower_bin: Path, directory: Path) -> None:
        super().__init__(flower_bin, directory)
        self.gateway = f"127.0.0.1:{free_port()}"
        self.service = Renewing()
        self.events = directory / "run/events.jsonl"
        self._over = threading.Event()
        for name in ("ca", "certs"):
            (directory / name).mkdir()
        self.state = {"signs": 1, "trusted": [1], "renewal": 0}
        self._keep()

    def begin(self) -> None:
        self.start_superlink()
        files = {"address": self.gateway, "directory": self.directory, "superlink": self.address, "ca": self.ca}
        (self.directory / "haproxy.cfg").write_text(GATEWAY.format(**files))
        self._haproxy = subprocess.Popen(["haproxy", "-W", "-f", self.directory / "haproxy.cfg"], stderr=subprocess.DEVNULL)
        self.machines = {number: Machine(self, number) for number in NODES}
        self.service.published = {number: self.key(machine.key) for number, machine in self.machines.items()}
        self._registrar = threading.Thread(target=self._register)
        self._registrar.start()
        eventually(lambda: len(self.registered()) == len(NODES), "the keys to be registered")
        for machine in self.machines.values():
            machine.start()
        self._submit()

    def keep(self, **state: object) -> None:
        """Make the certificates that are asked for and have the gateway use them, without an end to its connections."""
        before = self.shown()
        self.state |= state
        made = (self.directory / "certs/server.pem").read_bytes()
        self._keep()
        if (self.directory / "certs/server.pem").read_bytes() != made:
            self._haproxy.send_signal(signal.SIGUSR2)
            eventually(lambda: self.shown() != before, "the gateway to show another certificate")

    def shown(self) -> str:
        host, port = self.gateway.split(":")
        return ssl.get_server_certificate((host, int(port)))

    def registered(self) -> list[str]:
        return [node.name for node in self.nodes.listed() if node.status != UNREGISTERED]

    def run_node(self, home: Path, key: str) -> subprocess.Popen:
        command = supernode_command(DEFAULT_VERSION, self.gateway, root_certificates=str(home / "ca.crt"), private_key=key, port=free_port())
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen([self._bin / command[0], *command[1:]], env=self._environment(home), cwd=home, **pipes)
        self._processes.append(process)
        return process

    def rounds(self, event: str = "round_end") -> list[dict]:
        lines = self.events.read_text().splitlines(keepends=True) if self.events.exists() else []
        told = [json.loads(line) for line in lines if line.endswith("}\n")]
        return [entry["data"] for entry in told if entry["event"] == event]

    @property
    def goes_on(self) -> bool:
        """Whether the SuperLink is the process of before."""
        return self._superlink.poll() is None

    def went_on(self) -> None:
        """Wait for the end of one more round."""
        last = len(self.rounds())
        eventually(lambda: len(self.rounds()) > last, "one more round")

    def stop(self) -> None:
        self._over.set()
        self._registrar.join()
        self._haproxy.terminate()
        self._haproxy.wait()
        super().stop()
        # A ClientApp whose SuperNode is gone asks for it for ever.
        mine = f"FLWR_HOME={self.directory}/".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mine in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)

    def _keep(self) -> None:
        paths = {"directory": str(self.directory / "certs"), "authorities": str(self.directory / "ca")}
        Keeper(Config(**paths, host_name="superlink", names=["IP:127.0.0.1"], days=90, ca_days=900, **self.state)).ensure()

    def _register(self) -> None:
        config = RegistrarConfig(f"https://{self.address}", str(self.ca), gone_seconds=2)
        registrar = Registrar(config, Nodes(config.url, config.ca_file), self.service)
        while not self._over.wait(0.5):
            registrar.step()

    def _submit(self) -> None:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(f'[superlink.local]\naddress = "{self.address}"\nroot-certificates = "{self.ca}"\n')
        settings = {**COUNTS, "num-server-rounds": 1000, "local-epochs": 1, "output-directory": str(self.events.parent)}
        (self.directory / "run.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        app = self.directory / "app"
        shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
        # All nodes share the /run of this machine.
        client = app / "federation/client_app.py"
        client.write_text(client.read_text().replace('Path("/run/flower-rest")', 'Path(__import__("os").environ["FLWR_HOME"], "flower-rest")'))
        command = [self._bin / "flwr", "run", app, "local", "-c", self.directory / "run.toml"]
        subprocess.run(command, env=self._environment(home), check=True, capture_output=True)

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            **os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}", "FLWR_HOME": str(home), "PYTHONPATH": "",
            "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        }  # fmt: skip


@pytest.fixture
def federation(flower_bin: Path, tmp_path: Path) -> Iterator[Federation]:
    place = Federation(flower_bin, tmp_path)
    try:
        place.begin()
        yield place
    finally:
        place.stop()


@pytest.mark.long
def test_certificate_ca_and_a_key_are_replaced_in_a_training_and_no_reply_fails(federation: Federation) -> None:
    eventually(federation.rounds, "the first round")
    federation.keep(renewal=1)
    federation.went_on()

    # Both are trusted, the new one signs, the old one is dropped.
    for state, restart in (({"trusted": [1, 2]}, True), ({"signs": 2}, False), ({"trusted": [2]}, True)):
        federation.keep(**state)
        for machine in federation.machines.values() if restart else ():
            machine.restart()
        federation.went_on()

    machine = federation.machines[NODES[0]]
    following = federation.key("next")
    federation.service.following[NODES[0]] = following
    eventually(lambda: federation.service.attributes.get("FL_NODE_KEYS_REGISTERED", "none") != "none", "the next key to be registered")
    assert len(federation.registered()) == len(NODES) + 1
    machine.key = "next"
    machine.restart()
    federation.service.published[NODES[0]] = following
    del federation.service.following[NODES[0]]
    eventually(lambda: len(federation.registered()) == len(NODES), "the old key to be taken out")
    federation.went_on()

    assert federation.rounds("client_failure") == federation.rounds("round_failed") == federation.rounds("reply_late") == []
    ends = federation.rounds()
    assert [(data["round"], data["num_clients_responded"]) for data in ends] == [(number, len(NODES)) for number in range(1, len(ends) + 1)]
    assert federation.goes_on, "one SuperLink saw it all"
