# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How the role waits for a SuperLink: the script of its task, with programs that a test writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

TASKS = Path(__file__).parents[3] / "roles/flower_superlink/tasks/health.yml"
SCRIPT = yaml.safe_load(TASKS.read_text())[0]["ansible.builtin.command"]["argv"][-1]


def waited(directory: Path, healthy: str, systemctl: str) -> tuple[int, str]:
    """Run the script to its end; return its status and the last line that it printed."""
    for name, text in {"flower-healthy": healthy, "systemctl": systemctl, "sleep": "exit 0"}.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    script = SCRIPT.replace("/opt/flower/bin/", f"{directory}/")
    environment = os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip().rpartition("\n")[2]


def test_a_slow_one_is_waited_for(tmp_path: Path) -> None:
    slow = f"echo x >> {tmp_path}/looks; [ $(wc -l < {tmp_path}/looks) -gt 20 ]"
    assert waited(tmp_path, slow, "echo 1")[0] == 0


def test_one_that_ends_again_and_again_is_not(tmp_path: Path) -> None:
    status, said = waited(tmp_path, "echo refused; exit 1", f"echo x >> {tmp_path}/asked; wc -l < {tmp_path}/asked")
    assert (status, said) == (1, "it ended 5 times right after its start")


def test_one_that_answers_is_healthy_however_often_it_ended_before(tmp_path: Path) -> None:
    assert waited(tmp_path, "exit 0", "echo 99") == (0, "")
