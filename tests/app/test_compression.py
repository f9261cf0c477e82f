# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Replies that travel with fewer bits: what that costs, that every strategy takes them, and that no node chooses it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from federation import compression
from federation.strategy_table import STRATEGIES

from .shipped import REPOSITORY
from .test_strategies import inside

NODES = 3
# Bytes of the digits' model as it travels, and the most that it may be off, as a share of what training changed.
FULL = 38480
COSTS = {"float16": (9620, 0.0005), "int8": (4810, 0.01)}
TUNED = {
    "FedAvgM": {"server-momentum": 0.5}, "FedYogi": {"server-lr": 0.1}, "QFedAvg": {"client-lr": 10.0}, "MultiKrum": {"nodes-to-select": 2},
}  # fmt: skip
# What one node of three sends while the SuperLink asked for float16, and what is said of it.
LIES = {
    "not compressed": "sent array hidden.weight as float64(64, 64), not float16(64, 64)",
    "other shape": "sent array hidden.weight as float16(63, 64), not float16(64, 64)",
    "no numbers": "sent array hidden.weight with values that are not finite",
    "no scales": "sent no scales of its arrays",
    "text for scales": "sent no scales of its arrays",
    "one scale": "sent array output.bias with the scale None",
    "list of scales": "sent array output.bias with the scale [1.0]",
    "scale NaN": "sent array output.bias with the scale nan",
    "huge scale": "sent array output.bias with the scale 1e+300",
    "large by its scale": "sent array output.bias with values of up to 1e+12, above 1e+10",
}


def scenario(lies: dict[str, str] | None = None, **config: object) -> dict:
    changed = {key.replace("_", "-"): value for key, value in config.items()}
    return {"nodes": NODES, "lies": lies or {}, "model": False, "config": {"num-server-rounds": 2, "local-epochs": 2} | changed}


ONE_ROUND = {"num_server_rounds": 1, "local_epochs": 1, "min_fit_clients": 2}
SCENARIOS = {
    **{f"{name} {kind}": scenario(strategy=name, reply_compression=kind, **TUNED.get(name, {})) for name in STRATEGIES for kind in ("none", "int8")},
    "FedAvg float16": scenario(reply_compression="float16"),
    **{lie: scenario({"2": lie}, reply_compression="float16", **ONE_ROUND) for lie in LIES},
    "compressed": scenario({"2": "compressed"}, **ONE_ROUND),
    "saved": scenario(strategy="FedAvgM", reply_compression="int8", checkpoint_enabled=True, run_name="saved", checkpoint_interval=1, **ONE_ROUND),
    "clipped": scenario(dp_mode="fixed", dp_noise_multiplier=0, dp_clipping_norm=0.5, reply_compression="int8"),
}


@pytest.fixture(scope="module")
def results(flower_bin: Path) -> dict[str, dict]:
    """The app's own ServerApp and ClientApp in every scenario."""
    return inside(flower_bin, "whole_app.py", standard_input=json.dumps(SCENARIOS))


@pytest.mark.flower
class TestWholeApp:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_every_strategy_learns_as_well_from_eight_bits(self, results: dict[str, dict], strategy: str) -> None:
        plain, compressed = results[f"{strategy} none"], results[f"{strategy} int8"]
        assert (compressed["failed"], compressed["refused"]) == ("", {})
        assert plain["compressed"] == []
        assert len(compressed["compressed"]) == 2 * NODES
        assert abs(compressed["accuracy"][-1] - plain["accuracy"][-1]) <= 0.03

    @pytest.mark.parametrize("kind", COSTS)
    def test_nodes_say_what_it_saves_and_what_it_costs(self, results: dict[str, dict], kind: str) -> None:
        size, most = COSTS[kind]
        for data in results[f"FedAvg {kind}"]["compressed"]:
            assert (data["bytes"], data["bytes_uncompressed"]) == (size, FULL)
            assert 0 < data["error"] <= most

    def test_the_model_and_what_is_saved_keep_their_type(self, results: dict[str, dict]) -> None:
        assert results["saved"]["failed"] == ""
        assert results["saved"]["types"] == ["float64"]

    @pytest.mark.parametrize("lie", LIES)
    def test_a_node_that_sends_anything_else_is_left_out_of_the_round(self, results: dict[str, dict], lie: str) -> None:
        assert results[lie]["failed"] == ""
        assert results[lie]["refused"] == {"2": LIES[lie]}

    def test_nobody_compresses_unasked(self, results: dict[str, dict]) -> None:
        assert results["compressed"]["failed"] == ""
        assert results["compressed"]["refused"] == {"2": "sent array hidden.weight as float16(64, 64), not float64(64, 64)"}

    def test_updates_are_clipped_by_their_length_after_the_way(self, results: dict[str, dict]) -> None:
        (step,) = results["clipped"]["steps"]
        assert 0.25 < step <= 0.5


def through(before: np.ndarray, after: np.ndarray, kind: str) -> np.ndarray:
    travelled, scale = compression.compress(before, after, kind, np.random.default_rng(1))
    assert travelled.dtype == compression.wire_type(after.dtype, kind)
    return compression.restore(before, travelled, scale, kind)


@pytest.mark.parametrize("kind", COSTS)
class TestArrays:
    @pytest.mark.parametrize("size", [1e-30, 1e-3, 1e6])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_what_training_changed_comes_out_again_however_small_or_large(self, kind: str, dtype: str, size: float) -> None:
        before = np.zeros(1000, dtype)
        after = np.random.default_rng(2).normal(0, size, 1000).astype(dtype)
        restored = through(before, after, kind)
        assert restored.dtype == np.dtype(dtype)
        most = np.abs(after).max() * (1 / 127 if kind == "int8" else 2**-11)
        assert np.abs(restored.astype(float) - after).max() <= most * 1.001

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
    def test_an_array_that_did_not_change_comes_out_as_it_was(self, kind: str, shape: tuple[int, ...]) -> None:
        before = np.full(shape, 0.1, np.float32)
        restored = through(before, before.copy(), kind)
        assert restored.shape == shape
        assert np.array_equal(restored, before)

    def test_what_are_no_floating_point_numbers_travels_as_it_is(self, kind: str) -> None:
        before, after = np.array([1, 2]), np.array([3, 1 << 40])
        assert np.array_equal(through(before, after, kind), after)


def test_small_changes_do_not_vanish_from_the_mean_of_many_nodes() -> None:
    before, after = np.zeros(2), np.array([1.0, 0.001])  # an eighth of a step
    generator = np.random.default_rng(3)
    restored = [compression.restore(before, *compression.compress(before, after, "int8", generator), "int8")[1] for _ in range(4000)]
    assert np.mean(restored) == pytest.approx(0.001, rel=0.15)


def test_the_page_says_what_it_saves_and_costs() -> None:
    page = (REPOSITORY / "docs" / "strategies.md").read_text()
    for kind, (size, most) in COSTS.items():
        assert re.search(rf"^\| `{kind}` \| {size} \| [^|]+ \| less than {100 * most:g} % \|", page, re.MULTILINE)
