# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What is left of a training when processes are killed, in a real federation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .flower import Federation, Run, wait_for_event
from .shipped import APP

pytestmark = [pytest.mark.flower, pytest.mark.long]

ROUNDS = 4
SETTINGS = {"num_server_rounds": ROUNDS, "strategy": "FedAdam", "checkpoint_enabled": True, "checkpoint_interval": 1, "checkpoint_keep": 2}


@pytest.fixture(scope="module")
def recovered(flower_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """The same training undisturbed, and with its ServerApp and then the whole SuperLink killed; later one with more rounds."""
    directory = tmp_path_factory.mktemp("recovery")
    settings = {**SETTINGS, "checkpoint_path": str(directory / "checkpoints")}
    with Federation(flower_bin, APP, directory) as federation:
        federation.add_node()
        federation.add_node()
        runs = {"whole": federation.run(**settings, run_name="whole")}

        killed = {**settings, "run_name": "killed", "output_directory": str(directory / "killed")}
        federation.submit(**killed)
        wait_for_event(directory / "killed", "round_end", round=1)
        federation.crash_app()
        federation.submit(**killed)
        wait_for_event(directory / "killed", "round_end", round=2)
        federation.crash()
        runs["killed"] = federation.run(**killed)

        newest = directory / "checkpoints" / "whole" / f"checkpoint_round_{ROUNDS}.npz"
        os.truncate(newest, 1000)
        runs["longer"] = federation.run(**{**settings, "run_name": "whole", "num_server_rounds": ROUNDS + 1})
        runs["started"] = federation.run(num_server_rounds=1, initial_model=str(runs["whole"].output / "model.npz"))
        yield runs


def resumed_after(run: Run) -> list[int]:
    return [data["round"] for data in run.data("training_resumed")]


def test_a_killed_training_goes_on_from_its_newest_checkpoint(recovered: dict[str, Run]) -> None:
    run = recovered["killed"]
    assert run.status == "finished:completed", run.details
    first, second = resumed_after(run)
    assert 1 <= first < second < ROUNDS
    assert len(run.data("training_start")) == 3


def test_at_most_the_interval_is_repeated(recovered: dict[str, Run]) -> None:
    assert [data["round"] for data in recovered["killed"].data("round_end")] == list(range(1, ROUNDS + 1))


def test_the_model_is_that_of_the_undisturbed_training_bit_for_bit(recovered: dict[str, Run]) -> None:
    models = [(recovered[name].output / "model.npz").read_bytes() for name in ("whole", "killed")]
    assert models[0] == models[1]


def test_a_finished_training_goes_on_when_more_rounds_are_asked_for(recovered: dict[str, Run]) -> None:
    run = recovered["longer"]
    assert run.status == "finished:completed", run.details
    assert run.data("training_end")[0]["total_rounds"] == ROUNDS + 1


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(recovered: dict[str, Run]) -> None:
    run = recovered["longer"]
    (rejected,) = run.data("checkpoint_rejected")
    assert rejected["path"].endswith(f"whole/checkpoint_round_{ROUNDS}.npz")
    assert rejected["reason"].startswith("is damaged")
    assert resumed_after(run) == [ROUNDS - 1]
    assert [data["round"] for data in run.data("round_end")] == [ROUNDS, ROUNDS + 1]


def test_a_new_run_can_start_with_the_model_of_another(recovered: dict[str, Run]) -> None:
    run = recovered["started"]
    assert run.status == "finished:completed", run.details
    assert run.data("round_end")[0]["aggregated_loss"] < recovered["whole"].data("round_end")[0]["aggregated_loss"]


def test_checkpoints_are_told(recovered: dict[str, Run]) -> None:
    run = recovered["whole"]
    assert [data["round"] for data in run.data("checkpoint_saved")] == list(range(1, ROUNDS + 1))
    for data in run.data("round_end"):
        assert 0 < data["overhead_seconds"]["checkpoint"] < data["round_duration_seconds"]
