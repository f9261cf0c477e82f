# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a supervisor publishes and what arrives of it on the other side."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import encode
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import protocol, runs


def trained(name: str, rounds: int, **metrics: Any) -> runs.Run:
    """Return a run whose app told so many rounds, each with these metrics."""
    run = runs.Run(name)
    data = {f"aggregated_{metric.replace('__', '-')}": value for metric, value in metrics.items()}
    for number in range(1, rounds + 1):
        run.apply({"event": "round_end", "data": {"round": number, "num_clients_responded": 2, "round_duration_seconds": 1.5, **data}})
    return run


def arrived(*everything: runs.Run) -> list[dict[str, Any]]:
    """Return the runs as a module reads them from the attributes of the VM."""
    return protocol.published_runs(protocol.run_attributes(everything))


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert protocol.digest({"a": 1, "b": "x"}) == protocol.digest({"b": "x", "a": 1})
    assert protocol.digest({"a": 1}) != protocol.digest({"a": "1"})


def test_a_request_survives_its_way() -> None:
    request = protocol.Request("a.b-c_1", {"note": 'odd, "quoted"'}, "started")
    text = protocol.requested(protocol.request_attributes(request))
    assert text is not None
    assert protocol.read_request(text) == request
    assert protocol.request_digest(text) == protocol.request_digest(request)


def test_every_metric_of_the_app_arrives_by_its_name() -> None:
    run = trained("a", 2, loss=0.25, accuracy=0.9, precision=0.75, recall=1, f1=0.857, auc=0.97, perplexity=12.5)
    metrics = {"accuracy": 0.9, "loss": 0.25, "precision": 0.75, "recall": 1, "f1": 0.857, "auc": 0.97, "perplexity": 12.5}
    (found,) = arrived(run)
    assert found["metrics"] == metrics
    assert found["history"] == [{"round": number, "seconds": 1.5, "nodes": 2, "metrics": metrics} for number in (1, 2)]


def test_a_metric_that_is_no_finite_number_arrives_as_such() -> None:
    run = trained("a", 1, loss=float("inf"), accuracy="NaN", auc=float("-inf"), word="high", nothing=None)
    assert arrived(run)[0]["metrics"] == {"accuracy": "NaN", "loss": "Infinity", "auc": "-Infinity"}


def test_a_metric_that_only_some_rounds_have_leaves_the_others_without() -> None:
    run = trained("a", 1, loss=1.0)
    run.apply({"event": "round_end", "data": {"round": 2, "aggregated_auc": 0.5}})
    assert [record["metrics"] for record in arrived(run)[0]["history"]] == [{"loss": 1.0}, {"auc": 0.5}]


def test_an_app_cannot_make_the_attribute_large() -> None:
    hostile = {f"{'x' * 30}{number}": 1 / 3 for number in range(500)} | {"y" * 41: 1, "<b>": 1, "": 1, "loss": 0.1}
    run = trained("a", 1200, **hostile)
    (found,) = arrived(run)
    assert len(found["metrics"]) == protocol.MOST_METRICS
    assert found["metrics"]["loss"] == 0.1
    assert not {"y" * 41, "<b>", ""} & found["metrics"].keys()
    rounds = [record["round"] for record in found["history"]]
    assert rounds == list(range(1200 - len(rounds) + 1, 1201))
    assert len(rounds) * len(found["metrics"]) <= protocol.PUBLISHED_FIGURES
    everything = [dataclasses.replace(run, name=f"run-{number}") for number in range(25)]
    assert sum(map(len, protocol.run_attributes(everything).values())) < 200_000
    assert len(json.dumps([vars(run) for run in everything])) / 25 < 350_000


def test_another_metric_in_every_round_cannot_either() -> None:
    run = runs.Run("a")
    for number in range(1, 600):
        run.apply({"event": "round_end", "data": {"round": number, f"aggregated_m{number}": 1}})
    history = arrived(run)[0]["history"]
    assert [record["round"] for record in history] == list(range(600 - protocol.MOST_METRICS, 600))


def test_at_most_20_runs_with_500_rounds_of_the_newest_are_published() -> None:
    published = arrived(*[trained(f"run-{number}", 600, loss=0.5, accuracy=0.5) for number in range(25)])
    assert [run["name"] for run in published] == [f"run-{number}" for number in range(5, 25)]
    assert [len(run["history"]) for run in published] == [0] * 19 + [500]
    assert published[-1]["history"][-1]["round"] == 600
    assert published[0]["metrics"] == {"accuracy": 0.5, "loss": 0.5}


