# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that starts ClientApps on native nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .flower import Federation
from .shipped import APP, CLIENTAPP_PROGRAM

pytestmark = pytest.mark.flower

UPSTREAM = "import sys; from flwr.supernode.cli import flwr_clientapp; sys.argv[0] = 'flwr-clientapp'; flwr_clientapp()"
# What the SuperNode keeps its state with, and what servers answer with.
SERVERS_ONLY = ("sqlalchemy", "fastapi")


def python(flower_bin: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([flower_bin / "python", *arguments], capture_output=True, text=True, check=True)


def test_it_takes_what_flower_s_own_program_takes_and_loads_nothing_of_servers(flower_bin: Path) -> None:
    shipped = python(flower_bin, "-X", "importtime", CLIENTAPP_PROGRAM, "--help")
    upstream = python(flower_bin, "-X", "importtime", "-c", UPSTREAM, "--help")
    assert shipped.stdout == upstream.stdout
    for package in SERVERS_ONLY:
        assert f" {package}." in upstream.stderr
        assert f" {package}." not in shipped.stderr


def test_an_app_may_use_fastapi_nevertheless(flower_bin: Path) -> None:
    uses_it = "import runpy, sys; runpy.run_path(sys.argv[1]); from fastapi import FastAPI; FastAPI()"
    python(flower_bin, "-c", uses_it, CLIENTAPP_PROGRAM)


def test_an_app_that_loads_for_longer_than_its_task_is_kept_trains(flower_bin: Path, tmp_path: Path) -> None:
    # Flower keeps it for 30 s.
    slow = """\
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "flwr.supercore.heartbeat":
            sys.meta_path.remove(self)
            time.sleep(35)
sys.meta_path.insert(0, Slow())
"""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in flower_bin.iterdir():
        (programs / program.name).symlink_to(program)
    (programs / "flwr-clientapp").unlink()
    (programs / "flwr-clientapp").write_text(f"#!{flower_bin / 'python'}\n{slow}{CLIENTAPP_PROGRAM.read_text()}")
    (programs / "flwr-clientapp").chmod(0o755)
    with Federation(programs, APP, tmp_path / "federation") as federation:
        federation.add_node()
        run = federation.run(num_server_rounds=1, min_fit_clients=1, min_evaluate_clients=1, min_available_clients=1)
    assert run.status == "finished:completed", run.details
    (end,) = run.data("round_end")
    assert end["num_clients_responded"] == 1
