# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of training runs that a supervisor keeps and publishes, and the requests it obeys."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .untrusted import count, decode_json, figure, sentence

WAITING = "waiting"
RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"
STOPPED = "stopped"
ENDED = (COMPLETED, FAILED, STOPPED)

STARTED_REQUEST = "started"
STOPPED_REQUEST = "stopped"

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FLOWER_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.:-]*)?")
RUN_NAME_FORM = "up to 64 letters, digits and the characters . _ -, with a letter or digit first"

# What is published must fit into one attribute of a VM.
PUBLISHED_RUNS = 20
PUBLISHED_ROUNDS = 500
# A run that goes on from an older checkpoint falls back on rounds before those that are published.
_KEPT_ROUNDS = 2 * PUBLISHED_ROUNDS
MESSAGE_CHARACTERS = 1000
# An attribute of a VM, and settings in it that somebody wrote.
REQUEST_BYTES = 64 << 10
REQUEST_SETTINGS = 200
_APP_CHARACTERS = 1000
_LONG_FIGURE = 1e9
_PUBLISHED_BYTES = 8 << 20
_PUBLISHED_FIELDS = (
    "name", "digest", "status", "rounds", "round", "message", "run_id", "started", "ended", "nodes", "attempts", "loss", "accuracy",
    "failed_rounds", "checkpoint", "resumed", "app", "app_version",
)  # fmt: skip


