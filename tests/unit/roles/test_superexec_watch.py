# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What restarts a SuperLink whose SuperExec has ended: the program, with a systemd and processes that a test writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/flower_superlink/files/flower-superexec-watch"
UPTIME = 5000  # seconds
SUPERLINK = ["/python/venv/bin/python3", "/python/venv/bin/flower-superlink", "--host", "127.0.0.1"]
SUPEREXEC = ["/python/venv/bin/python3", "/python/venv/bin/flower-superexec", "--runtime-api-address", "127.0.0.1:18000"]
SERVERAPP = ["/python/venv/bin/python3", "/python/venv/bin/flwr-serverapp", "--token", "a"]
CLIENT = ["/usr/bin/docker", "run", "--volume", "/opt/flower/bin/flwr-serverapp:/python/venv/bin/flwr-serverapp:ro", "--name", "flower-superexec"]


def asked(root: Path, *processes: list[str], active: bool = True, seconds: int = 3600) -> str:
    """Run the program once and return what it asks of systemd. seconds: since the SuperLink was started."""
    (root / "proc").mkdir()
    (root / "proc/uptime").write_text(f"{UPTIME}.21 1.00\n")
    for number, words in enumerate(processes):
        (root / f"proc/{number}").mkdir()
        (root / f"proc/{number}/cmdline").write_text("".join(f"{word}\0" for word in words))
    since = (UPTIME - seconds) * 1_000_000
    answers = f"is-active) {str(active).lower()};; show) echo {since};; *) echo \"$@\" >>{root}/asked;;"
    (root / "systemctl").write_text(f"#!/bin/sh\ncase $1 in {answers} esac\n")
    (root / "systemctl").chmod(0o755)
    script = PROGRAM.read_text().replace("/proc/", f"{root}/proc/")
    done = subprocess.run(["sh", "-c", script], env={**os.environ, "PATH": f"{root}:{os.environ['PATH']}"}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return (root / "asked").read_text() if (root / "asked").exists() else ""


@pytest.mark.parametrize("beside", [[], [CLIENT], [[]]], ids=["alone", "the client of its container", "an ended one"])
def test_without_a_superexec_the_superlink_is_restarted(tmp_path: Path, beside: list[list[str]]) -> None:
    assert asked(tmp_path, SUPERLINK, *beside) == "--no-block try-restart flower-superlink.service\n"


@pytest.mark.parametrize("other", [SUPEREXEC, SERVERAPP], ids=["SuperExec", "ServerApp"])
def test_with_a_superexec_or_an_app_it_is_left_alone(tmp_path: Path, other: list[str]) -> None:
    assert asked(tmp_path, SUPERLINK, other) == ""


def test_one_that_was_just_started_or_does_not_run_is_left_alone(tmp_path: Path) -> None:
    for name, state in (("young", {"seconds": 299}), ("stopped", {"active": False})):
        (tmp_path / name).mkdir()
        assert asked(tmp_path / name, SUPERLINK, **state) == ""
