# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that starts ClientApps on native nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .shipped import REPOSITORY

PROGRAM = REPOSITORY / "roles" / "_flower_runtime" / "files" / "flwr-clientapp"

pytestmark = pytest.mark.flower


def test_it_takes_what_flower_s_own_program_takes_and_loads_no_supernode(flower_bin: Path) -> None:
    def run(program: Path) -> subprocess.CompletedProcess:
        return subprocess.run([flower_bin / "python", "-X", "importtime", program, "--help"], capture_output=True, text=True, check=True)

    shipped, upstream = run(PROGRAM), run(flower_bin / "flwr-clientapp")
    assert shipped.stdout == upstream.stdout
    # The SuperNode keeps its state with it.
    assert "sqlalchemy" in upstream.stderr
    assert "sqlalchemy" not in shipped.stderr
