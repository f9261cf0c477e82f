# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a supervisor and the world outside tell each other, all of it in attributes of the SuperLink's VM.

The supervisor publishes its runs, the files of those that have ended, and the request that it refuses; operators put a request
there. Whoever may update the VM can write each of these attributes, so every reader judges what it finds: ValueError for anything
that is not of the form below.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from ..one.transport.errors import OneException
from ..onegate.client import decode, encode
from .untrusted import count, decode_json, figure, sentence

if TYPE_CHECKING:
    from .runs import Run

T = TypeVar("T")

RUNS_ATTRIBUTE = "FL_RUNS"
REQUEST_ATTRIBUTE = "FL_RUN_REQUEST"
REFUSAL_ATTRIBUTE = "FL_RUN_REFUSED"
ARTIFACTS_ATTRIBUTE = "FL_ARTIFACTS"

WAITING = "waiting"
RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"
STOPPED = "stopped"
ENDED = (COMPLETED, FAILED, STOPPED)

STARTED_REQUEST = "started"
STOPPED_REQUEST = "stopped"

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RUN_NAME_FORM = "up to 64 letters, digits and the characters . _ -, with a letter or digit first"

# An attribute is read with the VM by everybody who lists VMs, so it stays far below what OpenNebula takes: about 200 KB.
PUBLISHED_RUNS = 20
PUBLISHED_ROUNDS = 500
PUBLISHED_FIGURES = 2000
MOST_METRICS = 32
MOST_ZONES = 100
MESSAGE_CHARACTERS = 1000
# An attribute of a VM, and settings in it that somebody wrote.
REQUEST_BYTES = 64 << 10
REQUEST_SETTINGS = 200
_APP_CHARACTERS = 1000
_PUBLISHED_BYTES = 8 << 20
_LONG_FIGURE = 1e9
_METRICS_OF_A_LINE = 8

# The events of an app name a metric so: aggregated_loss, aggregated_auc.
_PREFIX = "aggregated_"
_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]{0,39}")
_USUAL = ("accuracy", "loss")


class Round(TypedDict):
    """One complete round: its number, how long it took in seconds (None: unknown), how many nodes trained, and what was measured.

    A metric is a finite number, or one of the texts NaN, Infinity and -Infinity.
    """

    round: int
    seconds: float | None
    nodes: int
    metrics: dict[str, float | str]


