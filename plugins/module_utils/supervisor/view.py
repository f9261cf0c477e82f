# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation as lines of text for a terminal. Whatever a VM or an app can write is escaped and cut: it is shown, and moves no cursor."""

from __future__ import annotations

import math
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .protocol import ENDED, FAILED, RUNNING, STOPPED, WAITING, figure_text
from .untrusted import sentence

READY, CONNECTED, TRAINING, DISCONNECTED, STARTING, BROKEN = "ready", "connected", "training", "not connected", "starting", "broken"
_ALL_WELL = (READY, CONNECTED, TRAINING)
# Loss and accuracy come first; of what else an app measures a few fit.
_METRICS = 6
_NAMED_VMS = 10
_NAMED_OTHERS = 20
_EARLIER_RUNS = 5
_NAME_CHARACTERS = 40
_WORDS_CHARACTERS = 300
_LEAST_WIDTH = 40
_CURVE, _BAR = 40, 20
_BLOCKS = "▁▂▃▄▅▆▇█"
# The time that is left is reckoned from the last rounds: the first of a training are slower, and nodes come and go.
_ROUNDS_OF_A_GUESS = 5


@dataclass(frozen=True)
class Vm:
    """A VM of a federation: how it stands is one of the words above, and why if it is broken."""

    number: int
    name: str
    role: str
    standing: str
    reason: str = ""


@dataclass(frozen=True)
class Zone:
    """The part of a federation in a zone; or why nothing is known of it."""

    name: str
    service: str = ""
    vms: Sequence[Vm] = ()
    problem: str = ""


@dataclass(frozen=True)
class Federation:
    """All that the APIs tell at a time, in seconds since the epoch. Runs are as flower_run_info returns them, newest last."""

    name: str
    time: float
    runs: Sequence[Mapping[str, Any]] = ()
    zones: Sequence[Zone] = ()
    problems: Sequence[str] = field(default=())


