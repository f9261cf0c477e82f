# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a supervisor."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from .runs import ENDED, Run


class Store:
    """All runs ever seen, oldest first, kept in a file that is never half written and, for its tokens, private."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.runs: list[Run] = []
        if self._path.exists():
            content = json.loads(self._path.read_text(encoding="utf-8"))
            self.runs = [Run(**record) for record in content["runs"]]

    def find(self, name: str) -> Run | None:
        """Return the run of that name."""
        return next((run for run in self.runs if run.name == name), None)

    def current(self) -> Run | None:
        """Return the run to work on: the oldest that has not ended."""
        return next((run for run in self.runs if run.status not in ENDED), None)

    def save(self) -> None:
        """Write the file."""
        content = json.dumps({"runs": [dataclasses.asdict(run) for run in self.runs]})
        temporary = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        private = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(private, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._path)