# What is published of a run, with what stands for it where it is missing. Only the newest run has a history.
_BLANK: Mapping[str, Any] = {
    "name": "", "digest": "", "status": WAITING, "rounds": 0, "round": 0, "message": "", "run_id": "", "started": None, "ended": None, "nodes": 0,
    "attempts": 0, "failed_rounds": 0, "checkpoint": 0, "resumed": 0, "app": "", "app_version": "", "metrics": {}, "zones": {}, "history": [],
}  # fmt: skip
_TIMES = ("started", "ended")
# What is told of a zone: since when its nodes are there, and sums over them.
_OF_ZONE = ("joined", "nodes", "rounds", "failures", "examples", "seconds")
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def digest(config: Mapping[str, Any], app: str = "") -> str:
    """Return the SHA-256 of what is asked for, the same whatever the order of its keys; no app means the shipped one."""
    asked_for = {"app": app, "config": config} if app else config
    canonical = json.dumps(asked_for, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


# Rounds


def metrics_of(data: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the metrics in the data of an app's event: accuracy and loss first, the others in their order, 32 at most."""
    names = (name.removeprefix(_PREFIX) for name in data if isinstance(name, str) and name.startswith(_PREFIX))
    ordered = dict.fromkeys((*_USUAL, *(name for name in names if _METRIC.fullmatch(name))))
    found = {name: figure(data.get(_PREFIX + name)) for name in ordered}
    return dict([(name, value) for name, value in found.items() if value is not None][:MOST_METRICS])


def round_of(data: Mapping[str, Any]) -> Round:
    """Return the round that an app tells the end of; ``round`` in it is a count."""
    return Round(
        round=int(data["round"]),
        seconds=seconds_of(data.get("round_duration_seconds")),
        nodes=count(data.get("num_clients_responded")) or 0,
        metrics=metrics_of(data),
    )


def is_round(record: Any) -> bool:
    """Say whether a record is one round."""
    return (
        isinstance(record, dict)
        and record.keys() == Round.__annotations__.keys()
        and count(record["round"]) is not None
        and count(record["nodes"]) is not None
        and (record["seconds"] is None or seconds_of(record["seconds"]) is not None)
        and _are_metrics(record["metrics"])
    )


def zones_of(value: Any) -> dict[str, dict[str, float | int]]:
    """Return what the zones did, by name, as an app tells it; empty for anything else."""
    return value if are_zones(value) else {}


def are_zones(value: Any) -> bool:
    """Say whether a value tells what zones did."""
    return (
        isinstance(value, dict)
        and len(value) <= MOST_ZONES
        and all(isinstance(name, str) and _ZONE.fullmatch(name) and isinstance(zone, dict) and zone.keys() == set(_OF_ZONE) for name, zone in value.items())
        and all(count(number) is not None for zone in value.values() for number in zone.values())
    )


def seconds_of(value: Any) -> float | int | None:
    """Return a time in seconds, None for anything else."""
    return value if count(value) is not None else None


def progress_line(rounds: int, record: Round) -> str:
    """Return a round as a line for people."""
    shown = list(record["metrics"].items())
    measured = [f"{name} {figure_text(value)}" for name, value in shown[:_METRICS_OF_A_LINE]]
    more = [f"and {len(shown) - len(measured)} more metrics"] if len(shown) > len(measured) else []
    seconds = [] if record["seconds"] is None else [f"{record['seconds']:.1f} s"]
    return " ".join([f"round {record['round']}/{rounds}", *measured, *more, f"nodes {record['nodes']}", *seconds])


def figure_text(value: float | str) -> str:
    """Return a metric for people."""
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if abs(value) < _LONG_FIGURE else f"{value:.4g}"


# From the supervisor to the world


@dataclass(frozen=True)
class Refusal:
    """A request, by its digest, that the supervisor does not obey, and why."""

    request: str
    reason: str


def run_attributes(runs: Sequence[Run], refusal: Refusal | None = None) -> dict[str, str]:
    """Return the attributes to publish: the newest 20 runs for programs, the one that goes on for people and elasticity."""
    newest = list(runs)[-PUBLISHED_RUNS:]
    shown = next((run for run in runs if run.status not in ENDED), runs[-1] if runs else None)
    attributes = {RUNS_ATTRIBUTE: _encoded([_published(run, with_history=run is newest[-1]) for run in newest])}
    if any(run.artifacts for run in runs):
        attributes[ARTIFACTS_ATTRIBUTE] = _encoded({run.name: run.artifacts for run in newest if run.artifacts})
    if refusal:
        attributes[REFUSAL_ATTRIBUTE] = _encoded(dataclasses.asdict(refusal))
    if shown is None:
        return attributes | {"FL_RUN_STATUS": "idle", "FL_TRAINING_ACTIVE": "0"}
    # As a number too, which is all that policies of OneFlow read.
    attributes |= {"FL_RUN_STATUS": shown.status, "FL_TRAINING_ACTIVE": str(int(shown.status == RUNNING))}
    attributes |= {"FL_ROUND_NUMBER": str(shown.round), "FL_NODES_CONNECTED": str(shown.nodes)}
    if "accuracy" in shown.metrics:
        attributes["FL_ACCURACY"] = figure_text(shown.metrics["accuracy"])
    return attributes


def published_runs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs in the attributes of a VM, newest last; each has all fields, and its history is a list of rounds."""
    records = _read(attributes, RUNS_ATTRIBUTE, lambda text: decode_json(text, _PUBLISHED_BYTES))
    if records is None:
        return []
    if not isinstance(records, list):
        raise ValueError("not a list of runs")
    return [_run(record) for record in records]


def published_refusal(attributes: Mapping[str, Any]) -> Refusal | None:
    """Return the refusal in the attributes of a VM, None without one."""
    return _read(attributes, REFUSAL_ATTRIBUTE, _refusal)


def published_files(attributes: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the records of the files that runs left behind, by name of the run."""
    records = _read(attributes, ARTIFACTS_ATTRIBUTE, lambda text: decode_json(text, _PUBLISHED_BYTES))
    if records is None:
        return {}
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise ValueError("not the files of runs")
    return records


# From operators to the supervisor


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


def request_attributes(request: Request) -> dict[str, str]:
    """Return the attributes that ask for something."""
    return {REQUEST_ATTRIBUTE: encode(_request_text(request))}


def requested(attributes: Mapping[str, Any]) -> str | None:
    """Return the text of the request in the attributes of a VM, as it is when it cannot be decoded; None without one."""
    encoded = attributes.get(REQUEST_ATTRIBUTE)
    if not isinstance(encoded, str):
        return None
    try:
        return decode(encoded)
    except OneException:
        return encoded


def read_request(text: str) -> Request:
    """Parse the text of a request; ValueError says what is wrong with it."""
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


def request_digest(request: Request | str) -> str:
    """Return what a refusal names its request by."""
    text = request if isinstance(request, str) else _request_text(request)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


# Encoding


def _request_text(request: Request) -> str:
    return json.dumps(dataclasses.asdict(request), sort_keys=True)


def _encoded(content: Any) -> str:
    return encode(json.dumps(content, separators=(",", ":")))


def _read(attributes: Mapping[str, Any], name: str, parse: Callable[[str], T]) -> T | None:
    encoded = attributes.get(name)
    if not encoded:
        return None
    if not isinstance(encoded, str):
        raise ValueError("given twice, or with parts")
    try:
        return parse(decode(encoded))
    except OneException as problem:
        raise ValueError(problem.message) from None


def _published(run: Run, with_history: bool) -> dict[str, Any]:
    record = {name: getattr(run, name) for name in _BLANK if name not in ("history", "zones")}
    return record | {"history": _columns(_newest(run.history)), "zones": run.zones} if with_history else record


def _newest(history: Sequence[Round]) -> Sequence[Round]:
    """Return as many of the last rounds as may be published; a table has a place for each metric in each of its rounds."""
    names: set[str] = set()
    for back, record in enumerate(reversed(history)):
        names |= record["metrics"].keys()
        if back == PUBLISHED_ROUNDS or len(names) > MOST_METRICS or (back + 1) * len(names) > PUBLISHED_FIGURES:
            return history[len(history) - back :]
    return history


def _columns(history: Sequence[Round]) -> dict[str, Any]:
    """Return rounds as a table, which names each metric once."""
    names = dict.fromkeys(name for record in history for name in record["metrics"])
    table: dict[str, Any] = {key: [record[key] for record in history] for key in ("round", "seconds", "nodes")}  # type: ignore[literal-required]
    return table | {"metrics": {name: [record["metrics"].get(name) for record in history] for name in names}}


def _rounds(table: Any) -> list[Round]:
    """Return the rounds of a table. Raises ValueError, TypeError or KeyError for anything else."""
    if not table:
        return []
    columns = [table["round"], table["seconds"], table["nodes"], *table["metrics"].values()]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) <= PUBLISHED_ROUNDS for column in columns):
        raise ValueError("columns of different lengths")
    rounds = [
        Round(round=number, seconds=seconds, nodes=nodes, metrics=_measured(table["metrics"], values))
        for number, seconds, nodes, *values in zip(*columns)  # noqa: B905 - Python below 3.10 has no strict
    ]
    if not all(map(is_round, rounds)):
        raise ValueError("not rounds")
    return rounds