def newest(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the run to look at: the one that goes on, or the last."""
    return next((run for run in runs if run["status"] not in ENDED), runs[-1] if runs else None)


def view(federation: Federation, width: int = 100) -> list[str]:
    """Return the lines, none longer than that many characters."""
    run = newest(federation.runs)
    lines = [f"{_name(federation.name)} at {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(federation.time))} UTC", ""]
    lines += _run(run, federation.time) if run else ["No run is published yet."]
    lines += ["", "Zones", *(line for zone in federation.zones for line in _zone(zone, run or {})), *_others(run or {}, federation.zones)]
    problems = [*federation.problems, *_problems(run or {}, federation.zones)]
    if problems:
        lines += ["", "Problems", *(f"  {_words(problem)}" for problem in problems)]
    earlier = [one for one in federation.runs if one is not run][-_EARLIER_RUNS:]
    if earlier:
        lines += ["", "Other runs", *(f"  {_name(one['name'])}: {_outcome(one)}" for one in reversed(earlier))]
    return [part for line in lines for part in _wrapped(line, max(width, _LEAST_WIDTH))]


def sparkline(values: Sequence[float | str | None], most: int = _CURVE) -> str:
    """Return the newest values as a line of blocks, with a gap for what is no finite number."""
    shown = values[-most:]
    numbers = [value for value in shown if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))]
    if not numbers:
        return ""
    # Halved, so that the difference of the largest numbers is one.
    low, high = min(numbers) / 2, max(numbers) / 2
    wide = high - low
    return "".join(_block((value / 2 - low) / wide if wide else 0.0) if value in numbers else " " for value in shown)


def _block(share: float) -> str:
    return _BLOCKS[round(share * (len(_BLOCKS) - 1))]


def _run(run: Mapping[str, Any], now: float) -> Iterator[str]:
    yield f"Run {_name(run['name'])}: {', '.join(_progress(run, now))}"
    history = run["history"]
    for metric in list(run["metrics"])[:_METRICS]:
        curve = sparkline([record["metrics"].get(metric) for record in history])
        yield f"  {metric:<12} {figure_text(run['metrics'][metric]):>10}  {curve}".rstrip()
    if run["message"] and run["status"] not in (FAILED, STOPPED):
        yield f"  {_words(run['message'])}"


def _progress(run: Mapping[str, Any], now: float) -> Iterator[str]:
    yield run["status"] if run["status"] in (*ENDED, RUNNING, WAITING) else _name(run["status"])
    if run["rounds"]:
        done = min(run["round"] / run["rounds"], 1)
        yield f"round {run['round']} of {run['rounds']} {'█' * int(done * _BAR)}{'░' * (_BAR - int(done * _BAR))}"
    if run["nodes"]:
        yield f"{run['nodes']} nodes" if run["nodes"] > 1 else "1 node"
    if run["started"]:
        ended = run["ended"] if run["status"] in ENDED else None
        yield f"{_span((ended or now) - run['started'])}{'' if ended else ' so far'}"
    seconds = [record["seconds"] for record in run["history"][-_ROUNDS_OF_A_GUESS:] if record["seconds"] is not None]
    left = run["rounds"] - run["round"]
    if run["status"] == RUNNING and seconds and left > 0:
        yield f"about {_span(sum(seconds) / len(seconds) * left)} left"
    if run["checkpoint"]:
        yield f"checkpoint after round {run['checkpoint']}"
    if run["resumed"]:
        yield f"went on after round {run['resumed']}"


def _zone(zone: Zone, run: Mapping[str, Any]) -> Iterator[str]:
    if zone.problem:
        yield f"  {_name(zone.name)}: does not answer"
        return
    parts = [f"service {_name(zone.service)}"]
    for role in dict.fromkeys(vm.role for vm in zone.vms):
        standings = Counter(vm.standing for vm in zone.vms if vm.role == role)
        parts.append(f"{sum(standings.values())} {_name(role)} ({', '.join(f'{number} {standing}' for standing, number in standings.items())})")
    did = run.get("zones", {}).get(zone.name)
    if did:
        parts.append(_share(did))
    yield f"  {_name(zone.name)}: {'; '.join(parts)}"


def _others(run: Mapping[str, Any], zones: Sequence[Zone]) -> Iterator[str]:
    """Yield what the run tells of those that have no API to ask: existing machines, and zones that are not looked at."""
    known = {zone.name for zone in zones}
    others = {name: did for name, did in run.get("zones", {}).items() if name not in known}
    yield from (f"  {_name(name)}: {_share(did)}" for name, did in sorted(others.items())[:_NAMED_OTHERS])
    if len(others) > _NAMED_OTHERS:
        yield f"  and {len(others) - _NAMED_OTHERS} more"


def _share(did: Mapping[str, Any]) -> str:
    failures = f", {did['failures']} failures" if did["failures"] else ""
    return f"took part in {did['rounds']} rounds with {did['examples']} examples{failures}"


def _problems(run: Mapping[str, Any], zones: Sequence[Zone]) -> Iterator[str]:
    if run.get("status") in (FAILED, STOPPED):
        yield f"run {run['name']} is {run['status']}: {run['message']}"
    if run.get("failed_rounds"):
        yield f"run {run['name']}: rounds that too few nodes completed so far: {run['failed_rounds']}"
    yield from (f"{_name(zone.name)}: {zone.problem}" for zone in zones if zone.problem)
    wrong = [(zone, vm) for zone in zones for vm in zone.vms if vm.standing not in _ALL_WELL]
    for zone, vm in sorted(wrong, key=lambda pair: pair[1].standing != BROKEN)[:_NAMED_VMS]:
        reason = f", {vm.reason}" if vm.reason else ""
        yield f"{_name(zone.name)}: VM {vm.number} {_name(vm.name)} is {vm.standing}{reason}"
    if len(wrong) > _NAMED_VMS:
        yield f"and {len(wrong) - _NAMED_VMS} more VMs"


def _outcome(run: Mapping[str, Any]) -> str:
    rounds = [f"{run['round']} of {run['rounds']} rounds"] if run["rounds"] else []
    measured = [f"{name} {figure_text(value)}" for name, value in list(run["metrics"].items())[:2]]
    why = [run["message"]] if run["status"] == FAILED and run["message"] else []
    return _words(", ".join([run["status"], *rounds, *measured, *why]))


def _span(seconds: float) -> str:
    """Return a time for people."""
    minutes, left = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {left:02} s" if minutes else f"{left} s"


def _name(text: str) -> str:
    return sentence(text, _NAME_CHARACTERS)


def _words(text: str) -> str:
    return sentence(text, _WORDS_CHARACTERS)


def _wrapped(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
