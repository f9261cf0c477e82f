# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding runs again by what is in their directories, when the supervisor's own record of them is lost."""

from __future__ import annotations

import os
from collections.abc import Container
from itertools import islice
from typing import Any

from ..flower.run_config import flat
from .artifacts import collect
from .events import EVENTS_FILE
from .protocol import COMPLETED, FAILED, RUN_NAME, STOPPED
from .run_directory import RunDirectory
from .runs import Run, catch_up
from .untrusted import count

try:
    import tomllib
except ImportError:  # Python below 3.11, where no supervisor runs
    tomllib = None  # type: ignore[assignment]

CONFIG_FILE = "run-config.toml"
LOST = "how it went on was lost with the state file; ask for it to go on with resume"

_MOST_DIRECTORIES = 1000
_CONFIG_BYTES = 256 << 10


def find_runs(runs_directory: str, known: Container[str]) -> list[Run]:
    """Return the runs that have a directory and are not known, oldest first; one without an end counts as stopped.

    ``config`` is all of the configuration that a run was submitted with.
    """
    return [_rebuilt(RunDirectory(runs_directory, name), name, seconds) for name, seconds in _changes(runs_directory, known)]


def _changes(runs_directory: str, known: Container[str]) -> list[tuple[str, float]]:
    """Return the names of the runs' directories and when something was written there last, in that order."""
    changes = {}
    with os.scandir(runs_directory) as entries:
        for entry in islice(entries, _MOST_DIRECTORIES):
            if RUN_NAME.fullmatch(entry.name) and entry.name not in known and entry.is_dir(follow_symlinks=False):
                times = [_changed(os.path.join(entry.path, name)) for name in (EVENTS_FILE, CONFIG_FILE)]
                if any(times):
                    changes[entry.name] = max(times)
    return sorted(changes.items(), key=lambda change: change[1])


def _changed(path: str) -> float:
    try:
        return os.stat(path, follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _rebuilt(directory: RunDirectory, name: str, changed: float) -> Run:
    run = Run(name, _submitted_config(directory), STOPPED, attempts=1)
    last = catch_up(run, directory)
    run.started = run.ended = count(changed)
    if run.has_model:
        run.status = COMPLETED
    elif last.get("event") == "training_failed":
        run.status = FAILED
    else:
        run.message = LOST
    files = collect(directory)
    if files.files:
        run.artifacts = files.to_record()
    return run


def _submitted_config(directory: RunDirectory) -> dict[str, Any]:
    """Return what the supervisor wrote for Flower, unless the app has made something else of it."""
    try:
        with directory.open(CONFIG_FILE) as stream:
            return flat(tomllib.loads(stream.read(_CONFIG_BYTES).decode()))
    except (OSError, ValueError, RecursionError):
        return {}
