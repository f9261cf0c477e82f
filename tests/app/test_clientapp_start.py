# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that starts ClientApps on native nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .shipped import CLIENTAPP_PROGRAM

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
