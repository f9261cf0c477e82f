# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Unpack the collections that this one depends on out of the `ansible` package on PyPI.

A checkout thereby works where no Galaxy server can be reached.

Usage: python scripts/fetch_collections.py DIRECTORY [COLLECTION ...]

With names such as community/general, those collections are unpacked instead.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence

ANSIBLE_VERSION = "12.3.0"
COLLECTIONS = ("ansible/posix", "community/crypto", "community/docker", "community/library_inventory_filtering_v1")


def unpack(directory: pathlib.Path, collections: Sequence[str] = COLLECTIONS) -> None:
    """Write collections below `directory`/ansible_collections; pip's own error ends the program."""
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", downloads, f"ansible=={ANSIBLE_VERSION}"], check=True)
        (wheel,) = pathlib.Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            prefixes = tuple(f"ansible_collections/{collection}/" for collection in collections)
            archive.extractall(directory, [name for name in archive.namelist() if name.startswith(prefixes)])


if __name__ == "__main__":
    unpack(pathlib.Path(sys.argv[1]), sys.argv[2:] or COLLECTIONS)
