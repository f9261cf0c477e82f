# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps of roles have tags: --tags configure runs what is tagged so, all that is in it, and what it builds on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
#: roles for other roles only have no tags of their own: they are part of a step
STEPPED = sorted(path.parents[1].name for path in ROLES.glob("[!_]*/tasks/main.yml"))
STEPS = {"plan", "install", "configure", "bootstrap", "absent"}
TASKS_OF = {f"ansible.builtin.{kind}_tasks": kind for kind in ("include", "import")}
ROLE = "ansible.builtin.include_role"


def tasks(path: Path) -> Iterator[tuple[dict, set[str]]]:
    """Every task of a file with its tags and those of its blocks."""
    def of(entries: list[dict], inherited: set[str]) -> Iterator[tuple[dict, set[str]]]:
        for entry in entries:
            tags = inherited | set(entry.get("tags", ()))
            if "block" in entry:
                yield from of([*entry["block"], *entry.get("rescue", ()), *entry.get("always", ())], tags)
            else:
                yield entry, tags
    yield from of(yaml.safe_load(path.read_text()), set())


def check(path: Path, seen: set[str]) -> None:
    """Every task of the file has tags, and so has what it includes."""
    for task, tags in tasks(path):
        where = f"{path.parent.parent.name}/{path.name}, {task['name']}"
        assert tags and tags <= STEPS, where
        seen |= tags
        key = next((key for key in (*TASKS_OF, ROLE) if key in task), None)
        if key is None:
            continue
        what = task[key] if isinstance(task[key], dict) else {"file": task[key]}
        inner = set((what.get("apply") or {}).get("tags", ()))
        if "file" in what:
            step = Path(what["file"]).stem
            assert step not in STEPS or step in tags, where
            if TASKS_OF[key] == "include" and not inner:
                # What is in it is chosen one by one.
                check(path.parent / what["file"], seen)
                continue
        # An include hands down its own tags only if it says so.
        assert inner == tags or TASKS_OF.get(key) == "import", where


@pytest.mark.parametrize("role", STEPPED)
def test_every_step_of_a_role_has_its_tag(role: str) -> None:
    seen: set[str] = set()
    check(ROLES / role / "tasks/main.yml", seen)
    assert seen & {"install", "configure"}


def chosen(tmp_path: Path, tag: str) -> dict[str, list[str]]:
    """The tasks of each role's main.yml that ansible-playbook chooses for a tag."""
    playbook = tmp_path / "roles.yml"
    plays = [{"hosts": "localhost", "gather_facts": False, "roles": [f"opennebula.flower.{role}"]} for role in STEPPED]
    playbook.write_text(yaml.safe_dump(plays))
    listed = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "--list-tasks", "--tags", tag, str(playbook)], capture_output=True, text=True, check=True,
    ).stdout
    found: dict[str, list[str]] = {role: [] for role in STEPPED}
    # Ansible itself validates a role's arguments whatever the tags are.
    for role, name in re.findall(r"^ +opennebula\.flower\.(\w+) : (.*?)\tTAGS:", listed, re.MULTILINE):
        if not name.startswith("Validating arguments"):
            found[role].append(name)
    return found


def test_ansible_chooses_the_tasks_of_a_tag(tmp_path: Path) -> None:
    found = chosen(tmp_path, "configure")
    checks = ["Check the settings", "Refuse settings that are not valid"]
    assert found["flower_superlink"] == [*checks, "Look for an installed Flower", "Configure the SuperLink"]
    assert "Install WireGuard" not in found["wireguard"] and "Configure the tunnel" in found["wireguard"]
    assert found["flower_appliance"] == found["flower_container_image"] == []
