# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A run that ends while a node receives a message of it, in real Flower, and what is done on the node's machine so that its next replies come in time."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from ansible_collections.opennebula.flower.tests.support.one_servers import running
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

from .flower import Federation, Node
from .shipped import APP, REPOSITORY

pytestmark = pytest.mark.flower

PROGRAM = REPOSITORY / "roles/flower_supernode/files/flower-catch-up"
ALONE = {"num_server_rounds": 1, "min_available_clients": 1, "min_fit_clients": 1, "min_evaluate_clients": 1}
HELD = "/v1/fleet/confirm-message-received"
# What the program asks of a machine: here the journal is the output of the node.
COMMANDS = {
    "journalctl": 'while [ "$1" != --grep ]; do shift; done; tail --lines 0 --follow {log} | grep --line-buffered -P -e "$2"',
    "systemctl": 'echo "$@" >>{asked}',
}


class Link(ThreadingHTTPServer):
    """Passes requests on to a SuperLink, those by which nodes confirm that they received a message as soon as it is open."""

    daemon_threads = True

    def __init__(self, superlink: str) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.superlink = superlink
        self.address = f"127.0.0.1:{self.server_port}"
        self.open, self.holds = threading.Event(), threading.Event()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == HELD:
            self.server.holds.set()
            self.server.open.wait()
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Connection")}
        answer = requests.post(f"http://{self.server.superlink}{self.path}", data=body, headers=headers, timeout=600)
        self.send_response(answer.status_code)
        for name in ("Content-Type", *(name for name in answer.headers if name.lower().startswith("flwr"))):
            self.send_header(name, answer.headers.get(name, ""))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def watched(node: Node, directory: Path) -> Iterator[Path]:
    """Run the program beside a node; what it asks of systemd is in the file."""
    directory.mkdir()
    asked = directory / "asked"
    for name, text in COMMANDS.items():
        (directory / name).write_text(f"#!/bin/sh\n{text.format(log=node.log, asked=asked)}\n")
        (directory / name).chmod(0o755)
    program = subprocess.Popen([PROGRAM], env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield asked
    finally:
        os.killpg(program.pid, 15)
        program.wait()


@pytest.mark.long
def test_the_next_run_has_the_reply_of_a_node_that_received_a_message_when_its_run_ended(flower_bin: Path, tmp_path: Path) -> None:
    with Federation(flower_bin, APP, tmp_path) as federation, running(Link(federation.address)) as link:
        node = federation.add_node(through=link.address)
        with watched(node, tmp_path / "machine") as asked:
            federation.submit(**ALONE, output_directory=str(tmp_path / "stopped"))
            wait_until(link.holds.is_set, "the node to receive a message")
            federation.stop_runs()
            link.open.set()
            wait_until(asked.exists, "the node to be restarted")
        assert asked.read_text() == "--no-block try-restart flower-supernode.service\n"
        node.restart()
        run = federation.run(**ALONE)
    assert run.status == "finished:completed", run.details
    assert run.data("client_failure") == run.data("round_failed") == []
    (end,) = run.data("round_end")
    assert end["num_clients_responded"] == 1
