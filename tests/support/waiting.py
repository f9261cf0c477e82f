# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for what machines and servers do in their own time."""

from __future__ import annotations

import time
from collections.abc import Callable

_PAUSE = 0.5  # seconds; whoever asks without a pause takes the processor that is needed to answer


def wait_until(condition: Callable[[], object], what: str, seconds: float = 600, shown: Callable[[], str] = str) -> None:
    """Return as soon as the condition holds; fail with what was waited for, and what is shown then, after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what} {shown()}".rstrip()
        time.sleep(_PAUSE)
