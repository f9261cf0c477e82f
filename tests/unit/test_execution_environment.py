# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What ansible-builder puts into an execution environment for the collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_an_execution_environment_gets_what_the_control_node_needs() -> None:
    builder = Path(sys.executable).with_name("ansible-builder")
    done = subprocess.run([builder, "introspect", "--sanitize", ROOT], capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    pinned = [line.split("#")[0].strip() for line in (ROOT / "requirements/control.txt").read_text().splitlines() if line and line[0] != "#"]
    # The environment has an ansible-core of its own.
    assert [each.split("#")[0].strip() for each in found["python"]] == [each for each in pinned if not each.startswith("ansible-core==")]
    assert [each.split("#")[0].strip() for each in found["system"]] == ["openssh-client [platform:dpkg]", "openssh-clients [platform:rpm]"]
