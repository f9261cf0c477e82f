# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a supervisor tells Prometheus: how the run of the moment stands, and what all runs of its SuperLink add up to.

What an app writes is never copied: its events are judged, and names that it chose become labels only as far as they are few and short.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from .exposition import Metric
from .metric_table import BUCKETS, DEFINITIONS, metric
from .protocol import COMPLETED, ENDED, FAILED, RUNNING, WAITING, seconds_of
from .runs import Run
from .untrusted import count

IDLE, TRAINING, COMPLETE, BROKEN = range(4)
_STATUS = {RUNNING: TRAINING, COMPLETED: COMPLETE, FAILED: BROKEN}
_COUNTED = {
    "client_failure": "clients_failed",
    "reply_late": "late_replies",
    "round_end": "rounds",
    "round_failed": "rounds_failed",
    "checkpoint_saved": "checkpoint_saved",
    "checkpoint_failed": "checkpoint_failed",
    "checkpoint_rejected": "checkpoint_rejected",
}
# As the state file has them; the metric is fl_NAME_total.
_COUNTERS = (*_COUNTED.values(), "attempts")
_STRATEGY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_OTHER = "other"
_MOST_STRATEGIES = 32


class Totals:
    """Counts over all runs. They survive a restart in the state file, together with how far events were read."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_COUNTERS, 0)
        self.rounds: dict[str, list[float]] = {}

    @classmethod
    def from_record(cls, record: Any) -> Totals:
        """Return what was written down; counts that are none begin at 0 again, as Prometheus expects of counters."""
        totals = cls()
        counts, rounds = (record.get(key) if isinstance(record, dict) else None for key in ("counts", "rounds"))
        for name in totals.counts:
            totals.counts[name] = count(counts.get(name)) or 0 if isinstance(counts, dict) else 0
        for strategy, seen in rounds.items() if isinstance(rounds, dict) else ():
            if strategy == label_of(strategy) and isinstance(seen, list) and len(seen) == len(BUCKETS) + 2 and None not in map(seconds_of, seen):
                totals.rounds[strategy] = seen
        return totals

    def to_record(self) -> dict[str, Any]:
        """Return what ``from_record`` reads."""
        return {"counts": self.counts, "rounds": self.rounds}

    def add(self, event: Mapping[str, Any], strategy: str) -> None:
        """Count an event of an app; strategy is that of its run."""
        kind = event.get("event")
        if kind in _COUNTED:
            self.counts[_COUNTED[kind]] += 1
        data = event.get("data")
        seconds = seconds_of(data.get("round_duration_seconds")) if kind == "round_end" and isinstance(data, dict) else None
        if seconds is not None:
            name = label_of(strategy)
            if name not in self.rounds and len(self.rounds) >= _MOST_STRATEGIES:
                name = _OTHER
            # The rounds by the first bucket that they are in, those above all buckets, and their seconds.
            seen = self.rounds.setdefault(name, [0] * (len(BUCKETS) + 2))
            seen[bisect_left(BUCKETS, seconds)] += 1
            seen[-1] += seconds


def label_of(strategy: Any) -> str:
    """Return the name of a strategy, which an app tells, as a label."""
    return strategy if isinstance(strategy, str) and _STRATEGY.fullmatch(strategy) else _OTHER


def supervisor_metrics(runs: Sequence[Run], totals: Totals, checkpoint_interval: int | None) -> list[Metric]:
    """Return the metrics of a SuperLink; checkpoint_interval is that of its run of the moment, in rounds, None without checkpoints."""
    run = next((run for run in runs if run.status not in ENDED), runs[-1] if runs else None)
    waiting = sum(run.status == WAITING for run in runs)
    metrics = [
        metric("fl_training_status", ({}, _STATUS.get(run.status, IDLE) if run else IDLE)),
        metric("fl_runs_waiting", ({}, waiting)),
        *(metric(f"fl_{name}_total", ({}, totals.counts[name])) for name in _COUNTERS),
        _durations(totals),
    ]
    if run is None:
        return metrics
    labels = {"run": run.name, "strategy": label_of(run.strategy)}
    others = {name: value for name, value in run.metrics.items() if name not in ("loss", "accuracy")}
    return [
        *metrics,
        metric("fl_round_current", (labels, run.round)),
        metric("fl_round_total", (labels, run.rounds or None)),
        metric("fl_aggregated_loss", (labels, run.metrics.get("loss"))),
        metric("fl_aggregated_accuracy", (labels, run.metrics.get("accuracy"))),
        metric("fl_aggregated_metric", *(({**labels, "metric": name}, value) for name, value in others.items())),
        metric("fl_training_started_timestamp_seconds", (labels, run.started)),
        metric("fl_clients_connected", ({}, run.connected)),
        metric("fl_clients_selected", ({}, run.selected)),
        metric("fl_clients_responded", ({}, run.nodes if run.round else None)),
        metric("fl_checkpoint_round", (labels, run.checkpoint if checkpoint_interval else None)),
        metric("fl_checkpoint_interval_rounds", (labels, checkpoint_interval)),
    ]


def _durations(totals: Totals) -> Metric:
    samples: list[tuple[Mapping[str, str], float | str, str]] = []
    for strategy, seen in totals.rounds.items():
        labels, below = {"strategy": strategy}, 0.0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), seen):  # noqa: B905 - Python below 3.10 has no strict
            below += number
            samples.append(({**labels, "le": bound}, below, "_bucket"))
        samples += [(labels, seen[-1], "_sum"), (labels, below, "_count")]
    return Metric(DEFINITIONS["fl_round_duration_seconds"], samples)
