# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/coming-from-community-general.md are playbooks, and name only options that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from-community-general.md").read_text(encoding="utf-8")
PLAYS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
BEFORE = [play for play in PLAYS if play[0]["name"] == "Before"]
AFTER = [play for play in PLAYS if play[0]["name"] == "After"]
OURS = "opennebula.flower."


def test_each_example_has_its_counterpart():
    assert len(BEFORE) == len(AFTER) == 6
    assert all(set(task) & {"community.general.one_" + kind for kind in ("vm", "image", "template", "vnet", "host", "service")}
               for play in BEFORE for task in play[0]["tasks"])


def test_the_new_examples_pass_the_syntax_check(tmp_path):
    playbook = tmp_path / "after.yml"
    playbook.write_text(yaml.safe_dump([play for plays in AFTER for play in plays]))
    command = [sys.executable, "-m", "ansible", "playbook", "--syntax-check", "-i", "localhost,", str(playbook)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr


def test_the_new_examples_name_only_options_that_exist():
    tasks = [task for play in AFTER for task in play[0]["tasks"]]
    used = [(name, set(task[name])) for task in tasks for name in task if name.startswith(OURS)]
    command = [sys.executable, "-m", "ansible", "doc", "--json", *sorted({name for name, _options in used})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=900)
    documents = json.loads(done.stdout)
    for name, options in used:
        assert options <= set(documents[name]["doc"]["options"]), name


def test_every_old_module_is_mapped():
    for name in ("vm", "image", "image_info", "template", "vnet", "host", "service"):
        assert f"| `one_{name}` |" in PAGE
