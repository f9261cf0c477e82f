# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Monitoring samples, kept in memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

_KEPT = 720


class Samples:
    """The newest samples of hosts and VMs, at most one per interval (in seconds) and object."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._samples: dict[tuple[str, int], deque[dict]] = {}
        self._taken: dict[tuple[str, int], float] = {}

    def add(self, kind: str, object_id: int, sample: dict) -> None:
        """Keep a sample, unless the last one is younger than the interval."""
        key = (kind, object_id)
        if key in self._taken and time.monotonic() - self._taken[key] < self._interval:
            return
        self._taken[key] = time.monotonic()
        self._samples.setdefault(key, deque(maxlen=_KEPT)).append(sample)

    def forget(self, kind: str, object_id: int) -> None:
        self._samples.pop((kind, object_id), None)
        self._taken.pop((kind, object_id), None)

    def last(self, kind: str, object_id: int) -> dict | None:
        samples = self._samples.get((kind, object_id))
        return samples[-1] if samples else None

    def all(self, kind: str, object_id: int) -> list[dict]:
        return list(self._samples.get((kind, object_id), ()))

    def recent(self, kind: str, object_ids: Iterable[int], seconds: int) -> list[dict]:
        """Return the samples of several objects: all (-1), the newest of each (0), or those of the last seconds."""
        since = time.time() - seconds
        chosen = []
        for object_id in sorted(object_ids):
            samples = self.all(kind, object_id)
            if seconds == 0:
                samples = samples[-1:]
            elif seconds > 0:
                samples = [sample for sample in samples if int(sample["TIMESTAMP"]) >= since]
            chosen += samples
        return chosen
