# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How busy machines are, from counters of processor time."""

from __future__ import annotations

import threading
import time


class CpuShare:
    """What each machine took of a core since it was last asked about."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[object, tuple[float, float]] = {}

    def of(self, machine: object, seconds: float) -> float:
        """Return percent of one core since the last call for this machine; seconds: all the processor time it took so far."""
        now = time.monotonic()
        with self._lock:
            then, before = self._last.get(machine, (now, seconds))
            self._last[machine] = now, seconds
        return round(100 * (seconds - before) / (now - then), 1) if now > then else 0.0
