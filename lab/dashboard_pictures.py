# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A dashboard as a page: its panels at their places with the data that Prometheus gave. No Grafana can be had for tests."""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Mapping
from typing import Any

_COLOURS = ("#3273d9", "#c2571a", "#2f8f4e", "#8b4fc2", "#b8336a", "#7a7a2c")
_CELL, _ROW = 50, 34
_LEFT = 74
_NO_NUMBERS = ("NaN", "+Inf", "-Inf")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_UNITS = {"none": "", "percent": "%", "decmbytes": "MB", "d": "days", "celsius": "°C", "watt": "W", "reqps": "requests/s"}
_Series = list[dict[str, Any]]
_Named = list[tuple[str, dict[str, Any]]]


def page(document: Mapping[str, Any], drawn: Mapping[tuple[int, str], _Series]) -> str:
    """Return the page of a dashboard; drawn are the series of each query by panel and letter."""
    parts = [_panel(panel, {target["refId"]: drawn[panel["id"], target["refId"]] for target in panel["targets"]}) for panel in document["panels"]]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in document["panels"])
    return (
        "<!doctype html><meta charset=utf-8><style>body{margin:0;background:#f5f6f8;font:13px sans-serif}h1{font-size:18px;margin:8px}"
        ".p{position:absolute;background:#fff;border:1px solid #ddd;border-radius:4px;box-sizing:border-box;padding:6px;overflow:hidden}"
        ".p b{display:block}.p small{color:#667}.v{font-size:26px;color:#2f8f4e}</style>"
        f"<h1>{html.escape(document['title'])}</h1><div style='position:relative;height:{bottom * _ROW}px'>{''.join(parts)}</div>"
    )


def _panel(panel: Mapping[str, Any], series: Mapping[str, _Series]) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * _CELL - 6, place["h"] * _ROW - 6
    named = [(_legend(target["legendFormat"], one["metric"]), one) for target in panel["targets"] for one in series[target["refId"]]]
    drawing = {"timeseries": _curves, "bargauge": _bars}.get(panel["type"], _numbers)
    body = drawing(panel["fieldConfig"]["defaults"], named, width - 14, height - 92)
    style = f"left:{place['x'] * _CELL}px;top:{place['y'] * _ROW}px;width:{width}px;height:{height}px"
    return f"<div class=p style='{style}'><b>{html.escape(panel['title'])}</b><small>{html.escape(panel['description'])}</small>{body}</div>"


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), form)


def _figure(value: float, defaults: Mapping[str, Any]) -> str:
    """Return a number as Grafana would show it in the unit of its panel."""
    unit, decimals = defaults["unit"], defaults.get("decimals")
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit in ("bytes", "Bps"):
        power = min(int(math.log2(value) // 10), len(_BINARY) - 1) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {_BINARY[power]}{'/s' if unit == 'Bps' else ''}"
    text = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    return f"{text} {_UNITS.get(unit, unit)}".strip()


def _numbers(defaults: Mapping[str, Any], named: _Named, _width: int, _height: int) -> str:
    texts = {value: option["text"] for mapping in defaults.get("mappings", []) for value, option in mapping["options"].items()}
    shown = [(name, one["values"][-1][1]) for name, one in named]
    named_figures = ((name, texts.get(value, _figure(float(value), defaults))) for name, value in shown)
    return "".join(f"<div><span class=v>{html.escape(figure)}</span> {html.escape(name)}</div>" for name, figure in named_figures)


def _bars(_defaults: Mapping[str, Any], named: _Named, width: int, _height: int) -> str:
    """Draw the buckets of a histogram, each without those below it."""
    buckets = sorted((float(one["metric"]["le"]), name, float(one["values"][-1][1])) for name, one in named)
    single = [(name, count - below) for (_le, name, count), below in zip(buckets, [0, *(count for _le, _name, count in buckets)], strict=False)]
    most = max((count for _name, count in single), default=0) or 1
    return "".join(
        f"<div><span style='display:inline-block;width:60px'>{html.escape(name)}</span>"
        f"<span style='display:inline-block;height:10px;width:{count / most * (width - 120):.0f}px;background:{_COLOURS[0]}'></span> {count:.0f}</div>"
        for name, count in single
    )


def _curves(defaults: Mapping[str, Any], named: _Named, width: int, height: int) -> str:
    points = [(float(when), float(value)) for _name, one in named for when, value in one["values"] if value not in _NO_NUMBERS]
    if not points:
        return "<div>no figures</div>"
    left, right = min(when for when, _ in points), max(when for when, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    wide, tall = (right - left) or 1, (high - low) or 1
    lines = legend = ""
    for number, (name, one) in enumerate(named):
        colour = _COLOURS[number % len(_COLOURS)]
        seen = [(float(when), float(value)) for when, value in one["values"] if value not in _NO_NUMBERS]
        way = " ".join(f"{_LEFT + (when - left) / wide * (width - _LEFT):.1f},{4 + (high - value) / tall * (height - 8):.1f}" for when, value in seen)
        lines += f"<polyline points='{way}' fill=none stroke='{colour}' stroke-width=2 />"
        legend += f"<span style='color:{colour}'>&#9632; {html.escape(name)} </span>"
    # A curve that never changes lies at the upper end.
    marks = {10: high, height - 2: low} if high > low else {10: high}
    for y, value in marks.items():
        lines += f"<text x=0 y={y} font-size=11 fill='#667'>{_figure(value, defaults)}</text>"
    for y in (4, height - 4):
        lines += f"<line x1={_LEFT} x2={width} y1={y} y2={y} stroke='#e3e5e9' />"
    times = [time.strftime("%H:%M:%S", time.gmtime(when)) for when in (left, right)]
    below = f"<div style='display:flex;justify-content:space-between;padding-left:{_LEFT}px'><small>{times[0]}</small><small>{times[1]} UTC</small></div>"
    return f"<svg width={width} height={height} style='display:block'>{lines}</svg>{below}{legend}"
