# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a new parameter of a strategy needs: an entry in the table of parameters and one in that of strategies. Everything else follows.

The experiment adds FL_FOG, which FedProx takes, to a copy of the repository.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import parameters

from .shipped import REPOSITORY

TABLE = "plugins/module_utils/contextualization.py"
STRATEGIES = "plugins/module_utils/flower/strategies.py"
EDITS = {
    TABLE: (
        'PARAMETERS: tuple[Parameter, ...] = (\n',
        '    _of_strategies("FL_FOG", "float", "fog", "Density of the fog", minimum=0, maximum=1),\n',
    ),
    STRATEGIES: ('    "FedProx": Strategy((Option("proximal-mu", "proximal_mu", 1.0),', ' Option("fog", "fog", 0.5),'),
}
PROBE = """
import json, sys, tomllib, yaml
from pathlib import Path
from ansible_collections.opennebula.flower.plugins.filter.settings import settings
from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
sys.path.insert(0, "apps/federation")
from federation.settings import Settings, SettingsError

defaults = tomllib.loads(Path("apps/federation/pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
chosen = defaults | {"strategy": "FedProx"}
refused = ""
try:
    Settings.from_run_config(chosen | {"fog": 2.0})
except SettingsError as problem:
    refused = str(problem)
print(json.dumps({
    "input": table.user_inputs("superlink")["ONEAPP_FL_FOG"],
    "section": table.context_section("superlink")["ONEAPP_FL_FOG"],
    "context": table.validate({"ONEAPP_FL_FOG": "0.25"}, "superlink")["flower_fog"],
    "role default": table.role_defaults("superlink")["flower_fog"],
    "role option": table.role_argument_options("superlink")["flower_fog"]["type"],
    "playbook": settings({"flower_fog": 2}, 2, 2, 2)["errors"],
    "note": settings({"flower_fog": 0.25}, 2, 2, 2)["notes"],
    "training": table.training({"flower_strategy": "FedProx", "flower_fog": 0.25})["run_config"]["fog"],
    "request": table.run_overrides({"flower_fog": 0.25}),
    "role": [yaml.safe_load(Path("roles/flower_superlink", name).read_text()) for name in ("defaults/main.yml", "meta/argument_specs.yml")],
    "page": "| `ONEAPP_FL_FOG` | `flower_fog` |" in Path("docs/parameters.md").read_text(),
    "default of the app": defaults["fog"],
    "refused by the app": refused,
    "used": [Settings.from_run_config(chosen | {"fog": value}).strategy_arguments["fog"] for value in ("", 0.25)],
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what has to do with parameters, in which the parameter is new."""
    root = tmp_path_factory.mktemp("repository")
    for part in ("plugins/module_utils", "plugins/filter", "apps", "scripts", "docs", "roles/flower_superlink"):
        shutil.copytree(REPOSITORY / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ansible_collections/opennebula").mkdir(parents=True)
    (root / "ansible_collections/opennebula/flower").symlink_to("../..")
    for name, (before, added) in EDITS.items():
        text = (root / name).read_text()
        assert text.count(before) == 1, f"{before!r} is not once in {name}"
        (root / name).write_text(text.replace(before, before + added))
    python(root, "-m", "scripts.parameters")
    return root


def python(root: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_edits_are_all_it_takes(copy: Path) -> None:
    found = json.loads(python(copy, "-c", PROBE))
    defaults, specifications = found.pop("role")
    assert defaults["flower_fog"] == 0.5
    option = specifications["argument_specs"]["main"]["options"]["flower_fog"]
    assert option == {"type": "float", "default": 0.5, "description": "Density of the fog"}
    assert found == {
        "input": "O|number-float|Density of the fog||0.5",
        "section": "$ONEAPP_FL_FOG",
        "context": 0.25,
        "role default": 0.5,
        "role option": "float",
        "playbook": ["flower_fog: '2' is not valid, expected a number from 0 to 1"],
        "note": ["flower_fog is ignored: flower_strategy is FedAvg"],
        "training": 0.25,
        "request": {"fog": 0.25},
        "page": True,
        "default of the app": "",
        "refused by the app": "fog must be a number of at least 0 and up to 1, or empty for the default, not 2.0",
        "used": [0.5, 0.25],
    }


def test_nothing_else_differs_but_what_is_generated(copy: Path) -> None:
    differing = {
        str(path.relative_to(copy))
        for part in ("plugins", "apps", "scripts", "docs", "roles")
        for path in (copy / part).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.read_bytes() != (REPOSITORY / path.relative_to(copy)).read_bytes()
    }
    assert differing - set(EDITS) == set(parameters.written(REPOSITORY))
