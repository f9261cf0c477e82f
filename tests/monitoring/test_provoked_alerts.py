# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Alerts of a training and of the machines around it, provoked in earnest and seen in a real Alertmanager.

Delays, ranges and spans of time of the shipped rules are thirty times shorter; nothing else of them is changed. What a test broke it puts right, and the alert
clears.
"""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import certificates
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import render, write
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.node_metrics import Counts
from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv, small_file_system
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.app.shipped import APP
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.waiting import repeating

from .conftest import Monitoring, supervisor_of, wait_until

FASTER = 30
BLOCK = 8192  # bytes; a disk of a mebibyte is full after a minute


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    watch = Monitoring(tmp_path_factory.mktemp("watch"))
    try:
        watch.alertmanager()
        watch.scrape(FASTER)
        yield watch
    finally:
        watch.close()


def is_told(watch: Monitoring, alert: str, **labels: str) -> None:
    """Wait until Alertmanager has an alert."""
    wait_until(lambda: alert in watch.told(**labels), f"{alert} in Alertmanager")


def is_told_no_more(watch: Monitoring, alert: str, **labels: str) -> None:
    """Wait until Alertmanager has an alert no more."""
    wait_until(lambda: alert not in watch.told(**labels), f"{alert} to clear")


def test_a_superlink_that_starts_late_and_finds_too_few_nodes(watch: Monitoring, tmp_path: Path) -> None:
    port = free_port()
    files = watch.exporter("late", port)
    watch.target(f"127.0.0.1:{port}", zone="north", name="late", role="superlink", vm="1")
    federation = Federation(make_flower_venv(), APP, tmp_path)
    run = {"use-case": "anomaly-detection", "num-server-rounds": 3, "nodes-timeout": 5}
    supervisor = supervisor_of(federation, tmp_path, files / "training.prom", run)
    with repeating(supervisor.step):
        wait_until(lambda: "FLTrainingNotStarted" in watch.told(name="late"), "FLTrainingNotStarted in Alertmanager")
        assert "FLTrainingFailed" not in watch.told(name="late")
        with federation:
            wait_until(lambda: "FLTrainingNotStarted" not in watch.told(name="late"), "FLTrainingNotStarted to clear")
            wait_until(lambda: "FLTrainingFailed" in watch.told(name="late"), "FLTrainingFailed in Alertmanager")
    assert supervisor.runs[0].status == "failed"


def test_a_disk_that_fills(watch: Monitoring, tmp_path: Path) -> None:
    port = free_port()
    watch.exporter("disk", port)
    watch.target(f"127.0.0.1:{port}", zone="north", name="disk", role="superlink", vm="3")
    ballast, disk = tmp_path / "ballast", {"name": "disk", "mountpoint": str(tmp_path)}
    with small_file_system(tmp_path):
        with ballast.open("wb", buffering=0) as growing, repeating(lambda: grow(growing.fileno())):
            is_told(watch, "FLDiskFull", **disk)
        ballast.unlink()
        is_told_no_more(watch, "FLDiskFull", **disk)


def test_a_supervisor_that_does_not_run(watch: Monitoring, tmp_path: Path) -> None:
    port = free_port()
    files = watch.exporter("idle", port)
    watch.target(f"127.0.0.1:{port}", zone="north", name="idle", role="superlink", vm="4")
    supervisor = supervisor_of(Federation(make_flower_venv(), APP, tmp_path), tmp_path, files / "training.prom", {})
    supervisor.step()
    is_told(watch, "FLMetricsStale", name="idle")
    with repeating(supervisor.step):
        is_told_no_more(watch, "FLMetricsStale", name="idle")


@pytest.mark.parametrize(
    ("role", "alert", "labels"),
    [("superlink", "FLSuperLinkDown", {"name": "gone-superlink"}), ("supernode", "FLNoNodeOfZone", {"zone": "zone-of-supernode"})],
)
def test_a_machine_that_is_gone(watch: Monitoring, role: str, alert: str, labels: dict[str, str]) -> None:
    port, name, zone = free_port(), f"gone-{role}", f"zone-of-{role}"
    metrics = render(Counts().metrics(connected=True))
    write(str(watch.exporter(name, port) / "node.prom"), metrics)
    watch.target(f"127.0.0.1:{port}", zone=zone, name=name, role=role, vm=name)
    wait_until(lambda: watch.query(f'up{{name="{name}", job!="fl_gateway"}} == 1'), "Prometheus to see the machine")
    watch.kill(name)
    is_told(watch, alert, **labels)
    write(str(watch.exporter(f"{name}-again", port) / "node.prom"), metrics)
    is_told_no_more(watch, alert, **labels)


def test_a_certificate_that_nobody_renewed(watch: Monitoring, tmp_path: Path) -> None:
    port = free_port()
    file = watch.exporter("gate", port) / "certificates.prom"
    watch.target(f"127.0.0.1:{port}", zone="north", name="gate", role="superlink", vm="2")
    for directory in ("certs", "ca"):
        (tmp_path / directory).mkdir()
    settings = {"directory": str(tmp_path / "certs"), "authorities": str(tmp_path / "ca"), "host_name": "gate", "names": ["DNS:gate"], "ca_days": 900}

    def keep(days: int, hours_ago: float) -> None:
        keeper = certificates.Keeper(certificates.Config(**settings, days=days), now=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours_ago))
        keeper.ensure()
        write(str(file), certificates.metrics(keeper.ends()))

    keep(days=1, hours_ago=22)
    is_told(watch, "FLCertificateExpires", name="gate", certificate="server")
    assert "FLCertificateExpires" not in watch.told(name="gate", certificate="ca")
    keep(days=90, hours_ago=0)
    is_told_no_more(watch, "FLCertificateExpires", name="gate")


def grow(file: int) -> None:
    """Take another block of a disk, as far as there is room."""
    try:
        os.write(file, bytes(BLOCK))
    except OSError as full:
        if full.errno != errno.ENOSPC:
            raise
