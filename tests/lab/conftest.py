# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone on the Docker engine for the tests: a driver of its own, a network, and an OneGate."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_zone import NETWORK, VM_IMAGE, Machines, OneGate

from lab.driver import ImageSpec
from lab.driver.docker import DockerDriver
from lab.engine import host_address
from lab.images import SUITES, build


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker of tests that need a Docker engine."""
    config.addinivalue_line("markers", "docker: needs a Docker engine")


@pytest.fixture(scope="module")
def zone() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def driver(zone: str, state_dir: Path) -> Iterator[DockerDriver]:
    build("base", SUITES["bookworm"])
    driver = DockerDriver(zone, str(state_dir))
    driver.create_network(NETWORK)
    yield driver
    driver.clean()


@pytest.fixture
def machines(driver: DockerDriver, zone: str) -> Machines:
    image = ImageSpec(0, "debian", f"container:{VM_IMAGE}")
    driver.register_image(image)
    return Machines(driver, zone, image.source)


@pytest.fixture
def onegate() -> Iterator[OneGate]:
    gate = OneGate(host_address())
    yield gate
    gate.close()
