# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a supervisor keeps over a restart: its runs and the totals of its metrics, in the state file."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .artifacts import Collection
from .metrics import Totals
from .protocol import ENDED
from .runs import Run, run_from_record
from .untrusted import decode_json, sentence

LOGGER = logging.getLogger("flower-supervisor")

FORMAT = 2
_MOST_BYTES = 64 << 20
# Runs beyond so many are forgotten, the oldest first that has ended.
_MOST_RUNS = 200


class State:
    """All runs of late, oldest first, kept in a file that is never half written and, for its tokens, private.

    A file that cannot be read, or not in full, is put aside under another name, and ``put_aside`` is true; ``runs`` holds
    what could be read. Raises OSError when there is a file and the disk does not give it.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.runs: list[Run] = []
        self.totals = Totals()
        self.put_aside = False
        try:
            problem = self._load()
        except FileNotFoundError:
            return
        except IsADirectoryError:
            problem = "it is a directory"
        if problem:
            self._put_aside(problem)

    def find(self, name: str) -> Run | None:
        """Return the run of that name."""
        return next((run for run in self.runs if run.name == name), None)

    def current(self) -> Run | None:
        """Return the run to work on: the oldest that has not ended."""
        return next((run for run in self.runs if run.status not in ENDED), None)

    def add(self, run: Run, lasting: str | None) -> list[Run]:
        """Take a run in, and forget the oldest ones that have ended when there are too many, but never the lasting one; return these."""
        self.runs.append(run)
        ended = [old for old in self.runs if old.status in ENDED and old.name != lasting]
        forgotten = ended[: max(0, len(self.runs) - _MOST_RUNS)]
        for old in forgotten:
            self.runs.remove(old)
        return forgotten

    def save(self) -> None:
        """Write the file. Raises OSError, and then the older file is as it was."""
        content = json.dumps({"format": FORMAT, "runs": [dataclasses.asdict(run) for run in self.runs], "totals": self.totals.to_record()})
        temporary = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            private = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(private, "w", encoding="utf-8") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _load(self) -> str:
        """Read the file; return what is wrong with it, empty when nothing is."""
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
            content = decode_json(self._path.read_bytes(), _MOST_BYTES)
            if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
                raise ValueError("it holds no runs")
            if content.get("format", FORMAT) != FORMAT:
                raise ValueError(f"it has format {sentence(content['format'], 40)}, this version reads {FORMAT}")
        except ValueError as problem:
            return str(problem)
        self.totals = Totals.from_record(content.get("totals"))
        return "; ".join(sentence(problem, 100) for problem in map(self._take, content["runs"]) if problem)

    def _take(self, record: Any) -> str:
        """Take one record of the file over, as far as it can be; return what cannot."""
        try:
            run, unknown = run_from_record(record)
            if run.artifacts:
                Collection.from_record(run.artifacts)
            if self.find(run.name):
                return f"it has run '{run.name}' twice"
        except ValueError as problem:
            return str(problem)
        self.runs.append(run)
        return f"run '{run.name}' has '{unknown[0]}', which this version does not know" if unknown else ""

    def _put_aside(self, problem: str) -> None:
        self.put_aside = True
        aside = self._path.with_name(f"{self._path.name}.unreadable-{time.time_ns() // 1_000_000}")
        try:
            self._path.rename(aside)
        except OSError as failure:
            LOGGER.error("The state file %s cannot be read: %s. Nor can it be put aside: %s.", self._path, sentence(problem), sentence(failure))
            return
        LOGGER.error(
            "The state file %s cannot be read: %s. It is kept as %s, and the runs are found again by their directories; "
            "to go back to it, stop the supervisor and put a file there that it can read.",
            self._path,
            sentence(problem),
            aside,
        )
