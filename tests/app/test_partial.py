# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Rounds that do not wait for everybody: the app's own ServerApp and ClientApp, with nodes that drop out at random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federation.rounds import completing

from .test_strategies import inside

pytestmark = pytest.mark.long

NODES, ROUNDS, ABSENT = 100, 5, 0.4
# Nobody is waited for until the time-out, which would take hours.
CONFIG = {
    "num-server-rounds": ROUNDS, "min-available-clients": 60, "min-fit-clients": 50, "min-evaluate-clients": 50, "round-completion": 0.6,
    "round-timeout": 3600,
}  # fmt: skip


@pytest.fixture(scope="module")
def results(flower_bin: Path) -> dict[str, dict]:
    """A run in which everybody answers, one in which 40 of 100 nodes, other ones each time, do not, and one that waits for too many."""
    scenario = {"nodes": NODES, "lies": {}, "model": False}
    scenarios = {
        "full": {**scenario, "config": CONFIG | {"round-completion": 1.0}},
        "partial": {**scenario, "absent": ABSENT, "config": CONFIG},
        "deadline": {**scenario, "absent": ABSENT, "config": CONFIG | {"num-server-rounds": 1, "round-completion": 1.0, "round-timeout": 6}},
    }
    return inside(flower_bin, "whole_app.py", standard_input=json.dumps(scenarios))


@pytest.mark.flower
class TestHundredNodes:
    def test_the_model_is_as_good_as_that_of_all_nodes(self, results: dict[str, dict]) -> None:
        full, partial = results["full"]["accuracy"][-1], results["partial"]["accuracy"][-1]
        assert full > 0.8
        assert abs(full - partial) <= 0.02

    def test_each_round_closes_with_the_share_that_completes_it(self, results: dict[str, dict]) -> None:
        assert {(data["num_clients_selected"], data["num_clients_responded"]) for data in results["partial"]["rounds"]} == {(NODES, 60)}
        assert len(results["partial"]["rounds"]) == ROUNDS

    def test_nobody_failed(self, results: dict[str, dict]) -> None:
        assert results["partial"]["refused"] == {}

    def test_late_replies_are_counted_and_nothing_else(self, results: dict[str, dict]) -> None:
        # Training and evaluation of every round but the last, whose replies nobody looks for any more.
        assert results["partial"]["late"] == 2 * 40 * (ROUNDS - 1)

    def test_without_a_share_a_round_closes_at_its_deadline_with_what_came(self, results: dict[str, dict]) -> None:
        rounds = results["deadline"]["rounds"]
        assert [data["num_clients_responded"] for data in rounds] == [60]
        assert set(results["deadline"]["refused"].values()) == {"no answer within 6 s"}


@pytest.mark.parametrize(("asked", "share", "required", "enough"), [(100, 0.07, 2, 7), (10, 0.55, 2, 6), (3, 0.1, 2, 2), (5, 1.0, 2, 5), (1, 0.5, 1, 1)])
def test_a_share_is_rounded_up_and_never_below_the_fewest_nodes(asked: int, share: float, required: int, enough: int) -> None:
    assert completing(asked, share, required) == enough
