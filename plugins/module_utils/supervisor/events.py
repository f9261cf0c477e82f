# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the events of a run, one JSON object per line, while the app writes them."""

from __future__ import annotations

import os
from typing import Any

from .run_directory import RunDirectory
from .untrusted import decode_json

EVENTS_FILE = "events.jsonl"
# What is read at once, and the longest line that can be an event.
BLOCK_BYTES = 1 << 20
_LINE_BYTES = 64 << 10


def read_events(directory: RunDirectory, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the next complete events after a position, those in one block at most, and the position after them.

    A line that is still being written is left for the next call; lines that are no event are skipped. A file that does
    not exist (yet) has no events.
    """
    try:
        with directory.open(EVENTS_FILE) as stream:
            stream.seek(offset)
            content = stream.read(BLOCK_BYTES)
    except OSError:
        return [], offset
    complete = content[: content.rfind(b"\n") + 1]
    if not complete and len(content) == BLOCK_BYTES:
        return [], offset + len(content)  # in the middle of a line that is too long
    events = [_event(line) for line in complete.splitlines()]
    return [event for event in events if event is not None], offset + len(complete)


def end_of_events(directory: RunDirectory) -> int:
    """Return the position after everything written so far."""
    try:
        with directory.open(EVENTS_FILE) as stream:
            return stream.seek(0, os.SEEK_END)
    except OSError:
        return 0


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = decode_json(line, _LINE_BYTES)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