def test_a_run_that_a_new_supervisor_sees_resumed_after_its_last_round_has_a_model() -> None:
    run = runs.Run("first")
    resumed = {"round": 5, "num_clients_responded": 2, "aggregated_loss": 0.3, "aggregated_accuracy": 0.9, "aggregated_auc": 0.8}
    for event, data in (("training_start", {"num_rounds": 5}), ("training_resumed", resumed), ("training_end", {})):
        run.apply({"event": event, "data": data})
    assert run.has_model
    assert run.history == [{"round": 5, "seconds": None, "nodes": 2, "metrics": {"accuracy": 0.9, "loss": 0.3, "auc": 0.8}}]
    assert (run.round, arrived(run)[0]["history"]) == (5, run.history)


def test_missing_values_of_a_published_run_are_blank() -> None:
    (run,) = protocol.published_runs({"FL_RUNS": encode('[{"name": "a"}]')})
    assert (run["status"], run["round"], run["metrics"], run["history"]) == ("waiting", 0, {}, [])


COLUMNS = {"round": [1], "seconds": [1.0], "nodes": [2], "metrics": {"loss": [0.5]}}


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        [{}],
        [{"name": ""}],
        [{"name": "a", "rounds": "3"}],
        [{"name": "a", "metrics": {"loss": "low"}}],
        [{"name": "a", "metrics": {"<b>": 1}}],
        [{"name": "a", "metrics": {f"m{number}": 1 for number in range(33)}}],
        [{"name": "a", "history": [[1]]}],
        [{"name": "a", "history": COLUMNS | {"nodes": [2, 2]}}],
        [{"name": "a", "history": COLUMNS | {"metrics": {"<b>": [1]}}}],
        [{"name": "a", "history": {key: [1] * 501 for key in ("round", "seconds", "nodes")} | {"metrics": {}}}],
        "text",
    ],
)
def test_anything_else_than_runs_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="not a list of runs"):
        protocol.published_runs({"FL_RUNS": encode(json.dumps(content))})


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"metrics": {"accuracy": 0.9056, "loss": 0.4123, "auc": "NaN"}, "seconds": 12.34, "nodes": 2}, "accuracy 0.9056 loss 0.4123 auc NaN nodes 2 12.3 s"),
        ({"metrics": {}, "seconds": None, "nodes": 0}, "nodes 0"),
        (
            {"metrics": {f"m{number}": 1.0 for number in range(10)}, "seconds": None, "nodes": 1},
            " ".join(f"m{number} 1.0000" for number in range(8)) + " and 2 more metrics nodes 1",
        ),
    ],
)
def test_a_round_as_a_line(record: dict, line: str) -> None:
    assert protocol.progress_line(3, {"round": 1, **record}) == f"round 1/3 {line}"


ZONE = {"joined": 1_780_000_000, "nodes": 2, "rounds": 3, "failures": 1, "examples": 5760, "seconds": 12.5}


def test_what_zones_did_arrives_of_the_newest_run_only() -> None:
    first, second = trained("a", 1), trained("b", 1)
    for run in (first, second):
        run.apply({"event": "zones", "message": "not for people", "data": {"round": 1, "zones": {"lyon": ZONE}}})
    assert [run["zones"] for run in arrived(first, second)] == [{}, {"lyon": ZONE}]
    assert second.message == ""


@pytest.mark.parametrize(
    "zones",
    [
        "lyon", ["lyon"], {"": ZONE}, {"<b>": ZONE}, {"x" * 64: ZONE}, {"lyon": {}}, {"lyon": {**ZONE, "more": 1}}, {"lyon": {**ZONE, "nodes": -1}},
        {"lyon": {**ZONE, "seconds": "NaN"}}, {"lyon": {**ZONE, "rounds": 1 << 60}}, {f"zone{number}": ZONE for number in range(101)},
    ],
)  # fmt: skip
def test_zones_that_are_none_are_not_taken_over_and_not_read(zones: Any) -> None:
    run = trained("a", 1)
    run.apply({"event": "zones", "data": {"zones": zones}})
    assert run.zones == {}
    written = {protocol.RUNS_ATTRIBUTE: encode(json.dumps([{"name": "a", "zones": zones}]))}
    with pytest.raises(ValueError, match="not a list of runs"):
        protocol.published_runs(written)
