# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: what a unit runs to divide a GPU, packages that are missing, and the checks of GPUs as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.mig import create_command

_INSTALLED = "installed "


def mig_command(profiles: Sequence[str], gpu: int) -> list[str]:
    """Return the command that divides a GPU."""
    return create_command(gpu, profiles)


def missing_packages(installed: Iterable[str], names: Iterable[str], version: str = "") -> list[str]:
    """Return which packages are missing, with =VERSION if one is wanted. installed: lines of a package manager, "installed NAME=VERSION"."""
    there = [line.removeprefix(_INSTALLED) for line in installed if line.startswith(_INSTALLED)]
    there = there if version else [package.partition("=")[0] for package in there]
    return [package for package in (f"{name}={version}" if version else name for name in names) if package not in there]


def check_table(checks: Sequence[Mapping[str, str]], width: int = 120) -> list[str]:
    """Return checks as the lines of a table no wider than that: state, name, and the finding with what to do."""
    rows = [(check["state"].upper(), check["name"], [check["finding"], *([f"-> {check['fix']}"] if check["fix"] else [])]) for check in checks]
    states, names = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    room = max(width - states - names - 4, 20)
    lines = []
    for state, name, texts in rows:
        parts = [part for text in texts for part in textwrap.wrap(text, room, subsequent_indent="   " if text.startswith("-> ") else "")]
        for number, part in enumerate(parts or [""]):
            lines.append(f"{'' if number else state:<{states}}  {'' if number else name:<{names}}  {part}".rstrip())
    return lines


class FilterModule:
    """The filters for NVIDIA GPUs."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"nvidia_mig_command": mig_command, "nvidia_missing_packages": missing_packages, "gpu_check_table": check_table}
