# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for the server to get something done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..transport.errors import TIMEOUT, OneException

Value = TypeVar("Value")

_BACKOFF = 1.5
# A longer silence makes people think the work hangs.
_REPORT_INTERVAL = 10


def wait_until(
    probe: Callable[[], Value | None],
    describe: Callable[[], str],
    timeout: float,
    *,
    interval: float = 0.5,
    max_interval: float = 5,
    progress: Callable[[str], None] | None = None,
    what: str = "The wait has not ended",
) -> Value:
    """Call probe until it returns something other than None, and return that.

    probe: raises OneException to end the wait at once, when what is waited for cannot come any more.
    describe: says how things stand, as seen by the last probe: state, reason, what is missing; no full stop.
    timeout: seconds for everything. interval, max_interval: seconds between two probes, growing from one to the other.
    progress: called with the description and the time so far whenever it changes, and every few seconds.
    what: the beginning of the error's sentence: who was expected to become what.
    Raises OneException of kind timeout.
    """
    start = time.monotonic()
    reported = ("", start)
    while True:
        value = probe()
        if value is not None:
            return value
        status = describe()
        now = time.monotonic()
        if progress and (status != reported[0] or now - reported[1] >= _REPORT_INTERVAL):
            progress(f"{status}, {now - start:.0f} s")
            reported = (status, now)
        left = start + timeout - now
        if left <= 0:
            raise OneException(TIMEOUT, f"{what} after {timeout:g} seconds: {status}.")
        time.sleep(min(interval, left))
        interval = min(interval * _BACKOFF, max_interval)
