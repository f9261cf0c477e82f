# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A federation in a zone in a box, and the ways to break it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.facts import vm_info
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import STARTED_REQUEST, STOPPED_REQUEST, Request
from ansible_collections.opennebula.flower.plugins.module_utils.trainings import Trainings
from ansible_collections.opennebula.flower.tests.app.event_schema import checked
from ansible_collections.opennebula.flower.tests.support.one_zone import run_module
from lab.driver.docker import machine_prefix

ROOT = Path(__file__).parents[2]
NAME = "recovery"
ZONE = ROOT / f"build/lab/{NAME}"
SERVICE = "flower"
POWEROFF = "8"
# Settings of every training here; the tests add to them.
TRAINING = {
    "use-case": "digits",
    "checkpoint-enabled": "YES",
    "checkpoint-interval": 2,
    "min-fit-clients": 2,
    "min-evaluate-clients": 2,
    "min-available-clients": 2,
}
# Appliances with other names, for who works on this collection beside others: NAME=VALUE for ansible-playbook -e.
EXTRA = os.environ.get("RECOVERY_EXTRA_VARS", "")

# Prints a file when its size is another one than what was known of it, or after 10 seconds.
NEXT_EVENTS = """
looks=0
until [ "$(stat --format %s "$1" || echo 0)" != "$2" ] || [ $looks = 50 ]; do
  looks=$((looks + 1))
  sleep 0.2
done
cat "$1"
"""

Event = dict[str, Any]


