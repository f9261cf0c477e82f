# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A real federation on the loopback interface: a SuperLink, SuperNodes and runs of the app."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

RUN_DEADLINE = 300  # seconds
STOP_DEADLINE = 30  # seconds


@dataclass(frozen=True)
class Run:
    """A finished run."""

    status: str
    details: str
    events: list[dict]
    output: Path

    def data(self, event: str) -> list[dict]:
        """Return the data of every event of that name."""
        return [entry["data"] for entry in self.events if entry["event"] == event]


class Federation:
    """Starts a SuperLink; stops everything it started at the end."""

    def __init__(self, flower_bin: Path, app: Path, directory: Path) -> None:
        self._bin = flower_bin
        self._app = app
        self._directory = directory
        self._port = _free_port()
        self._processes = ExitStack()
        self._runs = 0
        self._without_sklearn = directory / "without_sklearn"

    def __enter__(self) -> Federation:
        self._write("home/config.toml", f'[superlink.local]\naddress = "127.0.0.1:{self._port}"\ninsecure = true\n')
        self._write("without_sklearn/sklearn/__init__.py", 'raise ImportError("no machine learning library here")\n')
        self._start(
            "superlink",
            ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--port", str(self._port)],
            PYTHONPATH=str(self._without_sklearn),
        )
        session = requests.Session()
        session.mount("http://", HTTPAdapter(max_retries=Retry(connect=10, backoff_factor=0.1)))
        session.get(f"http://127.0.0.1:{self._port}/health", timeout=10).raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def add_node(self, broken: bool = False) -> None:
        """Start a SuperNode; a broken one lacks scikit-learn, so that its ClientApp fails."""
        port = _free_port()
        address = f"127.0.0.1:{self._port}"
        self._start(
            f"supernode-{port}",
            ["flower-supernode", "--insecure", "--superlink", address, "--port", str(port)],
            PYTHONPATH=str(self._without_sklearn) if broken else "",
        )

    def run(self, **config: object) -> Run:
        """Run the app to its end with this run configuration, underscores for hyphens."""
        self._runs += 1
        output = self._directory / f"run-{self._runs}"
        values = {"output_directory": str(output), **config}
        lines = "".join(f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in values.items())
        settings = self._write(f"run-{self._runs}.toml", lines)
        started = self._flwr("run", str(self._app), "local", "--stream", "--format", "json", "-c", str(settings))
        listed = self._flwr("list", "local", "--run-id", started["run-id"], "--format", "json")["runs"][0]
        lines = (output / "events.jsonl").read_text().splitlines()
        return Run(listed["status"], listed["status-details"], [json.loads(line) for line in lines], output)

    def _flwr(self, *arguments: str) -> dict:
        result = subprocess.run(
            [self._bin / "flwr", *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=RUN_DEADLINE,
            check=True,
        )
        answer = json.JSONDecoder().raw_decode(result.stdout[result.stdout.index("{") :])[0]
        assert answer["success"], answer
        return answer

    def _start(self, name: str, command: list[str], **environment: str) -> None:
        log = self._processes.enter_context((self._directory / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [self._bin / command[0], *command[1:]],
            env={**self._environment(), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._processes.callback(_stop, process)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "FLWR_HOME": str(self._directory / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
            "PYTHONPATH": "",
        }

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
