# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The state of a zone: objects in memory, every change written through to one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path


class Store:
    """Objects by kind and id. Callers hold the zone's lock; changes are durable after commit()."""

    def __init__(self, path: str | Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode = WAL;"
            "PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS objects (kind TEXT, id INTEGER, body TEXT, PRIMARY KEY (kind, id));"
            "CREATE TABLE IF NOT EXISTS counters (kind TEXT PRIMARY KEY, next INTEGER);"
        )
        self._objects: dict[str, dict[int, dict]] = {}
        for kind, object_id, body in self._database.execute("SELECT kind, id, body FROM objects ORDER BY id"):
            self._objects.setdefault(kind, {})[object_id] = json.loads(body)
        self._next = dict(self._database.execute("SELECT kind, next FROM counters"))

    def new_id(self, kind: str, at_least: int = 0) -> int:
        """Return an id that was never used for this kind."""
        object_id = max(self._next.get(kind, 0), at_least)
        self._next[kind] = object_id + 1
        self._database.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (kind, object_id + 1))
        return object_id

    def give_back_id(self, kind: str, object_id: int) -> None:
        """Use an id again that came to nothing; the very first one never is."""
        self._next[kind] = max(object_id, 1)
        self._database.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (kind, self._next[kind]))

    def get(self, kind: str, object_id: int) -> dict | None:
        return self._objects.get(kind, {}).get(object_id)

    def all(self, kind: str) -> list[dict]:
        """All objects of a kind, oldest first."""
        return list(self._objects.get(kind, {}).values())

    def save(self, kind: str, item: dict) -> None:
        """Add or change an object; it is known by item["id"]."""
        self._objects.setdefault(kind, {})[item["id"]] = item
        self._database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (kind, item["id"], json.dumps(item)))

    def remove(self, kind: str, object_id: int) -> None:
        self._objects.get(kind, {}).pop(object_id, None)
        self._database.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, object_id))

    def commit(self) -> None:
        self._database.commit()

    def close(self) -> None:
        self._database.commit()
        self._database.close()
