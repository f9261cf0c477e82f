# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Replies of single nodes, whatever they were asked for, that do not stop the others; the whole app in Flower's virtual environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .test_strategies import inside

pytestmark = pytest.mark.flower

NODES = 3
QUICK = {"num-server-rounds": 1, "local-epochs": 1, "min-fit-clients": 2, "min-evaluate-clients": 2, "max-failed-rounds": 3}

# What one node of three sends, and why it is left out; nothing when it is not.
EVALUATIONS = {
    "no examples": "sent num-examples 0",
    "negative examples": "sent num-examples -5",
    "endless examples": "sent num-examples 1e+308",
    "list of examples": "sent num-examples [1, 2]",
    "one more figure": "",
    "no accuracy": "sent no accuracy",
    "list of losses": "sent loss [0.1, 0.1,",
    "another list": "",
    "second record": "",
    "other name": "sent no metrics",
    "other record": "sent no metrics",
    "nothing": "sent no metrics",
    "loss NaN": "sent loss nan",
    "loss infinite": "sent loss inf",
    "shared figure": "",
}
TRAININGS = {
    "second record": "",
    "other record": "sent no model that can be read (no arrays)",
    "no metrics": "sent no metrics",
    "endless weight": "sent num-examples 1e+308",
    "no array": "sent no model that can be read (",
    "huge array": "sent no model that can be read (",
    "foreign array": "sent no model that can be read (TypeError",
}


def scenario(lies: dict[str, str] | None = None, evaluations: dict[str, str] | None = None, **config: object) -> dict:
    changed = {key.replace("_", "-"): value for key, value in config.items()}
    return {"nodes": NODES, "lies": lies or {}, "evaluations": evaluations or {}, "model": False, "config": QUICK | changed}


def everywhere(lie: str) -> dict[str, str]:
    return {str(node): lie for node in range(1, NODES + 1)}


SCENARIOS = {
    "honest": scenario(),
    **{f"evaluation {lie}": scenario(evaluations={"2": lie}) for lie in EVALUATIONS},
    **{f"training {lie}": scenario(lies={"2": lie}) for lie in TRAININGS},
    "most measure it": scenario(evaluations={"1": "shared figure", "2": "shared figure"}),
    "nobody has examples": scenario(evaluations=everywhere("no examples")),
    "all NaN": scenario(evaluations=everywhere("loss NaN")),
    "one NaN of all that are needed": scenario(evaluations={"2": "loss NaN"}, min_evaluate_clients=3),
    "one infinite of all that are needed": scenario(evaluations={"2": "loss infinite"}, min_evaluate_clients=3),
    "always NaN": scenario(lies={"2": "no numbers"}, min_fit_clients=3),
}


@pytest.fixture(scope="module")
def results(flower_bin: Path) -> dict[str, dict]:
    return inside(flower_bin, "whole_app.py", standard_input=json.dumps(SCENARIOS))


@pytest.mark.parametrize("lie", EVALUATIONS)
def test_the_evaluation_of_one_node_stops_nobody_and_is_named_when_it_is_left_out(results: dict[str, dict], lie: str) -> None:
    result = results[f"evaluation {lie}"]
    assert result["failed"] == ""
    (figures,) = result["figures"]
    assert set(figures) == {"loss", "accuracy"}
    assert 0 <= figures["accuracy"] <= 1
    assert list(result["refused"]) == (["2"] if EVALUATIONS[lie] else [])
    assert result["refused"].get("2", "").startswith(EVALUATIONS[lie])
    assert len(result["refused"].get("2", "")) < 300


def test_who_is_not_left_out_counts(results: dict[str, dict]) -> None:
    honest = results["honest"]["accuracy"]
    assert results["evaluation second record"]["accuracy"] == results["evaluation one more figure"]["accuracy"] == honest
    assert results["evaluation no examples"]["accuracy"] != honest


def test_a_figure_that_most_nodes_measure_is_shown_and_who_lacks_it_is_left_out(results: dict[str, dict]) -> None:
    (figures,) = results["most measure it"]["figures"]
    assert figures["recall"] == pytest.approx(0.5)
    assert results["most measure it"]["refused"] == {"3": "sent no recall"}


@pytest.mark.parametrize("lie", TRAININGS)
def test_the_model_of_one_node_stops_nobody(results: dict[str, dict], lie: str) -> None:
    result = results[f"training {lie}"]
    assert result["failed"] == ""
    assert list(result["refused"]) == (["2"] if TRAININGS[lie] else [])
    assert result["refused"].get("2", "").startswith(TRAININGS[lie])


def test_a_run_without_any_held_out_example_says_so(results: dict[str, dict]) -> None:
    failed = results["nobody has examples"]["failed"]
    assert "0 of 3 nodes completed the evaluation, at least 2 must (node 1: sent num-examples 0; node 2:" in failed
    assert "division" not in failed


@pytest.mark.parametrize(
    ("name", "shown", "named"),
    [
        ("all NaN", "NaN", ["1", "2", "3"]),
        ("one NaN of all that are needed", "NaN", ["2"]),
        ("one infinite of all that are needed", "Infinity", ["2"]),
    ],
)
def test_a_figure_that_is_no_number_is_shown_as_such_rather_than_ending_the_run(results: dict[str, dict], name: str, shown: str, named: list[str]) -> None:
    assert results[name]["failed"] == ""
    assert [figures["loss"] for figures in results[name]["figures"]] == [shown]
    assert sorted(results[name]["refused"]) == named


def test_a_node_that_always_sends_nan_while_all_are_needed_is_named_with_how_often(results: dict[str, dict]) -> None:
    assert results["always NaN"]["failed"].endswith("node 2 failed in 3 of these 3 rounds, and no node may fail while min-fit-clients is the number of nodes")


def test_an_untrained_or_exported_model_that_cannot_be_used_is_left_to_other_nodes(flower_bin: Path) -> None:
    result = inside(flower_bin, "asked_nodes.py")
    assert result["model"] == [2, 3]
    assert result["refused"] == {
        "3": "sent array weights with values that are not finite",
        "4": "sent no model that can be read (no arrays)",
        "5": "sent no model that can be read (no arrays)",
        "6": "its untrained model has another shape than that of most nodes",
        "7": "sent no model that can be read (TypeError: Unsupported serialization type for numpy conversion: 'pickle')",
    }
    assert (result["suffix"], result["content"], result["exports"]) == (".pt", "model", [1, 2, 3, 4, 5, 6])
