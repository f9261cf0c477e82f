# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The app trains with every supported Flower release; the other tests of this directory run with the default one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION, RELEASES

from .conftest import make_flower_venv
from .flower import Federation
from .shipped import APP

pytestmark = [pytest.mark.flower, pytest.mark.long]


@pytest.mark.parametrize("version", [version for version in RELEASES if version != DEFAULT_VERSION])
def test_two_nodes_train_with_a_release_that_is_not_the_default(version: str, tmp_path: Path) -> None:
    with Federation(make_flower_venv(version), APP, tmp_path) as federation:
        federation.add_node()
        federation.add_node()
        run = federation.run(num_server_rounds=1)
    assert run.status == "finished:completed", run.details
    assert run.data("round_end")[0]["num_clients_responded"] == 2
