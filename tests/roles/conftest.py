# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A machine with systemd in which the tasks of flower_superlink for checkpoints run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from checkpoint_machine import MACHINE, PLAYBOOK, STAND_IN, Outcome, machine

from lab.images import SUITES, build

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 600  # seconds
PYTHON = "/opt/bytecode/python3"
SANDBOX = REPOSITORY / "roles/_flower_runtime/files/sandbox.conf"
BYTECODE = (
    f"--volume={REPOSITORY}/tests/support/bytecode:/opt/bytecode:ro",
    f"--volume={REPOSITORY}/roles/flower_appliance/files/bytecode:/opt/bytecode-keeper:ro",
)


@pytest.fixture(scope="module")
def booted() -> Iterator[None]:
    build("base", SUITES["bookworm"])
    flags = yaml.safe_load((REPOSITORY / "playbooks/vars/systemd_container.yml").read_text())["systemd_container_flags"]
    subprocess.run(["docker", "run", "--detach", "--name", MACHINE, *flags, *BYTECODE, SUITES["bookworm"].vm_image, "/sbin/init"], check=True)
    try:
        deadline = time.monotonic() + DEADLINE
        while machine("systemctl", "is-system-running", check=False).stdout.strip() not in ("running", "degraded"):
            assert time.monotonic() < deadline, "systemd is not up"
            time.sleep(0.2)
        for unit in ("superlink", "supervisor", "artifacts"):
            machine("mkdir", "-p", f"/etc/systemd/system/flower-{unit}.service.d")
            machine("tee", f"/etc/systemd/system/flower-{unit}.service.d/stand-in.conf", standard_input=STAND_IN)
        # What the install step leaves, of which these tests run nothing else.
        machine("mkdir", "-p", "/etc/systemd/system/flower-.service.d")
        machine("tee", "/etc/systemd/system/flower-.service.d/sandbox.conf", standard_input=SANDBOX.read_text())
        yield
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", MACHINE], check=True, capture_output=True)


def player(playbook: Path, everywhere: bool = True) -> Callable[..., Outcome]:
    """Return what runs a playbook against the machine, with options of ansible-playbook and with variables.

    A playbook that does something on this machine, too, is not run with the machine's Python everywhere, and says itself where it takes that.
    """
    python = {"ansible_python_interpreter": PYTHON} if everywhere else {}
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": f"{REPOSITORY}:{REPOSITORY / 'build/collections'}",
        "ANSIBLE_NOCOLOR": "1",
    }

    def run(*arguments: str, **variables: object) -> Outcome:
        program = [Path(sys.executable).parent / "ansible-playbook", "-i", f"{MACHINE},", "-c", "community.docker.docker"]
        command = [*program, playbook, *arguments, "-e", json.dumps(variables | python)]
        return Outcome(subprocess.run(command, env=environment, capture_output=True, text=True, check=False))

    return run


@pytest.fixture(scope="module")
def play(booted: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    playbook = tmp_path_factory.mktemp("play") / "checkpoints.yml"
    playbook.write_text(PLAYBOOK)
    return player(playbook)
