# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""An appliance reads its context once: all it says becomes role variables, a problem ends the boot, and no secret is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import read_context

TASKS = Path(__file__).parents[3] / "playbooks" / "tasks" / "appliance" / "context.yml"
SECRET = "hunter2-of-the-bucket"
S3 = {"S3_ENDPOINT": "https://s3", "S3_BUCKET": "models", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": SECRET}
SHOWN = {"msg": "RESULT {{ flower_num_rounds }} {{ flower_s3_secret_key | length }} {{ training.run_config['proximal-mu'] }}"}


@pytest.fixture
def boot(service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the tasks with what the boot program finds in a context of these parameters of the SuperLink."""

    def run(**parameters: str) -> subprocess.CompletedProcess[str]:
        context, found = tmp_path / "context.sh", tmp_path / "found.json"
        context.write_text("".join(f"ONEAPP_FL_{name}='{value}'\n" for name, value in parameters.items()))
        monkeypatch.setattr(service, "read_context", lambda: read_context(str(context)))
        found.write_text(json.dumps(service.Context("superlink").found()))
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"appliance_role": "superlink", "training": "{{ appliance_context['values'] | opennebula.flower.flower_training }}"},
            "tasks": [{"ansible.builtin.import_tasks": str(TASKS)}, {"ansible.builtin.debug": SHOWN}],
        }
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vv", "-i", "localhost,", "play.yml"]
        environment = {**os.environ, "FLOWER_CONTEXT": str(found)}
        command += ["-e", f"ansible_python_interpreter={sys.executable}"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_what_the_context_says_becomes_role_variables_and_a_training(boot: Callable) -> None:
    done = boot(NUM_ROUNDS="7", STRATEGY="FedProx", PROXIMAL_MU="0.25", TRIM_BETA="0.1", **S3)
    assert done.returncode == 0, done.stdout
    assert f"RESULT 7 {len(SECRET)} 0.25" in done.stdout
    assert "ONEAPP_FL_TRIM_BETA is ignored: ONEAPP_FL_STRATEGY is FedProx" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_context_that_is_not_valid_ends_the_boot_with_every_problem(boot: Callable) -> None:
    done = boot(NUM_ROUNDS="0", LOG_LEVEL="LOUD", **S3)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "the context of this VM is not valid: ONEAPP_FL_NUM_ROUNDS: '0' is not valid, expected a whole number of at least 1" in said.replace("''", "'")
    assert "ONEAPP_FL_LOG_LEVEL" in said
    assert "RESULT" not in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_what_a_context_says_is_no_template(boot: Callable) -> None:
    done = boot(NUM_ROUNDS="7", PROXIMAL_MU="0.25", STRATEGY="FedProx", S3_REGION="eu", S3_PREFIX="a", **{**S3, "S3_SECRET_KEY": "{{1+1}}"})
    assert f"RESULT 7 {len('{{1+1}}')} 0.25" in done.stdout, done.stdout
