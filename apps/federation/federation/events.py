# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The events of a run: one JSON object per line."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import sys
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

LOGGER = logging.getLogger("flwr")
LOGGER.setLevel(logging.DEBUG)  # as Flower has it: handlers choose, and events do not depend on FLWR_LOG_LEVEL

_MOST_UNWRITTEN = 1000
# So large a file takes only the events by which a supervisor follows a run, and twice as large only its end.
_MOST_BYTES = 64 << 20
_COURSE = frozenset({"training_start", "training_resumed", "round_end"})
_DROPPED = "events_dropped"
_END = frozenset({"training_end", "training_failed"})


class EventFile(logging.Handler):
    """Appends the log records that carry an event to a file; each line is complete when the call returns.

    While the disk is full, events wait for the next one. What an interrupted attempt left of a line stays a line by itself, and a file
    that is too large gets no more than it must have, after an event that says so.
    """

    def __init__(self, path: Path, role: str = "superlink") -> None:
        super().__init__(level=logging.DEBUG)
        self._path = path
        self._role = role
        self._unwritten: deque[bytes] = deque(maxlen=_MOST_UNWRITTEN)
        self._dropping = False
        self.addFilter(lambda record: hasattr(record, "event"))

    def emit(self, record: logging.LogRecord) -> None:
        size = self._size()
        if size < _MOST_BYTES or record.event in _END or (size < 2 * _MOST_BYTES and record.event in _COURSE):
            self._unwritten.append(_line(record, self._role, record.event, record.data).encode() + b"\n")
        elif not self._dropping:
            self._dropping = True
            words = f"the file of the events has {size} bytes; from now on it gets the course and the end of the training alone"
            said = logging.LogRecord(record.name, logging.WARNING, record.pathname, record.lineno, words, (), None)
            self._unwritten.append(_line(said, self._role, _DROPPED, {"size_bytes": size}).encode() + b"\n")
        if not self._unwritten:
            return
        try:
            self._append(b"".join(self._unwritten))
        except OSError:
            if len(self._unwritten) == 1:  # once is enough
                self.handleError(record)
        else:
            self._unwritten.clear()

    def _append(self, lines: bytes) -> None:
        """Append all or nothing."""
        with self._path.open("a+b", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                lines = lines if stream.read(1) == b"\n" else b"\n" + lines
            try:
                if stream.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                stream.truncate(end)
                raise

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def tell(event: str, message: str, level: int = logging.INFO, **data: object) -> None:
    """Print an event of a node on one line, which ends up in the node's journal: a ClientApp has no file to write to."""
    frame = sys._getframe(1)
    record = logging.LogRecord(LOGGER.name, level, frame.f_code.co_filename, frame.f_lineno, message, (), None)
    print(_line(record, "supernode", event, data), flush=True)


def figure(value: float) -> float | str:
    """Return a number as JSON can keep it: one that is not finite is NaN, Infinity or -Infinity as text. float() reads it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"


def log_event(event: str, message: str, level: int = logging.INFO, **data: object) -> None:
    """Log a message for people that carries an event for programs."""
    LOGGER.log(level, "%s", message, extra={"event": event, "data": data}, stacklevel=3)


def _line(record: logging.LogRecord, role: str, event: str, data: Mapping[str, object]) -> str:
    content = {
        "timestamp": _utc(record.created),
        "level": record.levelname,
        "logger": record.name,
        "role": role,
        "message": record.getMessage(),
        "source": f"{record.filename}:{record.lineno}",
        "event": event,
        "data": {key: _json_value(value) for key, value in data.items()},
    }
    return json.dumps(content, allow_nan=False)


def _utc(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _json_value(value: object) -> object:
    """JSON knows neither NaN nor infinity, and has them as text."""
    return figure(value) if isinstance(value, float) else value
