# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Apps that run in processes of their own on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from .flower import IsolatedFederation
from .shipped import APP

pytestmark = [pytest.mark.flower, pytest.mark.long]


def test_a_training_in_superexecs_of_their_own(flower_bin: Path, tmp_path: Path) -> None:
    with IsolatedFederation(flower_bin, APP, tmp_path) as federation:
        federation.add_node()
        counts = dict.fromkeys(("min_available_clients", "min_fit_clients", "min_evaluate_clients"), 1)
        run = federation.run(num_server_rounds=1, local_epochs=1, **counts)
    assert run.status == "finished:completed", run.details
    assert [data["num_clients_responded"] for data in run.data("round_end")] == [1]
