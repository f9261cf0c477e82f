# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The state of a run as a Prometheus textfile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

DURATION_BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600)  # seconds
_DURATION = "fl_round_duration_seconds"


class _Metric(NamedTuple):
    kind: str
    help: str
    by_strategy: bool = False


_METRICS = {
    "fl_training_status": _Metric("gauge", "0 idle, 1 running, 2 complete, 3 failed"),
    "fl_round_current": _Metric("gauge", "Rounds completed", by_strategy=True),
    "fl_round_total": _Metric("gauge", "Rounds the run is made of", by_strategy=True),
    "fl_aggregated_loss": _Metric("gauge", "Loss of the global model on held-out data", by_strategy=True),
    "fl_aggregated_accuracy": _Metric("gauge", "Accuracy of the global model on held-out data", by_strategy=True),
    "fl_clients_connected": _Metric("gauge", "Nodes connected"),
    "fl_clients_selected": _Metric("gauge", "Nodes asked to train in the current round"),
    "fl_clients_responded": _Metric("gauge", "Nodes that answered with a trained model in the current round"),
    "fl_clients_failed_total": _Metric("counter", "Requests to nodes that got no usable answer"),
    "fl_late_replies_total": _Metric("counter", "Replies that came after their round had ended and were thrown away"),
    "fl_rounds_failed_total": _Metric("counter", "Rounds that did not count and were tried again"),
    "fl_checkpoint_saved_total": _Metric("counter", "Checkpoints saved"),
    "fl_checkpoint_failed_total": _Metric("counter", "Checkpoints that could not be saved"),
    "fl_checkpoint_rejected_total": _Metric("counter", "Checkpoints found that were damaged or of something else"),
    _DURATION: _Metric("histogram", "Time of a round, training and evaluation", by_strategy=True),
}


class Status(IntEnum):
    """Values of fl_training_status."""

    IDLE = 0
    RUNNING = 1
    COMPLETE = 2
    FAILED = 3


class Metrics:
    """Collects values; a gauge that was never set does not appear."""

    def __init__(self) -> None:
        self.strategy = ""
        self._values: dict[str, float] = {"fl_training_status": Status.IDLE}
        self._values |= {name: 0 for name, metric in _METRICS.items() if metric.kind == "counter"}
        self._durations: list[float] = []

    def set(self, **values: float) -> None:
        """Set gauges by name."""
        self._values.update(values)

    def count(self, counter: str) -> None:
        """Add one to a counter."""
        self._values[counter] += 1

    def observe_round(self, seconds: float) -> None:
        """Add the duration of one round."""
        self._durations.append(seconds)

    def render(self) -> str:
        """Return all metrics in the Prometheus text format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, value in self._values.items():
            yield from _heading(name)
            yield _sample(name, self._labels(name), value)
        yield from _heading(_DURATION)
        labels = self._labels(_DURATION)
        for bucket in (*DURATION_BUCKETS, float("inf")):
            within = sum(seconds <= bucket for seconds in self._durations)
            yield _sample(f"{_DURATION}_bucket", {**labels, "le": _number(bucket)}, within)
        yield _sample(f"{_DURATION}_sum", labels, sum(self._durations))
        yield _sample(f"{_DURATION}_count", labels, len(self._durations))

    def _labels(self, name: str) -> dict[str, str]:
        return {"strategy": self.strategy} if _METRICS[name].by_strategy else {}


def _heading(name: str) -> Iterator[str]:
    yield f"# HELP {name} {_METRICS[name].help}"
    yield f"# TYPE {name} {_METRICS[name].kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    text = ",".join(f'{key}="{label}"' for key, label in labels.items())
    return f"{name}{{{text}}} {_number(value)}" if text else f"{name} {_number(value)}"


def _number(value: float) -> str:
    """Prometheus writes the special values as NaN and +Inf."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.10g}" if math.isfinite(value) else f"{'+' if value > 0 else '-'}Inf"
