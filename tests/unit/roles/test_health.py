# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How the roles wait for a SuperLink or SuperNode: the scripts of their tasks, with programs that a test writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

ROLES = Path(__file__).parents[3] / "roles"
SUPERLINK, SUPERNODE = "flower_superlink/tasks/health.yml", "flower_supernode/tasks/connection.yml"


def waited(directory: Path, healthy: str, systemctl: str, tasks: str = SUPERLINK, journal: str = "") -> tuple[int, str]:
    """Run the script to its end; return its status and the last line that it printed."""
    (directory / "journal").write_text(journal)
    for name, text in {"flower-healthy": healthy, "systemctl": systemctl, "journalctl": f"cat {directory}/journal", "sleep": "exit 0"}.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    script = yaml.safe_load((ROLES / tasks).read_text())[0]["ansible.builtin.command"]["argv"][-1].replace("/opt/flower/bin/", f"{directory}/")
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


class TestSuperNode:
    HEALED = "echo x >> {0}/looks; [ $(wc -l < {0}/looks) -gt 40 ]"
    # What it has ended before the wait does not count.
    COUNTS = "case $* in *NRestarts*) echo x >> {0}/asked; echo $((70 + $(wc -l < {0}/asked)));; *) echo activating;; esac"
    REFUSED = "ERROR :     Exit Code: 305\nFailed to initialize the connection to the SuperLink.\n[code: 7] node \x1b[31mis not known\nThe SuperNode\n"

    def test_a_slow_one_is_waited_for(self, tmp_path: Path) -> None:
        steady = "case $* in *NRestarts*) echo 99;; *) echo active;; esac"
        assert waited(tmp_path, self.HEALED.format(tmp_path), steady, SUPERNODE)[0] == 0

    def test_one_that_is_refused_for_a_while_is_waited_for(self, tmp_path: Path) -> None:
        healed = self.HEALED.replace("40", "25").format(tmp_path)
        assert waited(tmp_path, healed, self.COUNTS.format(tmp_path), SUPERNODE)[0] == 0

    def test_one_that_ends_again_and_again_is_not_and_its_reason_is_told(self, tmp_path: Path) -> None:
        status, said = waited(tmp_path, "echo not connected yet; exit 1", self.COUNTS.format(tmp_path), SUPERNODE, self.REFUSED)
        assert (status, said) == (1, "it ended 30 times right after its start. [code: 7] node [31mis not known")

    def test_one_that_nobody_starts_is_not(self, tmp_path: Path) -> None:
        assert waited(tmp_path, "exit 1", "case $* in *NRestarts*) echo 0;; *) echo failed;; esac", SUPERNODE) == (1, "its unit is failed")
