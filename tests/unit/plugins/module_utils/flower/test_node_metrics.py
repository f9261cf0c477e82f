# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a SuperNode counts; its journal itself is read in the scenario of the role flower_supernode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.exposition import render
from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_metrics import Counts


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data}


def lines(counts: Counts, connected: bool = True) -> list[str]:
    return render(counts.metrics(connected)).splitlines()


def test_work_adds_up() -> None:
    counts = Counts()
    counts.add(event("client_trained", seconds=2.5, num_examples=40))
    counts.add(event("client_trained", seconds=1.5, num_examples=40))
    counts.add(event("client_evaluated", seconds=0.5, num_examples=10))
    counts.add(event("client_failure", error_type="it is full"))
    counts.add(event("gpu_detected", gpu_name="H200"))
    found = lines(counts)
    assert "fl_supernode_trainings_total 2" in found
    assert "fl_supernode_training_seconds_total 4" in found
    assert "fl_supernode_examples_total 80" in found
    assert "fl_supernode_evaluation_seconds_total 0.5" in found
    assert "fl_supernode_failures_total 1" in found
    assert "fl_supernode_gpu 1" in found
    assert "fl_supernode_connected 1" in found


@pytest.mark.parametrize("what", [None, [], "x", {}, {"event": []}, {"event": "client_trained"}, {"event": "client_trained", "data": []}])
def test_what_is_no_event_counts_nothing(what: object) -> None:
    counts = Counts()
    counts.add(what)
    assert counts == Counts()


@pytest.mark.parametrize("value", ["x", -1, None, [], True, float("nan"), float("inf"), 10**400])
def test_what_is_no_figure_adds_nothing(value: object) -> None:
    counts = Counts()
    counts.add(event("client_trained", seconds=value, num_examples=value))
    assert (counts.trainings, counts.training_seconds, counts.examples) == (1, 0, 0)


def test_counts_survive(tmp_path: Path) -> None:
    path = str(tmp_path / "counts.json")
    counts = Counts(cursor="s=1;i=2", trainings=3, training_seconds=4.5, examples=6)
    counts.write(path)
    assert Counts.read(path) == counts


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"cursor": 7}', json.dumps({"cursor": "x", "examples": "many", "trainings": -1})])
def test_a_damaged_file_begins_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "counts.json"
    path.write_text(content)
    counts = Counts.read(str(path))
    assert (counts.trainings, counts.examples) == (0, 0)
    assert "fl_supernode_examples_total 0" in lines(counts, connected=False)
