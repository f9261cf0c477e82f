# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``make docs`` writes of metrics, alerts, events and dashboards is in the repository, and says what these are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import promql_parser
import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.metric_table import DEFINITIONS
from scripts import alerts, dashboards, events, metrics

ROOT = Path(__file__).parents[2]
RULES = alerts.alerts(ROOT)
SCHEMA = json.loads((ROOT / events.SCHEMA).read_text())
QUERIES = [query for _reader, query in metrics.used(ROOT)]
# What Prometheus adds by the configuration of the role flower_monitoring.
TARGET_LABELS = {"job", "instance", "deployment", "zone", "vm", "name", "role", "service"}


@pytest.mark.parametrize("program", [metrics, alerts, events], ids=lambda program: program.__name__)
def test_a_page_is_as_its_program_writes_it(program: ModuleType) -> None:
    for path, content in program.written(ROOT).items():
        assert (ROOT / path).read_text() == content, "run: make docs"


def test_the_dashboards_are_as_their_program_writes_them() -> None:
    assert {path.name: path.read_text() for path in (ROOT / dashboards.DIRECTORY).glob("*.json")} == dashboards.written(), "run: make docs"


# ---- Metrics -------------------------------------------------------------------------------------


def vectors(expression: Any) -> Iterator[Any]:
    """Yield what selects series in a query, as an independent parser finds it."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for part in ("lhs", "rhs", "expr", "vector_selector"):
        if getattr(expression, part, None) is not None:
            yield from vectors(getattr(expression, part))
    for argument in getattr(expression, "args", ()):
        yield from vectors(argument)


def read_by(query: str) -> list[tuple[str, set[str]]]:
    """The series that a query reads: their name, and the labels that they are chosen by."""
    parsed = promql_parser.parse(re.sub(r"\$\w+", ".*", query))
    return [(vector.name, {matcher.name for matcher in vector.matchers.matchers}) for vector in vectors(parsed)]


@pytest.mark.parametrize("query", QUERIES)
def test_what_a_query_reads_is_exported_and_has_the_labels_that_it_is_chosen_by(query: str) -> None:
    read = read_by(query)
    assert read
    for name, chosen_by in read:
        if not name.startswith("fl_"):
            continue
        part = re.fullmatch(r"(.+)_(bucket|sum|count)", name)
        definition = DEFINITIONS.get(name) or DEFINITIONS.get(part[1] if part else "")
        assert definition, f"{name} is not in the table of metrics"
        assert (definition.kind == "histogram") == (definition.name != name)
        assert chosen_by <= TARGET_LABELS | set(definition.labels), name


@pytest.mark.parametrize("query", QUERIES)
def test_the_page_finds_all_metrics_of_a_query(query: str) -> None:
    assert metrics.names(query) == {re.sub(r"^(fl_\w+)_(bucket|sum|count)$", r"\1", name) for name, _labels in read_by(query)}


def test_the_variables_of_the_dashboards_are_labels_of_metrics() -> None:
    queries = [query for dashboard in dashboards.DASHBOARDS.values() for query in dashboard.variables.values()]
    read = [re.fullmatch(r"label_values\((fl_\w+)?.*, (\w+)\)", query).groups() for query in queries]
    assert len(read) > 5
    for name, label in read:
        assert name is None or label in TARGET_LABELS | set(DEFINITIONS[name].labels)


@pytest.mark.parametrize("path", sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md"), ROOT / "README.md"]), ids=lambda path: path.stem)
def test_a_metric_that_a_document_names_is_exported(path: Path) -> None:
    named = set(re.findall(r"`(fl_[a-z_]+[a-z])[`{]", path.read_text()))
    assert named - DEFINITIONS.keys() == set()


# ---- Alerts --------------------------------------------------------------------------------------


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    _introduction, runbook = alerts.runbook((ROOT / alerts.PAGE).read_text())
    assert list(runbook) == list(RULES)
    for name, text in runbook.items():
        assert re.findall(r"^- \*\*(.+)\.\*\* \S", text, re.MULTILINE) == ["Where to look", "What to do"], name


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_is_wrong_and_leads_to_its_section(name: str) -> None:
    annotations = RULES[name]["annotations"]
    assert annotations["description"].endswith(".")
    assert "{{" not in annotations["description"]  # the page has no values
    assert annotations["runbook_url"].endswith(f"/docs/alerts.md#{name.lower()}")
    assert RULES[name]["labels"]["severity"] in ("warning", "critical")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of rules and page that a test may change."""
    for path in (alerts.RULES, alerts.PAGE):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def rewritten(root: Path, before: str, after: str) -> str:
    """The page after a change of the rules."""
    rules = (root / alerts.RULES).read_text()
    assert before in rules
    (root / alerts.RULES).write_text(rules.replace(before, after, 1))
    return alerts.written(root)[alerts.PAGE]


def test_a_changed_rule_changes_the_page_but_nothing_that_is_written_by_hand(changed: Path) -> None:
    page = rewritten(changed, "for: 15m\n        labels: {severity: critical}", "for: 1h30m\n        labels: {severity: warning}")
    assert "Severity: `warning`. It fires after 1 hour 30 minutes." in page
    assert alerts.runbook(page) == alerts.runbook((ROOT / alerts.PAGE).read_text())


def test_a_renamed_alert_leaves_a_section_without_a_runbook_and_one_without_an_alert(changed: Path) -> None:
    page = rewritten(changed, "alert: FLDiskFull", "alert: FLDiskFilling")
    _introduction, runbook = alerts.runbook(page)
    assert runbook["FLDiskFilling"].strip() == ""
    assert list(runbook)[-1] == "FLDiskFull" and "FLDiskFull" not in alerts.alerts(changed)


# ---- Events --------------------------------------------------------------------------------------


def test_every_event_is_described_once_and_by_whom_it_is_written() -> None:
    described = [event["properties"]["event"]["const"] for event in SCHEMA["oneOf"]]
    assert described == SCHEMA["properties"]["event"]["enum"]
    page = (ROOT / events.PAGE).read_text()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == described
    for event in SCHEMA["oneOf"]:
        assert event["description"].endswith(".")
        assert event["properties"]["level"]["const"] in SCHEMA["properties"]["level"]["enum"]
        role = event["properties"]["role"]
        for place in role.get("enum", [role.get("const")]):
            assert (event["properties"]["logger"]["const"], place) in events.WRITERS


def fields_of(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the fields of an object, with those within them."""
    for name, field in [*described.get("properties", {}).items(), *described.get("patternProperties", {}).items()]:
        yield name, field
        if isinstance(field.get("additionalProperties"), dict):
            yield from fields_of(field["additionalProperties"])


@pytest.mark.parametrize("event", SCHEMA["oneOf"], ids=lambda event: event["properties"]["event"]["const"])
def test_every_field_of_an_event_is_explained(event: dict[str, Any]) -> None:
    fields = list(fields_of(event["properties"]["data"]))
    assert fields
    for name, field in fields:
        refers_to = SCHEMA["$defs"].get(field.get("$ref", "").removeprefix("#/$defs/"), {})
        meaning = field.get("description") or refers_to.get("description", "")
        assert meaning.endswith("."), name
