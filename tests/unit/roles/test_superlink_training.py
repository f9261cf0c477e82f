# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The settings of a training mean the same to the role, where no context stands between, and to the supervisor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROLE = Path(__file__).parents[3] / "roles" / "flower_superlink"


def supervisor(directory: Path, *command_line: str, **variables: Any) -> dict[str, Any]:
    """Return the settings of the supervisor that the role writes, with these role variables and those of a command line."""
    role = directory / "roles" / "probe"
    (role / "tasks").mkdir(parents=True)
    for name in ("defaults", "vars", "templates"):
        (role / name).symlink_to(ROLE / name)
    (role / "meta").mkdir()
    (role / "meta" / "argument_specs.yml").symlink_to(ROLE / "meta" / "argument_specs.yml")
    (role / "tasks" / "check.yml").symlink_to(ROLE / "tasks" / "check.yml")
    template = {"src": "supervisor.json.j2", "dest": str(directory / "supervisor.json"), "mode": "0600"}
    (role / "tasks" / "main.yml").write_text(json.dumps([{"ansible.builtin.import_tasks": "check.yml"}, {"ansible.builtin.template": template}]))
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": [{"role": "probe", "vars": variables}]}
    (directory / "play.yml").write_text(json.dumps([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml", "-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run([*command, *command_line], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((directory / "supervisor.json").read_text())


def test_role_variables_choose_what_is_trained_and_how(tmp_path: Path) -> None:
    settings = supervisor(tmp_path, flower_use_case="digits", flower_num_rounds=7, flower_strategy="FedProx", flower_proximal_mu=0.25, flower_trim_beta=0.1)
    run = settings["initial_run"]
    assert (run["name"], run["app"]) == ("initial", "")
    expected = {"use-case": "digits", "num-server-rounds": 7, "strategy": "FedProx", "proximal-mu": 0.25}
    assert run["config"].items() >= expected.items()
    assert settings["run_config"] == run["config"]


def test_without_a_use_case_nothing_starts_by_itself_and_requests_have_the_settings(tmp_path: Path) -> None:
    settings = supervisor(tmp_path, flower_min_available_clients=3)
    assert not settings["initial_run"]
    assert settings["run_config"]["min-available-clients"] == 3
    assert "use-case" not in settings["run_config"]


def test_texts_of_a_command_line_are_the_values_they_stand_for(tmp_path: Path) -> None:
    words = ["-e", "flower_num_rounds=9", "-e", "flower_checkpoint_enabled=yes", "-e", "flower_local_learning_rate=0.5"]
    config = supervisor(tmp_path, *words)["run_config"]
    assert (config["num-server-rounds"], config["checkpoint-enabled"], config["local-learning-rate"]) == (9, True, 0.5)


def test_an_own_app_starts_by_itself(tmp_path: Path) -> None:
    settings = supervisor(tmp_path, flower_app_source="/srv/apps/mine", flower_app_config={"rate": 0.5})
    assert settings["initial_run"] == {"name": "initial", "config": {}, "app": "/srv/apps/mine"}
    assert settings["own_app"] == {"source": "/srv/apps/mine", "config": {"rate": 0.5}}
