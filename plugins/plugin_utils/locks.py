# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock files of what images are baked from: for a list of pip requirements every package that they lead to, with its version and its wheel's SHA-256.

A lock file is one that pip reads. Its first line names the requirements that it is for, so that another Flower release,
or other packages, do not get the versions of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

LOCKS = Path(__file__).resolve().parents[2] / "roles" / "_flower_runtime" / "files" / "locks"
_NO_MORE = "--no-deps"  # everything that is needed is named


def header(requirements: Sequence[str]) -> str:
    """Return the first line of the lock file of these requirements."""
    return f"# {' '.join(sorted(requirements))}"


def lock(requirements: Sequence[str], python: str, locks: Path = LOCKS) -> Path | None:
    """Return the lock file of requirements for a Python release (``3.13``) on x86-64, or None if there is none."""
    wanted = header(requirements)
    for path in sorted((locks / python).glob("*.txt")):
        with path.open(encoding="ascii") as file:
            if file.readline().rstrip("\n") == wanted:
                return path
    return None


def download_arguments(requirements: Sequence[str], python: str, locks: Path = LOCKS) -> list[str]:
    """Return what pip is to download: what the lock file says, or the requirements if there is none."""
    found = lock(requirements, python, locks)
    return [_NO_MORE, "--require-hashes", "--requirement", str(found)] if found else list(requirements)


def install_arguments(requirements: Sequence[str], python: str, locks: Path = LOCKS) -> list[str]:
    """Return what pip is to install of the wheels it downloaded, from which it is to take no others: versions, or the requirements without a lock."""
    found = lock(requirements, python, locks)
    if found is None:
        return list(requirements)
    lines = found.read_text(encoding="ascii").splitlines()
    return [_NO_MORE, *(line.split(" ", 1)[0] for line in lines if line and not line.startswith("#"))]
