# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""An appliance reads its context once: all it says becomes role variables, a problem ends the boot, and no secret is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TASKS = Path(__file__).parents[3] / "playbooks" / "tasks" / "appliance" / "context.yml"
SECRET = "hunter2-of-the-bucket"
S3 = {"S3_ENDPOINT": "https://s3", "S3_BUCKET": "models", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": SECRET}
SHOWN = {
    "msg": "RESULT {{ flower_num_rounds }} {{ flower_s3_secret_key | length }} {{ (known | opennebula.flower.flower_training).run_config['proximal-mu'] }}",
}


def boot(directory: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    """Run the tasks with a context of these parameters of the SuperLink."""
    context = directory / "context.sh"
    context.write_text("".join(f"ONEAPP_FL_{name}='{value}'\n" for name, value in parameters.items()))
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {
            "appliance_role": "superlink",
            "names": "{{ query('ansible.builtin.varnames', '^flower_') | opennebula.flower.flower_setting_names }}",
            "known": "{{ dict(names | zip(query('ansible.builtin.vars', *names))) }}",
        },
        "module_defaults": {"opennebula.flower.one_context": {"context_file": str(context)}},
        "tasks": [{"ansible.builtin.import_tasks": str(TASKS)}, {"ansible.builtin.debug": SHOWN}],
    }
    (directory / "play.yml").write_text(json.dumps([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vv", "-i", "localhost,", "play.yml"]
    return subprocess.run([*command, "-e", f"ansible_python_interpreter={sys.executable}"], cwd=directory, capture_output=True, text=True, check=False)


def test_what_the_context_says_becomes_role_variables_and_a_training(tmp_path: Path) -> None:
    done = boot(tmp_path, NUM_ROUNDS="7", STRATEGY="FedProx", PROXIMAL_MU="0.25", TRIM_BETA="0.1", **S3)
    assert done.returncode == 0, done.stdout
    assert f"RESULT 7 {len(SECRET)} 0.25" in done.stdout
    assert "ONEAPP_FL_TRIM_BETA is ignored: ONEAPP_FL_STRATEGY is FedProx" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_context_that_is_not_valid_ends_the_boot_with_every_problem(tmp_path: Path) -> None:
    done = boot(tmp_path, NUM_ROUNDS="0", LOG_LEVEL="LOUD", **S3)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "the context of this VM is not valid: ONEAPP_FL_NUM_ROUNDS: '0' is not valid, expected a whole number of at least 1" in said.replace("''", "'")
    assert "ONEAPP_FL_LOG_LEVEL" in said
    assert "RESULT" not in done.stdout
    assert SECRET not in done.stdout + done.stderr
