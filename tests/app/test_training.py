# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The round loop with Flower's own strategies, in Flower's virtual environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import small_file_system
from .test_strategies import inside

pytestmark = pytest.mark.flower


@pytest.fixture(scope="module")
def results(flower_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """A disk of one mebibyte that has no room for a checkpoint of half of it until the third round."""
    with small_file_system(tmp_path_factory.mktemp("disk")) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(600_000))
        yield inside(flower_bin, "training.py", str(disk), str(ballast))


def test_a_failed_round_changes_neither_the_model_nor_what_the_strategy_remembers(results: dict) -> None:
    assert results["evaluation failed"] == results["undisturbed"] != 0


def events(results: dict, name: str) -> list[dict]:
    return [entry["data"] for entry in results["events"] if entry["event"] == name]


def test_the_training_goes_on_while_the_disk_is_full(results: dict) -> None:
    assert [data["round"] for data in events(results, "round_end")] == [1, 2, 3, 4, 5]
    assert events(results, "checkpoint_failed") == [{"round": 2, "reason": "No space left on device"}]


def test_a_checkpoint_that_failed_is_made_up_for_in_the_next_round(results: dict) -> None:
    assert [data["round"] for data in events(results, "checkpoint_saved")] == [3, 4, 5]
    assert results["files"] == ["checkpoint_latest.npz", "checkpoint_round_5.npz"]
