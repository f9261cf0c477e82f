# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""monitoring.yml for an inventory with zones and existing machines: who is scraped. Molecule has the machine that it sets up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

METRICS = {"flower_metrics_enabled": True}
JENA = {"ansible_host": "192.0.2.5", "flower_metrics_port": 9200, "flower_metrics_certfile": "a certificate"}
MACHINES = {"jena": JENA, "faro": {}, "quiet": {"flower_metrics_enabled": False}, "gone": {"zone_state": "absent"}}
TARGETS = [
    {"targets": ["192.0.2.5:9200"], "labels": {"zone": "jena", "name": "jena", "role": "edge", "__scheme__": "https"}},
    {"targets": ["faro:9101"], "labels": {"zone": "faro", "name": "faro", "role": "edge"}},
]


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with open_zones(tmp_path_factory.mktemp("zones"), {"cloud": "7.4"}) as opened:
        yield opened


def export(zones: Zones, directory: Path, *arguments: str, **shared: object) -> tuple[int, str]:
    return zones.play("-e", f"flower_monitoring_export={directory}", *arguments, playbook="monitoring", shared=METRICS | shared, machines=MACHINES)


def test_machines_that_offer_metrics_are_in_a_file_that_prometheus_reads(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path)
    assert status == 0, output
    assert json.loads((tmp_path / "flower-machines.json").read_text()) == TARGETS
    jobs = yaml.safe_load((tmp_path / "scrape.yml").read_text())["scrape_configs"]
    assert all(job["file_sd_configs"][0]["files"] == ["/var/lib/flower-targets/*.json", "/etc/prometheus/flower-machines.json"] for job in jobs)

    status, output = export(zones, tmp_path)
    assert status == 0, output
    assert "changed=0" in output


def test_a_dry_run_writes_nothing(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path / "files", "--check")
    assert status == 0, output
    assert not (tmp_path / "files").exists()


def test_machines_that_are_named_take_the_place_of_those_of_the_inventory(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path, flower_monitoring_machines=[{"name": "other", "address": "2001:db8::7"}])
    assert status == 0, output
    (target,) = json.loads((tmp_path / "flower-machines.json").read_text())
    assert target["targets"] == ["[2001:db8::7]:9101"]


def test_what_is_wrong_with_a_machine_is_said(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path, flower_metrics_port=80)
    assert status != 0
    assert "flower_monitoring_machines: machine 'faro': port 80 is not valid, expected a number from 1024 to 65535" in output


def test_machines_are_no_zones_that_are_asked(zones: Zones) -> None:
    # All settings are judged before the machine is contacted, which does not answer.
    watch = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    status, output = zones.play(playbook="monitoring", shared=METRICS, machines=MACHINES, groups={"monitoring": {"watch": watch}})
    assert status != 0, output
    assert "unreachable=1 failed=0" in output, output
