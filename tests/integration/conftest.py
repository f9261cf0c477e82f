# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A federation whose SuperLink is a file, for the tests of the modules that ask for trainings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.federation import PASSWORD, Federation
from ansible_collections.opennebula.flower.tests.support.superlink import OneGateServer, SuperLink, serve
from lab.zone import Zone, ZoneConfig


@pytest.fixture(scope="session")
def training_zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zone]:
    directory = tmp_path_factory.mktemp("zone")
    ports = {"port": 0, "oneflow_port": 0, "onegate_port": 0}
    zone = Zone(ZoneConfig(name="runs", state_dir=directory, password=PASSWORD, interval=0.1, **ports))
    zone.start()
    yield zone
    zone.stop()


@pytest.fixture
def federation(training_zone: Zone, tmp_path: Path) -> Iterator[Federation]:
    superlink = SuperLink(tmp_path / "superlink.json")
    with serve(superlink, OneGateServer()) as url:
        federation = Federation(training_zone, tmp_path, superlink, f"{url}/health")
        yield federation
        federation.close()
    federation.remove()
