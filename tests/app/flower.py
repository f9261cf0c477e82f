# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A real federation on the loopback interface: a SuperLink, SuperNodes and runs of the app."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION, superexec_command, superlink_command, supernode_command
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from lab.driver.qemu import cpu_seconds

from .event_schema import checked

T = TypeVar("T")

RUN_DEADLINE = 900  # seconds
STOP_DEADLINE = 300  # seconds


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


@dataclass
class Node:
    """A SuperNode, and where everything that it starts has its home."""

    home: Path
    start: Callable[[], subprocess.Popen]

    def __post_init__(self) -> None:
        self.process = self.start()

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.home.with_suffix(".log")

    @property
    def receives(self) -> bool:
        """Whether it has begun to receive a message and not ended."""
        begun, _, said = self._log().rpartition("Receiving: ")
        return bool(begun) and not re.search("Received successfully|Ignoring message|Failed to (receive message|create task)", said)

    @property
    def is_behind(self) -> bool:
        """Whether it would send each of its replies one message too late, see roles/flower_supernode/files/flower-catch-up."""
        said = self._log().rpartition("Receiving: ")[2]
        return "Ignoring message" in said and "SuperNode ID:" not in said

    def stop(self) -> None:
        """Have it stop as the unit of a VM is stopped, and wait until it has."""
        _stop(self.process)
        _signal_all(self.home, signal.SIGKILL)

    def restart(self) -> None:
        """Have it stop, and start it again."""
        self.stop()
        self.process = self.start()

    def freeze(self) -> None:
        """Let it do nothing any more, with its connections open: as far as others see, the network to its machine is gone."""
        _signal_all(self.home, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        _signal_all(self.home, signal.SIGCONT)

    def kill(self) -> None:
        """End it with everything that it started at once."""
        _signal_all(self.home, signal.SIGKILL)
        self.process.wait()

    def _log(self) -> str:
        return self.log.read_text(errors="replace")


class Federation:
    """Starts a SuperLink on an address of this machine, with its state in a file; stops everything it started at the end."""

    def __init__(self, flower_bin: Path, app: Path, directory: Path, host: str = "127.0.0.1") -> None:
        self._bin = flower_bin
        self._app = app
        self._directory = directory
        self.address = f"{host}:{free_port(host)}"
        self._processes = ExitStack()
        self._runs = 0
        self._nodes: list[Node] = []
        self._without_sklearn = directory / "without_sklearn"

    def __enter__(self) -> Federation:
        self._write("home/config.toml", f'[superlink.local]\naddress = "{self.address}"\ninsecure = true\n')
        self._write("without_sklearn/sklearn/__init__.py", 'raise ImportError("no machine learning library here")\n')
        self.start_superlink()
        return self

    def __exit__(self, *_: object) -> None:
        # What is frozen does not end.
        _signal_all(self._directory, signal.SIGCONT)
        self._processes.close()
        # A ClientApp whose SuperNode is gone asks for it for ever.
        _signal_all(self._directory, signal.SIGKILL)

    def add_node(self, broken: bool = False, data: Path | None = None, zone: str = "", inside: Sequence[str] = (), through: str = "") -> Node:
        """Start a SuperNode, with data of its own and in a zone if these are given; a broken one lacks scikit-learn, so that its ClientApp fails.

        ``inside``: a command that runs it elsewhere, with the whole path of its program. ``through``: the address at which it finds the SuperLink, if it is
        another one than here.
        """
        port = free_port()
        config = [*([f'data-directory="{data}"'] if data else []), *([f'zone="{zone}"'] if zone else [])]
        own = ["--node-config", " ".join(config)] if config else []
        home = self._directory / f"supernode-{port}"  # as on a VM of its own: apps are installed there
        command = [str(self._bin / "flower-supernode"), "--insecure", "--superlink", through or self.address, "--port", str(port), *own]
        environment = {"FLWR_HOME": str(home), "PYTHONPATH": str(self._without_sklearn) if broken else ""}
        node = Node(home, lambda: self._start(home.name, [*inside, *command], **environment))
        self._nodes.append(node)
        return node

    def crash(self) -> None:
        """Kill the SuperLink and everything it started at once, as if its machine had lost power, and start it again."""
        self.kill_superlink()
        self.start_superlink()

    def kill_superlink(self) -> None:
        """Kill the SuperLink and everything it started at once."""
        for pid in (pid for pids in self.programs().values() for pid in pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._superlink.wait()

    def crash_app(self) -> None:
        """Kill the ServerApp alone."""
        (pid,) = self._helpers("flwr-serverapp")
        os.kill(pid, signal.SIGKILL)

    def superlink_seconds(self) -> float:
        """Return the processor time that the SuperLink has taken, its SuperExec and the apps left out."""
        return cpu_seconds(self._superlink.pid)

    def programs(self) -> dict[str, list[int]]:
        """Return the processes of a SuperLink's machine by program."""
        helpers = {program: self._helpers(program) for program in ("flower-superexec", "flwr-serverapp")}
        return {"flower-superlink": [self._superlink.pid], **helpers}

    def submit(self, **config: object) -> None:
        """Start a run with this run configuration, underscores for hyphens, and do not wait."""
        self._flwr("run", str(self._app), "local", "--format", "json", "-c", str(self._settings(config)))

    def stop_runs(self) -> None:
        """Stop all runs that have not ended."""
        for run in self._flwr("list", "local", "--format", "json")["runs"]:
            if not run["status"].startswith("finished:"):
                self._flwr("stop", run["run-id"], "local", "--format", "json")

    def run(self, while_it_runs: Callable[[], object] = lambda: None, **config: object) -> Run:
        """Run the app to its end with this run configuration, underscores for hyphens; call the function again and again meanwhile."""
        self._runs += 1
        for node in self._nodes:
            self._wait(lambda node=node: not node.receives, f"{node.home.name} to receive what it was sent")
            if node.is_behind:
                node.restart()
        values = {"output_directory": str(self._directory / f"run-{self._runs}"), **config}
        events = Path(values["output_directory"]) / "events.jsonl"
        ends = len(_ends(events))
        settings = self._settings(values)
        run_id = self._flwr("run", str(self._app), "local", "--format", "json", "-c", str(settings))["run-id"]
        self._wait(lambda: while_it_runs() or len(_ends(events)) > ends, f"run {run_id} to end")
        # Asking Flower takes it as long as a round, so it is asked when it has something to say.
        self._wait(lambda: while_it_runs() or not self._helpers("flwr-serverapp"), f"the ServerApp of run {run_id} to end")
        finished = self._wait(lambda: self._finished(run_id), f"Flower to list run {run_id} as finished")
        return Run(finished["status"], finished["status-details"], checked(_read(events)), events.parent)

    def _finished(self, run_id: str) -> dict:
        """Return the run as Flower lists it, or nothing before it finished."""
        listed = self._flwr("list", "local", "--run-id", run_id, "--format", "json")["runs"][0]
        return listed if listed["status"].startswith("finished:") else {}

    def _wait(self, condition: Callable[[], T], what: str) -> T:
        """Return what the condition returns as soon as it is true; after the deadline the logs of SuperLink and SuperNodes are shown."""
        deadline = time.monotonic() + RUN_DEADLINE
        while not (result := condition()):
            if time.monotonic() > deadline:
                logs = [f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-40:]) for log in sorted(self._directory.glob("*.log"))]
                raise TimeoutError("\n\n".join([f"waited {RUN_DEADLINE} s for {what}", *logs]))
            time.sleep(0.2)
        return result

    def _helpers(self, program: str) -> list[int]:
        """Return the processes of that program that the SuperLink started."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                command = (process / "cmdline").read_bytes()
                if program.encode() in command and f"--runtime-api-address\x00{self.address}\x00".encode() in command:
                    found.append(int(process.name))
        return found

    def start_superlink(self) -> None:
        """Start the SuperLink with the state it had, and wait until it answers."""
        host, port = self.address.split(":")
        place = ["--host", host, "--port", port, "--database", str(self._directory / "state.db")]
        self._superlink = self._start(
            "superlink",
            ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation", *place],
            PYTHONPATH=str(self._without_sklearn),
        )
        self._wait(self._answers, "the SuperLink to answer")

    def _answers(self) -> bool:
        assert self._superlink.poll() is None, (self._directory / "superlink.log").read_text()
        try:
            return requests.get(f"http://{self.address}/health", timeout=10).ok
        except requests.RequestException:
            return False

    def _settings(self, values: dict[str, object]) -> Path:
        lines = "".join(f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in values.items())
        return self._write("run.toml", lines)

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

    def _start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen:
        log = self._processes.enter_context((self._directory / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [self._bin / command[0], *command[1:]],
            env={**self._environment(), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._processes.callback(_stop, process)
        return process

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


class IsolatedFederation(Federation):
    """Apps run in a SuperExec beside each program, which knows a secret of that program; started as the roles start them."""

    def add_node(self) -> None:
        """Start a SuperNode and its SuperExec."""
        port, name = free_port(), f"supernode-{len(list(self._directory.glob('supernode-*.log')))}"
        home, secret = str(self._directory / name), self._secret(name)
        command = supernode_command(DEFAULT_VERSION, self.address, isolation="process", superexec_secret=secret, port=port)
        self._start(name, command, FLWR_HOME=home)
        self._start(f"{name}-superexec", superexec_command(DEFAULT_VERSION, "supernode", port=port, secret=secret), FLWR_HOME=home)

    def start_superlink(self) -> None:
        """Start the SuperLink and its SuperExec."""
        port, secret = int(self.address.rpartition(":")[2]), self._secret("superlink")
        place = {"port": port, "database": str(self._directory / "state.db")}
        self._superlink = self._start("superlink", superlink_command(DEFAULT_VERSION, isolation="process", superexec_secret=secret, **place))
        self._wait(self._answers, "the SuperLink to answer")
        self._start("superlink-superexec", superexec_command(DEFAULT_VERSION, "superlink", port=port, secret=secret), PYTHONPATH=str(self._without_sklearn))

    def _secret(self, name: str) -> str:
        return str(self._write(f"{name}.secret", f"a secret of {name} that is long enough"))


def _read(events: Path) -> list[dict]:
    """Return the events of a run's file, none before the app made it; a line that is just being written is left out."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in events.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return []


def _ends(events: Path) -> list[dict]:
    return [entry for entry in _read(events) if entry["event"] in ("training_end", "training_failed")]


def wait_for_event(output: Path, event: str, within: float = RUN_DEADLINE, **data: object) -> None:
    """Wait until a run wrote an event with this data."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if any(entry["event"] == event and data.items() <= entry["data"].items() for entry in _read(output / "events.jsonl")):
            return
        time.sleep(0.1)
    raise TimeoutError(f"no event {event} with {data} in {output} within {within:g} s")


def _signal_all(directory: Path, number: signal.Signals) -> None:
    """Send a signal to all processes whose home is in a directory."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            home = next((entry for entry in (process / "environ").read_bytes().split(b"\0") if entry.startswith(b"FLWR_HOME=")), b"")
            if Path(home.decode().partition("=")[2]).is_relative_to(directory):
                os.kill(int(process.name), number)


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
