# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What it costs nodes that they authenticate themselves: a real SuperLink, the registrar as it runs on its VM, real SuperNodes, and a stand-in of OneGate.

Measured is the time from the start of a SuperNode until the SuperLink accepted it, with a key that its VM publishes right before the start, as the role does,
and without any; and the time until many keys that are published at once are registered.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.opennebula.flower.tests.support.one_servers import running
from lab.driver.qemu import cpu_seconds
from tests.app.conftest import make_flower_venv
from tests.app.test_node_auth import CONNECTED, Place, Service, eventually

REGISTRAR = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.registrar"
TRIES = 5
MANY = 40
# A unit starts a node that was refused again after so long.
RESTART_SECONDS = 5
MOST_PER_NODE, MOST_FOR_MANY = 3, 60


class OneGate(ThreadingHTTPServer):
    """Tells of a service, and takes what its SuperLink publishes."""

    def __init__(self, service: Service) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(BaseHTTPRequestHandler):
    server: OneGate

    def do_GET(self) -> None:
        self._answer(json.dumps({"SERVICE": self.server.service.get_service()}).encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def federation(flower_bin: Path, directory: Path, node_auth: bool) -> Iterator[tuple[Place, Service]]:
    """A SuperLink and, if nodes are to authenticate themselves, its registrar."""
    directory.mkdir()
    place, service = Place(flower_bin, directory), Service()
    (directory / "token").write_text("token")
    with running(OneGate(service)) as onegate:
        settings = {
            "url": f"https://{place.address}", "ca_file": str(place.ca),
            "onegate": {"endpoint": f"http://127.0.0.1:{onegate.server_port}", "vm_id": "2", "token_file": str(directory / "token")},
        }  # fmt: skip
        (directory / "registrar.json").write_text(json.dumps(settings))
        command = [sys.executable, "-m", REGISTRAR, "--config", str(directory / "registrar.json")]
        registrar = None
        try:
            place.start_superlink(node_auth)
            if node_auth:
                registrar = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            yield place, service
        finally:
            if registrar:
                registrar.terminate()
                registrar.wait()
            place.stop()


def join(place: Place, service: Service, number: int, node_auth: bool) -> tuple[float, float]:
    """Start a node and return the seconds until it is connected, and the processor time it took until then; it stays."""
    begin = time.monotonic()
    name = f"vm-{number}"
    if node_auth:
        service.published[number] = place.key(name)
    while True:
        node = place.start_node(name if node_auth else "", name)
        eventually(lambda node=node: CONNECTED in place.log(name) or node.poll() is not None, f"node {number} to join or to end")
        if CONNECTED in place.log(name):
            return time.monotonic() - begin, cpu_seconds(node.pid)
        time.sleep(RESTART_SECONDS)


def register_many(place: Place, service: Service) -> float:
    """Have many VMs publish keys at once and return the seconds until all are registered."""
    keys = {number: place.key(f"many-{number}") for number in range(1000, 1000 + MANY)}
    begin = time.monotonic()
    service.published |= keys
    eventually(lambda: {f"service/vm-{number}" for number in keys} <= {node.name for node in place.nodes.listed()}, "all keys to be registered")
    return time.monotonic() - begin


def main() -> int:
    """Print what joining costs; fail when it is more than a federation is promised."""
    flower_bin = make_flower_venv()
    taken: dict[bool, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for node_auth in (False, True):
            with federation(flower_bin, Path(directory, f"auth-{node_auth}"), node_auth) as (place, service):
                taken[node_auth] = [join(place, service, number, node_auth) for number in range(1, TRIES + 1)]
                many = register_many(place, service) if node_auth else 0.0
    (without, without_cpu), (with_keys, with_cpu) = ([statistics.median(kind) for kind in zip(*taken[auth], strict=True)] for auth in (False, True))
    more = with_keys - without
    print(f"a node joins in {without:.1f} s without a key and in {with_keys:.1f} s with one (medians of {TRIES}): {more:+.1f} s, at most {MOST_PER_NODE}")
    print(f"of that {without_cpu:.1f} s and {with_cpu:.1f} s are its processor time")
    print(f"{MANY} keys that are published at once are registered within {many:.1f} s, at most {MOST_FOR_MANY}")
    return int(more > MOST_PER_NODE or many > MOST_FOR_MANY)


if __name__ == "__main__":
    sys.exit(main())