class LabFederation:
    """A service with one SuperLink and two SuperNodes."""

    def __init__(self) -> None:
        password = (ZONE / "one_auth").read_text().strip().split(":", 1)[1]
        endpoints = dict(line.split("=", 1) for line in (ZONE / "endpoints").read_text().splitlines())
        url, flow = endpoints["ONE_XMLRPC"], endpoints["ONEFLOW_URL"]
        self._client = Client(url, "oneadmin", password, 30, True, None, flow)
        self._options = {"api_url": url, "oneflow_url": flow, "api_username": "oneadmin", "api_password": password}
        self.trainings = Trainings(self._client, SERVICE)
        self.superlink = self.trainings.vm_id

    @property
    def supernodes(self) -> list[int]:
        """The VMs of the nodes, oldest first."""
        return service_facts.service_vms(service_facts.get_service(self._client, SERVICE), "supernode")

    # Trainings

    def start(self, name: str, **settings: Any) -> None:
        config = TRAINING | {key.replace("_", "-"): value for key, value in settings.items()}
        self.trainings.request(Request(name, {key: str(value) for key, value in config.items()}, STARTED_REQUEST))

    def stop(self, name: str) -> dict[str, Any]:
        self.trainings.request(Request(name, {}, STOPPED_REQUEST))
        return self.wait_for_run(name, lambda run: run["status"] == "stopped", "stopped", 60)

    def finish(self, name: str, seconds: float) -> dict[str, Any]:
        return self.wait_for_run(name, lambda run: run["status"] in ("completed", "failed", "stopped"), "ended", seconds)

    def wait_for_run(self, name: str, until: Callable[[dict[str, Any]], bool], goal: str, seconds: float) -> dict[str, Any]:
        return self.trainings.wait(name, until, f"has not {goal}", seconds, lambda line: print(f"{name}: {line}", flush=True))

    def events(self, name: str) -> list[Event]:
        """Return the events of a run; none while the VM is down."""
        return self._events(name, 0)[1]

    def wait_for_event(self, name: str, kind: str, seconds: float, after: float = 0, **data: Any) -> Event:
        """Wait for the first event of a kind with this data after a moment, and return it."""
        deadline, size = time.monotonic() + seconds, 0
        events: list[Event] = []
        while time.monotonic() < deadline:
            size, events = self._events(name, size)
            for event in events:
                if event["event"] == kind and when(event) > after and data.items() <= event["data"].items():
                    return event
        last = [event["message"] for event in events[-5:]]
        raise AssertionError(f"run {name} brought no {kind} with {data} within {seconds} s; last: {last}")

    def _events(self, name: str, known: int) -> tuple[int, list[Event]]:
        """Return the size of a run's file of events, and the events, once it has another size than the known one or after some seconds.

        The waiting is done in the VM: to look from outside takes a tenth of a second of processor time, which the others lack.
        """
        path = f"/opt/flower/state/runs/{name}/events.jsonl"
        text = self.inside(self.superlink, "sh", "-c", NEXT_EVENTS, "sh", path, str(known), check=False)
        if not text:
            # The VM is down, or has not begun the run.
            time.sleep(0.5)
        events = []
        for line in text.splitlines(keepends=True):
            # The last line may be half written, and one that a killed attempt began has no end.
            if line.endswith("}\n"):
                with suppress(ValueError):
                    events.append(json.loads(line))
        return len(text.encode()), checked(events)

    def fetch(self, name: str, directory: Path) -> None:
        """Bring the files of a run here as an operator does."""
        result = run_module("flower_artifacts", {**self._options, "service": SERVICE, "name": name, "dest": str(directory)})
        assert "msg" not in result, result["msg"]

    # Machines

    def inside(self, vm: int, *argv: str, check: bool = True) -> str:
        """Run a command in a VM and return what it prints."""
        return docker("exec", f"{machine_prefix(NAME)}-{vm}", *argv, check=check)

    def kill_superlink_process(self) -> None:
        pid = self.inside(self.superlink, "docker", "inspect", "--format", "{{.State.Pid}}", "flower-superlink").strip()
        self.inside(self.superlink, "kill", "-9", pid)

    def kill_superlink_container(self) -> None:
        self.inside(self.superlink, "docker", "kill", "flower-superlink")

    def kill_vm(self, vm: int) -> None:
        """Let a VM lose its power, as when its host dies, and wait until OpenNebula sees that."""
        docker("kill", f"{machine_prefix(NAME)}-{vm}")
        deadline = time.monotonic() + 300
        while vm_info(self._client, vm)["STATE"] != POWEROFF:
            assert time.monotonic() < deadline, f"VM {vm} was killed and OpenNebula has not noticed"
            time.sleep(0.5)

    def boot_vm(self, vm: int) -> None:
        self._client.call("one.vm.action", "resume", vm)

    def scale(self, nodes: int) -> None:
        """Change the number of nodes as an operator does; those that go finish what they do first."""
        options = {"name": SERVICE, "state": "scaled", "roles": {"supernode": {"cardinality": nodes}}, "drain": True, "wait_timeout": 3600}
        result = run_module("one_service", {**self._options, **options})
        assert "msg" not in result, result["msg"]

    def attributes(self, vm: int) -> dict[str, Any]:
        """Return what a VM published, also after its end."""
        return vm_info(self._client, vm)["USER_TEMPLATE"]


def when(event: Event) -> float:
    """Return when an event happened, in seconds since the epoch."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def deploy() -> LabFederation:
    """Bake the appliances unless they are there, start the zone and deploy the federation, which trains nothing yet."""
    run("ansible-playbook", "-i", "tests/recovery/inventory", "playbooks/build_appliance.yml", *_extra())
    clean()
    run("python", "-m", "lab", "up", "--name", NAME)
    run("ansible-playbook", "-i", "tests/recovery/inventory", "playbooks/site.yml", "-e", "flower_use_case=none", *_extra())
    return LabFederation()


def clean() -> None:
    """Remove the zone with everything in it."""
    run("python", "-m", "lab", "clean", "--name", NAME)


def run(*argv: str) -> str:
    """Run a command in the checkout and return its output, which is shown when it fails."""
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600, check=False)
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


def docker(*argv: str, check: bool = True) -> str:
    """Run a command of the Docker client and return its output."""
    return subprocess.run(["docker", *argv], check=check, capture_output=True, text=True, timeout=120).stdout


def _extra() -> list[str]:
    return [part for pair in EXTRA.split() for part in ("-e", pair)]
