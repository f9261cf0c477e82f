# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Interpreters that keep byte code do what others do."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

KEEPER = Path(__file__).parents[2] / "roles/flower_appliance/files/bytecode"


@pytest.fixture
def run(tmp_path: Path):
    """Import a module of this source from an archive, and return what the interpreter printed and complained about."""

    def run(source: str, archive: str, kept: str = str(tmp_path / "kept")) -> tuple[str, str]:
        with zipfile.ZipFile(tmp_path / archive, "w") as packed:
            packed.writestr("told.py", source)
        environment = {**os.environ, "PYTHONPATH": f"{KEEPER}:{tmp_path / archive}", "KEPT_BYTECODE": kept}
        done = subprocess.run([sys.executable, "-c", "import told"], env=environment, capture_output=True, text=True, check=False)
        return done.stdout, done.stderr

    return run


def test_what_is_kept_is_used_and_belongs_to_one_source(run, tmp_path: Path) -> None:
    assert run("print('first')", "one.zip") == ("first\n", "")
    (kept,) = (tmp_path / "kept").iterdir()
    made = kept.stat().st_mtime_ns
    assert run("print('first')", "two.zip") == ("first\n", "")
    assert [file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()] == [made]
    assert run("print('other')", "one.zip") == ("other\n", "")


def test_a_traceback_names_the_file_that_was_imported(run) -> None:
    assert "one.zip/told.py" in run("1 / 0", "one.zip")[1]
    assert "two.zip/told.py" in run("1 / 0", "two.zip")[1]


def test_an_error_in_a_source_is_reported(run) -> None:
    assert "SyntaxError" in run("first second", "one.zip")[1]


def test_where_nothing_can_be_kept_all_goes_on(run) -> None:
    assert run("print('first')", "one.zip", kept="/dev/null/kept") == ("first\n", "")
