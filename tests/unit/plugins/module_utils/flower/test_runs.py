# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The record of runs."""

from __future__ import annotations

import json

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower import runs


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert runs.digest({"a": 1, "b": "x"}) == runs.digest({"b": "x", "a": 1})
    assert runs.digest({"a": 1}) != runs.digest({"a": "1"})


def test_a_request_survives_its_way() -> None:
    request = runs.Request("a.b-c_1", {"note": 'odd, "quoted"'}, "started")
    assert runs.request_from_json(runs.request_to_json(request)) == request


def test_at_most_20_runs_with_500_rounds_of_the_newest_are_published() -> None:
    history = [[number, 0.5, 0.5, 1.0, 2] for number in range(1, 601)]
    everything = [runs.Run(f"run-{number}", history=history) for number in range(25)]
    published = runs.published_from_json(runs.published_to_json(everything))
    assert [run["name"] for run in published] == [f"run-{number}" for number in range(5, 25)]
    assert [len(run["history"]) for run in published] == [0] * 19 + [500]
    assert published[-1]["history"][-1][0] == 600


def test_a_run_that_a_new_supervisor_sees_resumed_after_its_last_round_has_a_model() -> None:
    run = runs.Run("first")
    resumed = {"round": 5, "num_clients_responded": 2, "aggregated_loss": 0.3, "aggregated_accuracy": 0.9}
    for event, data in (("training_start", {"num_rounds": 5}), ("training_resumed", resumed), ("training_end", {})):
        run.apply({"event": event, "data": data})
    assert run.has_model
    assert (run.round, run.accuracy, run.history) == (5, 0.9, [[5, 0.3, 0.9, None, 2]])
    assert runs.published_from_json(runs.published_to_json([run]))[0]["history"] == run.history


def test_missing_values_of_a_published_run_are_blank() -> None:
    (run,) = runs.published_from_json('[{"name": "a"}]')
    assert (run["status"], run["round"], run["history"]) == ("waiting", 0, [])


@pytest.mark.parametrize(
    "content",
    [{}, [1], [{}], [{"name": ""}], [{"name": "a", "rounds": "3"}], [{"name": "a", "history": [[1]]}], "text"],
)
def test_anything_else_than_runs_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="not a list of runs"):
        runs.published_from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ([1, 0.4123, 0.9056, 12.34, 2], "round 1/3 accuracy 0.9056 loss 0.4123 nodes 2 12.3 s"),
        ([2, None, None, 1, 0], "round 2/3 accuracy unknown loss unknown nodes 0 1.0 s"),
    ],
)
def test_a_round_as_a_line(entry: list, line: str) -> None:
    assert runs.progress_line(3, entry) == line
