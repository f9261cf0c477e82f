# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The metrics that a supervisor writes, read as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import Definition, Metric, render
from ansible_collections.opennebula.flower.tests.support.supervisor_scene import INITIAL, Scene

Read = Callable[..., "float | None"]


@pytest.fixture
def read(scene: Scene, tmp_path: Path) -> Read:
    """Return the value of a sample, None without one. It must be there once."""
    file = tmp_path / "metrics" / "training.prom"
    file.parent.mkdir()
    scene.settings["metrics_file"] = str(file)

    def value(name: str, **labels: str) -> float | None:
        families = text_string_to_metric_families(file.read_text())
        found = [sample.value for family in families for sample in family.samples if sample.name == name and labels.items() <= sample.labels.items()]
        assert len(found) <= 1
        return found[0] if found else None

    return value


def test_a_superlink_without_a_run_is_idle(scene: Scene, read: Read) -> None:
    scene.settings["initial_run"] = None
    scene.step()
    assert read("fl_training_status") == 0
    assert read("fl_clients_failed_total") == 0
    assert read("fl_round_current") is None


def test_the_run_of_the_moment(scene: Scene, read: Read) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3, strategy="FedProx")
    scene.event("client_join", node_id="1", connected=1)
    scene.event("client_join", node_id="2", connected=2)
    scene.event("round_start", round=1, num_clients_selected=2)
    scene.event("client_failure", round=1, node_id="2", error_type="it is full")
    scene.round_end(1, responded=1, accuracy=0.75, auc="NaN")
    scene.step()
    assert read("fl_training_status") == 1
    assert read("fl_round_current", run="initial", strategy="FedProx") == 1
    assert read("fl_round_total", run="initial", strategy="FedProx") == 3
    assert read("fl_aggregated_accuracy", run="initial") == 0.75
    assert read("fl_aggregated_metric", metric="auc") != read("fl_aggregated_metric", metric="auc")
    assert (read("fl_clients_connected"), read("fl_clients_selected"), read("fl_clients_responded")) == (2, 2, 1)
    assert (read("fl_clients_failed_total"), read("fl_rounds_total"), read("fl_attempts_total")) == (1, 1, 1)
    assert read("fl_round_duration_seconds_bucket", strategy="FedProx", le="10") == 0
    assert read("fl_round_duration_seconds_bucket", strategy="FedProx", le="30") == 1
    assert read("fl_round_duration_seconds_bucket", strategy="FedProx", le="+Inf") == 1
    assert read("fl_round_duration_seconds_sum", strategy="FedProx") == 12.34
    scene.event("client_leave", node_id="2", connected=1)
    scene.step()
    assert read("fl_clients_connected") == 1


def test_counts_outlive_a_run_and_a_restart_and_two_runs_do_not_mix(scene: Scene, read: Read) -> None:
    scene.step()
    scene.train()
    scene.step()
    assert read("fl_training_status") == 2
    scene.restart()
    scene.step()
    assert (read("fl_training_status"), read("fl_rounds_total"), read("fl_attempts_total")) == (2, 3, 1)
    assert read("fl_round_duration_seconds_count") == 3
    scene.request("second")
    scene.step()
    scene.step()
    assert read("fl_training_status") == 1
    assert read("fl_round_current", run="initial") is None
    assert read("fl_aggregated_accuracy") is None
    scene.event("training_start", "second", num_rounds=5)
    scene.round_end(1, "second")
    scene.step()
    assert read("fl_round_current", run="second") == 1
    assert (read("fl_rounds_total"), read("fl_attempts_total")) == (4, 2)


def test_checkpoints_have_metrics_where_they_are_kept(scene: Scene, read: Read) -> None:
    scene.settings["initial_run"] = {"name": "initial", "config": {**INITIAL, "checkpoint-enabled": True, "checkpoint-interval": 5}}
    scene.step()
    assert (read("fl_checkpoint_round"), read("fl_checkpoint_interval_rounds")) == (0, 5)
    scene.event("checkpoint_saved", round=5)
    scene.step()
    assert (read("fl_checkpoint_round"), read("fl_checkpoint_saved_total")) == (5, 1)


def test_without_checkpoints_there_are_no_metrics_of_them(scene: Scene, read: Read) -> None:
    scene.step()
    assert read("fl_checkpoint_interval_rounds") is None


@pytest.mark.parametrize("name", ['x"} 1\nevil 1', "x" * 100, "\N{SNOWMAN}", "", 7, ["a"]])
def test_a_strategy_of_any_name_is_one_harmless_label(scene: Scene, read: Read, name: object) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3, strategy=name)
    scene.round_end(1)
    scene.step()
    assert read("fl_round_current", strategy="other") == 1
    assert read("fl_round_duration_seconds_count", strategy="other") == 1
    assert read("evil") is None


def test_an_app_cannot_make_labels_without_end(scene: Scene, read: Read) -> None:
    scene.step()
    for number in range(100):
        scene.event("training_start", num_rounds=3, strategy=f"s{number}")
        scene.round_end(number + 1)
    scene.step()
    assert read("fl_round_duration_seconds_count", strategy="s31") == 1
    assert read("fl_round_duration_seconds_count", strategy="other") == 68


def test_metrics_that_cannot_be_written_stop_nothing(scene: Scene, read: Read, tmp_path: Path) -> None:
    scene.settings["metrics_file"] = str(tmp_path / "missing" / "training.prom")
    scene.step()
    scene.train()
    scene.step()
    assert scene.newest()["status"] == "completed"


def test_counts_that_a_disk_damaged_begin_again(scene: Scene, read: Read) -> None:
    scene.step()
    state = Path(scene.settings["state_file"])
    damaged = state.read_text().replace('"attempts": 1}', '"attempts": -1e400}')
    assert "-1e400" in damaged
    state.write_text(damaged)
    scene.restart()
    scene.step()
    assert read("fl_attempts_total") == 0


def test_any_label_is_read_back_as_it_is() -> None:
    hostile = 'a"b\\c\nd{}\t\x1b[2J\N{SNOWMAN}'
    (family,) = text_string_to_metric_families(render([Metric(Definition("x", "gauge", "Something"), [({"name": hostile}, 1.5, "")])]))
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"name": hostile}, 1.5)]
