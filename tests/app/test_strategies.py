# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What strategies do, with Flower's own classes, in Flower's virtual environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from federation.strategy_table import PRIVACY, STRATEGIES

from .shipped import APP

pytestmark = pytest.mark.flower

INSIDE = Path(__file__).parent / "inside"


def inside(flower_bin: Path, program: str, *arguments: str, standard_input: str = "") -> dict:
    """Run one of the programs in Flower's virtual environment and return what it prints at last; before that the nodes print their events."""
    environment = {**os.environ, "PYTHONPATH": str(APP), "FLWR_LOG_LEVEL": "CRITICAL", "OMP_NUM_THREADS": "1"}
    command = [flower_bin / "python", INSIDE / program, *arguments]
    result = subprocess.run(command, cwd=APP, env=environment, input=standard_input, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def computed(result: dict) -> dict:
    """Return what came out of a training, without the times of its rounds."""
    return {name: value for name, value in result.items() if name != "rounds"}


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


def scenario(nodes: int, lies: dict[str, str] | None = None, model: bool = False, **config: object) -> dict:
    return {"nodes": nodes, "lies": lies or {}, "model": model, "config": {key.replace("_", "-"): value for key, value in config.items()}}


ROBUST = ("Krum", "MultiKrum", "Bulyan", "FedMedian", "FedTrimmedAvg")
MALICIOUS = {"Krum": {"num_malicious": 1}, "Bulyan": {"num_malicious": 1}, "MultiKrum": {"num_malicious": 1, "nodes_to_select": 5}}
TUNED = {"FedAvgM": {"server_momentum": 0.5}, "FedYogi": {"server_lr": 0.1}, "QFedAvg": {"client_lr": 10.0}}
CLIPPED = {"dp_mode": "fixed", "dp_clipping_norm": 0.5, "local_epochs": 2}
ADAPTIVE = {"dp_mode": "adaptive", "dp_noise_multiplier": 0, "dp_clip_lr": 1.0, "local_epochs": 2}
REFUSED = ("no numbers", "other shape", "fewer arrays", "negative weight")
TAKEN = ("more metrics", "other order")
SAMPLED = {"num_server_rounds": 3, "fraction_fit": 0.4, "min_fit_clients": 1, "local_epochs": 1}
SCENARIOS = {
    **{f"attacked {name}": scenario(7, {"1": "garbage"}, strategy=name, num_server_rounds=2, **MALICIOUS.get(name, {})) for name in ("FedAvg", *ROBUST)},
    **{name: scenario(3, strategy=name, num_server_rounds=3, **TUNED.get(name, {})) for name in STRATEGIES if name not in ROBUST},
    "skewed FedAvg": scenario(5, partition_alpha=0.1, num_server_rounds=2, local_epochs=5),
    "skewed FedProx": scenario(5, strategy="FedProx", partition_alpha=0.1, num_server_rounds=2, local_epochs=5),
    "skewed FedProx, mu 0": scenario(5, strategy="FedProx", proximal_mu=0.0, partition_alpha=0.1, num_server_rounds=2, local_epochs=5),
    "sampled": scenario(5, **SAMPLED),
    "sampled again": scenario(5, **SAMPLED),
    "clipped": scenario(3, model=True, num_server_rounds=1, dp_noise_multiplier=0, **CLIPPED),
    "clipped, one node with most examples": scenario(3, {"1": "most examples"}, model=True, num_server_rounds=1, dp_noise_multiplier=0, **CLIPPED),
    "clipped, one node without change": scenario(3, {"1": "no change"}, num_server_rounds=1, dp_noise_multiplier=0, **CLIPPED),
    "clipped and noised": scenario(3, model=True, num_server_rounds=1, **CLIPPED),
    "clipped twice": scenario(3, num_server_rounds=2, dp_noise_multiplier=0, **CLIPPED),
    # FedAvgM compares arrays by their place.
    "strange": scenario(
        7,
        {str(node): lie for node, lie in enumerate((*REFUSED, *TAKEN), 1)},
        strategy="FedAvgM",
        server_momentum=0.5,
        num_server_rounds=1,
        min_fit_clients=3,
    ),
    **{
        f"huge {name}": scenario(8, {"1": "huge", "2": "larger than its square holds"}, strategy=name, num_server_rounds=2, min_fit_clients=6)
        for name in STRATEGIES
    },
    "huge loss": scenario(4, {"1": "huge loss"}, strategy="QFedAvg", num_server_rounds=2, min_fit_clients=3, client_lr=10.0),
    "huge, clipped": scenario(4, {"1": "huge"}, num_server_rounds=1, min_fit_clients=3, dp_noise_multiplier=0, **CLIPPED),
    "unclipped": scenario(3, model=True, num_server_rounds=1, dp_clipping_norm=100.0, **ADAPTIVE),
    "unclipped and noised": scenario(3, model=True, num_server_rounds=1, dp_clipping_norm=100.0, **ADAPTIVE | {"dp_noise_multiplier": 1.0}),
    "adaptive": scenario(3, num_server_rounds=8, **ADAPTIVE),
}


@pytest.fixture(scope="module")
def trained(flower_bin: Path) -> dict[str, dict]:
    """The digits, learned by the whole app in every scenario."""
    return inside(flower_bin, "whole_app.py", standard_input=json.dumps(SCENARIOS))


def test_one_node_of_seven_that_sends_garbage_ruins_the_plain_mean(trained: dict[str, dict]) -> None:
    assert trained["attacked FedAvg"]["accuracy"][-1] < 0.3


@pytest.mark.parametrize("strategy", ROBUST)
def test_a_robust_strategy_holds_its_accuracy_against_one_of_seven(trained: dict[str, dict], strategy: str) -> None:
    assert trained[f"attacked {strategy}"]["accuracy"][-1] > 0.9


def test_a_reply_that_no_strategy_can_take_costs_its_node_the_round_and_nobody_else(trained: dict[str, dict]) -> None:
    assert trained["strange"]["refused"] == {
        "1": "sent array hidden.weight with values that are not finite",
        "2": "sent array hidden.weight as float64(63, 64), not float64(64, 64)",
        "3": "sent no model that can be read (KeyError: 'output.bias')",
        "4": "sent num-examples -100",
    }
    assert trained["strange"]["accuracy"][-1] > 0.8


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_numbers_that_are_too_large_to_add_up_cost_their_node_the_round_and_nobody_else(trained: dict[str, dict], strategy: str) -> None:
    done = trained[f"huge {strategy}"]
    assert done["failed"] == "" and len(done["accuracy"]) == 2
    assert done["refused"] == {
        "1": "sent array hidden.weight with values of up to 1e+300, above 1e+10",
        "2": "sent array hidden.weight with values of up to 1e+30, above 1e+10",
    }


def test_neither_a_huge_loss_nor_huge_numbers_reach_what_reckons_with_them(trained: dict[str, dict]) -> None:
    assert trained["huge loss"]["refused"] == {"1": "sent train-loss 1e+300"}
    assert trained["huge loss"]["failed"] == trained["huge, clipped"]["failed"] == ""
    assert list(trained["huge, clipped"]["refused"]) == ["1"]


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ROBUST])
def test_a_strategy_learns_the_digits(trained: dict[str, dict], strategy: str) -> None:
    assert trained[strategy]["accuracy"][-1] > 0.9


