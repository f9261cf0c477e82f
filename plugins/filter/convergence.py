# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw how a training converged."""

from __future__ import annotations

DOCUMENTATION = """
name: convergence
short_description: Draw a metric over the rounds of a training
version_added: 0.1.0
author:
  - opennebula.flower contributors (@opennebula)
description:
  - Turns the history of a run, as P(opennebula.flower.flower_run#module) returns it, into a line chart.
  - The chart is an SVG element to put into an HTML page. It refers to nothing outside itself and takes its colours from
    the page, from the custom properties C(--line), C(--grid) and C(--text).
options:
  _input:
    description:
      - The rounds, each with its number as C(round) and its C(metrics) by name.
      - A metric that was not measured in a round, or is not a finite number there (V(NaN), V(Infinity) or V(-Infinity)), leaves a gap.
    type: list
    elements: dict
    required: true
  metric:
    description: Name of the metric to draw.
    type: str
    default: accuracy
"""

EXAMPLES = """
- name: Write the accuracy curve into a page
  ansible.builtin.copy:
    content: "<!doctype html><title>Accuracy</title>{{ run.history | opennebula.flower.convergence('accuracy') }}"
    dest: accuracy.html
    mode: "0644"
"""

RETURN = """
_value:
  description: One SVG element.
  type: str
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from ansible.errors import AnsibleFilterError

WIDTH = 500
HEIGHT = 250
LEFT = 44
RIGHT = 18
TOP = 24
BOTTOM = 42
MOST_DOTS = 60
LINES = 5
MOST = 1e300
LEAST_SPAN = 1e-300
LONG = 1e9


class _Point(NamedTuple):
    round: int
    value: float


class _Scale(NamedTuple):
    """Maps values from first..last to pixels."""

    first: float
    last: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.first == self.last:
            return (self.start + self.end) / 2
        return self.start + (value - self.first) / (self.last - self.first) * (self.end - self.start)


def convergence(history: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> str:
    """Return an SVG chart of a metric over the rounds.

    Raises:
        AnsibleFilterError: a history that is none.
    """
    pieces = _pieces(history, metric)
    points = [point for piece in pieces for point in piece]
    if not points:
        return f'<p class="empty">No {escape(metric)} was measured that can be drawn.</p>'
    ticks = _value_ticks(metric, [point.value for point in points])
    across = _Scale(points[0].round, points[-1].round, LEFT, WIDTH - RIGHT)
    up = _Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    return "\n".join(
        [
            f'<svg class="convergence" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric)} per round" font-family="inherit" font-size="13">',
            *_grid(ticks, up),
            *_round_axis(points[0].round, points[-1].round, across),
            *_curve(pieces, across, up),
            *_labels(points, across, up),
            "</svg>",
        ]
    )


def _pieces(history: Sequence[Mapping[str, Any]], metric: str) -> list[list[_Point]]:
    """Return the curve's unbroken pieces; a value that was not measured breaks it."""
    pieces: list[list[_Point]] = [[]]
    for record in history:
        try:
            number, value = int(record["round"]), record["metrics"].get(metric)
            value = math.nan if value is None else float(value)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise AnsibleFilterError(f"convergence needs rounds with round and metrics, not {record!r}") from error
        if abs(value) < MOST:  # neither NaN nor what would take the scale beyond all numbers
            pieces[-1].append(_Point(number, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _value_ticks(metric: str, values: list[float]) -> list[float]:
    """Return round numbers that span the values; loss begins at 0, and what is a share of something ends at 1."""
    low, high = min(values), max(values)
    if metric == "loss":
        low = min(low, 0.0)
    elif low >= 0 and high <= 1:
        high = 1.0
    step = _round_step((high - low) / (LINES - 1)) if high - low > LEAST_SPAN else 1.0
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below the given number."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def _grid(ticks: list[float], up: _Scale) -> Iterator[str]:
    for tick in ticks:
        y = up(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid, #ddd)"/>'
        yield f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end" fill="var(--text, #555)">{tick:.4g}</text>'


def _round_axis(first: int, last: int, across: _Scale) -> Iterator[str]:
    step = max(1, math.ceil(_round_step(max((last - first) / 10, 1))))
    for number in range(first + -first % step, last + 1, step):
        x = across(number)
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="var(--text, #555)">{number}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 4}" text-anchor="middle" fill="var(--text, #555)">round</text>'


def _curve(pieces: list[list[_Point]], across: _Scale, up: _Scale) -> Iterator[str]:
    for piece in pieces:
        path = " L".join(f"{across(point.round):.1f},{up(point.value):.1f}" for point in piece)
        foot = HEIGHT - BOTTOM
        yield (f'<path d="M{across(piece[0].round):.1f},{foot} L{path} L{across(piece[-1].round):.1f},{foot} Z" fill="var(--line, #2a78d6)" opacity="0.12"/>')
        yield f'<path d="M{path}" fill="none" stroke="var(--line, #2a78d6)" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round"/>'


def _labels(points: list[_Point], across: _Scale, up: _Scale) -> Iterator[str]:
    dots = points if len(points) <= MOST_DOTS else points[-1:]
    for point in dots:
        yield (
            f'<circle cx="{across(point.round):.1f}" cy="{up(point.value):.1f}" r="4" fill="var(--line, #2a78d6)">'
            f"<title>round {point.round}: {_written(point.value)}</title></circle>"
        )
    last = points[-1]
    above = up(last.value) - 12
    y = above if above > TOP - 8 else up(last.value) + 22
    anchor = "middle" if len(points) == 1 else "end"
    x = across(last.round) + (0 if len(points) == 1 else 4)
    yield f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="600" fill="var(--line, #2a78d6)">{_written(last.value)}</text>'


def _written(value: float) -> str:
    return f"{value:.4f}" if abs(value) < LONG else f"{value:.4g}"


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"convergence": convergence}
