# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with a secret key of WireGuard, which only their owner reads."""

from __future__ import annotations

import os
from pathlib import Path

MODE = 0o600


def write(path: Path, key: str) -> None:
    """Write a key so that no one else ever can read it, and never half of it."""
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w") as stream:
        stream.write(key + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def read(path: Path) -> str:
    """Return what a file of a key holds, whether or not it is a key."""
    return path.read_text(encoding="ascii", errors="replace").strip()