def test_a_share_of_the_nodes_trains_and_the_seed_decides_which(trained: dict[str, dict]) -> None:
    assert [len(of_round) for of_round in trained["sampled"]["distances"]] == [2, 2, 2]
    assert computed(trained["sampled again"]) == computed(trained["sampled"])


def test_the_proximal_term_keeps_nodes_with_skewed_data_nearer_to_the_global_model(trained: dict[str, dict]) -> None:
    far, near = trained["skewed FedAvg"]["distances"], trained["skewed FedProx"]["distances"]
    assert len(far) == len(near) == 2
    for without, with_term in zip(far, near, strict=True):
        assert np.mean(with_term) < 0.95 * np.mean(without)


def test_fedprox_with_mu_0_is_fedavg(trained: dict[str, dict]) -> None:
    assert computed(trained["skewed FedProx, mu 0"]) == computed(trained["skewed FedAvg"])


def test_clipping_bounds_how_far_the_model_moves(trained: dict[str, dict]) -> None:
    (step,) = trained["clipped twice"]["steps"]
    assert np.min(trained["clipped twice"]["distances"]) > 2
    assert 0.25 < step <= 0.5


def test_a_node_with_most_of_the_examples_weighs_no_more_than_another_where_it_is_to_stay_private(trained: dict[str, dict]) -> None:
    assert trained["clipped, one node with most examples"]["model"] == trained["clipped"]["model"]


def test_a_node_that_changes_nothing_can_be_clipped(trained: dict[str, dict]) -> None:
    assert trained["clipped, one node without change"]["refused"] == {}


def test_noise_is_the_multiplier_times_the_norm_over_the_nodes(trained: dict[str, dict]) -> None:
    noise = np.subtract(trained["clipped and noised"]["model"], trained["clipped"]["model"])
    assert noise.size > 4000
    assert noise.std() == pytest.approx(1.0 * 0.5 / 3, rel=0.05)
    assert abs(noise.mean()) < 0.01


def test_noise_is_that_of_the_norm_of_its_round_even_where_the_norm_shrinks(trained: dict[str, dict]) -> None:
    noise = np.subtract(trained["unclipped and noised"]["model"], trained["unclipped"]["model"])
    # More than the multiplier of 1, since the noise on the count of clipped nodes spends a share of the privacy.
    assert noise.std() == pytest.approx((1 - 1 / 4) ** -0.5 * 100 / 3, rel=0.05)


def test_the_adaptive_norm_grows_towards_the_updates_and_stays_there(trained: dict[str, dict]) -> None:
    steps, norms = trained["adaptive"]["steps"], np.mean(trained["adaptive"]["distances"], axis=1)
    assert all(after > before for before, after in zip(steps[:5], steps[1:6], strict=True))
    assert steps[0] < 0.1 * norms[0]
    assert 0.4 * norms[-1] < steps[-1] < 1.2 * norms[-1]
