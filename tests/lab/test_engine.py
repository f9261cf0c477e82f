# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the lab says without a Docker engine, and how it gets one on a fresh Debian."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab import engine
from lab.driver.docker import MACHINE_FLAGS
from lab.engine import EngineError, docker
from lab.images import SUITES, build

LAB = Path(engine.__file__).parent


def test_missing_engine_is_one_sentence_that_says_what_to_do() -> None:
    environment = os.environ | {"DOCKER_HOST": "unix:///no/such/socket"}
    result = subprocess.run(
        [sys.executable, "-m", "lab.engine", "status"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("No Docker engine answers: install and start Docker, or run `python -m lab.engine ensure`")
    assert len(result.stderr.splitlines()) == 1


def test_missing_client_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"^There is no docker command: install and start Docker"):
        docker("ps")


def test_command_that_hangs_is_ended_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hanging = tmp_path / "docker"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n", encoding="ascii")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EngineError, match=r"^docker network ls did not end within 0\.2 seconds\.$"):
        docker("network", "ls", timeout=0.2)


@pytest.mark.docker
def test_refused_command_carries_the_engines_own_reason() -> None:
    with pytest.raises(EngineError, match=r"^docker volume inspect failed: .*no such volume"):
        docker("volume", "inspect", "no-such-volume")


@pytest.fixture
def start_machine() -> Iterator[Callable[[str, str], str]]:
    """A function that starts a Debian without Docker, from an image and with a first process, and returns its name."""
    build("base", SUITES["bookworm"])
    name = f"onelab-test-{uuid.uuid4().hex[:8]}"

    def start(image: str, *init: str) -> str:
        volumes = ("--volume", f"{LAB}:/repo/lab:ro", "--volume", "/var/lib/docker")
        docker("run", "--detach", "--name", name, *MACHINE_FLAGS, *volumes, image, *init)
        return name

    yield start
    docker("rm", "--force", "--volumes", name)


def ensure(machine: str) -> list[str]:
    return docker("exec", "--workdir", "/repo", machine, "python3", "-B", "-m", "lab.engine", "ensure", timeout=240).splitlines()


@pytest.mark.docker
def test_fresh_debian_without_systemd_gets_an_engine_and_keeps_it(start_machine: Callable[..., str]) -> None:
    machine = start_machine(SUITES["bookworm"].base_image, "/bin/sleep", "3600")
    said = ensure(machine)
    assert said[:2] == ["engine: apt-get update", "engine: apt-get install debootstrap docker.io iptables openssh-client"]
    assert any(line.startswith("engine: starting dockerd in the background") for line in said)
    assert docker("exec", machine, "docker", "info", "--format", "{{.Driver}}") == "overlay2"
    assert ensure(machine) == said[-1:]
    docker("exec", "--workdir", "/repo", machine, "python3", "-B", "-m", "lab.engine", "stop")
    with pytest.raises(EngineError, match="[Cc]annot connect"):
        docker("exec", machine, "docker", "ps")


@pytest.mark.docker
def test_fresh_debian_with_systemd_gets_an_engine_that_systemd_runs(start_machine: Callable[..., str]) -> None:
    machine = start_machine(SUITES["bookworm"].vm_image, "/sbin/init")
    # Degraded: as on a real machine without a context, the guest agent fails.
    states = ("running", "degraded")
    wait_until(lambda: docker("exec", machine, "sh", "-c", "systemctl is-system-running || true") in states, "systemd", 600)
    said = ensure(machine)
    assert docker("exec", machine, "systemctl", "is-active", "docker") == "active"
    assert ensure(machine) == said[-1:]
