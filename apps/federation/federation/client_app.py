# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node does when it is asked to train, to evaluate, to propose an untrained model or to export a trained one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from logging import INFO, WARNING
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.logger import log

from federation import catalogue, compression, gpu, queries, usecases
from federation.events import tell
from federation.replies import EXAMPLES, SCALES, TRAIN_LOSS
from federation.rounds import short
from federation.zones import RESTS, SITE, ZONE

# Where a SuperNode's container has the node's own data, unless the node's configuration says otherwise.
DATA_DIRECTORY = "/app/data"
# Where the machine leaves it that the SuperNode is to stop as soon as nothing is lost with it: in its container, and without one.
REST_FILES = (Path("/tmp/flower-rest"), Path("/run/flower-rest"))

app = ClientApp()


Handler = Callable[[Message, Context], Message]


def _told(event: str, what: str) -> Callable[[Handler], Handler]:
    """Tell the node's journal how long a request took, and on how many examples, or why it failed."""

    def wrap(handler: Handler) -> Handler:
        @wraps(handler)
        def told(message: Message, context: Context) -> Message:
            started, number = time.monotonic(), message.content["config"]["server-round"]
            try:
                reply = handler(message, context)
            except Exception as error:
                reason = short(f"{type(error).__name__}: {error}")
                tell("client_failure", f"round {number}: {what} failed: {reason}", WARNING, round=number, error_type=reason)
                raise
            seconds, examples = time.monotonic() - started, reply.content["metrics"][EXAMPLES]
            tell(event, f"round {number}: {what} took {seconds:.1f} s", round=number, seconds=round(seconds, 3), num_examples=examples)
            return reply

        return told

    return wrap


@app.train()
@_told("client_trained", "the training")
def train(message: Message, context: Context) -> Message:
    """Train the global model on the node's own data."""
    use_case, options = _prepare(message, context)
    data, _ = use_case.load_data(_share(message, context), options)
    arrays = use_case.train(_arrays(message), data, options)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"training diverged: array {name} holds values that are not finite")
    metrics = {EXAMPLES: len(data[0])}
    if TRAIN_LOSS in message.content["config"]:
        metrics[TRAIN_LOSS] = use_case.evaluate(_arrays(message), data, options)["loss"]
    content = {**_model(message, arrays, options), "metrics": MetricRecord(metrics), **_site(context)}
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
@_told("client_evaluated", "the evaluation")
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global model on the node's held-out data."""
    use_case, options = _prepare(message, context)
    _, data = use_case.load_data(_share(message, context), options)
    metrics = use_case.evaluate(_arrays(message), data, options)
    content = {"metrics": MetricRecord({**metrics, EXAMPLES: len(data[0])}), **_site(context)}
    return Message(RecordDict(content), reply_to=message)


@app.query(queries.PROPOSE)
def propose(message: Message, context: Context) -> Message:
    """Propose an untrained model that fits the node's own data."""
    use_case, options = _prepare(message, context)
    options = replace(options, seed=context.run_config["seed"])  # what is drawn is the same on all nodes
    data, _ = use_case.load_data(_share(message, context), options)
    return Message(RecordDict({"arrays": _record(use_case.proposed_arrays(data, options))}), reply_to=message)


@app.query(queries.EXPORT)
def export(message: Message, context: Context) -> Message:
    """Write the global model in the format of the node's framework."""
    use_case, options = _prepare(message, context)
    suffix, content = use_case.export(_arrays(message), options)
    file = {"file": np.frombuffer(content, dtype=np.uint8)}  # as an array, because Flower sends large ones in parts
    return Message(RecordDict({"arrays": _record(file), "config": ConfigRecord({"suffix": suffix})}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[usecases.UseCase, usecases.Options]:
    """Return the use case and the options of this request, with a seed that differs by round and node.

    Raises:
        ValueError: the use case does not run on the framework of this node.
    """
    config, settings, node = message.content["config"], context.run_config, context.node_config
    use_case = usecases.load(settings["use-case"])
    framework = node.get("ml-framework", use_case.FRAMEWORKS[0])
    if framework not in use_case.FRAMEWORKS:
        raise ValueError(f"use case {settings['use-case']} runs on {' or '.join(use_case.FRAMEWORKS)}, but this node has {framework}")
    log(INFO, gpu.prepare(framework, node.get("gpu-memory-fraction")))
    seed = np.random.SeedSequence((settings["seed"], config["server-round"], config["partition-id"]))
    return use_case, usecases.Options(
        framework=framework,
        data_directory=Path(node.get("data-directory", DATA_DIRECTORY)),
        seed=int(seed.generate_state(1)[0]),
        local_epochs=settings["local-epochs"],
        batch_size=settings["local-batch-size"],
        learning_rate=settings["local-learning-rate"] or catalogue.client_rate(settings),
        proximal_mu=config.get("proximal-mu", 0.0),
        settings=settings,
    )


def _share(message: Message, context: Context) -> usecases.Share:
    config, settings = message.content["config"], context.run_config
    return usecases.Share(config["partition-id"], config["num-partitions"], settings["seed"], settings["partition-alpha"])


def _site(context: Context) -> dict[str, ConfigRecord]:
    """Say where this node is, if its configuration does, and that it is about to stop, if it is."""
    zone = context.node_config.get(ZONE)
    told: dict[str, str | bool] = {ZONE: str(zone)} if zone is not None else {}
    if any(file.exists() for file in REST_FILES):
        told[RESTS] = True
    return {SITE: ConfigRecord(told)} if told else {}


def _model(message: Message, arrays: dict[str, np.ndarray], options: usecases.Options) -> dict[str, ArrayRecord | MetricRecord]:
    """Return a trained model as the run wants it to travel, and tell the node's journal what compression saves and costs."""
    kind = options.settings["reply-compression"]
    if kind == compression.NONE:
        return {"arrays": _record(arrays)}
    before, generator = _arrays(message), np.random.default_rng((options.seed, 1))
    travelling, scales, restored = {}, {}, {}
    for name, array in arrays.items():
        travelling[name], scales[name] = compression.compress(before[name], array, kind, generator)
        restored[name] = compression.restore(before[name], travelling[name], scales[name], kind)
    number, error = message.content["config"]["server-round"], compression.error(before, arrays, restored)
    full, size = (sum(array.nbytes for array in model.values()) for model in (arrays, travelling))
    tell(
        "reply_compressed",
        f"round {number}: the model travels in {size} bytes instead of {full}, off by {error:.3%} of what training changed",
        round=number,
        bytes=size,
        bytes_uncompressed=full,
        error=error,
    )
    return {"arrays": _record(travelling), SCALES: MetricRecord(scales)}


def _arrays(message: Message) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in message.content["arrays"].items()}


def _record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})
