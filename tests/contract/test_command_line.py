# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's command line: zones in the background, several side by side."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
Lab = Callable[..., subprocess.CompletedProcess]


def free_ports(number: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < number:
        ports.add(free_port())
    return list(ports)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Runs `python -m lab COMMAND` for a zone of dummy machines; zones are removed afterwards."""
    names = set()

    def run(command: str, name: str = "one", *options: str, **environment: str) -> subprocess.CompletedProcess:
        names.add(name)
        return subprocess.run(
            [sys.executable, "-m", "lab", command, "--name", name, "--driver", "dummy",
             "--state-dir", str(tmp_path / name), *options],
            cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=900, check=False,
        )

    yield run
    for name in names:
        run("clean", name)


def ports(numbers: list[int]) -> list[str]:
    options = ("--port", "--oneflow-port", "--onegate-port")
    return [part for option, number in zip(options, numbers, strict=True) for part in (option, str(number))]


def test_zone_runs_in_the_background_and_is_started_once(lab: Lab, tmp_path: Path) -> None:
    chosen = ports(free_ports(3))
    first, second = lab("up", "one", *chosen), lab("up", "one", *chosen)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    endpoints = dict(line.split("=", 1) for line in first.stdout.splitlines())
    assert set(endpoints) == {"ONE_XMLRPC", "ONEFLOW_URL", "ONEGATE_ENDPOINT", "ONE_AUTH", "LAB_SUBNET"}
    auth = Path(endpoints["ONE_AUTH"])
    assert stat.S_IMODE(auth.stat().st_mode) == 0o600
    answer = xmlrpc.client.ServerProxy(endpoints["ONE_XMLRPC"]).one.system.version(auth.read_text().strip())
    assert answer == [True, "7.4.0", 0]
    assert lab("status").returncode == 0
    assert lab("down").returncode == 0
    assert lab("status").stdout == "Zone one does not run.\n"
    assert lab("clean").returncode == 0
    assert not (tmp_path / "one").exists()


def test_taken_port_is_one_sentence(lab: Lab) -> None:
    numbers = free_ports(5)
    assert lab("up", "one", *ports(numbers[:3])).returncode == 0
    refused = lab("up", "two", *ports([numbers[0], *numbers[3:]]))
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"Zone two did not start: Port {numbers[0]} on 127.0.0.1 cannot be opened: Address already in use."
    )
    assert len(refused.stderr.splitlines()) == 1


def test_password_is_kept_and_not_an_argument_of_the_zone(lab: Lab, tmp_path: Path) -> None:
    lab("up", "one", *ports(free_ports(3)), LAB_PASSWORD="a secret of mine")
    assert (tmp_path / "one" / "one_auth").read_text() == "oneadmin:a secret of mine\n"
    pid = re.search(r"process (\d+)", lab("status").stdout).group(1)
    assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_without_docker_it_says_what_to_do(lab: Lab, tmp_path: Path) -> None:
    refused = lab("up", "three", "--driver", "docker", PATH=str(tmp_path))
    assert refused.returncode == 1
    assert "install and start Docker" in refused.stderr
    assert "Traceback" not in refused.stderr
