# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""`make tutorials`: what the tutorials say, done word by word, in a copy of this checkout whose zone in a box boots VMs, and with the real Flower."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.support.tutorials import PAGES, blocks, follow

HERE = Path(__file__).resolve().parents[2]
LAB, FLOWER = "run in the lab", "run with Flower"


def with_mark(mark: str) -> list[Path]:
    return [page for page in PAGES if any(block.mark == mark for block in blocks(page))]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """The files of this checkout in another place, as a reader has them, with what was downloaded for it."""
    root = tmp_path / "checkout"
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HERE, text=True)
    for name in filter(None, listed.split("\0")):
        if (HERE / name).is_symlink() or (HERE / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, root / name, follow_symlinks=False)
    (root / "build").mkdir()
    (root / ".venv").symlink_to((HERE / ".venv").resolve())
    (root / "build/collections").symlink_to((HERE / "build/collections").resolve())
    try:
        yield root
    finally:  # a page that failed leaves its zones running
        subprocess.run(["make", "clean-edge", "clean-zones", "lab-reset"], cwd=root, env=environment(root), check=False)
        subprocess.run([sys.executable, "-m", "lab.images", "clean"], cwd=root, env=environment(root), check=False)


def environment(root: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "ONE", "MAKE"))}
    return own | {
        "PYTHONPATH": str(root), "ANSIBLE_CONFIG": f"{root}/ansible.cfg", "PWD": str(root),
        "ANSIBLE_COLLECTIONS_PATH": f"{root}:{root}/build/collections",
    }  # fmt: skip


@pytest.mark.parametrize("page", with_mark(LAB), ids=lambda page: page.stem)
def test_in_the_lab(page: Path, checkout: Path) -> None:
    assert "RESULT accuracy=" in follow(page, LAB, checkout, environment(checkout))


def test_an_app_of_your_own_finds_the_line_through_the_points_of_both_sites(tmp_path: Path) -> None:
    (page,) = with_mark(FLOWER)
    path = f"{make_flower_venv()}{os.pathsep}{os.environ['PATH']}"
    assert "[2. 1.]" in follow(page, FLOWER, tmp_path, os.environ | {"PATH": path})
