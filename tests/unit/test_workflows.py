# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The workflows name what they have to: releases of ansible-core, lock files, suites."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ansible_collections.opennebula.flower.plugins.plugin_utils.locks import LOCKS

ROOT = Path(__file__).parents[2]


def test_ci_has_each_release_of_ansible_core_that_the_readme_names() -> None:
    oldest, newest = re.search(r"^\| ansible-core \| 2\.(\d+) to 2\.(\d+),", (ROOT / "README.md").read_text(), re.MULTILINE).groups()
    assert yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"] == f">=2.{oldest}.0"
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    tried = [each["release"] for each in jobs["ansible-core"]["strategy"]["matrix"]["include"]]
    assert tried == [f"2.{minor}" for minor in range(int(oldest), int(newest) + 1)]


def test_whatever_is_locked_is_audited() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text())["jobs"]
    (pattern,) = re.findall(r"for lock in (\S+); do", jobs["appliances"]["steps"][-1]["run"])
    assert set(ROOT.glob(pattern)) == {path for path in LOCKS.rglob("*") if path.is_file()} != set()


def test_every_suite_is_in_make_test_or_in_make_test_long() -> None:
    """And in one of them alone; a suite is what scripts/timed.sh runs."""
    targets = re.findall(r"^([a-z$()][^\s:]*): [^\n]*\n(?:\t[^\n]*\n)*?\t@scripts/timed\.sh", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lists = dict(re.findall(r"^(TESTS|LONG_TESTS) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert len(targets) > 15
    elsewhere = {"unit", "app", "image-boot", "$(SCENARIOS)"}
    once = [name for name in targets if name not in elsewhere and (name in lists["TESTS"].split()) + (name in lists["LONG_TESTS"].split()) != 1]
    assert once == []
