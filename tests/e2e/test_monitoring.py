# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""`make demo MONITORING=1`: a Prometheus beside the zone sees the training of real VMs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from lab_checkout import ROOT, make

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def said() -> Iterator[str]:
    """What the demo prints in a zone without state."""
    make("engine", "lab-reset", "images")
    yield make("demo", "MONITORING=1")
    make("lab-reset")


def test_every_vm_of_the_federation_is_scraped(said: str) -> None:
    # The SuperLink twice, for what it trains and for its gateway.
    assert "Targets: 4 of 4 up" in said


def test_every_panel_that_needs_no_gpu_has_data(said: str) -> None:
    found = {title: (full, of) for title, full, of in re.findall(r"^(.*): (\d+) of (\d+) panels have data", said, re.MULTILINE)}
    assert len(found) == 4
    assert [title for title, (full, of) in found.items() if "GPU" not in title and full != of] == []


def test_every_dashboard_is_drawn(said: str) -> None:
    pictures = sorted((ROOT / "build/monitoring").glob("flower-*.html"))
    assert len(pictures) == 4
    assert [path.name for path in pictures if "gpu" not in path.name and "<polyline" not in path.read_text()] == []


def test_nothing_is_wrong_with_a_training_that_goes_well(said: str) -> None:
    assert "Alerts: none" in said
