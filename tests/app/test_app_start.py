# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that starts ServerApps and ClientApps."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .flower import Federation
from .shipped import APP, APP_PROGRAM

pytestmark = pytest.mark.flower

UPSTREAM = "import sys; from flwr.{0}.cli import {1} as start; sys.argv[0] = '{2}'; start()"
# What the SuperNode keeps its state with, and what servers answer with.
SERVERS_ONLY = ("sqlalchemy", "fastapi")


def python(flower_bin: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([flower_bin / "python", *arguments], capture_output=True, text=True, check=True)


@pytest.mark.parametrize(("package", "name", "without"), [("supernode", "clientapp", SERVERS_ONLY), ("superlink", "serverapp", ())])
def test_it_takes_what_flower_s_own_program_takes_and_loads_less(flower_bin: Path, package: str, name: str, without: tuple[str, ...]) -> None:
    shipped = python(flower_bin, "-X", "importtime", flower_bin / f"flwr-{name}", "--help")
    upstream = python(flower_bin, "-X", "importtime", "-c", UPSTREAM.format(package, f"flwr_{name}", f"flwr-{name}"), "--help")
    assert shipped.stdout == upstream.stdout
    for other in without:
        assert f" {other}." in upstream.stderr
        assert f" {other}." not in shipped.stderr


def test_an_app_may_use_fastapi_nevertheless(flower_bin: Path) -> None:
    uses_it = "import runpy, sys; runpy.run_path(sys.argv[1]); from fastapi import FastAPI; FastAPI()"
    python(flower_bin, "-c", uses_it, APP_PROGRAM)


@pytest.mark.long
def test_apps_that_load_for_longer_than_their_tasks_are_kept_train(flower_bin: Path, tmp_path: Path) -> None:
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
    for name in ("flwr-clientapp", "flwr-serverapp"):
        (programs / name).unlink()
        (programs / name).write_text(f"#!{flower_bin / 'python'}\n{slow}{APP_PROGRAM.read_text()}")
        (programs / name).chmod(0o755)
    with Federation(programs, APP, tmp_path / "federation") as federation:
        federation.add_node()
        run = federation.run(num_server_rounds=1, min_fit_clients=1, min_evaluate_clients=1, min_available_clients=1)
    assert run.status == "finished:completed", run.details
    (end,) = run.data("round_end")
    assert end["num_clients_responded"] == 1
