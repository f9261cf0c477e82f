# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""No unit test depends on how fast the machine is: Hypothesis' deadline of 0.2 s for an example is off. What units log is checked everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from ansible_collections.opennebula.flower.tests.support.unit_log_schema import events_checked

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _events_of_units() -> Iterator[None]:
    with events_checked():
        yield
