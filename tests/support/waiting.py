# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for what machines and servers do in their own time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PAUSE = 0.5  # seconds; whoever asks without a pause takes the processor that is needed to answer


def wait_until(condition: Callable[[], object], what: str, seconds: float = 600, shown: Callable[[], str] = str) -> None:
    """Return as soon as the condition holds; fail with what was waited for, and what is shown then, after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what} {shown()}".rstrip()
        time.sleep(_PAUSE)


@contextmanager
def repeating(step: Callable[[], object], seconds: float = _PAUSE) -> Iterator[None]:
    """Call a function again and again beside the test, with so many seconds between."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(seconds):
            step()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
