# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The workflows name what they have to: releases of ansible-core, frameworks, suites."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import FRAMEWORKS

ROOT = Path(__file__).parents[2]


def test_ci_has_each_release_from_requires_ansible_to_the_pinned_one() -> None:
    oldest = re.fullmatch(r">=2\.(\d+)\.0", yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"])
    newest = re.search(r"^ansible-core==2\.(\d+)\.", (ROOT / "requirements/control.txt").read_text(), re.MULTILINE)
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    wanted = [f"2.{minor}" for minor in range(int(oldest[1]), int(newest[1]) + 1)]
    assert jobs["ansible-core"]["strategy"]["matrix"]["release"] == wanted


def test_the_packages_of_every_framework_are_audited() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text())["jobs"]
    assert jobs["appliances"]["strategy"]["matrix"]["framework"] == list(FRAMEWORKS)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_audited_has_exact_versions(framework: str) -> None:
    printed = subprocess.run([sys.executable, "-m", "scripts.baked", framework], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in printed if not re.fullmatch(r"[A-Za-z0-9._\[\]-]+={2,3}[0-9][0-9A-Za-z.+]*", name)] == []
    assert {"flwr", "ansible-core"} <= {name.partition("==")[0] for name in printed}


def test_every_suite_is_in_make_test_or_in_make_test_long() -> None:
    """And in one of them alone; a suite is what scripts/timed.sh runs."""
    targets = re.findall(r"^([a-z$()][^\s:]*): [^\n]*\n(?:\t[^\n]*\n)*?\t@scripts/timed\.sh", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lists = dict(re.findall(r"^(TESTS|LONG_TESTS) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert len(targets) > 15
    elsewhere = {"coverage", "monitoring", "site", "$(SCENARIOS)"}
    once = [name for name in targets if name not in elsewhere and (name in lists["TESTS"].split()) + (name in lists["LONG_TESTS"].split()) != 1]
    assert once == []
