# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A SuperLink and a OneGate that exist only for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.superlink import OneGateServer, SuperLink, serve
from ansible_collections.opennebula.flower.tests.support.supervisor_scene import Scene


@pytest.fixture
def superlink(tmp_path: Path) -> SuperLink:
    return SuperLink(tmp_path / "superlink.json")


@pytest.fixture
def onegate() -> OneGateServer:
    return OneGateServer()


@pytest.fixture
def url(superlink: SuperLink, onegate: OneGateServer) -> Iterator[str]:
    with serve(superlink, onegate) as address:
        yield address


@pytest.fixture
def scene(tmp_path: Path, superlink: SuperLink, onegate: OneGateServer, url: str) -> Scene:
    return Scene(tmp_path, superlink, onegate, url)
