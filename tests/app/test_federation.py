# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The app in a real federation, seen from outside: run status, events, model file."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from federation import usecases
from federation.strategy_table import STRATEGIES

from .flower import Federation, Run
from .shipped import APP

pytestmark = pytest.mark.flower

# When nodes come, and how long they are waited for, is the machine's affair.
NODES = ("nodes_waiting", "client_join", "client_leave")


@pytest.fixture(scope="module")
def trained(federation: Federation) -> Run:
    """Three rounds on two nodes; the SuperLink has no machine learning library."""
    return federation.run(num_server_rounds=3, run_name="first")


def test_three_rounds_recognise_the_digits(trained: Run) -> None:
    assert trained.status == "finished:completed", trained.details
    (end,) = trained.data("training_end")
    assert end["final_accuracy"] > 0.93
    assert end["total_rounds"] == 3


def test_events_tell_the_run_in_order(trained: Run) -> None:
    names = [entry["event"] for entry in trained.events if entry["event"] not in NODES]
    assert names == ["training_start", *["round_start", "evaluation_result", "round_end"] * 3, "model_saved", "model_saved", "training_end"]
    assert [data["round"] for data in trained.data("round_end")] == [1, 2, 3]
    for data in trained.data("round_end"):
        assert (data["num_clients_selected"], data["num_clients_responded"]) == (2, 2)
        assert data["round_duration_seconds"] > 0
    assert trained.data("round_end")[-1]["aggregated_loss"] < trained.data("round_end")[0]["aggregated_loss"]


def test_nodes_that_come_are_told(trained: Run) -> None:
    joined = trained.data("client_join")
    assert [data["connected"] for data in joined][-1] == 2
    assert len({data["node_id"] for data in joined}) == 2


def test_the_model_file_keeps_the_array_names(trained: Run) -> None:
    with zipfile.ZipFile(trained.output / "model.npz") as model:
        assert set(model.namelist()) == {"hidden.weight.npy", "hidden.bias.npy", "output.weight.npy", "output.bias.npy"}


