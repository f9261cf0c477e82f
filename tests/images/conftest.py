# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The images in build/appliances, looked at without booting them: each as a raw disk and as the files of its root file system."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "build" / "appliances"
MIB = 1 << 20


@dataclass(frozen=True)
class Image:
    """An image: its file, its manifest, the disk in it, and what is on that."""

    path: Path
    manifest: dict
    disk: Path
    table: dict
    root: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def root_offset(self) -> int:
        return self.table["partitions"][-1]["start"] * self.table["sectorsize"]

    def read(self, name: str) -> str:
        """Return the text of a file on the root file system."""
        return (self.root / name).read_text(encoding="utf-8")

    def mode(self, name: str) -> int:
        """Return the permissions of a file or directory."""
        return (self.root / name).stat().st_mode & 0o7777


def run(*command: str) -> str:
    """Run a program, which has to succeed, and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "image" in metafunc.fixturenames:
        names = sorted(path.stem for path in IMAGES.glob("*.qcow2"))
        assert names, f"{IMAGES} holds no image; make appliance-images makes them"
        metafunc.parametrize("image", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image, unpacked."""
    path = IMAGES / f"{request.param}.qcow2"
    scratch = tmp_path_factory.mktemp(request.param)
    request.addfinalizer(lambda: shutil.rmtree(scratch, ignore_errors=True))
    disk, root = scratch / "disk.raw", scratch / "root"
    root.mkdir()
    run("qemu-img", "convert", "-O", "raw", str(path), str(disk))
    table = json.loads(run("sfdisk", "--json", str(disk)))["partitiontable"]
    offset = table["partitions"][-1]["start"] * table["sectorsize"]
    run("debugfs", "-R", f"rdump / {root}", f"{disk}?offset={offset}")
    return Image(path, json.loads(path.with_suffix(".json").read_text()), disk, table, root)
