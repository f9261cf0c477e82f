# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside Flower's virtual environment: the app's own ServerApp and ClientApp in one process, Flower's network left out.

Reads {name: {"nodes": how many, "lies": {node: one of LIES}, "evaluations": {node: one of EVALUATIONS}, "absent": share of nodes, drawn
anew in each round, whose replies come a round late, "config": what differs from the default run configuration}}
and prints for each name, by round: the accuracy on held-out data and all figures, the distance of each honest node's model from the
global one, unless replies are compressed, and how far the global model moved; why replies were refused; what nodes told of compression; the
types of the arrays of the global model and of what was saved; and, if asked for, the global model that was evaluated last; why the run
failed, empty when it did not; which nodes were asked, message by message. A node among those that "rest" says so with its first reply, is there at the next
look at the nodes, away at the one after that, and back then.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import math
import random
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import sklearn.datasets
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from federation import client_app as client
from federation.client_app import app as client_app
from federation.replies import SCALES
from federation.server_app import app as server_app


class InProcess(Grid):
    """Has every message answered by the ClientApp at once."""

    def __init__(self, run_config: dict, nodes: int, lies: dict[str, str], evaluations: dict[str, str], absent: float = 0.0, rest: Iterable[int] = ()) -> None:
        self._contexts = {number: Context(1, number, {}, RecordDict(), run_config) for number in range(1, nodes + 1)}
        self._lies = lies
        self._evaluations = evaluations
        self._numbers = itertools.count()
        self._absent = absent
        self._away: list[int] = []
        self._draw = random.Random(1)
        self._withheld: dict[str, Message] = {}
        self._replies: dict[str, Message] = {}
        self._looks = dict.fromkeys(rest, 0)
        self.asked: list[list[int]] = []
        self.distances: list[list[float]] = []
        self.models: list[dict[str, np.ndarray]] = []

    run = None
    set_run = create_message = send_and_receive = NotImplemented  # the app does without

    def get_node_ids(self) -> Iterable[int]:
        self._looks = {node: looks + 1 if looks else 0 for node, looks in self._looks.items()}
        return [node for node in self._contexts if self._looks.get(node) != 3]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self.asked.append(sorted(message.metadata.dst_node_id for message in messages))
        if messages[0].metadata.message_type == MessageType.TRAIN:
            self.distances.append([])
            self._replies |= self._withheld
            self._withheld = {}
            self._away = self._draw.sample(list(self._contexts), round(self._absent * len(self._contexts)))
        elif messages[0].metadata.message_type == MessageType.EVALUATE:
            self.models.append(arrays_of(messages[0]))
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(message_id) for message_id in list(message_ids) if message_id in self._replies]

    def _deliver(self, message: Message) -> str:
        message_id = f"message-{next(self._numbers)}"
        message.metadata.__dict__["_message_id"] = message_id
        node = message.metadata.dst_node_id
        training = message.metadata.message_type == MessageType.TRAIN
        client.REST_FILES = (Path(__file__),) if self._looks.get(node) == 0 else ()
        self._looks |= {node: 1} if node in self._looks and client.REST_FILES else {}
        try:
            reply = client_app(message, self._contexts[node])
        except Exception as error:  # noqa: BLE001 - as a SuperNode does
            reply = Message(Error(0, str(error)), reply_to=message)
        if message.metadata.message_type == MessageType.EVALUATE and str(node) in self._evaluations:
            EVALUATIONS[self._evaluations[str(node)]](reply.content)
        elif training and str(node) in self._lies:
            LIES[self._lies[str(node)]](reply.content, message.content)
        elif training and not reply.has_error() and SCALES not in reply.content:
            self.distances[-1].append(distance(arrays_of(message), arrays_of(reply)))
        (self._withheld if node in self._away else self._replies)[message_id] = reply
        return message_id


def replace_arrays(content: RecordDict, change: Callable[[np.ndarray], np.ndarray]) -> None:
    content["arrays"] = ArrayRecord({name: Array(change(array.numpy())) for name, array in content["arrays"].items()})


LIES: dict[str, Callable[[RecordDict, RecordDict], object]] = {
    "garbage": lambda content, _sent: replace_arrays(content, lambda array: np.random.default_rng(1).normal(0, 100, array.shape)),
    "no numbers": lambda content, _sent: replace_arrays(content, lambda array: array * np.nan),
    "huge": lambda content, _sent: replace_arrays(content, lambda array: np.full_like(array, 1e300)),
    "larger than its square holds": lambda content, _sent: replace_arrays(content, lambda array: array - 1e30),
    "huge loss": lambda content, _sent: content["metrics"].update({"train-loss": 1e300}),
    "other shape": lambda content, _sent: replace_arrays(content, lambda array: array[:-1]),
    "fewer arrays": lambda content, _sent: content["arrays"].pop("output.bias"),
    "negative weight": lambda content, _sent: content["metrics"].update({"num-examples": -100}),
    "more metrics": lambda content, _sent: content["metrics"].update({"extra": 1.0}),
    "most examples": lambda content, _sent: content["metrics"].update({"num-examples": 10**9}),
    "second record": lambda content, _sent: content.update({"more": MetricRecord({"a": 1.0}), "again": content["arrays"].copy()}),
    "other record": lambda content, _sent: content.update({"arrays": ConfigRecord({"a": "b"})}),
    "no metrics": lambda content, _sent: content.update({"metrics": ConfigRecord({"num-examples": 5})}),
    "endless weight": lambda content, _sent: content["metrics"].update({"num-examples": 1e308}),
    "no array": lambda content, _sent: [setattr(array, "data", b"PK\x03\x04nonsense") for array in content["arrays"].values()],
    "huge array": lambda content, _sent: [setattr(array, "data", header((1 << 50,))) for array in content["arrays"].values()],
    "foreign array": lambda content, _sent: [setattr(array, "stype", "pickle") for array in content["arrays"].values()],
    "no change": lambda content, sent: content.update({"arrays": sent["arrays"].copy()}),
    "not compressed": lambda content, sent: content.update({"arrays": sent["arrays"].copy()}),
    "compressed": lambda content, _sent: replace_arrays(content, lambda array: array.astype(np.float16)),
    "no scales": lambda content, _sent: content.pop(SCALES),
    "one scale": lambda content, _sent: content[SCALES].pop("output.bias"),
    "huge scale": lambda content, _sent: content[SCALES].update({"output.bias": 1e300}),
    "scale NaN": lambda content, _sent: content[SCALES].update({"output.bias": math.nan}),
    "list of scales": lambda content, _sent: content[SCALES].update({"output.bias": [1.0]}),
    "text for scales": lambda content, _sent: content.update({SCALES: ConfigRecord({"output.bias": "1"})}),
    "large by its scale": lambda content, _sent: [
        content[SCALES].update({"output.bias": 1e10}),
        replace_arrays(content, lambda array: np.full_like(array, 100)),
    ],
    "other order": lambda content, _sent: content.update({"arrays": ArrayRecord(dict(reversed(content["arrays"].items())))}),
}


