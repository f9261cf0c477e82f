# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of training runs that a supervisor keeps."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .events import read_events
from .protocol import (
    ENDED,
    MESSAGE_CHARACTERS,
    PUBLISHED_FIGURES,
    PUBLISHED_ROUNDS,
    RUN_NAME,
    RUNNING,
    WAITING,
    Round,
    are_zones,
    digest,
    is_like,
    is_round,
    metrics_of,
    round_of,
    zones_of,
)
from .run_directory import RunDirectory
from .untrusted import count, sentence

_STRATEGY_CHARACTERS = 40
_FLOWER_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.:-]*)?")

# A run that goes on from an older checkpoint falls back on rounds before those that are published.
KEPT_ROUNDS = 2 * PUBLISHED_ROUNDS
KEPT_FIGURES = 2 * PUBLISHED_FIGURES


@dataclass
class Run:
    """One training run.

    ``config`` holds what was asked for beyond the configuration of the SuperLink, ``digest`` identifies it. ``app`` is the
    source of an operator's own app, empty for the shipped one, and ``app_version`` what of it is trained. ``round`` is the
    last complete round of ``rounds`` and ``furthest`` that of all attempts; ``history`` holds the last rounds, ascending, a
    thousand at most. ``failed_rounds`` counts rounds without enough usable replies; ``checkpoint`` is the newest
    round with a checkpoint, ``resumed`` the round after which the newest attempt went on. Times are seconds since the
    epoch. ``attempts`` counts submissions, ``fruitless`` those since the last round that was further than any before.
    ``trained`` and ``failure`` are what the app said at its end. ``offset`` is the position in the events file;
    ``gone_on`` is the end after which it was last asked to go on: ends are told apart by their times, so the next is later.
    ``submitting`` and ``known_ids`` tell whether a submission was cut off after Flower had accepted it. ``artifacts`` are
    the files it left behind, with the token that opens them. ``zones`` is what the nodes of each zone did in the newest attempt.
    ``strategy`` is what the app calls it, ``selected`` are the nodes of
    the current round, ``connected`` those that the app saw last.
    """

    kept_rounds: ClassVar[int] = KEPT_ROUNDS
    kept_figures: ClassVar[int] = KEPT_FIGURES

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    status: str = WAITING
    rounds: int = 0
    round: int = 0
    message: str = ""
    run_id: str = ""
    started: int | None = None
    ended: int | None = None
    nodes: int = 0
    history: list[Round] = field(default_factory=list)
    attempts: int = 0
    fruitless: int = 0
    trained: bool = False
    failure: str = ""
    offset: int = 0
    submitting: bool = False
    known_ids: list[str] = field(default_factory=list)
    artifacts: dict[str, Any] = field(default_factory=dict)
    app: str = ""
    app_version: str = ""
    furthest: int = 0
    failed_rounds: int = 0
    checkpoint: int = 0
    resumed: int = 0
    gone_on: int = 0
    zones: dict[str, Any] = field(default_factory=dict)
    strategy: str = ""
    selected: int = 0
    connected: int = 0

    @property
    def digest(self) -> str:
        """The digest of what was asked for."""
        return digest(self.config, self.app)

    @property
    def has_model(self) -> bool:
        """Whether the training came to its end with replies from nodes and metrics; Flower itself does not look."""
        return self.trained and self.nodes > 0 and bool(self.metrics)

    @property
    def metrics(self) -> dict[str, float | str]:
        """What was measured in the last complete round."""
        return self.history[-1]["metrics"] if self.history else {}

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take over what an event of the app tells."""
        data = event.get("data")
        data = data if isinstance(data, dict) else {}
        kind = event.get("event")
        if kind == "zones":
            self.zones = zones_of(data.get("zones"))
            return
        if isinstance(event.get("message"), str):
            self.message = sentence(event["message"], MESSAGE_CHARACTERS)
        if kind == "training_start":
            self.rounds = count(data.get("num_rounds")) or self.rounds
            self.strategy = sentence(data.get("strategy") or "", _STRATEGY_CHARACTERS)
        elif kind == "nodes_waiting":
            self.nodes = self.connected = count(data.get("connected")) or 0
        elif kind in ("client_join", "client_leave"):
            self.connected = count(data.get("connected")) or 0
        elif kind == "round_start":
            self.selected = count(data.get("num_clients_selected")) or 0
        elif kind == "round_end" and count(data.get("round")) is not None:
            self._add_round(data)
        elif kind == "round_failed":
            self.failed_rounds += 1
        elif kind == "checkpoint_saved":
            self.checkpoint = count(data.get("round")) or self.checkpoint
        elif kind == "training_resumed":
            self._resume(data)
        elif kind == "training_end":
            self.trained = True
        elif kind == "training_failed":
            self.failure = self.message

    def _resume(self, data: Mapping[str, Any]) -> None:
        number = count(data.get("round")) or 0
        self.round = self.resumed = self.checkpoint = number
        self.history = [record for record in self.history if record["round"] <= number]
        # A checkpoint from another disk is all that is known of the rounds before it.
        if not self.history and metrics_of(data):
            record = round_of({**data, "round": number, "round_duration_seconds": None})
            self.nodes, self.history = record["nodes"], [record]

    def _add_round(self, data: Mapping[str, Any]) -> None:
        record = round_of(data)
        self.round, self.nodes = record["round"], record["nodes"]
        # Going through the same rounds again and again is no progress.
        if self.round > self.furthest:
            self.furthest, self.fruitless = self.round, 0
        # A run that was submitted again may go through a round a second time.
        while self.history and self.history[-1]["round"] >= self.round:
            self.history.pop()
        self.history.append(record)
        del self.history[: -min(self.kept_rounds, self.kept_figures // max(1, len(record["metrics"])))]


def catch_up(run: Run, directory: RunDirectory, most_bytes: float = math.inf) -> Mapping[str, Any]:
    """Apply the events after those that the run has, at least up to that many bytes of them; return the last one, empty if there is none."""
    last: Mapping[str, Any] = {}
    while run.offset < most_bytes:
        events, offset = read_events(directory, run.offset)
        if offset == run.offset:
            break
        run.offset = offset
        for event in events:
            run.apply(event)
            last = event
    return last


def run_from_record(record: Any) -> tuple[Run, list[str]]:
    """Return the run that a supervisor wrote down, and the fields of it that this version does not know.

    Raises ValueError for anything else.
    """
    if not isinstance(record, dict):
        raise ValueError("a run is not a JSON object")
    name = record.get("name")
    if not isinstance(name, str) or not RUN_NAME.fullmatch(name):
        raise ValueError(f"{sentence(repr(name), 80)} is not a name for a run")
    blank = dataclasses.asdict(Run(name))
    known = {key: value for key, value in record.items() if key in blank}
    wrong = [key for key, value in known.items() if not is_like(value, blank[key], key in ("started", "ended"))]
    if wrong:
        raise ValueError(f"run '{name}' has no usable {wrong[0]}")
    if known.get("status", WAITING) not in (WAITING, RUNNING, *ENDED):
        wrong.append("status")
    if not all(map(is_round, known.get("history", []))):
        wrong.append("history")
    if not are_zones(known.get("zones", {})):
        wrong.append("zones")
    # They become arguments of Flower's client.
    if not all(isinstance(text, str) and _FLOWER_ID.fullmatch(text) for text in [known.get("run_id", ""), *known.get("known_ids", [])]):
        wrong.append("run_id")
    if wrong:
        raise ValueError(f"run '{name}' has no usable {wrong[0]}")
    return Run(**known), sorted(record.keys() - known.keys())
