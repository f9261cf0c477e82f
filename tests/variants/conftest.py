# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One SuperLink without machine learning libraries; SuperNodes in containers of the image of a framework."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.app.shipped import APP

from .nodes import Nodes


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker: needs a Docker engine")
    config.addinivalue_line("markers", "flower: runs the real Flower, in build/flower-VERSION")


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """The SuperLink of all tests."""
    with Federation(make_flower_venv(), APP, tmp_path_factory.mktemp("federation")) as running:
        yield running


@pytest.fixture(scope="session")
def nodes(federation: Federation) -> Iterator[Nodes]:
    """Two SuperNodes, of the framework that was asked for last."""
    running = Nodes(federation.address)
    yield running
    running.stop()
