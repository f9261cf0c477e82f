# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside Flower's virtual environment: the round loop with nodes that always answer the same, on a small disk.

Arguments: a directory on a disk that has room for some checkpoints, and a file there that takes the room at first. Prints
the final models of an undisturbed run and of one with a failed evaluation, and what a run recorded whose disk was full.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from federation.checkpoints import Checkpoint, CheckpointStore
from federation.recorder import Recorder
from federation.rounds import EVALUATION, RoundFailed
from federation.settings import Settings
from federation.training import Training

TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as Flower does before it starts an app
DEFAULTS = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
WEIGHTS = 20_000


class Grid:
    """Two nodes; the evaluations that are listed by their number fail, and something may happen before each training."""

    def __init__(self, failing: tuple[int, ...] = (), before_training=lambda number: None) -> None:
        self._failing = failing
        self._before_training = before_training
        self._evaluations = 0

    def get_node_ids(self) -> list[int]:
        return [1, 2]

    def send_and_receive(self, messages: list[Message], *, timeout: float) -> list[Message]:
        number = messages[0].content["config"]["server-round"]
        if messages[0].metadata.message_type == "train":
            recorder.round_started(number, len(messages))
            self._before_training(number)
            recorder.clients_trained(len(messages))
            return [self._trained(message, number) for message in messages]
        self._evaluations += 1
        if self._evaluations in self._failing:
            raise RoundFailed(number, EVALUATION, "0 of 2 nodes completed the evaluation")
        metrics = MetricRecord({"num-examples": 1, "loss": 0.5, "accuracy": 0.5})
        return [Message(RecordDict({"metrics": metrics}), reply_to=message) for message in messages]

    def _trained(self, message: Message, number: int) -> Message:
        generator = np.random.default_rng((number, message.metadata.dst_node_id))
        moved = {name: Array(array.numpy() + generator.normal(size=array.shape)) for name, array in message.content["arrays"].items()}
        return Message(RecordDict({"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)


def train(grid: Grid, **changed: object) -> float:
    settings = Settings.from_run_config({**DEFAULTS, "num-server-rounds": 5, "strategy": "FedAdam", "run-name": "small", **changed})
    store = CheckpointStore(Path(settings.checkpoint_path), settings.run_name, {}, settings.checkpoint_keep) if settings.checkpoint_enabled else None
    recorder.training_started(settings)
    model = Training(grid, settings, recorder, store).run(Checkpoint(0, {"weights": np.zeros(WEIGHTS)}))
    return float(np.abs(model["weights"]).sum())


disk, ballast = map(Path, sys.argv[1:])
recorder = Recorder("")
result = {"undisturbed": train(Grid()), "evaluation failed": train(Grid(failing=(2, 3)))}


def make_room(number: int) -> None:
    if number == 3:
        ballast.unlink()


recorder = Recorder(str(disk / "runs"))
train(Grid(before_training=make_room), **{"checkpoint-enabled": True, "checkpoint-interval": 2, "checkpoint-path": str(disk), "checkpoint-keep": 1})
recorder.close()
result["events"] = [json.loads(line) for line in (disk / "runs" / "events.jsonl").read_text().splitlines()]
result["files"] = sorted(path.name for path in (disk / "small").iterdir())
json.dump(result, sys.stdout)
