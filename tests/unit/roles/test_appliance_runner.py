# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that runs the modules of an appliance's boot, and the connection plugin that hands them over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).parents[3] / "roles/flower_appliance/files"
RUNNER = (sys.executable, str(FILES / "runner.py"))
PLAYBOOK = (str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml")
# Which process runs the module, after what the module itself is to hand on.
TELL = "echo said; echo complained >&2; tr '\\0' ' ' </proc/$PPID/cmdline; exit 3"
SECRET = "a value of a task"
CLOCKS = {"start": "", "end": "", "delta": ""}
TASKS: tuple[dict[str, Any], ...] = (
    {"ansible.builtin.command": {"argv": ["sh", "-c", TELL]}, "failed_when": False},
    {"ansible.builtin.command": {"argv": ["cat"], "stdin": SECRET}},
    {"ansible.builtin.command": {"argv": ["sh", "-c", "echo $GIVEN"]}, "environment": {"GIVEN": "by the task"}},
    {"ansible.builtin.file": {"path": "/missing/directory/file", "state": "touch"}, "ignore_errors": True},
)
Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runner")


@pytest.fixture(scope="module")
def play(place: Path) -> Callable[..., Results]:
    """Run TASKS by a command and return their results."""
    tasks = [{"name": f"Do {number}", "register": f"result_{number}", **task} for number, task in enumerate(TASKS)]
    results = "{{ [" + ", ".join(task["register"] for task in tasks) + "] | to_json }}"
    hosts = {
        "hosts": "localhost", "gather_facts": False,
        "vars": {"ansible_connection": "opennebula.flower.module_runner", "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "tasks": [*tasks, {"name": "Keep the results", "ansible.builtin.copy": {"content": results, "dest": str(place / "results"), "mode": "0600"}}],
    }  # fmt: skip
    (place / "play.yml").write_text(json.dumps([hosts]))

    def play(*command: str, **more: str) -> Results:
        keeper = {"KEPT_BYTECODE": str(place / "kept"), "PYTHONPATH": f"{FILES / 'bytecode'}:{os.environ.get('PYTHONPATH', '')}"}
        environment = {**os.environ, "ANSIBLE_PIPELINING": "true", **keeper, **more}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((place / "results").read_text())

    return play


@pytest.fixture(scope="module")
def by_runner(play: Callable[..., Results], place: Path) -> Results:
    prepared = {"ANSIBLE_CALLBACKS_ENABLED": "opennebula.flower.prepared", "FLOWER_BOOT_MODULES": str(place / "modules")}
    return play(*RUNNER, *PLAYBOOK, **prepared)


@pytest.fixture(scope="module")
def by_itself(play: Callable[..., Results], place: Path) -> Results:
    """Results of modules that nobody runs but Ansible: the runner is gone."""
    return play(*PLAYBOOK, FLOWER_MODULE_RUNNER=str(place / "gone"))


def test_modules_run_in_processes_that_fork_from_the_runner(by_runner: Results, by_itself: Results) -> None:
    assert str(FILES / "runner.py") in by_runner[0]["stdout"]
    assert str(FILES / "runner.py") not in by_itself[0]["stdout"]


def test_their_results_are_those_of_interpreters_of_their_own(by_runner: Results, by_itself: Results) -> None:
    assert (by_runner[0]["rc"], by_runner[0]["stdout_lines"][0], by_runner[0]["stderr"]) == (3, "said", "complained")
    (asked, given, failed), others = ([{**result, **CLOCKS} for result in results[1:]] for results in (by_runner, by_itself))
    assert [asked, given, failed] == others
    assert (asked["stdout"], given["stdout"], failed["failed"]) == (SECRET, "by the task", True)


def test_what_is_prepared_of_modules_is_kept_and_nothing_of_a_task(by_runner: Results, place: Path) -> None:
    modules = {path.name.partition("-")[0] for path in (place / "modules").iterdir()}
    assert {"ansible.modules.command", "ansible.modules.copy", "ansible.modules.file"} <= modules
    kept = [*(place / "kept").iterdir(), *(place / "modules").iterdir()]
    assert not [file for file in kept if SECRET.encode() in file.read_bytes()]


def test_the_status_is_that_of_the_command_and_nothing_is_left(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([*RUNNER, "sh", "-c", 'test -S "$FLOWER_MODULE_RUNNER" && exit 7'], env=environment, check=False)
    assert done.returncode == 7
    assert list(tmp_path.iterdir()) == []
