# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The dashboards: each panel is explained, and each of its queries has data after a real training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from lab.dashboard_pictures import page
from lab.monitoring import filled, series
from scripts.dashboards import DIRECTORY

from .conftest import REPOSITORY, ROUNDS, Monitoring

FILES = sorted((REPOSITORY / DIRECTORY).glob("*.json"))
DOCUMENTS = {path.name: json.loads(path.read_text()) for path in FILES}
SECONDS = 600


def panels() -> list[Any]:
    return [pytest.param(document, panel, id=f"{name}: {panel['title']}") for name, document in DOCUMENTS.items() for panel in document["panels"]]


@pytest.mark.parametrize(("document", "panel"), panels())
def test_a_panel_says_what_it_shows_in_which_unit(document: dict[str, Any], panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]


@pytest.mark.parametrize(("document", "panel"), panels())
def test_a_query_can_be_parsed_and_its_variables_are_those_of_the_dashboard(document: dict[str, Any], panel: dict[str, Any]) -> None:
    known = {variable["name"] for variable in document["templating"]["list"]}
    for target in panel["targets"]:
        promql_parser.parse(filled(target["expr"]))
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= known
        assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_panel_lies_on_another(name: str) -> None:
    taken = set()
    for panel in DOCUMENTS[name]["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_each_dashboard_has_a_name_of_its_own() -> None:
    assert len({document["uid"] for document in DOCUMENTS.values()}) == len({document["title"] for document in DOCUMENTS.values()}) == 4


@pytest.mark.parametrize(("document", "panel"), panels())
def test_a_query_has_data_after_a_training(monitored: Monitoring, document: dict[str, Any], panel: dict[str, Any]) -> None:
    gpu = document["uid"] == "flower-gpu"
    for target in panel["targets"]:
        found = monitored.span(filled(target["expr"]), SECONDS)
        assert found, target["expr"]
        if not gpu:
            # What a legend names is there.
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert all(label in series["metric"] for series in found), f"{label}: {target['expr']}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_variable_has_values(monitored: Monitoring, name: str) -> None:
    for variable in DOCUMENTS[name]["templating"]["list"][1:]:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        selector, label = match.groups()
        assert {series["metric"].get(label) for series in monitored.query(f"last_over_time({filled(selector)}[{SECONDS}s])")} - {None}, variable["name"]


def test_the_training_is_there_as_it_was(monitored: Monitoring) -> None:
    (rounds,) = monitored.query("fl_round_current")
    assert (rounds["metric"]["run"], rounds["value"][1]) == ("initial", str(ROUNDS))
    assert monitored.query("fl_rounds_total")[0]["value"][1] == str(ROUNDS)
    assert monitored.query("fl_checkpoint_round")[0]["value"][1] == str(ROUNDS)
    assert {series["metric"]["metric"] for series in monitored.query("fl_aggregated_metric")} == {"precision", "recall", "f1", "auc"}


def test_no_alert_fires_while_all_is_well(monitored: Monitoring) -> None:
    alerts = monitored.ask("alerts")["alerts"]
    assert [alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"] == []


def test_no_label_has_a_round_or_a_node(monitored: Monitoring) -> None:
    labels = {label for series in monitored.query('{__name__=~"fl_.*"}') for label in series["metric"]}
    assert labels <= {"__name__", "certificate", "deployment", "instance", "job", "le", "metric", "name", "role", "run", "strategy", "vm", "zone"}


def test_the_files_of_metrics_are_small(monitored: Monitoring) -> None:
    assert (monitored.directory / "superlink" / "training.prom").stat().st_size < 16 << 10


def test_pictures_of_the_dashboards(monitored: Monitoring) -> None:
    """Draw what the dashboards would show, for people to look at."""
    directory = REPOSITORY / "build" / "dashboards"
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in DOCUMENTS.items():
        path = Path(directory, name).with_suffix(".html")
        path.write_text(page(document, series(monitored, document, SECONDS)))
        assert path.stat().st_size > 0
