# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of metrics is what the programs export: each writes all of its metrics, as the table has them, and no other."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import certificates, metric_table, node_metrics
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.checkpoint_sync import Config, Uploader
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import Definition, render
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.metric_table import GROUPS
from ansible_collections.opennebula.flower.tests.support.supervisor_scene import INITIAL, Scene

ROOT = Path(__file__).parents[5]


def of_the_table(file: str) -> dict[str, Definition]:
    """The metrics that the table says are in a file, by name."""
    return {definition.name: definition for group in GROUPS if group.file == file for definition in group.metrics}


def assert_as_in_the_table(text: str, file: str) -> None:
    """Fail unless a file of metrics has all those that the table has for it, and no other, with the same kind, help and labels."""
    wanted = of_the_table(file)
    families = list(text_string_to_metric_families(text))
    assert sorted(map(exported_name, families)) == sorted(wanted)
    for family in families:
        definition = wanted[exported_name(family)]
        assert (definition.name, family.type, family.documentation) == (definition.name, definition.kind, definition.help)
        labels = {label for sample in family.samples for label in sample.labels}
        assert (definition.name, labels - {"le"}) == (definition.name, set(definition.labels))


def exported_name(family: Metric) -> str:
    """The name as it is written: the parser takes the end of a counter's away."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_the_supervisor(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "training.prom"
    scene.settings["metrics_file"] = str(file)
    scene.settings["initial_run"] = {"name": "initial", "config": {**INITIAL, "checkpoint-enabled": True, "checkpoint-interval": 1}}
    scene.step()
    scene.event("training_start", num_rounds=3, strategy="FedProx")
    scene.event("client_join", node_id="1", connected=1)
    scene.event("round_start", round=1, num_clients_selected=1)
    scene.event("checkpoint_saved", round=1, path="checkpoint_round_1.npz", size_bytes=1)
    scene.round_end(1, auc=0.9)
    scene.step()
    assert_as_in_the_table(file.read_text(), "/run/flower-metrics/training.prom")


def test_the_upload_of_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "metrics.prom"
    config = Config("http://s3", "models", "a", "b", directory=str(tmp_path / "checkpoints"), metrics_file=str(file))
    Uploader(config, config.open_bucket()).step()
    assert_as_in_the_table(file.read_text(), "/run/flower-checkpoint-upload/metrics.prom")


def test_the_certificates() -> None:
    ends = {which: datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC) for which in ("server", "ca")}
    assert_as_in_the_table(certificates.metrics(ends), "/run/flower-certificates/metrics.prom")


def test_a_supernode() -> None:
    assert_as_in_the_table(render(node_metrics.Counts().metrics(connected=True)), "/run/flower-metrics/node.prom")


def test_no_metric_is_twice_in_the_table() -> None:
    names = [definition.name for group in GROUPS for definition in group.metrics]
    assert sorted(names) == sorted(set(names))


def test_a_metric_that_is_not_in_the_table_cannot_be_exported() -> None:
    with pytest.raises(KeyError):
        metric_table.metric("fl_surprises_total", ({}, 1))


def test_nothing_writes_metrics_but_by_the_table() -> None:
    sources = [path for folder in ("plugins", "roles", "apps", "playbooks") for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(sources) > 300
    assert {path.name for path in sources if b"# TYPE " in path.read_bytes()} == {"exposition.py"}
    # Whoever makes a metric without asking the table does it here, where the tests above compare it with the table.
    makers = {path.name for path in sources if path.suffix == ".py" and re.search(r"\bMetric\(", path.read_text(encoding="utf-8"))}
    assert makers == {"exposition.py", "metric_table.py", "metrics.py"}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_a_group_names_a_unit_and_a_file_that_a_role_sets_up(group: metric_table.Group) -> None:
    role = ROOT / "roles" / f"flower_{group.machine.lower()}"
    assert list(role.glob(f"templates/{group.unit}.j2"))
    assert f"metrics_file: {group.file}" in (role / "vars/main.yml").read_text() or f"'{group.file}'" in (role / "vars/main.yml").read_text()


@pytest.mark.parametrize("definition", metric_table.DEFINITIONS.values(), ids=lambda definition: definition.name)
def test_a_name_follows_the_conventions_of_prometheus(definition: Definition) -> None:
    assert definition.name.startswith("fl_")
    # fl_round_total is how many rounds there are to be, and no counter.
    assert (definition.kind == "counter") == (definition.name.endswith("_total") and definition.name != "fl_round_total")
    name = definition.name.removesuffix("_total")
    unit = "seconds since the epoch" if name.endswith("_timestamp_seconds") else "seconds" if name.endswith("_seconds") else None
    assert unit is None or definition.unit == unit
    assert definition.help
