# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Write docs/events.md from docs/events.schema.json and docs/unit-log.schema.json.

``python -m scripts.events`` in the root of the repository, which ``make docs`` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .files import write_files

SCHEMA = "docs/events.schema.json"
UNIT_LOG_SCHEMA = "docs/unit-log.schema.json"
PAGE = "docs/events.md"

# Who writes the events of a program at a place, and where they lie.
WRITERS = {
    ("flwr", "superlink"): ("the ServerApp", "`/opt/flower/state/runs/NAME/events.jsonl` on the SuperLink's VM, for the run `NAME`"),
    ("flwr", "supernode"): ("a ClientApp", "the journal of the SuperNode, between lines of others: `journalctl -u flower-supernode -o cat`"),
    ("flower-registrar", "superlink"): ("the registrar", "`/var/lib/flower-registrar/events.jsonl` on the SuperLink's VM"),
}
_TYPES = {"string": "text", "object": "object", "integer": "whole number", "number": "number"}
_HEAD = """<!--
Copyright (c) 2026, opennebula.flower contributors
SPDX-License-Identifier: Apache-2.0
Generated from docs/events.schema.json and docs/unit-log.schema.json by make docs; do not edit.
-->
# Events

Programs follow a federation by its events: lines of one JSON object each, as [the schema](events.schema.json) has them. An event has no field that is not in
it. Who writes an event decides where its line goes:
"""

_UNITS_HEAD = """## What units log

With `FL_LOG_FORMAT=json` the lines that this collection's units write into the journal are JSON objects as well, and [another schema](unit-log.schema.json) has
them. Those that tell an event:
"""


def written(root: Path) -> dict[str, str]:
    """Return the page by its path; ``root`` is the repository."""
    schema = json.loads((root / SCHEMA).read_text())
    parts = [_HEAD, _places(), _overview(schema["oneOf"]), _common(schema), *(_event(event, schema["$defs"]) for event in schema["oneOf"])]
    parts.append(_units(json.loads((root / UNIT_LOG_SCHEMA).read_text())))
    return {PAGE: "\n".join(parts)}


def _places() -> str:
    rows = (f"| {writer} | {place} |\n" for writer, place in WRITERS.values())
    return "".join(["| writer | place |\n| --- | --- |\n", *rows])


def _overview(events: Iterable[Mapping[str, Any]]) -> str:
    rows = (f"| [`{_name(event)}`](#{_name(event)}) | {_writers(event)} | {event['description']} |\n" for event in events)
    return "".join(["## All events\n\n| event | written by | meaning |\n| --- | --- | --- |\n", *rows])


def _common(schema: Mapping[str, Any]) -> str:
    return f"## Every line\n\n{_fields('field', _rows(schema, schema['$defs'], but='event'))}"


def _event(event: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    level = event["properties"]["level"]["const"]
    fields = _fields("in `data`", _rows(event["properties"]["data"], definitions))
    return f"## {_name(event)}\n\n{event['description']} Level `{level}`, written by {_writers(event)}.\n\n{fields}"


def _units(schema: Mapping[str, Any]) -> str:
    """Return the part about the units' own lines, whose events have few fields."""
    rows = []
    for event in schema["oneOf"]:
        if "properties" in event:
            about = {name: field.get("const") for name, field in event["properties"].items()}
            fields = ", ".join(f"`{name}`" for name in _resolved(event["properties"]["data"], schema["$defs"])["properties"])
            rows.append(f"| `{about['event']}` | `{about['unit']}` | `{about['level']}` | {event['description']} | {fields} |\n")
    head = "\n| event | unit | level | meaning | in `data` |\n| --- | --- | --- | --- | --- |\n"
    return "".join([_UNITS_HEAD, head, *rows, "\nEvery line:\n\n", _fields("field", _rows(schema, schema["$defs"]))])


def _fields(heading: str, rows: Iterable[str]) -> str:
    return "".join([f"| {heading} | type | meaning |\n| --- | --- | --- |\n", *rows])


def _rows(described: Mapping[str, Any], definitions: Mapping[str, Any], but: str = "", path: str = "") -> Iterator[str]:
    """Yield the rows of an object's fields, and of those within them."""
    required = described.get("required", ())
    for name, field in described.get("properties", {}).items():
        if name != but:
            yield from _row(f"{path}{name}", field, definitions, name in required)
    for pattern, field in described.get("patternProperties", {}).items():
        yield from _row(f"{path}{pattern.strip('^$').partition('[')[0]}NAME", field, definitions, required=False)


def _row(name: str, field: Mapping[str, Any], definitions: Mapping[str, Any], required: bool) -> Iterator[str]:
    field = _resolved(field, definitions)
    meaning = field["description"] if required else f"Not always there. {field['description']}"
    yield f"| `{name}` | {_type(field, definitions)} | {meaning} |\n"
    within = field.get("additionalProperties")
    if isinstance(within, Mapping):
        yield from _rows(within, definitions, path=f"{name}.NAME.")


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return what a value may be, in words."""
    field = _resolved(field, definitions)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "oneOf" in field:
        return " or ".join(_type(one, definitions) for one in field["oneOf"])
    within = field.get("additionalProperties")
    if isinstance(within, Mapping) and "properties" not in _resolved(within, definitions):
        return f"object of names, each with a {_type(within, definitions)}"
    return _TYPES[field["type"]]


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field with what it refers to; what it says itself counts."""
    if "$ref" not in field:
        return dict(field)
    return {**_resolved(definitions[field["$ref"].removeprefix("#/$defs/")], definitions), **{key: value for key, value in field.items() if key != "$ref"}}


def _writers(event: Mapping[str, Any]) -> str:
    program, role = (event["properties"][key] for key in ("logger", "role"))
    return " or ".join(WRITERS[program["const"], place][0] for place in role.get("enum", [role.get("const")]))


def _name(event: Mapping[str, Any]) -> str:
    return event["properties"]["event"]["const"]


if __name__ == "__main__":
    write_files(written)