def digest(config: Mapping[str, Any], app: str = "") -> str:
    """Return the SHA-256 of what is asked for, the same whatever the order of its keys; no app means the shipped one."""
    asked_for = {"app": app, "config": config} if app else config
    canonical = json.dumps(asked_for, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass
class Run:
    """One training run.

    ``config`` holds what was asked for beyond the configuration of the SuperLink, ``digest`` identifies it. ``app`` is the
    source of an operator's own app, empty for the shipped one, and ``app_version`` what of it is trained. ``round`` is the
    last complete round of ``rounds`` and ``furthest`` that of all attempts; ``history`` holds [round, loss, accuracy,
    seconds, nodes] per round, ascending, for the last thousand; a loss or accuracy that is no finite number is one of the texts
    NaN, Infinity and -Infinity. ``failed_rounds`` counts rounds without enough usable replies; ``checkpoint`` is the newest
    round with a checkpoint, ``resumed`` the round after which the newest attempt went on. Times are seconds since the
    epoch. ``attempts`` counts submissions, ``fruitless`` those since the last round that was further than any before.
    ``trained`` and ``failure`` are what the app said at its end. ``offset`` is the position in the events file;
    ``submitting`` and ``known_ids`` tell whether a submission was cut off after Flower had accepted it. ``artifacts`` are
    the files it left behind, with the token that opens them.
    """

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
    history: list[list[Any]] = field(default_factory=list)
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

    @property
    def digest(self) -> str:
        """The digest of what was asked for."""
        return digest(self.config, self.app)

    @property
    def has_model(self) -> bool:
        """Whether the training came to its end with replies from nodes and metrics; Flower itself does not look."""
        return self.trained and self.nodes > 0 and self.accuracy is not None

    @property
    def loss(self) -> float | str | None:
        """The loss after the last complete round."""
        return self.history[-1][1] if self.history else None

    @property
    def accuracy(self) -> float | str | None:
        """The accuracy after the last complete round."""
        return self.history[-1][2] if self.history else None

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take over what an event of the app tells."""
        data = event.get("data")
        data = data if isinstance(data, dict) else {}
        kind = event.get("event")
        if isinstance(event.get("message"), str):
            self.message = sentence(event["message"], MESSAGE_CHARACTERS)
        if kind == "training_start":
            self.rounds = count(data.get("num_rounds")) or self.rounds
        elif kind == "nodes_waiting":
            self.nodes = count(data.get("connected")) or 0
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

    def published(self, with_history: bool) -> dict[str, Any]:
        """Return what others get to see."""
        record = {name: getattr(self, name) for name in _PUBLISHED_FIELDS}
        return record | {"history": self.history[-PUBLISHED_ROUNDS:] if with_history else []}

    def _resume(self, data: Mapping[str, Any]) -> None:
        number = count(data.get("round")) or 0
        self.round = self.resumed = self.checkpoint = number
        self.history = [entry for entry in self.history if entry[0] <= number]
        # A checkpoint from another disk is all that is known of the rounds before it.
        if not self.history and figure(data.get("aggregated_accuracy")) is not None:
            self.nodes = count(data.get("num_clients_responded")) or 0
            loss, accuracy = figure(data.get("aggregated_loss")), figure(data["aggregated_accuracy"])
            self.history = [[number, loss, accuracy, None, self.nodes]]

    def _add_round(self, data: Mapping[str, Any]) -> None:
        self.round = int(data["round"])
        self.nodes = count(data.get("num_clients_responded")) or 0
        # Going through the same rounds again and again is no progress.
        if self.round > self.furthest:
            self.furthest, self.fruitless = self.round, 0
        # A run that was submitted again may go through a round a second time.
        while self.history and self.history[-1][0] >= self.round:
            self.history.pop()
        loss, accuracy = figure(data.get("aggregated_loss")), figure(data.get("aggregated_accuracy"))
        self.history.append([self.round, loss, accuracy, _seconds_of(data.get("round_duration_seconds")), self.nodes])
        if len(self.history) > _KEPT_ROUNDS:
            del self.history[: -_KEPT_ROUNDS + 1]


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
    wrong = [key for key, value in known.items() if not _is_like(value, blank[key], key in ("started", "ended"))]
    if wrong:
        raise ValueError(f"run '{name}' has no usable {wrong[0]}")
    if known.get("status", WAITING) not in (WAITING, RUNNING, *ENDED):
        wrong.append("status")
    if not all(map(_is_entry, known.get("history", []))):
        wrong.append("history")
    # They become arguments of Flower's client.
    if not all(isinstance(text, str) and _FLOWER_ID.fullmatch(text) for text in [known.get("run_id", ""), *known.get("known_ids", [])]):
        wrong.append("run_id")
    if wrong:
        raise ValueError(f"run '{name}' has no usable {wrong[0]}")
    return Run(**known), sorted(record.keys() - known.keys())


@dataclass(frozen=True)
class Request:
    """What an operator asks for: a run of that name with these overrides started, or stopped.

    ``app`` is the source of an app of the operator's own, and ``config`` then its run configuration. ``resume`` asks for a
    run that failed or was stopped to go on; it says when that was, so that it goes on once and not at every look.
    """

    name: str
    config: dict[str, Any]
    state: str
    app: str = ""
    resume: int | None = None


def request_to_json(request: Request) -> str:
    """Return a request as text."""
    return json.dumps(dataclasses.asdict(request), sort_keys=True)


def request_from_json(text: str) -> Request:
    """Parse a request; ValueError says what is wrong with it."""
    try:
        content = decode_json(text, REQUEST_BYTES)
    except ValueError as problem:
        raise ValueError(f"the request cannot be taken: {problem}") from None
    if not isinstance(content, dict):
        raise ValueError("the request is not a JSON object")
    name, config, state = content.get("name"), content.get("config", {}), content.get("state")
    if not isinstance(name, str) or not RUN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for a run, expected {RUN_NAME_FORM}")
    if not isinstance(config, dict):
        raise ValueError(f"the configuration of run '{name}' is not a JSON object")
    if len(config) > REQUEST_SETTINGS:
        raise ValueError(f"the configuration of run '{name}' has {len(config)} settings, more than {REQUEST_SETTINGS}")
    if state not in (STARTED_REQUEST, STOPPED_REQUEST):
        raise ValueError(f"{state!r} is not a state for run '{name}', expected started or stopped")
    app, resume = content.get("app", ""), content.get("resume")
    if not isinstance(app, str) or len(app) > _APP_CHARACTERS:
        raise ValueError(f"the app of run '{name}' is not a text of up to {_APP_CHARACTERS} characters")
    if resume is not None and (isinstance(resume, bool) or not isinstance(resume, int)):
        raise ValueError(f"{resume!r} is not the end of run '{name}', expected seconds")
    return Request(name, config, state, app, resume)


def request_digest(text: str) -> str:
    """Return what a refusal names its request by."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Refusal:
    """A request, by its digest, that the supervisor does not obey, and why."""

    request: str
    reason: str


def refusal_to_json(refusal: Refusal) -> str:
    """Return a refusal as text."""
    return json.dumps(dataclasses.asdict(refusal))


def refusal_from_json(text: str) -> Refusal:
    """Parse a refusal; ValueError when it is something else."""
    content = decode_json(text, REQUEST_BYTES)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("request", "reason")):
        raise ValueError("not a refusal")
    return Refusal(content["request"], sentence(content["reason"]))


