# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the roles find after a machine lost its power while they wrote: their own steps, with Ansible, on files of a directory."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.node_metrics import Counts

ROLES = Path(__file__).parents[3] / "roles"


def step(file: str, name: str | None = None) -> list[dict[str, Any]]:
    """Return the tasks of a file, or those in its block of that name, for a machine without Flower's user and without handlers."""
    tasks = yaml.safe_load((ROLES / file).read_text())
    return [_here(task) for task in (tasks if name is None else next(task["block"] for task in tasks if task["name"] == name))]


def _here(task: Any) -> Any:
    if isinstance(task, list):
        return [_here(item) for item in task]
    if isinstance(task, dict):
        return {name: _here(value) for name, value in task.items() if name not in ("owner", "group", "notify")}
    return task


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    def run(tasks: list[dict[str, Any]], **variables: str) -> subprocess.CompletedProcess:
        known = {"ansible_python_interpreter": sys.executable, **variables}
        content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": known, "tasks": tasks}]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(content))
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", tmp_path / "play.yml"]
        return subprocess.run(command, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)

    return run


def test_a_key_that_holds_nothing_is_made_again_and_a_whole_one_stays(play: Callable, tmp_path: Path) -> None:
    def keys(name: str) -> tuple[Path, Path]:
        return tmp_path / name, tmp_path / f"{name}.pub"

    for name in ("whole", "only-private", "half", "damaged"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "", "-f", tmp_path / name], check=True)
    before = {name: keys(name)[0].read_text() for name in ("whole", "only-private", "half", "damaged")}
    keys("only-private")[1].write_text("")
    for name in ("half", "damaged"):
        keys(name)[0].write_text(before[name][:150])
    keys("half")[1].write_text("")
    for path in keys("empty"):
        path.write_text("")
    (tmp_path / "key.yml").write_text(yaml.safe_dump(step("flower_supernode/tasks/key.yml")))
    made = ("whole", "only-private", "half", "empty")
    include = {"name": "Step", "ansible.builtin.include_tasks": str(tmp_path / "key.yml"), "vars": {"flower_supernode_key_file": f"{tmp_path}/{{{{ item }}}}"}}
    done = play([{**include, "loop": [*made, "damaged"]}], flower_supernode_key_name="vm-7")
    assert done.returncode != 0
    assert f"The key {tmp_path}/damaged is damaged, and the SuperLink may know its public half" in " ".join(done.stdout.split())
    for name in made:
        private, public = keys(name)
        shown = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", private], capture_output=True, text=True, check=True).stdout
        assert shown.split()[:2] == public.read_text().split()[:2], name
        assert private.stat().st_mode & 0o777 == 0o600
    assert {name for name in made if keys(name)[0].read_text() == before.get(name)} == {"whole", "only-private"}
    assert keys("damaged")[0].read_text() == before["damaged"][:150]


def test_an_empty_secret_of_the_superexec_is_written_again_and_no_other(play: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "kept").write_text("of before")
    block = step("_flower_runtime/tasks/superexec.yml", "Set up the SuperExec")
    tasks = [task for task in block if task["name"].endswith("the secret that Flower and its SuperExec share")]
    (tmp_path / "secret.yml").write_text(yaml.safe_dump(tasks))
    include = {"ansible.builtin.include_tasks": str(tmp_path / "secret.yml"), "vars": {"flower_superexec_secret": f"{tmp_path}/{{{{ item }}}}"}}
    done = play([{"name": "Step", **include, "loop": ["empty", "kept", "first"]}])
    assert done.returncode == 0, done.stdout
    assert [len((tmp_path / name).read_text()) for name in ("empty", "kept", "first")] == [48, 9, 48]


def test_a_state_is_on_the_disk_before_it_is_in_its_place_and_the_old_one_stays_where_that_fails(
    tmp_path: Path, unchanged: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "kept" / "bootstrap"
    synced: list[tuple[bool, bool]] = []

    def sync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), record.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(unchanged, "RECORD", record)
    monkeypatch.setattr(unchanged, "PROGRAMS", ())
    unchanged.remember({"VMID": "7"})
    assert synced == [(False, False), (True, True)]
    before = record.read_text()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        unchanged.remember({"VMID": "8"})
    assert [path.read_text() for path in record.parent.iterdir()] == [before]


@pytest.mark.parametrize("left", ["", "boot", "{"])
def test_a_state_that_is_cut_off_is_none(left: str, tmp_path: Path, unchanged: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bootstrap").write_text(left)
    monkeypatch.setattr(unchanged, "RECORD", tmp_path / "bootstrap")
    monkeypatch.setattr(unchanged, "PROGRAMS", ())
    assert "changed" in unchanged.difference({"VMID": "7"}, "supernode", None, dict)
    assert Counts.read(str(tmp_path / "bootstrap")) == Counts()
