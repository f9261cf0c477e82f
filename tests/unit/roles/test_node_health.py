# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The check of a SuperNode's health, with a journal and a systemd that a test writes, and what it reads there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.tests.support.rendered_roles import rendered

PROGRAM = Path(__file__).parents[3] / "roles/flower_supernode/files/flower-healthy"
CONNECTED = "INFO :      SuperNode ID: 8446744073709551615\n"
SYSTEMCTL = """case "$*" in *InvocationID*) cat {0}/run;; *) exit "$(cat {0}/inactive)";; esac"""


class Node:
    """A machine with a SuperNode that is in its first run and has said nothing yet."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.state = directory / "state"
        self.state.mkdir()
        for name, text in {"systemctl": SYSTEMCTL.format(directory), "journalctl": f"cd {directory}; cat run-$(cat run) 2>&1"}.items():
            (directory / name).write_text(f"#!/bin/sh\n{text}\n")
            (directory / name).chmod(0o755)
        self.runs("first")
        self.is_active(True)

    def runs(self, run: str) -> None:
        """Begin another run of the unit, which has said nothing yet."""
        (self._directory / "run").write_text(f"{run}\n")
        self.says(run, "")

    def says(self, run: str, text: str) -> None:
        """Let the journal of a run hold this and nothing else."""
        (self._directory / f"run-{run}").write_text(text)

    def is_active(self, active: bool) -> None:
        (self._directory / "inactive").write_text("0" if active else "3")

    def is_healthy(self) -> bool:
        environment = os.environ | {"PATH": f"{self._directory}:{os.environ['PATH']}", "STATE_DIRECTORY": str(self.state)}
        done = subprocess.run(["sh", PROGRAM], env=environment, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.returncode == 0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_node_is_healthy_once_flower_said_that_it_is_connected(node: Node) -> None:
    assert not node.is_healthy()
    node.says("first", CONNECTED)
    assert node.is_healthy()


def test_it_stays_healthy_when_the_journal_forgets_that(node: Node) -> None:
    node.says("first", CONNECTED)
    assert node.is_healthy()
    node.says("first", "INFO :      Received successfully\n")
    assert node.is_healthy()
    # Nothing is left half written.
    assert len(list(node.state.iterdir())) == 1


def test_what_was_said_of_an_earlier_run_does_not_count(node: Node) -> None:
    node.says("first", CONNECTED)
    assert node.is_healthy()
    node.runs("second")
    assert not node.is_healthy()


def test_one_that_was_connected_and_runs_no_more_is_not_healthy(node: Node) -> None:
    node.says("first", CONNECTED)
    assert node.is_healthy()
    node.is_active(False)
    assert not node.is_healthy()


def test_without_a_run_there_is_no_health(node: Node) -> None:
    (node.state / "flower-connected").write_text("\n")
    node.runs("")
    assert not node.is_healthy()


def test_who_may_not_write_is_told_all_the_same(node: Node) -> None:
    node.state.rmdir()
    node.says("first", CONNECTED)
    assert node.is_healthy()


@pytest.mark.parametrize(("level", "said"), [("DEBUG", "DEBUG"), ("INFO", "INFO"), ("WARNING", "INFO"), ("ERROR", "INFO")])
def test_flower_says_that_it_is_connected_whatever_its_verbosity(level: str, said: str) -> None:
    values = table.validate({"ONEAPP_FL_LOG_LEVEL": level}, "supernode")
    assert f"Environment=FLWR_LOG_LEVEL={said}\n" in rendered("supernode", values, "native")["flower-supernode.service"]
