# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What nodes measure, from a real federation through the record of the supervisor to what operators read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import protocol
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.history import rounds
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.runs import Run

from . import flower
from .shipped import APP

pytestmark = [pytest.mark.flower, pytest.mark.long]

MEASURED = ["accuracy", "loss", "precision", "recall", "f1", "auc"]
READINGS = "heat,noise,label\n" + "".join(f"{number % 7},{number % 5},0\n" for number in range(200)) + "900,900,1\n" * 20


@pytest.fixture(scope="module")
def trained(flower_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> flower.Run:
    directory = tmp_path_factory.mktemp("federation")
    with flower.Federation(flower_bin, APP, directory) as federation:
        # The second says something else than a name.
        for node, zone in (("one", "lyon"), ("two", "<b>lyon</b>")):
            (directory / node).mkdir()
            (directory / node / "readings.csv").write_text(READINGS)
            federation.add_node(data=directory / node, zone=zone)
        return federation.run(use_case="anomaly-detection", num_server_rounds=2)


def test_every_metric_of_the_use_case_reaches_the_operator(trained: flower.Run) -> None:
    assert trained.status == "finished:completed", trained.details
    run = Run("first")
    for event in trained.events:
        run.apply(event)
    (published,) = protocol.published_runs(protocol.run_attributes([run]))
    assert sorted(published["metrics"]) == sorted(MEASURED)
    assert [record["round"] for record in published["history"]] == [1, 2]
    last = trained.data("round_end")[-1]
    assert published["metrics"] == {name: last[f"aggregated_{name}"] for name in MEASURED}


def test_what_each_zone_did_reaches_the_operator(trained: flower.Run) -> None:
    run = Run("first")
    for event in trained.events:
        run.apply(event)
    (published,) = protocol.published_runs(protocol.run_attributes([run]))
    (zone,) = published["zones"].values()
    assert list(published["zones"]) == ["lyon"], "what is no name names no zone"
    assert (zone["nodes"], zone["rounds"], zone["failures"]) == (1, 2, 0)
    assert zone["examples"] > 0 and zone["seconds"] > 0 and zone["joined"] > 1_700_000_000


def test_the_report_has_them_from_the_events(trained: flower.Run) -> None:
    (first, second) = rounds(str(trained.output))
    assert first["metrics"].keys() == second["metrics"].keys() == set(MEASURED)
