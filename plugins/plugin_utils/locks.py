# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock files of what images are baked from: for a list of pip requirements every package that they lead to, with its version and its wheel's SHA-256.

A lock file is one that pip reads. Its first line names the requirements that it is for, so that another Flower release,
or other packages, do not get the versions of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

LOCKS = Path(__file__).resolve().parents[2] / "roles" / "_flower_runtime" / "files" / "locks"
_PYTORCH_CPU = re.compile(r"torch==.*[+]cpu")
_LACKING = re.compile(r"ERROR: (No matching|Cannot install|THESE PACKAGES DO NOT MATCH)")
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


def source(requirement_lists: Iterable[Sequence[str]], python: str, locks: Path = LOCKS) -> str:
    """Return where pip gets the versions of lists of requirements from: locked, where each has a lock file, or index."""
    return "locked" if all(lock(requirements, python, locks) for requirements in requirement_lists) else "index"


def reason(lines: Sequence[str]) -> str:
    """Return why pip failed, from the lines that it wrote: what it lacked, or else its last word."""
    telling = [line for line in lines if _LACKING.match(line)]
    return (telling or lines or ["no reason given"])[-1].removeprefix("ERROR: ")


def index_arguments(requirements: Iterable[str], url: str) -> list[str]:
    """Return the arguments of pip for a build of PyTorch for the CPU, which is at a URL beside Python's package index; none without one."""
    wanted = any(_PYTORCH_CPU.fullmatch(requirement) for requirement in requirements)
    return ["--retries", "2", "--extra-index-url", url] if wanted and url else []
