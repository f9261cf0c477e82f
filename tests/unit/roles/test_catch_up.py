# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What restarts a SuperNode that would answer late: the program, with a systemd and a journal that a test writes.

In real Flower: tests/app/test_catch_up.py.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/flower_supernode/files/flower-catch-up"
# As journalctl does it with --follow and --grep, but that the journal ends.
COMMANDS = {
    "journalctl": 'while [ "$1" != --grep ]; do shift; done; grep -P -e "$2" {root}/journal',
    "systemctl": 'echo "$@" >>{root}/asked',
}
IGNORED = "is not in `RUNNING` status. Ignoring message b."


def asked(root: Path, *said: str) -> list[str]:
    """Return what is asked of systemd when Flower says this."""
    (root / "journal").write_text("".join(f"{line}\n" for line in said))
    for name, text in COMMANDS.items():
        (root / name).write_text(f"#!/bin/sh\n{text.format(root=root)}\n")
        (root / name).chmod(0o755)
    subprocess.run(["sh", PROGRAM], env={**os.environ, "PATH": f"{root}:{os.environ['PATH']}"}, capture_output=True, check=True)
    return (root / "asked").read_text().splitlines() if (root / "asked").exists() else []


@pytest.mark.parametrize("line", [
    f"INFO :      Run ID 1 {IGNORED}", f"\x1b[92mINFO \x1b[0m:      Run ID 1 {IGNORED}",
    f'{{"timestamp": "2026-11-30T22:45:29.524Z", "level": "INFO", "unit": "flower-supernode", "message": "Run ID 1 {IGNORED}"}}',
])
def test_a_node_that_ignored_a_message_is_restarted(tmp_path: Path, line: str) -> None:
    assert asked(tmp_path, "INFO :      Receiving: train message (ID: b)", line) == ["--no-block try-restart flower-supernode.service"]


def test_a_node_whose_reply_comes_too_late_and_one_that_works_are_left_alone(tmp_path: Path) -> None:
    said = ("Receiving: train message (ID: b)", "Received successfully", "Sent successfully", IGNORED.replace("message", "reply message"))
    assert asked(tmp_path, *(f"INFO :      {line}" for line in said)) == []