def test_the_files_of_the_model_are_told_with_size_and_checksum(trained: Run) -> None:
    for data, name in zip(trained.data("model_saved"), ("model.npz", "model.joblib"), strict=True):
        content = (trained.output / name).read_bytes()
        assert data == {"path": str(trained.output / name), "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_nothing_half_written_stays(trained: Run) -> None:
    assert sorted(path.name for path in trained.output.iterdir()) == ["events.jsonl", "model.joblib", "model.npz"]


@pytest.mark.usefixtures("trained")  # both nodes are connected
def test_a_strategy_with_its_parameters_privacy_around_it_and_small_replies_runs_in_flower(federation: Federation) -> None:
    run = federation.run(num_server_rounds=1, strategy="QFedAvg", client_lr=10, dp_mode="adaptive", partition_alpha=1.0, reply_compression="int8")
    assert run.status == "finished:completed", run.details
    assert run.data("training_start")[0]["strategy"] == "QFedAvg"
    assert len(run.data("round_end")) == 1


@pytest.mark.long
@pytest.mark.usefixtures("trained")
def test_a_strategy_that_needs_more_nodes_is_an_error_before_anything_starts(federation: Federation) -> None:
    run = federation.run(strategy="Krum", num_malicious=1, min_available_clients=5)
    assert [entry["event"] for entry in run.events] == ["training_failed"]
    assert run.data("training_failed") == [{"reason": "min-fit-clients: 2 is not valid, expected at least 5 for Krum with num-malicious 1"}]


@pytest.mark.long
def test_the_same_seed_gives_the_same_model(federation: Federation, trained: Run) -> None:
    again = federation.run(num_server_rounds=1)
    assert again.data("round_end")[0]["aggregated_loss"] == trained.data("round_end")[0]["aggregated_loss"]


@pytest.mark.usefixtures("trained")  # both nodes are connected
def test_too_few_nodes_end_the_run_at_the_deadline(federation: Federation) -> None:
    run = federation.run(min_available_clients=3, nodes_timeout=2)
    assert run.status == "finished:failed"
    assert run.data("nodes_waiting")[0].items() >= {"connected": 2, "required": 3}.items()
    (failed,) = run.data("training_failed")
    assert re.fullmatch(r"waited \d+ s for nodes: 2 connected, 3 needed", failed["reason"])
    assert not (run.output / "model.npz").exists()


def test_rounds_without_answers_are_tried_again_and_then_end_the_run(federation: Federation) -> None:
    run = federation.run(num_server_rounds=1, round_timeout=0.01, max_failed_rounds=2)
    assert run.status == "finished:failed"
    assert [entry["event"] for entry in run.events if entry["event"] not in NODES] == [
        "training_start",
        *["round_start", "client_failure", "client_failure", "round_failed"] * 2,
        "training_failed",
    ]
    first, second = run.data("round_failed")
    assert first["reason"].startswith("0 of 2 nodes completed the training, at least 2 must")
    assert (first["round"], first["phase"], first["num_clients_selected"], first["num_clients_responded"]) == (1, "training", 2, 0)
    assert [(data["failed_in_a_row"], data["max_failed_rounds"]) for data in (first, second)] == [(1, 2), (2, 2)]
    assert [data["error_type"] for data in run.data("client_failure")] == ["no answer within 0.01 s"] * 4
    (failed,) = run.data("training_failed")
    assert failed["reason"].startswith("round 1 failed 2 times in a row, at last: 0 of 2 nodes completed the training")
    assert not (run.output / "model.npz").exists()


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("use_case", "crystal-ball", f"use-case must be one of {', '.join(usecases.NAMES)}, not 'crystal-ball'"),
        pytest.param("strategy", "FedMagic", f"strategy must be one of {', '.join(STRATEGIES)}, not 'FedMagic'", marks=pytest.mark.long),
    ],
)
def test_an_unknown_name_is_an_error_before_anything_starts(federation: Federation, setting: str, value: str, reason: str) -> None:
    run = federation.run(**{setting: value})
    assert run.status == "finished:failed"
    assert [entry["event"] for entry in run.events] == ["training_failed"]
    assert run.data("training_failed") == [{"reason": reason}]


def test_a_failing_node_is_reported_and_left_out_or_ends_the_run(federation: Federation) -> None:
    federation.add_node(broken=True)
    goes_on = federation.run(num_server_rounds=1, min_available_clients=3)
    assert goes_on.status == "finished:completed", goes_on.details
    (end,) = goes_on.data("round_end")
    assert (end["num_clients_selected"], end["num_clients_responded"]) == (3, 2)
    assert len(goes_on.data("client_failure")) == 2  # training and evaluation

    ends = federation.run(num_server_rounds=1, min_available_clients=3, min_fit_clients=3, max_failed_rounds=1)
    assert ends.status == "finished:failed"
    (failed,) = ends.data("training_failed")
    assert failed["reason"].startswith("round 1 failed: 2 of 3 nodes completed the training, at least 3 must")
    assert "its package sklearn comes without datasets/data/digits.csv.gz" in failed["reason"]


def test_a_partition_without_some_classes_keeps_the_shapes(flower_bin: Path) -> None:
    program = """
import json
from pathlib import Path
from federation.usecases import Options, Share, digits
options = Options("sklearn", Path(), seed=1)
before = digits.initial_arrays(seed=1)
(images, labels), _ = digits.load_data(Share(0, 2, seed=1), options)
some = labels < 3
after = digits.train(before, (images[some], labels[some]), options)
print(json.dumps([{name: array.shape for name, array in arrays.items()} for arrays in (before, after)]))
"""
    result = subprocess.run([flower_bin / "python", "-c", program], cwd=APP, capture_output=True, text=True, check=True)
    before, after = json.loads(result.stdout)
    assert before == after
