# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A SuperLink and a OneGate that exist only for a test."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ansible_collections.opennebula.flower.tests.support.fake_flwr import write_state

FAKE_FLWR = Path(__file__).with_name("fake_flwr.py")
TOKEN = "token-of-vm-7"


class SuperLink:
    """The SuperLink as the fake client sees it, plus its health port."""

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file
        self.healthy = True
        self._write({"runs": {}, "calls": [], "refuse": {}, "lose_answer": []})

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(FAKE_FLWR), str(self._state_file)]

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        return self._read()["runs"]

    @property
    def run_ids(self) -> list[str]:
        return list(self.runs)

    def calls(self, command: str) -> int:
        return sum(1 for call in self._read()["calls"] if call[0] == command)

    def set_status(self, run_id: str, status: str, details: str = "") -> None:
        state = self._read()
        state["runs"][run_id] |= {"status": status, "details": details}
        self._write(state)

    def forget_runs(self) -> None:
        self._write(self._read() | {"runs": {}})

    def refuse(self, **messages: str) -> None:
        """Answer these commands, and no others, with an error."""
        self._write(self._read() | {"refuse": messages})

    def lose_answers(self, *commands: str) -> None:
        """Do what these commands ask, and no others, but lose the answer."""
        self._write(self._read() | {"lose_answer": commands})

    def _read(self) -> dict[str, Any]:
        return json.loads(self._state_file.read_text())

    def _write(self, state: dict[str, Any]) -> None:
        write_state(self._state_file, state)


class OneGateServer:
    """One VM behind OneGate: PUT adds attributes, GET shows them."""

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}
        self.puts: list[list[str]] = []
        self.broken = False
        self.document: bytes | None = None  # answered instead of the VM


@contextmanager
def serve(superlink: SuperLink, onegate: OneGateServer) -> Iterator[str]:
    """Serve both on one port and yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self._answer(200 if superlink.healthy else 503, b"")
            elif onegate.broken or not self._authorized():
                self._answer(500, b"Internal server error")
            elif onegate.document is not None:
                self._answer(200, onegate.document)
            else:
                vm = {"VM": {"ID": "7", "USER_TEMPLATE": onegate.attributes}}
                self._answer(200, json.dumps(vm).encode())

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if onegate.broken or not self._authorized() or "," in body:
                self._answer(500, b"Internal server error")
                return
            pairs = dict(line.split("=", 1) for line in body.splitlines())
            onegate.puts.append(sorted(pairs))
            onegate.attributes |= pairs
            self._answer(200, b"")

        def _authorized(self) -> bool:
            return self.headers["X-ONEGATE-TOKEN"] == TOKEN and self.headers["X-ONEGATE-VMID"] == "7"

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
