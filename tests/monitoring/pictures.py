# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A dashboard as a page: its panels at their places with the data that Prometheus gave. No Grafana can be had for tests."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

_COLOURS = ("#3273d9", "#c2571a", "#2f8f4e", "#8b4fc2", "#b8336a", "#7a7a2c")
_CELL, _ROW = 50, 34
_Series = list[dict[str, Any]]


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
    body = _curves(named, width - 14, height - 80) if panel["type"] == "timeseries" else _numbers(panel, named)
    style = f"left:{place['x'] * _CELL}px;top:{place['y'] * _ROW}px;width:{width}px;height:{height}px"
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return f"<div class=p style='{style}'><b>{html.escape(panel['title'])}</b><small>{html.escape(panel['description'])} [{unit}]</small>{body}</div>"


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), form)


def _numbers(panel: Mapping[str, Any], named: list[tuple[str, dict[str, Any]]]) -> str:
    texts = {value: option["text"] for mapping in panel["fieldConfig"]["defaults"].get("mappings", []) for value, option in mapping["options"].items()}
    shown = [(name, one["values"][-1][1]) for name, one in named]
    return "".join(f"<div><span class=v>{html.escape(texts.get(value, f'{float(value):.4g}'))}</span> {html.escape(name)}</div>" for name, value in shown)


def _curves(named: list[tuple[str, dict[str, Any]]], width: int, height: int) -> str:
    points = [(float(when), float(value)) for _name, one in named for when, value in one["values"] if value not in ("NaN", "+Inf", "-Inf")]
    if not points:
        return "<div>no figures</div>"
    left, right = min(when for when, _ in points), max(when for when, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    wide, tall = (right - left) or 1, (high - low) or 1
    lines = legend = ""
    for number, (name, one) in enumerate(named):
        colour = _COLOURS[number % len(_COLOURS)]
        seen = [(float(when), float(value)) for when, value in one["values"] if value not in ("NaN", "+Inf", "-Inf")]
        way = " ".join(f"{(when - left) / wide * width:.1f},{height - (value - low) / tall * height:.1f}" for when, value in seen)
        lines += f"<polyline points='{way}' fill=none stroke='{colour}' stroke-width=2 />"
        legend += f"<span style='color:{colour}'>&#9632; {html.escape(name)} </span>"
    return f"<svg width={width} height={height} style='border-bottom:1px solid #ccc;display:block'>{lines}</svg><small>{low:.4g} to {high:.4g}</small> {legend}"
