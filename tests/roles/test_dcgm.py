# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The metrics of a SuperNode's GPU in a machine: the exporter is a stand-in, since there is no GPU. The tests build on each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from checkpoint_machine import Outcome, machine
from conftest import player

PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars: {flower_runtime: native, flower_metrics_enabled: true, flower_supernode_gpu: true}
  tasks:
    - ansible.builtin.include_role: {name: opennebula.flower.flower_supernode, tasks_from: dcgm}
"""
EXPORTER = """#!/usr/bin/python3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"DCGM_FI_DEV_GPU_TEMP 41\\n")

host, port = sys.argv[sys.argv.index("--address") + 1].split(":")
HTTPServer((host, int(port)), Handler).serve_forever()
"""
PROGRAM = "/usr/bin/dcgm-exporter"
ASK = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9400/metrics', timeout=60).read().decode())"
Play = Callable[..., Outcome]


@pytest.fixture(scope="module")
def play(booted: None, tmp_path_factory: pytest.TempPathFactory) -> Play:
    playbook = tmp_path_factory.mktemp("play") / "dcgm.yml"
    playbook.write_text(PLAYBOOK)
    return player(playbook)


def state() -> str:
    return machine("systemctl", "is-active", "flower-dcgm.service", check=False).stdout.strip()


def test_without_the_exporter_there_is_a_warning_and_no_unit(play: Play) -> None:
    outcome = play(flower_dcgm_enabled=True)
    assert not outcome.failed, outcome.output
    assert outcome.changed == 0
    assert f"the GPU of this node has no metrics: {PROGRAM}, of the package datacenter-gpu-manager-exporter, is not there" in " ".join(outcome.output.split())
    assert state() != "active"


def test_a_dry_run_writes_nothing(play: Play) -> None:
    machine("tee", PROGRAM, standard_input=EXPORTER)
    machine("chmod", "755", PROGRAM)
    outcome = play("--check", flower_dcgm_enabled=True)
    assert not outcome.failed, outcome.output
    assert machine("test", "-e", "/etc/systemd/system/flower-dcgm.service", check=False).returncode == 1


def test_the_exporter_answers_this_machine_and_a_second_run_changes_nothing(play: Play) -> None:
    outcome = play(flower_dcgm_enabled=True)
    assert not outcome.failed, outcome.output
    machine("sh", "-c", f"until python3 -c \"{ASK}\" 2>/dev/null; do systemctl is-active --quiet flower-dcgm || exit 1; done")
    assert "127.0.0.1:9400" in machine("ss", "--listening", "--tcp", "--numeric").stdout
    assert play(flower_dcgm_enabled=True).changed == 0
    assert state() == "active"


@pytest.mark.parametrize("without", ["flower_dcgm_enabled", "flower_supernode_gpu", "flower_metrics_enabled"])
def test_without_one_of_what_it_needs_it_is_removed(play: Play, without: str) -> None:
    play(flower_dcgm_enabled=True)
    assert state() == "active"
    outcome = play(**{"flower_dcgm_enabled": True, without: False})
    assert not outcome.failed, outcome.output
    assert state() == "inactive"
    assert play(**{"flower_dcgm_enabled": True, without: False}).changed == 0
