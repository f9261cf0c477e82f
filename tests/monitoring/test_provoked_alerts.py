# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Alerts of a training, provoked in a real one and seen in a real Alertmanager, with the delays of the rules thirty times shorter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.app.shipped import APP
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.waiting import repeating

from .conftest import Monitoring, supervisor_of, wait_until

FASTER = 30


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    watch = Monitoring(tmp_path_factory.mktemp("watch"))
    try:
        watch.alertmanager()
        watch.scrape(FASTER)
        yield watch
    finally:
        watch.close()


def test_a_superlink_that_starts_late_and_finds_too_few_nodes(watch: Monitoring, tmp_path: Path) -> None:
    port = free_port()
    files = watch.exporter("late", port)
    watch.target(f"127.0.0.1:{port}", zone="north", name="late", role="superlink", vm="1")
    federation = Federation(make_flower_venv(), APP, tmp_path)
    run = {"use-case": "anomaly-detection", "num-server-rounds": 3, "nodes-timeout": 5}
    supervisor = supervisor_of(federation, tmp_path, files / "training.prom", run)
    with repeating(supervisor.step):
        wait_until(lambda: "FLTrainingNotStarted" in watch.told("late"), "FLTrainingNotStarted in Alertmanager")
        assert "FLTrainingFailed" not in watch.told("late")
        with federation:
            wait_until(lambda: "FLTrainingNotStarted" not in watch.told("late"), "FLTrainingNotStarted to clear")
            wait_until(lambda: "FLTrainingFailed" in watch.told("late"), "FLTrainingFailed in Alertmanager")
    assert supervisor.runs[0].status == "failed"
