# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Lines of units' logs, held against the schema that the collection publishes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.unit_log import JsonLines

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "unit-log.schema.json").read_text())
_VALIDATOR = Draft202012Validator(SCHEMA)
# The unit that tells an event; lines without one may be any unit's.
_UNITS = {event["properties"]["event"]["const"]: event["properties"]["unit"]["const"] for event in SCHEMA["oneOf"] if "properties" in event}


def problem(line: dict[str, Any]) -> str:
    """Return what is wrong with a line of a unit, nothing if it is as the schema has it."""
    found = best_match(_VALIDATOR.iter_errors(line))
    return f"{line}: {found.message}" if found else ""


@contextmanager
def events_checked() -> Iterator[None]:
    """Fail unless every event that is logged meanwhile is as the schema has it."""
    problems: list[str] = []

    class Check(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if hasattr(record, "told"):
                unit = _UNITS.get(record.told["event"], "flower-supervisor")
                problems.append(problem(json.loads(JsonLines(unit).format(record))))

    handler, root = Check(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert [found for found in problems if found] == []
