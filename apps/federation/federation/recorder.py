# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Tells the world how a run goes: events and the final model, all in the output directory."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from federation.checkpoints import Checkpoint
from federation.events import LOGGER, EventFile, log_event
from federation.files import replace_file
from federation.rounds import RoundFailed
from federation.settings import Settings

# What a round spends beside the training, and round_end tells apart.
OVERHEAD = ("checkpoint", "events")
# A training that waits for nodes for longer does not go on by itself, as far as anybody knows.
_STALLED_SECONDS = 60


@dataclass
class _Round:
    number: int
    selected: int
    started: float
    responded: int = 0


class Recorder:
    """Records one run. Without an output directory the events reach the log only."""

    def __init__(self, output_directory: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = Path(output_directory) if output_directory else None
        self._clock = clock
        self._started = clock()
        self._strategy = ""
        self._round: _Round | None = None
        self._rounds = 0
        self._nodes: frozenset[int] = frozenset()
        self._evaluation: dict[str, float] = {}
        self._overhead = dict.fromkeys(OVERHEAD, 0.0)
        self._event_file: EventFile | None = None
        if self._directory:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._event_file = EventFile(self._directory / "events.jsonl")
            LOGGER.addHandler(self._event_file)

    def close(self) -> None:
        """Stop writing events."""
        if self._event_file:
            LOGGER.removeHandler(self._event_file)

    def training_started(self, settings: Settings) -> None:
        """The settings are good; the run begins."""
        self._strategy = settings.strategy
        self._rounds = settings.num_server_rounds
        self._emit(
            "training_start",
            f"training {settings.use_case} with {settings.strategy}, rounds: {settings.num_server_rounds}",
            strategy=settings.strategy,
            use_case=settings.use_case,
            num_rounds=settings.num_server_rounds,
            min_clients=settings.min_available_clients,
            run_name=settings.run_name,
        )

    def training_resumed(self, checkpoint: Checkpoint, path: Path) -> None:
        """The run goes on from a checkpoint of an earlier attempt."""
        self._evaluation = dict(checkpoint.metrics)
        self._emit(
            "training_resumed",
            f"training goes on after round {checkpoint.round} of {self._rounds} from {path}",
            round=checkpoint.round,
            num_rounds=self._rounds,
            path=str(path),
            num_clients_responded=checkpoint.nodes,
            **{f"aggregated_{name}": value for name, value in self._evaluation.items()},
        )

    def checkpoint_rejected(self, path: Path, reason: str) -> None:
        """A file in the place of a checkpoint is of no use to this run."""
        self._emit("checkpoint_rejected", f"checkpoint {path} is not used: it {reason}", level=logging.WARNING, path=str(path), reason=reason)

    def checkpoint_saved(self, number: int, path: Path) -> None:
        """The state of the run after this round is safe."""
        size = path.stat().st_size
        self._emit("checkpoint_saved", f"round {number}: checkpoint of {size} bytes saved", round=number, path=str(path), size_bytes=size)

    def checkpoint_failed(self, number: int, reason: str) -> None:
        """The checkpoint after this round could not be saved; the training goes on."""
        self._emit("checkpoint_failed", f"round {number}: no checkpoint: {reason}", level=logging.ERROR, round=number, reason=reason)

    def nodes_seen(self, nodes: Collection[int]) -> None:
        """These nodes are connected now; who came and who went since the last look is told."""
        before, self._nodes = self._nodes, frozenset(nodes)
        for node_id in sorted(self._nodes - before):
            self._emit("client_join", f"node {node_id} is connected", node_id=str(node_id), connected=len(self._nodes))
        for node_id in sorted(before - self._nodes):
            self._emit(
                "client_leave",
                f"node {node_id} is not connected any more",
                level=logging.WARNING,
                node_id=str(node_id),
                connected=len(self._nodes),
                reason="not connected any more",
            )

    def nodes_waiting(self, connected: int, required: int, waited_seconds: float) -> None:
        """Too few nodes are connected to go on."""
        self._emit(
            "nodes_waiting",
            f"waiting for nodes: {connected} of {required} connected after {waited_seconds:.0f} s",
            connected=connected,
            required=required,
            waited_seconds=round(waited_seconds, 1),
        )
        if waited_seconds >= _STALLED_SECONDS:
            self._emit(
                "training_stalled",
                f"the training stands still since {waited_seconds:.0f} s: {connected} of {required} nodes are connected",
                level=logging.WARNING,
                round=self._round.number if self._round else 0,
                waiting_since_seconds=round(waited_seconds, 1),
                connected_clients=connected,
                required_clients=required,
            )

    def round_started(self, number: int, selected: int) -> None:
        """The model goes out to the selected nodes for training."""
        self._round = _Round(number, selected, self._clock())
        self._emit(
            "round_start",
            f"round {number} of {self._rounds}: {selected} nodes train",
            round=number,
            num_clients_selected=selected,
            strategy=self._strategy,
        )

    def client_failed(self, number: int, node_id: int, reason: str) -> None:
        """A node gave an error or no answer at all in this round."""
        self._emit(
            "client_failure",
            f"round {number}: node {node_id} failed: {reason}",
            level=logging.WARNING,
            round=number,
            node_id=str(node_id),  # above what JSON readers keep exactly as a number
            error_type=reason,
        )

    def reply_late(self, number: int, node_id: int) -> None:
        """A node answered after its round had ended, and the answer is thrown away."""
        self._emit("reply_late", f"round {number}: the reply of node {node_id} came too late", round=number, node_id=str(node_id))

    def clients_trained(self, responded: int) -> None:
        """So many nodes sent a trained model."""
        self._round.responded = responded

    def evaluated(self, /, loss: float, accuracy: float, **others: float) -> None:
        """The new global model was evaluated on held-out data; what else was measured depends on the use case."""
        self._evaluation = {"loss": loss, "accuracy": accuracy, **others}

    def evaluation_ended(self, number: int, examples: int) -> None:
        """Nodes evaluated the model of a round on so many examples of theirs."""
        loss, accuracy = self._evaluation["loss"], self._evaluation["accuracy"]
        self._emit(
            "evaluation_result",
            f"round {number}: loss {loss:.4f}, accuracy {accuracy:.4f} on {examples} examples",
            round=number,
            loss=loss,
            accuracy=accuracy,
            num_examples=examples,
        )

    def round_ended(self) -> None:
        """The round is complete: trained, aggregated and evaluated."""
        done = self._round
        seconds = self._clock() - done.started
        measured = ", ".join(f"{name} {value:.4f}" for name, value in sorted(self._evaluation.items()))
        self._emit(
            "round_end",
            f"round {done.number} of {self._rounds}: {measured}, {done.responded} of {done.selected} nodes, {seconds:.1f} s",
            round=done.number,
            num_clients_selected=done.selected,
            num_clients_responded=done.responded,
            round_duration_seconds=round(seconds, 3),
            overhead_seconds={part: round(spent, 4) for part, spent in self._overhead.items()},
            **{f"aggregated_{name}": value for name, value in self._evaluation.items()},
        )
        self._overhead = dict.fromkeys(OVERHEAD, 0.0)

    def zones(self, number: int, facts: Mapping[str, Mapping[str, float]]) -> None:
        """What the nodes of each zone have done so far, if they say where they are."""
        if facts:
            told = "; ".join(f"{name} {zone['nodes']} nodes, {zone['rounds']} rounds, {zone['failures']} failures" for name, zone in facts.items())
            self._emit("zones", f"round {number}: {told}", round=number, zones={name: dict(zone) for name, zone in facts.items()})

    def round_failed(self, failure: RoundFailed, in_a_row: int, most: int) -> None:
        """The round does not count; it is tried again unless that happened too often in a row."""
        done = self._round
        self._emit(
            "round_failed",
            f"round {failure.number} of {self._rounds} failed ({in_a_row} of at most {most} in a row): {failure.reason}",
            level=logging.WARNING,
            round=failure.number,
            phase=failure.phase,
            reason=failure.reason,
            num_clients_selected=done.selected,
            num_clients_responded=done.responded,
            failed_in_a_row=in_a_row,
            max_failed_rounds=most,
        )

    def training_ended(self) -> None:
        """All rounds are done and the model is saved."""
        seconds = self._clock() - self._started
        self._emit(
            "training_end",
            f"training complete: accuracy {self._evaluation['accuracy']:.4f} after round {self._rounds}, {seconds:.1f} s",
            total_rounds=self._rounds,
            final_loss=self._evaluation["loss"],
            final_accuracy=self._evaluation["accuracy"],
            total_duration_seconds=round(seconds, 3),
        )

    def training_failed(self, reason: str) -> None:
        """The run ends here without a trained model."""
        self._emit("training_failed", f"training failed: {reason}", level=logging.ERROR, reason=reason)

    def save_model(self, write: Callable[[BinaryIO], object], suffix: str = ".npz") -> None:
        """Keep the final model, written by the given function, as model.npz or with another ending."""
        if not self._directory:
            return
        path = self._directory / f"model{suffix}"
        replace_file(path, write)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
        self._emit("model_saved", f"{path.name} of {size} bytes saved", path=str(path), size_bytes=size, sha256=digest)

    def export_failed(self, reason: str) -> None:
        """The final model is there as npz, but not in the format of the framework."""
        self._emit("export_failed", f"the model is kept as npz only: {reason}", level=logging.WARNING, reason=reason)

    @property
    def evaluation(self) -> Mapping[str, float]:
        """Loss and accuracy of the model after the last complete round."""
        return self._evaluation

    @property
    def responded(self) -> int:
        """How many nodes sent a trained model in the current round."""
        return self._round.responded

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time inside as overhead of the round."""
        started = self._clock()
        try:
            yield
        finally:
            self._overhead[part] += self._clock() - started

    def _emit(self, event: str, message: str, level: int = logging.INFO, **data: object) -> None:
        with self.timed("events"):
            log_event(event, message, level, **data)