def _measured(names: Iterable[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: figure(value) for name, value in zip(names, values) if value is not None}  # noqa: B905 - see _rounds


def _run(record: Any) -> dict[str, Any]:
    """Return a published run with all its fields; what is missing is blank. Raises ValueError for anything else."""
    if not isinstance(record, dict) or not isinstance(record.get("name"), str) or not RUN_NAME.fullmatch(record["name"]):
        raise ValueError("not a list of runs")
    run = {name: record.get(name, blank) for name, blank in _BLANK.items()}
    try:
        history = _rounds(run.pop("history"))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError("not a list of runs") from None
    if not all(is_like(value, _BLANK[name], name in _TIMES) for name, value in run.items()) or not _are_metrics(run["metrics"]) or not are_zones(run["zones"]):
        raise ValueError("not a list of runs")
    shown = {name: sentence(value, 2 * MESSAGE_CHARACTERS) if isinstance(value, str) else value for name, value in run.items()}
    return shown | {"metrics": {name: figure(value) for name, value in run["metrics"].items()}, "history": history}


def is_like(value: Any, blank: Any, optional: bool) -> bool:
    """Say whether a value that was read is of the kind of a blank one; optional ones are whole numbers or None."""
    if optional:
        return value is None or (isinstance(value, int) and count(value) is not None)
    if isinstance(blank, bool) or not isinstance(blank, int):
        return isinstance(value, type(blank))
    return isinstance(value, int) and count(value) is not None


def _are_metrics(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_METRICS
        and all(isinstance(name, str) and _METRIC.fullmatch(name) and figure(number) is not None for name, number in value.items())
    )


def _refusal(text: str) -> Refusal:
    content = decode_json(text, REQUEST_BYTES)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("request", "reason")):
        raise ValueError("not a refusal")
    return Refusal(content["request"], sentence(content["reason"]))
