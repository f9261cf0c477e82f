# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The app is imported from its directory, as Flower does. Real federations run in a virtual environment of their own."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION

from .flower import Federation
from .shipped import APP, APP_PROGRAM, REPOSITORY

sys.path.insert(0, str(APP))
# Every process of the app is measured where make app-coverage asks for it. Not even for a moment may coverage forget what other threads import, see
# coverage.ini.
MEASURED = (
    "import os; os.environ.get('COVERAGE_PROCESS_START') and (__import__('coverage').process_startup(), "
    "setattr(__import__('coverage.inorout').inorout, 'sys_modules_saved', __import__('contextlib').nullcontext))\n"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "flower: runs the real Flower, in build/flower-VERSION")


def make_flower_venv(version: str = DEFAULT_VERSION) -> Path:
    """Return the bin directory of build/flower-VERSION, made at first use with the program for apps that machines have.

    Wheels that lie in build/wheels are not fetched again. Another release than the default one uses what is installed for that, where it fits.
    """
    venv = REPOSITORY / "build" / f"flower-{version}"
    wheels = REPOSITORY / "build" / "wheels"
    # Byte code is made when a file is first imported; most files never are.
    install = ["install", "--quiet", "--no-compile", *(["--find-links", wheels] if wheels.is_dir() else [])]
    shared = "" if version == DEFAULT_VERSION else f"{_packages(make_flower_venv().parent)}\n"
    # The suite's workers begin at once, and one of them makes it.
    with venv.with_name(f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            (_packages(venv) / "shared.pth").write_text(shared)
            (_packages(venv) / "coverage.pth").write_text(MEASURED)
            subprocess.run([venv / "bin" / "pip", *install, f"flwr=={version}", "scikit-learn", f"coverage=={version_of('coverage')}"], check=True)
            (venv / "complete").touch()
        for name in ("flwr-clientapp", "flwr-serverapp"):
            (venv / "bin" / name).write_text(f"#!{venv}/bin/python3\n{APP_PROGRAM.read_text()}")
    return venv / "bin"


def _packages(venv: Path) -> Path:
    (packages,) = venv.glob("lib/python*/site-packages")
    return packages


@pytest.fixture(scope="session")
def flower_bin() -> Path:
    """The bin directory of Flower's virtual environment."""
    return make_flower_venv()


@pytest.fixture(scope="module")
def federation(flower_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A SuperLink without machine learning libraries and two SuperNodes."""
    with Federation(flower_bin, APP, tmp_path_factory.mktemp("federation")) as running:
        running.add_node()
        running.add_node()
        yield running


@contextmanager
def small_file_system(directory: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of one mebibyte."""
    directory = tmp_path / "small"
    directory.mkdir()
    with small_file_system(directory) as mounted:
        yield mounted
