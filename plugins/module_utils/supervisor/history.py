# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rounds of a run, from a copy of its events."""

from __future__ import annotations

import os
from typing import ClassVar

from .protocol import Round
from .run_directory import RunDirectory
from .runs import Run, catch_up

_MOST_BYTES = 256 << 20


class _WholeRun(Run):
    kept_rounds: ClassVar[int] = 10_000
    kept_figures: ClassVar[int] = 200_000


def rounds(path: str) -> list[Round]:
    """Return the rounds that the events in a directory tell, ascending; none when it has no events.

    What an app wrote is bounded: the newest 10000 rounds, or so many that they have 200000 figures, of the first 256 MiB.
    """
    directory = RunDirectory(*os.path.split(os.path.realpath(path)))
    run = _WholeRun(os.path.basename(path))
    catch_up(run, directory, _MOST_BYTES)
    return run.history
