# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What strategies do, with Flower's own classes, in Flower's virtual environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from federation.catalogue import PRIVACY, STRATEGIES

from .shipped import APP

pytestmark = pytest.mark.flower

INSIDE = Path(__file__).parent / "inside"


def inside(flower_bin: Path, program: str, *arguments: str, standard_input: str = "") -> dict:
    """Run one of the programs in Flower's virtual environment and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(APP), "FLWR_LOG_LEVEL": "ERROR", "FLWR_TELEMETRY_ENABLED": "0"}
    command = [flower_bin / "python", INSIDE / program, *arguments]
    result = subprocess.run(command, cwd=APP, env=environment, input=standard_input, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def resumed(flower_bin: Path) -> dict[str, dict]:
    """For every strategy and privacy: a third round of a new strategy with the state of one that did two."""
    return inside(flower_bin, "strategy_state.py")


@pytest.mark.parametrize("mode", PRIVACY)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_goes_on_bit_for_bit_from_its_state(resumed: dict[str, dict], strategy: str, mode: str) -> None:
    assert resumed[f"{strategy} {mode}"]["equal"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_state_is_what_makes_the_difference(resumed: dict[str, dict], strategy: str) -> None:
    remembers = {"FedAvgM": ["current", "momentum"], **dict.fromkeys(("FedAdam", "FedYogi", "FedAdagrad"), ["m_t", "v_t"])}
    without, fixed, adaptive = (resumed[f"{strategy} {mode}"] for mode in PRIVACY)
    assert without["kinds"] == fixed["kinds"] == remembers.get(strategy, [])
    assert adaptive["kinds"] == ["clipping_norm", *without["kinds"]]
    assert without["equal_without_state"] is (strategy not in remembers)
    assert adaptive["equal_without_state"] is False


def test_the_state_of_another_strategy_is_refused(resumed: dict[str, dict]) -> None:
    assert resumed["foreign"] == "this is not the state of a FedAvg strategy: it holds m_t/scale"
