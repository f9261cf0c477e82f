# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A machine with systemd, and what a run of the tasks of flower_superlink for checkpoints in it says."""

from __future__ import annotations

import re
import subprocess

from lab.checkout import CHECKOUT

MACHINE = f"test-checkpoints-{CHECKOUT}"

# The units as the role writes them; what they start stands still, since only their order matters here.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars: {flower_runtime: native}
  tasks:
    - ansible.builtin.user: {name: app, uid: 49999, shell: /usr/sbin/nologin, create_home: false}
    - ansible.builtin.user: {name: flower-supervisor, uid: 49998, system: true, shell: /usr/sbin/nologin, create_home: false}
    - ansible.builtin.file: {path: "/opt/flower/{{ item }}", state: directory, mode: "0755"}
      loop: [config, flwr]
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: checkpoints}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: container}
"""
STAND_IN = "[Unit]\nAssertPathExists=\n[Service]\nUser=root\nExecStart=\nExecStart=/bin/sleep infinity\nRestart=no\n"


def machine(*command: str, standard_input: str = "", check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run(["docker", "exec", "-i", MACHINE, *command], input=standard_input, capture_output=True, text=True, check=check)


def machine_log() -> str:
    return machine("journalctl", "--no-pager", "--lines", "40").stdout


class Outcome:
    """What a run of the role said."""

    def __init__(self, result: subprocess.CompletedProcess) -> None:
        self.output = result.stdout
        self.failed = result.returncode != 0
        self.message = " ".join("".join(re.findall(r"msg: (?:[>|]-?\n)?(.*?)(?:\n\n|\nPLAY|$)", result.stdout, re.DOTALL)).replace("''", "'").split())
        self.changed = int(re.search(r"changed=(\d+)", result.stdout)[1])
