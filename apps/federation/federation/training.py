# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The rounds of a run, over the public methods of Flower's strategies.

Flower's own loop starts at round 1, goes on with a model nobody trained, and keeps the metrics of every round in memory.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp.exception import AggregationError, InconsistentMessageReplies
from flwr.serverapp.strategy import Strategy

from federation import strategies
from federation.checkpoints import Checkpoint, CheckpointStore
from federation.grid import WatchedGrid
from federation.recorder import Recorder
from federation.replies import EXAMPLES
from federation.rounds import EVALUATION, TRAINING, RoundFailed, TooManyFailedRounds, short
from federation.settings import Settings

# What strategies raise over replies that do not fit together.
_UNUSABLE_REPLIES = (AggregationError, InconsistentMessageReplies, ValueError, KeyError, TypeError, ArithmeticError)


class Training:
    """Trains a model round by round. A failed round changes neither the model nor what the strategy remembers.

    Without a store, no checkpoints are kept.
    """

    def __init__(self, grid: WatchedGrid, settings: Settings, recorder: Recorder, store: CheckpointStore | None) -> None:
        self._grid = grid
        self._settings = settings
        self._recorder = recorder
        self._store = store
        self._overdue = False
        self._strategy = strategies.build(settings)

    def run(self, start: Checkpoint) -> dict[str, np.ndarray]:
        """Return the model after the last round. A failed round is tried again.

        Raises:
            NotEnoughNodes: the deadline for nodes passed.
            TooManyFailedRounds: as many rounds in a row failed as the settings allow.
        """
        self._strategy.summary()
        strategies.restore_state(self._strategy, start.strategy)
        completed, arrays = start.round, to_record(start.model)
        failures: list[RoundFailed] = []
        while completed < self._settings.num_server_rounds:
            state = strategies.server_state(self._strategy)
            # Flower draws the nodes of a round from Python's global generator.
            random.seed(f"{self._settings.seed} {completed + 1} {len(failures)}")
            try:
                arrays = self._round(completed + 1, arrays)
            except RoundFailed as failure:
                failures.append(failure)
                self._recorder.round_failed(failure, len(failures), self._settings.max_failed_rounds)
                if len(failures) >= self._settings.max_failed_rounds:
                    raise TooManyFailedRounds(failures) from failure
                self._strategy = strategies.build(self._settings)
                strategies.restore_state(self._strategy, state)
            else:
                failures = []
                completed += 1
                self._save_when_due(completed, arrays)
                self._recorder.round_ended()
        return to_numpy(arrays)

    def _save_when_due(self, completed: int, arrays: ArrayRecord) -> None:
        last = completed == self._settings.num_server_rounds
        if not self._store or not (self._overdue or last or completed % self._settings.checkpoint_interval == 0):
            return
        try:
            with self._recorder.timed("checkpoint"):
                state = strategies.server_state(self._strategy)
                checkpoint = Checkpoint(completed, to_numpy(arrays), state, self._recorder.evaluation, self._recorder.responded)
                path = self._store.save(checkpoint, self._settings.num_server_rounds)
        except OSError as problem:
            self._overdue = True  # the next round tries again
            self._recorder.checkpoint_failed(completed, problem.strerror or str(problem))
        else:
            self._overdue = False
            self._recorder.checkpoint_saved(completed, path)

    def _round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        """Return a newly trained model that enough nodes have evaluated."""
        messages = self._strategy.configure_train(number, arrays, ConfigRecord(), self._grid)
        replies = self._grid.send_and_receive(messages, timeout=self._settings.round_timeout)
        try:
            trained, _ = self._strategy.aggregate_train(number, replies)
        except _UNUSABLE_REPLIES as error:
            raise _unusable(number, TRAINING, error) from error
        _check_model(number, trained, self._strategy)

        messages = self._strategy.configure_evaluate(number, trained, ConfigRecord(), self._grid)
        replies = self._grid.send_and_receive(messages, timeout=self._settings.round_timeout)
        examples = sum(int(reply.content["metrics"][EXAMPLES]) for reply in replies)
        try:
            metrics = self._strategy.aggregate_evaluate(number, replies)
            self._recorder.evaluated(**metrics)
        except _UNUSABLE_REPLIES as error:
            raise _unusable(number, EVALUATION, error) from error
        self._recorder.evaluation_ended(number, examples)
        return trained


def to_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Return arrays in Flower's form."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def to_numpy(record: ArrayRecord) -> dict[str, np.ndarray]:
    """Return the arrays of a record by name, in their order."""
    return {name: array.numpy() for name, array in record.items()}


def _unusable(number: int, phase: str, error: Exception) -> RoundFailed:
    return RoundFailed(number, phase, f"the replies to the {phase} do not fit together ({type(error).__name__}: {short(error)})")


def _check_model(number: int, arrays: ArrayRecord | None, strategy: Strategy) -> None:
    if not arrays:
        raise RoundFailed(number, TRAINING, "the strategy made no model from the replies")
    remembered = strategies.server_state(strategy)
    for what, found in (("the new model", to_numpy(arrays)), ("what the strategy remembers", remembered)):
        for name, array in found.items():
            if not np.isfinite(array).all():
                raise RoundFailed(number, TRAINING, f"array {name} of {what} holds values that are not finite")
