# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the dashboards of Grafana: roles/flower_monitoring/files/dashboards/*.json.

``python -m scripts.dashboards`` in the root of the repository, which ``make docs`` does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = "roles/flower_monitoring/files/dashboards"
FOLDER_TAG = "flower"
_DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """A panel with its queries by the legend of what they show. ``kind`` is Grafana's; ``steps`` are colours by the value they begin at."""

    title: str
    meaning: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 12
    decimals: int | None = None
    mappings: dict[int, str] = field(default_factory=dict)
    steps: dict[float | None, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard, with the variables that it asks for by the metric and label that have their values."""

    uid: str
    title: str
    meaning: str
    panels: tuple[Panel, ...]
    variables: dict[str, str]


_LINK = 'zone=~"$zone",name=~"$superlink"'
_RUN = f'{_LINK},run=~"$run"'
_NODE = 'zone=~"$zone"'
_LINK_VARIABLES = {"zone": "label_values(fl_training_status, zone)", "superlink": 'label_values(fl_training_status{zone=~"$zone"}, name)'}
_STATUS = {0: "idle", 1: "running", 2: "complete", 3: "failed"}
_STATES = {None: "blue", 1: "green", 2: "blue", 3: "red"}
_GATEWAY = 'job="fl_gateway",zone=~"$zone"'


def _of_run(metric: str) -> str:
    """Return the query of a run's metric. A run says its strategy once it has begun, which makes no other run of it."""
    return f"max without (strategy) ({metric}{{{_RUN}}})"



TRAINING = Dashboard(
    "flower-training",
    "FL Training Overview",
    "How the trainings of all SuperLinks go.",
    (
        Panel("Status", "What the SuperLink is at.", "none", {"{{name}}": f"fl_training_status{{{_LINK}}}"}, "stat", 6, 0, _STATUS, _STATES),
        Panel(
            "Progress",
            "Complete rounds of those that the run is made of.",
            "percentunit",
            {"{{run}}": f"{_of_run('fl_round_current')} / {_of_run('fl_round_total')}"},
            "stat",
            6,
        ),
        Panel("Round", "The last complete round.", "none", {"{{run}}": _of_run("fl_round_current")}, "stat", 6, 0),
        Panel("Waiting runs", "Runs that were asked for and are not submitted.", "none", {"{{name}}": f"fl_runs_waiting{{{_LINK}}}"}, "stat", 6, 0),
        Panel("Loss", "Loss of the global model on held-out data of the nodes.", "none", {"{{run}}": _of_run("fl_aggregated_loss")}),
        Panel("Accuracy", "Accuracy of the global model on held-out data of the nodes.", "percentunit", {"{{run}}": _of_run("fl_aggregated_accuracy")}),
        Panel("Other metrics", "Whatever else the app measures, by name.", "none", {"{{run}} {{metric}}": _of_run("fl_aggregated_metric")}),
        Panel(
            "Time of a round",
            "Mean time of the rounds that ended within five minutes, training and evaluation together.",
            "s",
            {
                "{{name}}": (
                    f"sum by (name) (rate(fl_round_duration_seconds_sum{{{_LINK}}}[5m]))"
                    f" / sum by (name) (rate(fl_round_duration_seconds_count{{{_LINK}}}[5m]) > 0)"
                )
            },
        ),
        Panel(
            "Nodes",
            "Nodes that are connected, that were asked to train, and that answered in the last complete round.",
            "none",
            {
                "{{name}} connected": f"fl_clients_connected{{{_LINK}}}",
                "{{name}} selected": f"fl_clients_selected{{{_LINK}}}",
                "{{name}} answered": f"fl_clients_responded{{{_LINK}}}",
            },
            decimals=0,
        ),
        Panel(
            "Failures",
            "Requests without a usable answer, rounds that did not count, and checkpoints that could not be kept, in an hour.",
            "none",
            {
                "{{name}} requests": f"increase(fl_clients_failed_total{{{_LINK}}}[1h])",
                "{{name}} rounds": f"increase(fl_rounds_failed_total{{{_LINK}}}[1h])",
                "{{name}} checkpoints": f"increase(fl_checkpoint_failed_total{{{_LINK}}}[1h])",
            },
        ),
        Panel(
            "Rounds since the last checkpoint",
            "What a failure would cost now, and how many rounds are to lie between checkpoints.",
            "none",
            {
                "{{run}}": f"{_of_run('fl_round_current')} - {_of_run('fl_checkpoint_round')}",
                "{{run}} wanted": _of_run("fl_checkpoint_interval_rounds"),
            },
            decimals=0,
        ),
        Panel(
            "How long rounds take",
            "Rounds by how long they took, in seconds at most.",
            "none",
            {"{{le}}": f"sum by (le) (fl_round_duration_seconds_bucket{{{_LINK}}})"},
            "bargauge",
            decimals=0,
        ),
    ),
    {**_LINK_VARIABLES, "run": 'label_values(fl_round_total{name=~"$superlink"}, run)'},
)

CLIENTS = Dashboard(
    "flower-clients",
    "Client Health",
    "What the SuperNodes do, by zone and node.",
    (
        Panel(
            "Connected nodes",
            "Nodes that their SuperLink has accepted and answers, by zone.",
            "none",
            {"{{zone}}": f"sum by (zone) (fl_supernode_connected{{{_NODE}}})"},
            "stat",
            8,
            0,
            steps={None: "red", 1: "green"},
        ),
        Panel(
            "Participation",
            "Nodes that answered in the last complete round, of those that were asked.",
            "percentunit",
            {"{{name}}": f"fl_clients_responded{{{_NODE}}} / (fl_clients_selected{{{_NODE}}} > 0)"},
            "stat",
            8,
        ),
        Panel(
            "Nodes that cannot be scraped",
            "Their VM is off, or nobody reaches it.",
            "none",
            {"{{zone}}": f'sum by (zone) (up{{job="fl_supernode",{_NODE}}} == bool 0)'},
            "stat",
            8,
            0,
        ),
        Panel("Connected", "1 while the node is connected.", "none", {"{{zone}} {{name}}": f"fl_supernode_connected{{{_NODE}}}"}, decimals=0),
        Panel(
            "Failures",
            "Requests that ended in an error on the node, in an hour.",
            "none",
            {"{{zone}} {{name}}": f"increase(fl_supernode_failures_total{{{_NODE}}}[1h])"},
        ),
        Panel(
            "Time of a training",
            "Mean time of one training of the node.",
            "s",
            {"{{zone}} {{name}}": f"fl_supernode_training_seconds_total{{{_NODE}}} / (fl_supernode_trainings_total{{{_NODE}}} > 0)"},
        ),
        Panel("Trainings", "Trainings that the node completed.", "none", {"{{zone}} {{name}}": f"fl_supernode_trainings_total{{{_NODE}}}"}, decimals=0),
        Panel("Examples", "Examples that the node trained on.", "none", {"{{zone}} {{name}}": f"fl_supernode_examples_total{{{_NODE}}}"}, decimals=0),
        Panel("GPU", "1 where the last training could use one.", "none", {"{{zone}} {{name}}": f"fl_supernode_gpu{{{_NODE}}}"}, decimals=0),
    ),
    {"zone": "label_values(fl_supernode_connected, zone)"},
)

PLATFORM = Dashboard(
    "flower-platform",
    "FL Platform",
    "Gateways, certificates and disks of the SuperLinks.",
    (
        Panel(
            "Flower behind the gateway",
            "1 while the gateway finds Flower healthy.",
            "none",
            {"{{zone}} {{name}}": f'haproxy_server_status{{{_GATEWAY},proxy="superlink",state="UP"}}'},
            "stat",
            8,
            0,
            {0: "down", 1: "up"},
            {None: "red", 1: "green"},
        ),
        Panel(
            "Days of certificates",
            "Days until the first certificate ends.",
            "d",
            {"{{zone}} {{name}}": 'min by (zone, name) (fl_certificate_not_after_timestamp_seconds{zone=~"$zone"} - time()) / 86400'},
            "stat",
            8,
            0,
            steps={None: "red", 7: "orange", 30: "green"},
        ),
        Panel(
            "Age of the metrics",
            "Seconds since the supervisor wrote its metrics.",
            "s",
            {"{{zone}} {{name}}": 'time() - node_textfile_mtime_seconds{job="fl_training",zone=~"$zone",file=~".*training.prom"}'},
            "stat",
            8,
            0,
            steps={None: "green", 60: "orange", 300: "red"},
        ),
        Panel(
            "Requests",
            "Requests of nodes and operators that the gateway answered.",
            "reqps",
            {"{{name}} {{proxy}}": f'sum by (name, proxy) (rate(haproxy_frontend_http_requests_total{{{_GATEWAY},proxy=~"fleet|control"}}[5m]))'},
        ),
        Panel(
            "Refused and failed requests",
            "Answers of the gateway that say that the request was wrong (4xx) or Flower was (5xx).",
            "reqps",
            {
                "{{name}} {{proxy}} {{code}}": (
                    f'sum by (name, proxy, code) (rate(haproxy_frontend_http_responses_total{{{_GATEWAY},proxy=~"fleet|control",code=~"4xx|5xx"}}[5m]))'
                )
            },
        ),
        Panel(
            "Transferred",
            "What nodes send and are sent: mostly models.",
            "Bps",
            {
                "{{name}} from nodes": f'rate(haproxy_frontend_bytes_in_total{{{_GATEWAY},proxy="fleet"}}[5m])',
                "{{name}} to nodes": f'rate(haproxy_frontend_bytes_out_total{{{_GATEWAY},proxy="fleet"}}[5m])',
            },
        ),
        Panel(
            "Connections of nodes",
            "Connections that are open at the gateway.",
            "none",
            {"{{name}}": f'haproxy_frontend_current_sessions{{{_GATEWAY},proxy="fleet"}}'},
            decimals=0,
        ),
        Panel(
            "Free space",
            "What is left on the disks of SuperLinks and SuperNodes.",
            "bytes",
            {"{{name}} {{mountpoint}}": 'node_filesystem_avail_bytes{job=~"fl_.*",zone=~"$zone"}'},
        ),
    ),
    {"zone": "label_values(fl_training_status, zone)"},
)

_GPU = 'zone=~"$zone",name=~"$node"'
GPU = Dashboard(
    "flower-gpu",
    "GPU Health",
    "The GPUs of the SuperNodes, as NVIDIA's DCGM exporter tells.",
    (
        Panel("Utilisation", "Share of the time in which the GPU worked.", "percent", {"{{name}} {{gpu}}": f"DCGM_FI_DEV_GPU_UTIL{{{_GPU}}}"}),
        Panel(
            "Memory",
            "Share of the GPU's memory that is in use.",
            "percent",
            {"{{name}} {{gpu}}": f"DCGM_FI_DEV_FB_USED{{{_GPU}}} / (DCGM_FI_DEV_FB_USED{{{_GPU}}} + DCGM_FI_DEV_FB_FREE{{{_GPU}}}) * 100"},
        ),
        Panel(
            "Temperature",
            "Temperature of the GPU.",
            "celsius",
            {"{{name}} {{gpu}}": f"DCGM_FI_DEV_GPU_TEMP{{{_GPU}}}"},
            steps={None: "green", 80: "orange", 90: "red"},
        ),
        Panel("Power", "What the GPU draws.", "watt", {"{{name}} {{gpu}}": f"DCGM_FI_DEV_POWER_USAGE{{{_GPU}}}"}),
        Panel(
            "Last error",
            "Number of the last XID, 0 for none. It stays until the VM restarts.",
            "none",
            {"{{name}} {{gpu}}": f"DCGM_FI_DEV_XID_ERRORS{{{_GPU}}}"},
            "stat",
            decimals=0,
            steps={None: "green", 1: "red"},
        ),
        Panel("Free memory", "Memory of the GPU that nobody uses.", "decmbytes", {"{{name}} {{gpu}}": f"DCGM_FI_DEV_FB_FREE{{{_GPU}}}"}, "gauge"),
    ),
    {"zone": "label_values(DCGM_FI_DEV_GPU_UTIL, zone)", "node": 'label_values(DCGM_FI_DEV_GPU_UTIL{zone=~"$zone"}, name)'},
)

DASHBOARDS = {"fl-training-overview.json": TRAINING, "client-health.json": CLIENTS, "platform.json": PLATFORM, "gpu-health.json": GPU}


def document(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.meaning,
        "tags": [FOLDER_TAG],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [{"title": "Flower", "type": "dashboards", "tags": [FOLDER_TAG], "asDropdown": True, "includeVars": False, "keepTime": True}],
        "templating": {"list": [_data_source(), *(_variable(name, query) for name, query in dashboard.variables.items())]},
        "panels": list(_panels(dashboard.panels)),
    }


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _DATA_SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _panels(panels: tuple[Panel, ...]) -> Any:
    x = y = 0
    height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + height
        height = 5 if panel.kind == "stat" else 8
        yield _panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height})
        x += panel.width


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "color": {"mode": "thresholds" if panel.steps else "palette-classic"}}
    defaults["thresholds"] = {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in (panel.steps or {None: "green"}).items()]}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.mappings:
        options = {str(value): {"text": text, "index": index} for index, (value, text) in enumerate(panel.mappings.items())}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries" and panel.steps:
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.meaning,
        "type": panel.kind,
        "datasource": _DATA_SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATA_SOURCE,
                "expr": query,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                # Grafana then sorts the buckets of a histogram by their names and takes each without those below it.
                "format": "heatmap" if panel.kind == "bargauge" else "time_series",
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def written() -> dict[str, str]:
    """Return the files by name."""
    return {name: json.dumps(document(dashboard), indent=2) + "\n" for name, dashboard in DASHBOARDS.items()}


def main() -> None:
    """Write the files."""
    for name, content in written().items():
        (Path(DIRECTORY) / name).write_text(content)


if __name__ == "__main__":
    main()
