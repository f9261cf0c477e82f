# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class Definition(NamedTuple):
    """What a metric is. ``unit`` is what its value counts, empty for a number of its own; ``labels`` are those of its samples."""

    name: str
    kind: str
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()


class Metric(NamedTuple):
    """A metric with its samples: labels, value and, for the parts of a histogram, the end of the name."""

    definition: Definition
    samples: list[tuple[Mapping[str, str], float | str, str]]


def render(metrics: Iterable[Metric]) -> str:
    """Return metrics as text; those without a sample are left out."""
    lines = []
    for definition, samples in metrics:
        if samples:
            lines += [f"# HELP {definition.name} {definition.help}", f"# TYPE {definition.name} {definition.kind}"]
        lines += [f"{definition.name}{end}{_labels(labels)} {_number(value)}" for labels, value, end in samples]
    return "".join(f"{line}\n" for line in lines)


def write(path: str, text: str) -> None:
    """Put a file of metrics in place in one step, for everybody to read. Raises OSError."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(target)


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float | str) -> str:
    """Return a value, which may be one of the texts NaN, Infinity and -Infinity, as Prometheus writes it."""
    number = float(value)
    if math.isfinite(number):
        return f"{number:.17g}" if number != int(number) else str(int(number))
    return "NaN" if math.isnan(number) else ("+Inf" if number > 0 else "-Inf")