def published_to_json(runs: Iterable[Run]) -> str:
    """Return the newest runs as compact JSON, newest last and only that one with its history."""
    newest = list(runs)[-PUBLISHED_RUNS:]
    records = [run.published(with_history=run is newest[-1]) for run in newest]
    return json.dumps(records, separators=(",", ":"))


def published_from_json(text: str) -> list[dict[str, Any]]:
    """Parse published runs; ValueError when it is something else."""
    records = decode_json(text, _PUBLISHED_BYTES)
    blank = Run("").published(with_history=True)
    if not isinstance(records, list) or not all(_is_record(record, blank) for record in records):
        raise ValueError("not a list of runs")
    return [_shown({key: record.get(key, value) for key, value in blank.items()}) for record in records]


def _is_record(record: Any, blank: Mapping[str, Any]) -> bool:
    """Say whether a published run has a name and values of the right types; what is missing gets the blank's."""
    if not isinstance(record, dict) or not isinstance(record.get("name"), str) or not RUN_NAME.fullmatch(record["name"]):
        return False
    optional = {"loss": figure, "accuracy": figure, "started": count, "ended": count}
    typed = all(
        record.get(key) is None or optional[key](record[key]) is not None if key in optional else _is_like(record.get(key, value), value, False)
        for key, value in blank.items()
    )
    return typed and all(map(_is_entry, record.get("history", [])))


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    shown = {key: sentence(value, 2 * MESSAGE_CHARACTERS) if isinstance(value, str) else value for key, value in record.items()}
    history = [[number, figure(loss), figure(accuracy), *others] for number, loss, accuracy, *others in record["history"]]
    return shown | {"loss": figure(record["loss"]), "accuracy": figure(record["accuracy"]), "history": history}


def _is_like(value: Any, blank: Any, optional: bool) -> bool:
    """Say whether a value that was read is of the kind of a blank one; optional ones are numbers or None."""
    if optional:
        return value is None or (isinstance(value, int) and count(value) is not None)
    if isinstance(blank, bool) or not isinstance(blank, int):
        return isinstance(value, type(blank))
    return isinstance(value, int) and count(value) is not None


def _is_entry(entry: Any) -> bool:
    """Say whether this is one entry of a history."""
    if not isinstance(entry, list) or len(entry) != 5 or count(entry[0]) is None or count(entry[4]) is None:
        return False
    return all(value is None or figure(value) is not None for value in entry[1:3]) and (entry[3] is None or _seconds_of(entry[3]) is not None)


def artifacts_to_json(runs: Iterable[Run]) -> str:
    """Return the files of the newest runs as compact JSON, by name of the run."""
    newest = list(runs)[-PUBLISHED_RUNS:]
    return json.dumps({run.name: run.artifacts for run in newest if run.artifacts}, separators=(",", ":"))


def progress_line(rounds: int, entry: list[Any]) -> str:
    """Return one entry of a history as a line for people."""
    number, loss, accuracy, seconds, nodes = entry
    return f"round {number}/{rounds} accuracy {figure_text(accuracy)} loss {figure_text(loss)} nodes {nodes} {_seconds(seconds)}"


def figure_text(value: float | str | None) -> str:
    """Return a loss or accuracy for people."""
    if value is None or isinstance(value, str):
        return value or "unknown"
    return f"{value:.4f}" if abs(value) < _LONG_FIGURE else f"{value:.4g}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _seconds_of(value: Any) -> float | int | None:
    """Return a time in seconds, None for anything else."""
    return value if count(value) is not None else None
