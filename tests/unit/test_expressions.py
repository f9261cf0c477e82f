# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Expressions of roles and playbooks fit into one line: what is longer is cut by variables with names, or is Python, in a filter with tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROOT = Path(__file__).parents[2]
# As long as a line of this project.
LONGEST = 160
FILES = sorted(path for room in ("roles", "playbooks") for path in (ROOT / room).rglob("*.yml") if not {"files", "templates"} & set(path.parts))
# Where an expression stands without braces.
CONDITIONS = {"changed_when", "failed_when", "that", "until", "when"}


def expressions(node: Any, key: str = "") -> Iterator[str]:
    """Yield the expressions in a document, each as one line."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from expressions(value, name)
    elif isinstance(node, list):
        for item in node:
            yield from expressions(item, key)
    elif isinstance(node, str) and key in CONDITIONS:
        yield " ".join(node.split())
    elif isinstance(node, str):
        yield from braced(node)


def braced(text: str) -> Iterator[str]:
    """Yield what is between braces in a text."""
    inside: list[str] | None = None
    for _line, kind, value in jinja2.Environment().lex(text):
        if kind in ("variable_begin", "block_begin"):
            inside = []
        elif kind in ("variable_end", "block_end") and inside is not None:
            yield " ".join("".join(inside).split())
            inside = None
        elif inside is not None:
            inside.append(value)


def test_expressions_are_found() -> None:
    document = {"a": ["{{ b |\n   c }} and {% if d %}e{% endif %}"], "when": "f\n  and g", "that": ["h"], "i": "j"}
    assert list(expressions(document)) == ["b | c", "if d", "endif", "f and g", "h"]
    assert sum(1 for path in FILES for _expression in expressions(yaml.safe_load(path.read_text(encoding="utf-8")))) > 2000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_expression_fits_into_one_line(path: Path) -> None:
    assert [each for each in expressions(yaml.safe_load(path.read_text(encoding="utf-8"))) if len(each) > LONGEST] == []
