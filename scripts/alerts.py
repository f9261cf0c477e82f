# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Write what docs/alerts.md takes from the alerts: the list of them, and of each its condition, its delay and its severity.

What to do about an alert is written by hand, below its heading; a new alert gets a heading without that.

``python -m scripts.alerts`` in the root of the repository, which ``make docs`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .files import write_files

RULES = "roles/flower_monitoring/files/rules.yml"
PAGE = "docs/alerts.md"

_BEGIN = "<!-- BEGIN from rules.yml, by make docs -->"
_END = "<!-- END -->"
_UNITS = {"s": "second", "m": "minute", "h": "hour"}


def alerts(root: Path) -> dict[str, dict[str, Any]]:
    """Return the alerting rules by the names of the alerts; ``root`` is the repository."""
    groups = yaml.safe_load((root / RULES).read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def written(root: Path) -> dict[str, str]:
    """Return the page by its path."""
    rules = alerts(root)
    introduction, sections = runbook((root / PAGE).read_text())
    # Alerts in the order of the rules; then what is of no alert, for somebody to remove.
    names = [*rules, *(name for name in sections if name not in rules)]
    parts = [f"## {name}\n\n{_described(rules[name]) if name in rules else ''}\n{sections.get(name, '')}" for name in names]
    return {PAGE: "\n".join([f"{introduction}\n{_marked(_overview(rules))}", *parts])}


def runbook(page: str) -> tuple[str, dict[str, str]]:
    """Return what is written by hand on the page: its beginning, and the texts by the names of the alerts."""
    page = re.sub(f"{_BEGIN}.*?{_END}", "", page, flags=re.DOTALL)
    beginning, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    texts = (section.partition("\n") for section in sections)
    return f"{beginning.rstrip()}\n", {name: f"{text.strip()}\n" for name, _, text in texts}


def _marked(text: str) -> str:
    return f"{_BEGIN}\n\n{text}\n{_END}\n"


def _overview(rules: dict[str, dict[str, Any]]) -> str:
    rows = (f"| [{name}](#{name.lower()}) | {rule['labels']['severity']} | {rule['annotations']['description']} |\n" for name, rule in rules.items())
    return "".join(["| alert | severity | condition |\n| --- | --- | --- |\n", *rows])


def _described(rule: dict[str, Any]) -> str:
    delay = f"after {_duration(rule['for'])}" if "for" in rule else "at once"
    expression = re.sub(r" (and|or|unless) ", r"\n\1 ", rule["expr"])
    return _marked(f"{rule['annotations']['description']}\n\nSeverity: `{rule['labels']['severity']}`. It fires {delay}.\n\n```promql\n{expression}\n```\n")


def _duration(text: str) -> str:
    """Return a duration of Prometheus in words."""
    parts: Iterable[tuple[str, str]] = re.findall(r"(\d+)([smh])", text)
    return " ".join(f"{number} {_UNITS[unit]}{'s' * (number != '1')}" for number, unit in parts)


if __name__ == "__main__":
    write_files(written)
