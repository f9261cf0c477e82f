# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Waiting: what comes back, what ends a wait, and what its sentence says."""

from __future__ import annotations

import re

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException


def test_the_first_value_is_returned_even_if_it_is_false():
    answers = iter([None, None, 0])
    assert wait_until(lambda: next(answers), lambda: "not yet", 5, interval=0.01) == 0


def test_the_deadline_ends_the_wait_with_the_last_state():
    with pytest.raises(OneException) as caught:
        wait_until(lambda: None, lambda: "its state is LOCKED", 0.2, interval=0.05, what="Image 'x' is not READY")
    assert caught.value.kind == "timeout"
    assert caught.value.message == "Image 'x' is not READY after 0.2 seconds: its state is LOCKED."


def test_the_probe_is_asked_once_more_at_the_deadline_so_that_nothing_is_missed():
    asked = []
    with pytest.raises(OneException):
        wait_until(lambda: asked.append(1), lambda: "", 0.1, interval=60)
    assert len(asked) == 2


def test_an_error_of_the_probe_ends_the_wait_at_once():
    def probe():
        raise OneException("wrong_state", "It failed.")

    with pytest.raises(OneException) as caught:
        wait_until(probe, lambda: "", 60)
    assert caught.value.message == "It failed."


def test_progress_shows_every_change_of_state_once_with_the_time():
    states = iter(["PENDING", "PENDING", "BOOT", "BOOT"])
    now, shown, answers = [""], [], iter([None, None, None, None, True])

    def probe():
        now[0] = next(states, "")
        return next(answers)

    wait_until(probe, lambda: now[0], 5, interval=0.01, progress=shown.append)
    assert [line.partition(",")[0] for line in shown] == ["PENDING", "BOOT"]
    assert all(re.fullmatch(r"[A-Z]+, \d+ s", line) for line in shown)
