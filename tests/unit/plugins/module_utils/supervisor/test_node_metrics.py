# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a SuperNode counts; its journal itself is read in the scenario of the role flower_supernode."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import render
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.node_metrics import Config, Counts, copy_gpu_metrics


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data}


def lines(counts: Counts, connected: bool = True) -> list[str]:
    return render(counts.metrics(connected)).splitlines()


def test_work_adds_up() -> None:
    counts = Counts()
    counts.add(event("client_trained", seconds=2.5, num_examples=40))
    counts.add(event("client_trained", seconds=1.5, num_examples=40))
    counts.add(event("client_evaluated", seconds=0.5, num_examples=10))
    counts.add(event("client_failure", error_type="it is full"))
    counts.add(event("gpu_detected", gpu_name="H200"))
    found = lines(counts)
    assert "fl_supernode_trainings_total 2" in found
    assert "fl_supernode_training_seconds_total 4" in found
    assert "fl_supernode_examples_total 80" in found
    assert "fl_supernode_evaluation_seconds_total 0.5" in found
    assert "fl_supernode_failures_total 1" in found
    assert "fl_supernode_gpu 1" in found
    assert "fl_supernode_connected 1" in found


@pytest.mark.parametrize("what", [None, [], "x", {}, {"event": []}, {"event": "client_trained"}, {"event": "client_trained", "data": []}])
def test_what_is_no_event_counts_nothing(what: object) -> None:
    counts = Counts()
    counts.add(what)
    assert counts == Counts()


@pytest.mark.parametrize("value", ["x", -1, None, [], True, float("nan"), float("inf"), 10**400])
def test_what_is_no_figure_adds_nothing(value: object) -> None:
    counts = Counts()
    counts.add(event("client_trained", seconds=value, num_examples=value))
    assert (counts.trainings, counts.training_seconds, counts.examples) == (1, 0, 0)


def test_counts_survive(tmp_path: Path) -> None:
    path = str(tmp_path / "counts.json")
    counts = Counts(cursor="s=1;i=2", trainings=3, training_seconds=4.5, examples=6)
    counts.write(path)
    assert Counts.read(path) == counts


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"cursor": 7}', json.dumps({"cursor": "x", "examples": "many", "trainings": -1})])
def test_a_damaged_file_begins_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "counts.json"
    path.write_text(content)
    counts = Counts.read(str(path))
    assert (counts.trainings, counts.examples) == (0, 0)
    assert "fl_supernode_examples_total 0" in lines(counts, connected=False)


DCGM = """# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature (in C).
# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1",modelName="NVIDIA H200"} 41
"""


class Exporter:
    """What a DCGM exporter answers, and where."""

    def __init__(self) -> None:
        self.status = 200
        self.body = DCGM.encode()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(exporter.status)
                self.send_header("Content-Length", str(len(exporter.body)))
                self.end_headers()
                self.wfile.write(exporter.body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    thread = threading.Thread(target=exporter.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield exporter
    exporter.server.shutdown()
    thread.join()
    exporter.server.server_close()


@pytest.fixture
def gpu_config(exporter: Exporter, tmp_path: Path) -> Config:
    return Config("", [], "", "", dcgm_url=exporter.url, dcgm_file=str(tmp_path / "dcgm.prom"))


def test_metrics_of_the_gpu_are_passed_on(gpu_config: Config, tmp_path: Path) -> None:
    copy_gpu_metrics(gpu_config)
    assert (tmp_path / "dcgm.prom").read_text() == DCGM


def test_nothing_but_metrics_of_the_gpu_is_passed_on(gpu_config: Config, exporter: Exporter, tmp_path: Path) -> None:
    exporter.body = DCGM.encode() + b'# HELP fl_supernode_connected x\nfl_supernode_connected 1\ngo_threads 9\n#DCGM_X 1\n'
    copy_gpu_metrics(gpu_config)
    assert (tmp_path / "dcgm.prom").read_text() == DCGM


@pytest.mark.parametrize(("status", "body"), [(503, b""), (200, b""), (200, b"\xff\xfe"), (200, DCGM.encode() * 10_000)])
def test_what_is_no_answer_leaves_no_old_figures(gpu_config: Config, exporter: Exporter, tmp_path: Path, status: int, body: bytes) -> None:
    copy_gpu_metrics(gpu_config)
    exporter.status, exporter.body = status, body
    copy_gpu_metrics(gpu_config)
    assert list(tmp_path.iterdir()) == []


def test_without_an_exporter_none_is_asked_and_its_old_figures_go(gpu_config: Config, tmp_path: Path) -> None:
    copy_gpu_metrics(gpu_config)
    copy_gpu_metrics(Config("", [], "", "", dcgm_file=gpu_config.dcgm_file))
    assert list(tmp_path.iterdir()) == []
