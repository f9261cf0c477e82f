# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that serves the files of ended runs: it serves what its supervisor offers now, and nothing else."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifact_server import Offered, offer
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifacts import TOKEN_HEADER, Collection, artifact_path, collect
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.run_directory import RunDirectory
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

PROGRAM = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifact_server"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    directory = tmp_path / "runs/one"
    directory.mkdir(parents=True)
    (directory / "model.npz").write_bytes(b"weights")
    return collect(RunDirectory(str(tmp_path / "runs"), "one"))


@contextmanager
def program(directory: Path, port: int) -> Iterator[subprocess.Popen]:
    settings = directory / "artifacts.json"
    settings.write_text(json.dumps({"port": port, "runs_directory": str(directory / "runs"), "offered_file": str(directory / "offered.json")}))
    with subprocess.Popen([sys.executable, "-m", PROGRAM, "--config", str(settings)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def get(port: int, token: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", artifact_path("one", "model.npz"), headers={TOKEN_HEADER: token})
    answer = connection.getresponse()
    return answer.status, answer.read()


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_it_serves_what_is_offered_now(tmp_path: Path, collection: Collection) -> None:
    port = free_port()
    with program(tmp_path, port) as process:
        wait_until(lambda: answers(port) or process.poll() is not None, "the server")
        # Before its supervisor offers anything.
        assert get(port, collection.token)[0] == 404
        offer(str(tmp_path / "offered.json"), {"one": collection})
        assert get(port, collection.token) == (200, b"weights")
        renewed = collection.renewed(time.time())
        offer(str(tmp_path / "offered.json"), {"one": renewed})
        assert get(port, collection.token)[0] == 404
        assert get(port, renewed.token) == (200, b"weights")
        (tmp_path / "offered.json").write_text("[")
        assert get(port, renewed.token)[0] == 404
        offer(str(tmp_path / "offered.json"), {})
        assert get(port, renewed.token)[0] == 404
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read()
        assert process.wait() == 0
    assert "Traceback" not in said
    assert said.count("No files are offered") == 2, said


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, program(tmp_path, taken.getsockname()[1]) as process:
        said = process.stdout.read()
        assert process.wait() == 1
    assert len(said.splitlines()) == 1 and "cannot be served on port" in said


def test_what_is_offered_is_for_its_group_and_for_nobody_else(tmp_path: Path, collection: Collection) -> None:
    offer(str(tmp_path / "offered.json"), {"one": collection})
    assert (tmp_path / "offered.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("content", ["", "[]", "{", '{"one": {}}', '{"one": {"token": "a/b", "files": []}}', '{"a":' * 50 + "1" + "}" * 50])
def test_what_is_no_list_of_files_offers_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "offered.json").write_text(content)
    assert dict(Offered(str(tmp_path / "offered.json"))) == {}
