# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How many examples the properties are tried with: a share with the unit tests, all of them in ``make fuzz``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

APP = Path(__file__).parents[2] / "apps" / "federation"
# The form of a context is what it is; how long it takes to make one depends on the machine.
ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
settings.register_profile("share", parent=ANY_MACHINE, max_examples=300)
settings.register_profile("fuzz", parent=ANY_MACHINE, max_examples=5000)
# Hypothesis keeps in mind what it has tried, and parts run beside each other.
PARTS = {"share": 1, "fuzz": 20}
PROFILE = os.environ.get("FUZZ_PROFILE", "share")
# Where the app is imported from its directory, as Flower does.
sys.path.insert(0, str(APP))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have each property tried in parts."""
    if "part" in metafunc.fixturenames:
        metafunc.parametrize("part", range(PARTS[PROFILE]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the properties of this directory their number of examples, whatever the tests beside them have."""
    here = [item for item in items if isinstance(item, pytest.Function) and item.path.parent == Path(__file__).parent]
    for function in {item.function for item in here if "part" in item.fixturenames}:
        settings.get_profile(PROFILE)(function)
