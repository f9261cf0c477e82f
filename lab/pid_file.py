# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The file by which a process in the background is found again: it holds a lock on it while it runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO


def running_pid(path: Path) -> int | None:
    """Return the id of the process that holds the file, or None."""
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0)
    return None


def hold(path: Path) -> TextIO:
    """Write this process into the file, which is its own until the returned file is closed. Raises BlockingIOError when another process holds it."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
