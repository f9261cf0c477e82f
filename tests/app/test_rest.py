# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Nodes that say that they are about to stop; the whole app in Flower's virtual environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .test_strategies import inside

pytestmark = pytest.mark.flower

COUNTS = {"min-available-clients": 2, "min-fit-clients": 2, "min-evaluate-clients": 2, "num-server-rounds": 3, "local-epochs": 1}
SCENARIOS = {
    "rest": {"nodes": 3, "lies": {}, "model": False, "rest": [2], "config": COUNTS},
    "all at once": {"nodes": 2, "lies": {}, "model": False, "rest": [1, 2], "config": COUNTS},
}


@pytest.fixture(scope="module")
def results(flower_bin: Path) -> dict[str, dict]:
    return inside(flower_bin, "whole_app.py", standard_input=json.dumps(SCENARIOS))


def phases(result: dict) -> list[list[int]]:
    """Return who was asked to train or to evaluate; an untrained or an exported model is asked of one node."""
    return [nodes for nodes in result["asked"] if len(nodes) > 1]


def test_a_node_that_is_about_to_stop_is_left_alone_until_it_is_back(results: dict[str, dict]) -> None:
    assert phases(results["rest"]) == [[1, 2, 3], [1, 3], [1, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    assert (results["rest"]["failed"], results["rest"]["refused"]) == ("", {})


def test_while_all_are_about_to_stop_the_training_waits(results: dict[str, dict]) -> None:
    assert phases(results["all at once"]) == [[1, 2]] * 6
    assert (results["all at once"]["failed"], results["all at once"]["refused"]) == ("", {})