EVALUATIONS: dict[str, Callable[[RecordDict], object]] = {
    "no examples": lambda content: content["metrics"].update({"num-examples": 0}),
    "negative examples": lambda content: content["metrics"].update({"num-examples": -5}),
    "endless examples": lambda content: content["metrics"].update({"num-examples": 1e308}),
    "list of examples": lambda content: content["metrics"].update({"num-examples": [1, 2]}),
    "one more figure": lambda content: content["metrics"].update({"extra": 1.0, "self": 1.0, "x" * 500: 1.0, "a\nb": 1.0}),
    "no accuracy": lambda content: content["metrics"].pop("accuracy"),
    "list of losses": lambda content: content["metrics"].update({"loss": [0.1] * 1000}),
    "another list": lambda content: content["metrics"].update({"extra": [1.0, 2.0]}),
    "second record": lambda content: content.update({"more": MetricRecord({"loss": 1.0}), "text": ConfigRecord({"a": "b"})}),
    "other name": lambda content: content.update({"figures": content.pop("metrics")}),
    "other record": lambda content: content.update({"metrics": ConfigRecord({"loss": "x", "accuracy": True, "num-examples": 5})}),
    "nothing": lambda content: content.clear(),
    "loss NaN": lambda content: content["metrics"].update({"loss": math.nan}),
    "loss infinite": lambda content: content["metrics"].update({"loss": math.inf}),
    "shared figure": lambda content: content["metrics"].update({"recall": 0.5}),
}


def header(shape: tuple[int, ...]) -> bytes:
    """The beginning of an array that is larger than any memory."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def arrays_of(message: Message) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in message.content["arrays"].items()}


def distance(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(after[name] - before[name]).sum() for name in before)))


def figures(data: dict) -> dict:
    return {key.removeprefix("aggregated_"): value for key, value in data.items() if key.startswith("aggregated_")}


def run(scenario: dict, defaults: dict) -> dict:
    nodes = scenario["nodes"]
    counts = {"min-available-clients": nodes, "min-fit-clients": nodes, "min-evaluate-clients": nodes}
    with tempfile.TemporaryDirectory() as directory:
        config = defaults | counts | {"output-directory": directory, "checkpoint-path": directory} | scenario["config"]
        grid = InProcess(config, nodes, scenario["lies"], scenario.get("evaluations", {}), scenario.get("absent", 0.0), scenario.get("rest", ()))
        failed = ""
        np.random.seed(config["seed"])  # for the noise of differential privacy alone
        nodes_said = io.StringIO()
        try:
            with contextlib.redirect_stdout(nodes_said):
                server_app(grid, Context(1, 0, {}, RecordDict(), config))
        except Exception as error:  # noqa: BLE001 - as Flower does
            failed = str(error)
        told = [json.loads(line) for line in nodes_said.getvalue().splitlines() if line.startswith("{")]
        kept = [array for path in Path(directory).glob("**/*.npz") for name, array in np.load(path).items() if not name.endswith(".json")]
        events = [json.loads(line) for line in (Path(directory) / "events.jsonl").read_text().splitlines()]
    return {
        "failed": failed,
        "asked": grid.asked,
        "figures": [figures(event["data"]) for event in events if event["event"] == "round_end"],
        "accuracy": [event["data"]["aggregated_accuracy"] for event in events if event["event"] == "round_end"],
        "rounds": [event["data"] for event in events if event["event"] == "round_end"],
        "late": sum(event["event"] == "reply_late" for event in events),
        "compressed": [event["data"] for event in told if event["event"] == "reply_compressed"],
        "types": sorted({str(array.dtype) for array in (*(grid.models[-1].values() if grid.models else ()), *kept)}),
        "distances": grid.distances,
        "refused": {event["data"]["node_id"]: event["data"]["error_type"] for event in events if event["event"] == "client_failure"},
        "steps": [distance(before, after) for before, after in zip(grid.models, grid.models[1:], strict=False)],
        "model": np.concatenate([array.ravel() for array in grid.models[-1].values()]).tolist() if scenario["model"] else [],
    }


def main() -> None:
    sklearn.datasets.load_digits = functools.cache(sklearn.datasets.load_digits)  # each message has it read anew
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as Flower does before it starts an app
    with open("pyproject.toml", "rb") as stream:
        defaults = tomllib.load(stream)["tool"]["flwr"]["app"]["config"]
    json.dump({name: run(scenario, defaults) for name, scenario in json.load(sys.stdin).items()}, sys.stdout)


main()
