# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves the files of ended runs, as a program of its own with no rights but to read them: whoever has a token talks to it.

The supervisor offers them in a file, which is read again whenever another one is in its place.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifact_server --config FILE``
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import state_file, unit_log
from .artifacts import ArtifactServer, Collection
from .settings_file import read_settings
from .untrusted import decode_json, sentence

LOGGER = logging.getLogger("flower-artifacts")

_MOST_BYTES = 16 << 20
_MODE = 0o640


@dataclass(frozen=True)
class Config:
    """The settings of the server, as in its JSON file: where it listens, whose files it serves, and in which file the supervisor offers them.

    Tokens expire after ``days``, 0 for never.
    """

    port: int
    runs_directory: str
    offered_file: str
    days: float = 30

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a settings file; ValueError names unknown and missing keys."""
        return read_settings(cls, path)


class Offered(Mapping[str, Collection]):
    """The collections in a file, by name of the run, as they are now; none while there is no file that can be read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: tuple[tuple[int, int, int] | None, dict[str, Collection]] = None, {}
        self._problem = ""

    def __getitem__(self, run: str) -> Collection:
        return self._now()[run]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> dict[str, Collection]:
        version, collections = self._read
        problem = ""
        try:
            with open(self._path, "rb") as stream:
                status = os.fstat(stream.fileno())
                found = status.st_ino, status.st_mtime_ns, status.st_size
                if found != version:
                    collections = _decoded(stream.read(_MOST_BYTES + 1))
                    self._read = found, collections
        except (OSError, ValueError) as error:
            problem = sentence(error)
            collections = {}
        if problem and problem != self._problem:
            LOGGER.warning("No files are offered: %s.", problem)
        self._problem = problem
        return collections


def offer(path: str, collections: Mapping[str, Collection]) -> None:
    """Write what is offered, in the place of what was. Raises OSError."""
    state_file.write(Path(path), _encoded(collections), _MODE)


def _encoded(collections: Mapping[str, Collection]) -> str:
    return json.dumps({run: collection.to_record() for run, collection in collections.items()})


def _decoded(content: bytes) -> dict[str, Collection]:
    records = decode_json(content, _MOST_BYTES)
    if not isinstance(records, dict):
        raise ValueError("it is not a list of files")
    return {run: Collection.from_record(record) for run, record in records.items()}


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(description="Serves the files of ended training runs on loopback.")
    parser.add_argument("--config", required=True, help="JSON file with the settings")
    path = parser.parse_args().config
    unit_log.set_up("flower-artifacts")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_signal: ended.set())
    try:
        config = Config.read(path)
        server = ArtifactServer(config.port, config.runs_directory, Offered(config.offered_file), config.days * 86400)
    except (OSError, ValueError) as problem:
        LOGGER.error("The files of runs cannot be served: %s", sentence(problem))
        return 1
    server.start()
    ended.wait()
    server.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
