# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One copy of this checkout for all tests, and the zone in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from lab_checkout import ENVIRONMENT, HERE, INSTALLED, ROOT, make


@pytest.fixture(scope="session", autouse=True)
def checkout() -> Iterator[None]:
    """The files of this checkout in another place, with what was downloaded for it, and the collection installed from its archive."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HERE, text=True)
    for name in filter(None, listed.split("\0")):
        if (HERE / name).is_symlink() or (HERE / name).exists():
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, ROOT / name, follow_symlinks=False)
    galaxy = ("ansible-galaxy", "collection")
    subprocess.run([*galaxy, "build", "--output-path", str(ROOT.parent)], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    (archive,) = ROOT.parent.glob("opennebula-flower-*.tar.gz")
    subprocess.run([*galaxy, "install", str(archive), "--no-deps", "-p", str(INSTALLED)], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    shutil.rmtree(ROOT / "playbooks")
    (ROOT / "build").mkdir()
    (ROOT / ".venv").symlink_to((HERE / ".venv").resolve())
    (ROOT / "build/collections").symlink_to((HERE / "build/collections").resolve())
    shutil.copytree(HERE / "build/wheels", ROOT / "build/wheels", copy_function=os.link)
    try:
        yield
    finally:  # a test that failed leaves its zone running, and one that was run by itself its images
        for words in (("lab", "clean", "--name", "zone0"), ("lab.images", "clean")):
            subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=ENVIRONMENT, check=False)
        shutil.rmtree(ROOT.parent)


@pytest.fixture(scope="session")
def empty_zone(checkout: None) -> None:
    """A zone that runs and has nothing in it yet, and the images that appliances are baked from."""
    make("engine", "lab-reset", "images", "lab-up")
