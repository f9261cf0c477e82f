# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Named arrays in numpy's npz format. The same arrays always give the same file; nothing is ever pickled."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np


def write_arrays(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays under their names, in their order."""
    with zipfile.ZipFile(stream, "w") as archive:
        add_arrays(archive, arrays)


def add_arrays(archive: zipfile.ZipFile, arrays: Mapping[str, np.ndarray], prefix: str = "") -> str:
    """Add arrays to an archive under their names with a prefix; return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        # A fixed date: ZipInfo's own default is 1980.
        with archive.open(zipfile.ZipInfo(f"{prefix}{name}.npy"), "w", force_zip64=True) as member:
            np.lib.format.write_array(_Digesting(member, digest), np.asarray(array), allow_pickle=False)
    return digest.hexdigest()


def read_arrays(archive: zipfile.ZipFile, prefix: str = "") -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays of an archive whose names begin with a prefix, in their order and without it, and their SHA-256.

    Raises:
        ValueError, zipfile.BadZipFile, OSError: this is no archive of arrays, or it is damaged.
    """
    arrays = {}
    digest = hashlib.sha256()
    for name in archive.namelist():
        if name.startswith(prefix) and name.endswith(".npy"):
            content = archive.read(name)  # compares the CRC, too
            digest.update(content)
            arrays[name[len(prefix) : -len(".npy")]] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return arrays, digest.hexdigest()


class _Digesting:
    """A stream that digests what passes through it."""

    def __init__(self, stream: BinaryIO, digest: hashlib._Hash) -> None:
        self._stream = stream
        self._digest = digest

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        return self._stream.write(content)
