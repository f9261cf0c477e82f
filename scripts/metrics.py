# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Write docs/metrics.md: the metrics of this collection's programs from their table, and those of others from the alerts and dashboards that use them.

``python -m scripts.metrics`` in the root of the repository, which ``make docs`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import Definition
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.metric_table import BUCKETS, DEFINITIONS, GROUPS, Group

from .alerts import alerts
from .dashboards import DASHBOARDS
from .files import write_files

PAGE = "docs/metrics.md"

# Whose metrics begin with what.
OTHERS = {
    "DCGM_": "NVIDIA's DCGM exporter on a SuperNode",
    "haproxy_": "HAProxy, the gateway of a SuperLink",
    "node_": "node_exporter on SuperLinks and SuperNodes",
    "prometheus_": "Prometheus itself",
    "up": "Prometheus, for each machine that it scrapes",
}
_WORDS = {"and", "or", "unless", "bool", "offset"}
_HEAD = """<!--
Copyright (c) 2026, opennebula.flower contributors
SPDX-License-Identifier: Apache-2.0
Generated from plugins/module_utils/supervisor/metric_table.py by make docs; do not edit.
-->
# Metrics

Every metric that the programs of this collection export with `flower_metrics_enabled`. Each program writes a file, and node_exporter serves all files of a
machine at `/metrics` on `flower_metrics_port`. Prometheus, as `monitoring.yml` sets it up, adds `job`, `instance`, `deployment`, and the labels of the
machine: `zone`, `name`, `role`, of a VM `vm`, and in a service `service`. [Monitoring](monitoring.md) says how to get there, [Alerts](alerts.md) when to worry.
"""


def written(root: Path) -> dict[str, str]:
    """Return the page by its path; ``root`` is the repository."""
    return {PAGE: "\n".join([_HEAD, *map(_group, GROUPS), _others(root)])}


def names(expression: str) -> set[str]:
    """Return the metrics that a query in PromQL reads, without the ends that the parts of a histogram have."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", re.sub(r'"[^"]*"', "", expression))
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    found = set(re.findall(r"(?<![\w.])([A-Za-z_:][\w:]*)\b(?!\s*\()", bare)) - _WORDS
    return {whole if (whole := re.sub(r"_(bucket|sum|count)$", "", name)) in DEFINITIONS else name for name in found}


def used(root: Path) -> Iterator[tuple[str, str]]:
    """Yield what reads metrics, an alert as a link or the title of a dashboard, with its query."""
    for name, rule in alerts(root).items():
        yield f"[{name}](alerts.md#{name.lower()})", rule["expr"]
    for dashboard in DASHBOARDS.values():
        for panel in dashboard.panels:
            for query in panel.queries.values():
                yield dashboard.title, query


def _group(group: Group) -> str:
    rows = "".join(map(_row, group.metrics))
    return (
        f"## {group.title}\n\n`{group.unit}` of a {group.machine} writes them to `{group.file}`. {group.about}\n\n"
        f"| metric | type | labels | unit | meaning |\n| --- | --- | --- | --- | --- |\n{rows}"
    )


def _row(metric: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    meaning = f"{metric.help.rstrip('.')}; buckets up to {', '.join(map(str, BUCKETS))}" if metric.kind == "histogram" else metric.help.rstrip(".")
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {meaning} |\n"


def _others(root: Path) -> str:
    readers: dict[str, dict[str, None]] = {}
    for reader, query in used(root):
        for name in sorted(names(query) - DEFINITIONS.keys()):
            readers.setdefault(name, {})[reader] = None
    rows = (f"| `{name}` | {_exporter(name)} | {', '.join(readers[name])} |\n" for name in sorted(readers))
    return "".join(["## Metrics of others\n\nAlerts and dashboards also read these.\n\n| metric | exported by | read by |\n| --- | --- | --- |\n", *rows])


def _exporter(name: str) -> str:
    return next(exporter for prefix, exporter in OTHERS.items() if name == prefix or (prefix.endswith("_") and name.startswith(prefix)))


if __name__ == "__main__":
    write_files(written)
