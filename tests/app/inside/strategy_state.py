# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside Flower's virtual environment: every strategy with nodes that answer at random but always the same.

Prints, for each strategy and each kind of privacy, whether two rounds, a new strategy with the saved state and a third
round give the same model as three rounds in one go, whether they do without the state, and the kinds of arrays in it;
and what is said to a state of another strategy.
"""

from __future__ import annotations

import io
import json
import sys
import tomllib

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from federation import strategies
from federation.replies import TRAIN_LOSS
from federation.settings import Settings
from federation.strategy_table import PRIVACY, STRATEGIES

NODES = range(1, 8)
SHAPES = {"a.weight": (4, 3), "b.bias": (3,), "scale": ()}
OPTIONS = {"server-momentum": 0.9, "num-malicious": 1, "nodes-to-select": 3, "dp-noise-multiplier": 0.3}


class Grid:
    """Knows who is there; nothing is sent."""

    def get_node_ids(self) -> list[int]:
        return list(NODES)


def answer(message: Message, round_number: int) -> Message:
    """A node's reply: what it was given, moved at random, and the random numbers depend on node and round alone."""
    generator = np.random.default_rng((round_number, message.metadata.dst_node_id))
    moved = {name: Array(np.asarray(array.numpy() + generator.normal(size=array.shape))) for name, array in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": int(generator.integers(10, 99)), TRAIN_LOSS: float(generator.uniform(0.1, 2))})
    return Message(RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics}), reply_to=message)


def one_round(strategy: strategies.Strategy, arrays: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    messages = strategy.configure_train(number, record, ConfigRecord(), Grid())
    replies = sorted((answer(message, number) for message in messages), key=lambda reply: reply.metadata.src_node_id)
    np.random.seed(number)  # Flower's noise comes from numpy's global generator
    result, _ = strategy.aggregate_train(number, replies)
    return {name: array.numpy() for name, array in result.items()}


def through_a_file(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    stream.seek(0)
    with np.load(stream) as content:
        return dict(content)


def main() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as Flower does before it starts an app
    with open("pyproject.toml", "rb") as stream:
        defaults = tomllib.load(stream)["tool"]["flwr"]["app"]["config"]
    results = {}
    for name in STRATEGIES:
        for mode in PRIVACY:
            config = defaults | OPTIONS | {"strategy": name, "dp-mode": mode, "min-available-clients": 7, "min-fit-clients": 7}
            settings = Settings.from_run_config(config)
            first, resumed, forgetful = (strategies.build(settings) for _ in range(3))
            arrays = {array: np.zeros(shape) for array, shape in SHAPES.items()}
            for number in (1, 2):
                arrays = one_round(first, arrays, number)
            state = through_a_file(strategies.server_state(first))
            strategies.restore_state(resumed, state)
            expected, found, other = (one_round(strategy, arrays, 3) for strategy in (first, resumed, forgetful))
            results[f"{name} {mode}"] = {
                "equal": all(np.array_equal(expected[array], found[array]) for array in SHAPES),
                "equal_without_state": all(np.array_equal(expected[array], other[array]) for array in SHAPES),
                "kinds": sorted({key.split("/")[0] for key in state}),
            }
    try:
        strategies.restore_state(strategies.build(Settings.from_run_config(defaults)), {"m_t/scale": np.zeros(())})
    except ValueError as refusal:
        results["foreign"] = str(refusal)
    json.dump(results, sys.stdout)


main()
