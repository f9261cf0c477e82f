# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Events of the app, held against the schema that the collection publishes."""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from .shipped import REPOSITORY

SCHEMA = json.loads((REPOSITORY / "docs" / "events.schema.json").read_text())
_VALIDATOR = Draft202012Validator(SCHEMA)


def checked(events: list[dict]) -> list[dict]:
    """Return the events; fails with what is wrong with the first that is not as the schema has it."""
    for event in events:
        problem = best_match(_VALIDATOR.iter_errors(event))
        assert problem is None, f"{event}: {problem.message}"
    return events
