# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node does when it is asked to train or to evaluate."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from federation import usecases

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global model on the node's own data."""
    use_case, (data, _), seed = _prepare(message, context)
    arrays = use_case.train(_arrays(message), data, seed)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"training diverged: array {name} holds values that are not finite")
    metrics = {"num-examples": len(data[0])}
    if message.content["config"].get("train-loss"):
        metrics["train-loss"] = use_case.evaluate(_arrays(message), data)["loss"]
    content = RecordDict(
        {
            # Some strategies compare arrays by their place: they go back in the order they came in.
            "arrays": ArrayRecord({name: Array(arrays[name]) for name in message.content["arrays"]}),
            "metrics": MetricRecord(metrics),
        }
    )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global model on the node's held-out data."""
    use_case, (_, data), _ = _prepare(message, context)
    metrics = use_case.evaluate(_arrays(message), data)
    content = RecordDict({"metrics": MetricRecord({**metrics, "num-examples": len(data[0])})})
    return Message(content, reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[usecases.UseCase, tuple, int]:
    """Return the use case, the node's data, and a seed that differs by round and node."""
    config = message.content["config"]
    seed = context.run_config["seed"]
    use_case = usecases.load(context.run_config["use-case"])
    data = use_case.load_data(config["partition-id"], config["num-partitions"], seed)
    local = np.random.SeedSequence((seed, config["server-round"], config["partition-id"]))
    return use_case, data, int(local.generate_state(1)[0])


def _arrays(message: Message) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in message.content["arrays"].items()}
