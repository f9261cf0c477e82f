# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside Flower's virtual environment: what single nodes answer when they are asked for an untrained or an exported model.

Prints the untrained model, the exported file, and why the answers of nodes were refused.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from federation import queries, usecases


def record(*values: float) -> ArrayRecord:
    return ArrayRecord({"weights": Array(np.array(values))})


PROPOSALS = {
    1: RecordDict({"arrays": record(1, 2)}),
    2: RecordDict({"arrays": record(3, 4)}),
    3: RecordDict({"arrays": record(5, np.nan)}),
    4: RecordDict(),
    5: RecordDict({"arrays": MetricRecord({"a": 1})}),
    6: RecordDict({"arrays": record(7)}),
    7: RecordDict({"arrays": ArrayRecord({"weights": Array(dtype="x", shape=(2,), stype="pickle", data=b"x")})}),
}


def file(suffix: object) -> RecordDict:
    content = {"arrays": ArrayRecord({"file": Array(np.frombuffer(b"model", dtype=np.uint8))})}
    return RecordDict(content if suffix is None else {**content, "config": ConfigRecord({"suffix": suffix})})


EXPORTS = {1: RecordDict(), 2: file(None), 3: file("/../../../etc/x"), 4: file(5), 5: file("."), 6: file(".pt"), 7: file(".npz")}


class Grid:
    def get_node_ids(self) -> list[int]:
        return list(PROPOSALS)

    connected_nodes = get_node_ids

    def query(self, action: str, nodes: list[int], *_: object) -> tuple[dict, dict]:
        answers = PROPOSALS if action == queries.PROPOSE else EXPORTS
        asked.append((action, nodes))
        return {node: SimpleNamespace(content=answers[node]) for node in nodes}, {}


asked: list = []
refused: dict[int, str] = {}
recorder = SimpleNamespace(client_failed=lambda _round, node, reason: refused.update({node: reason}))
usecases.load = lambda _name: object()
settings = SimpleNamespace(use_case="", seed=0, of_use_case={}, round_timeout=1, min_fit_clients=2)
model = queries.initial_arrays(Grid(), settings, recorder)
suffix, content = queries.export_model(Grid(), model, 1, 1)
exports = [nodes[0] for action, nodes in asked if action == queries.EXPORT]
json.dump({"model": model["weights"].tolist(), "refused": refused, "suffix": suffix, "content": content.decode(), "exports": exports}, sys.stdout)
