# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""CI runs every release of ansible-core that the collection says it supports."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_ci_has_each_release_from_requires_ansible_to_the_pinned_one() -> None:
    oldest = re.fullmatch(r">=2\.(\d+)\.0", yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"])
    newest = re.search(r"^ansible-core==2\.(\d+)\.", (ROOT / "requirements/control.txt").read_text(), re.MULTILINE)
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    wanted = [f"2.{minor}" for minor in range(int(oldest[1]), int(newest[1]) + 1)]
    assert jobs["ansible-core"]["strategy"]["matrix"]["release"] == wanted
