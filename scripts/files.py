# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How the scripts of ``make docs`` write what follows from their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path


def write_files(written: Callable[[Path], Mapping[str, str]]) -> None:
    """Write the files of a checkout, which is the current directory; ``written`` gives their contents by their paths in it."""
    root = Path.cwd()
    for path, content in written(root).items():
        (root / path).write_text(content)
