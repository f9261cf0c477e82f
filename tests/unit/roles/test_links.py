# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What an app can write never leads a task of root to another place."""

from __future__ import annotations

import getpass
import grp
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
# Directories that belong to the user that apps run as.
OF_APPS = re.compile(r"/opt/flower/(state|data|checkpoints)/")
NO_LINK = ROLES / "_flower_runtime/tasks/no_link.yml"
WRITERS = {f"ansible.builtin.{name}" for name in ("file", "copy", "template")}
TASKS = [
    ("flower_superlink/tasks/install.yml", "Create the directories of the SuperLink", "state/runs"),
    ("_flower_runtime/tasks/superexec.yml", "Create the directory of Flower's own files", "state/flwr"),
]


def flat(tasks: list[dict]) -> Iterator[dict]:
    for task in tasks:
        yield task
        yield from flat(task.get("block", []))


def entry(directory: Path, file: str, name: str, path: str) -> dict:
    """Return a task of a role with the check before it, to work below another directory and for another user."""
    (task,) = [task for task in flat(yaml.safe_load((ROLES / file).read_text())) if task["name"] == name]
    if "loop" in task:  # the other entries are where apps do not write
        task["loop"] = [item for item in task["loop"] if path in json.dumps(item)]
    task.pop("notify", None)
    text = json.dumps(task).replace("/opt/flower", str(directory))
    for field, value in (("owner", getpass.getuser()), ("group", grp.getgrgid(os.getgid()).gr_name)):
        text = re.sub(rf'"{field}": "(app|{{{{ flower_runtime_user }}}}|{{{{ item.owner }}}})"', f'"{field}": "{value}"', text)
    before = {"ansible.builtin.include_tasks": str(NO_LINK), "vars": {"flower_runtime_no_link": str(directory / path)}}
    return {"block": [before, json.loads(text)], "rescue": [{"ansible.builtin.meta": "noop"}]}


def play(directory: Path) -> str:
    """Play these tasks, one after the other also when one fails; return the output on one line."""
    tasks = [entry(directory, *task) for task in TASKS]
    content = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": {"flower_runtime": "native"}, "tasks": tasks}
    (directory / "play.yml").write_text(json.dumps([content]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml", "-e", f"ansible_python_interpreter={sys.executable}"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    found = [tmp_path / path for _file, _name, path in TASKS]
    for place in found:
        place.parent.mkdir(parents=True, exist_ok=True)
    return found


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_link_of_an_app_is_refused_and_what_it_leads_to_stays(tmp_path: Path, places: list[Path], kind: str) -> None:
    target = tmp_path / "elsewhere"
    if kind == "directory":
        target.mkdir()
    else:
        target.write_text("old")
    target.chmod(0o711)
    for place in places:
        place.symlink_to(target)
    output = play(tmp_path)
    for place in places:
        assert f"{place} is a link to '{target}', which only an app of this machine can have put there" in output
    assert "changed=0" in output
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    assert list(target.iterdir()) == [] if kind == "directory" else target.read_text() == "old"


def test_without_a_link_the_tasks_do_their_work_and_then_nothing(tmp_path: Path, places: list[Path]) -> None:
    assert f"changed={len(places)} " in play(tmp_path)
    assert all(place.exists() for place in places)
    assert "changed=0 " in play(tmp_path)


def test_no_task_of_root_follows_links_where_apps_write() -> None:
    found, following = [], []
    for path in sorted(ROLES.glob("*/tasks/*.yml")):
        for task in flat(yaml.safe_load(path.read_text())):
            for module in WRITERS & task.keys():
                if OF_APPS.search(json.dumps([task[module], task.get("loop", "")])):
                    found.append(task["name"])
                    if task[module].get("follow") is not False:
                        following.append(f"{path.relative_to(ROLES)}: {task['name']}")
    assert following == []
    assert sorted(found) == sorted(name for _file, name, _path in TASKS)
