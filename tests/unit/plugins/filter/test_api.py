# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How a zone is asked is said in one place: plays name no option of the API, and the password is not shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.filter.api import api
from ansible_collections.opennebula.flower.plugins.module_utils.module import API_OPTIONS

PLAYBOOKS = Path(__file__).parents[4] / "playbooks"
OPTIONS = set(api({f"one_{option}": "given" for option in API_OPTIONS}))
DEFAULTS = {"group/opennebula.flower.one": "{{ one_api }}"}
FILES = sorted(PLAYBOOKS.rglob("*.yml"))
PASSWORD = "hunter2-of-the-zone"


def test_the_options_of_a_zone_are_the_variables_of_its_host() -> None:
    given = {"one_api_url": "http://here", "one_validate_certs": False, "one_api_timeout": None, "one_admin": "root", "api_username": "nobody"}
    assert api(given) == {"api_url": "http://here", "validate_certs": False}


def keys(node: Any) -> Iterator[str]:
    """Yield every key of a document."""
    if isinstance(node, dict):
        yield from node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from keys(inner)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PLAYBOOKS).as_posix())
def test_no_play_and_no_task_names_an_option_of_the_api(path: Path) -> None:
    assert OPTIONS & set(keys(yaml.safe_load(path.read_text(encoding="utf-8")))) == set()


def test_every_play_that_has_defaults_has_those_of_the_one_place() -> None:
    plays = [play for path in PLAYBOOKS.glob("*.yml") for play in yaml.safe_load(path.read_text(encoding="utf-8")) if "module_defaults" in play]
    assert len(plays) > 10
    for play in plays:
        assert play["module_defaults"] == DEFAULTS, play["name"]
        assert "vars/api.yml" in play["vars_files"], play["name"]
    others = [path.name for path in FILES if path.parent != PLAYBOOKS and "module_defaults" in keys(yaml.safe_load(path.read_text(encoding="utf-8")))]
    assert others == []


def test_a_task_asks_the_zone_of_its_host_or_of_another_and_shows_no_password(tmp_path: Path) -> None:
    hosts = {name: {"one_api_url": f"http://127.0.0.1:9/{name}", "one_api_username": name, "one_api_password": PASSWORD} for name in ("munich", "lyon")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": {"ansible_python_interpreter": sys.executable}}}))
    ask = {"opennebula.flower.one_zone_info": {}, "ignore_errors": True}
    play = {
        "hosts": "lyon",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(PLAYBOOKS / "vars" / "api.yml")],
        "module_defaults": DEFAULTS,
        "tasks": [{"name": "own", **ask}, {"name": "other", **ask, "vars": {"one_api_host": "munich"}}],
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvv", "-i", "hosts.json", "play.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    own, other = done.stdout.split("TASK [other]")
    assert "http://127.0.0.1:9/lyon" in own and "munich" not in own, done.stdout
    assert "http://127.0.0.1:9/munich" in other and "/lyon" not in other.partition("PLAY RECAP")[0], done.stdout
    assert PASSWORD not in done.stdout + done.stderr
