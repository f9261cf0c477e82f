# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the SuperLink asks nodes for, since it has no machine learning library: an untrained model, an exported one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from federation import usecases
from federation.replies import UnusableReply, read_arrays, read_file
from federation.rounds import check_replies

if TYPE_CHECKING:
    from federation.grid import WatchedGrid
    from federation.recorder import Recorder
    from federation.settings import Settings
    from federation.usecases import Arrays

PROPOSE = "propose"
EXPORT = "export"


class ExportFailed(RuntimeError):
    """No node could write the model in its framework's format."""


def initial_arrays(grid: WatchedGrid, settings: Settings, recorder: Recorder) -> Arrays:
    """Return the untrained model: from the use case, or the median of what the nodes propose.

    One node with strange data, or one that lies, does not move a median far. A proposal of another shape than most is
    left out.

    Raises:
        NotEnoughNodes: too few nodes connected in time.
        RoundFailed: fewer proposals that agree than min-fit-clients.
    """
    use_case = usecases.load(settings.use_case)
    if hasattr(use_case, "initial_arrays"):
        return use_case.initial_arrays(settings.seed, settings.of_use_case)
    replies, failures = grid.query(PROPOSE, grid.get_node_ids(), RecordDict(), 0, settings.round_timeout)
    proposals: dict[int, Arrays] = {}
    refused: dict[int, str] = {}
    for node_id, reply in replies.items():
        try:
            proposals[node_id] = read_arrays(reply.content.get("arrays"))
        except UnusableReply as problem:
            refused[node_id] = str(problem)
    common = Counter(map(_shapes, proposals.values())).most_common(1)
    for node_id, arrays in list(proposals.items()):
        if _shapes(arrays) != common[0][0]:
            refused[node_id] = "its untrained model has another shape than that of most nodes"
            del proposals[node_id]
    for node_id, reason in refused.items():
        recorder.client_failed(0, node_id, reason)
    failures |= refused
    check_replies(0, "proposal of an untrained model", len(proposals), failures, settings.min_fit_clients)
    first = next(iter(proposals.values()))
    return {
        name: np.median([arrays[name] for arrays in proposals.values()], axis=0).astype(array.dtype)
        for name, array in first.items()
    }


def export_model(grid: WatchedGrid, arrays: Arrays, round_number: int, timeout: float) -> tuple[str, bytes]:
    """Return the ending of the file's name and the content of the model in the framework's own format.

    The nodes are asked one after another until one of them can; timeout is seconds for each.

    Raises:
        ExportFailed: none could; the message says why for each.
    """
    content = RecordDict({"arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()})})
    reasons = []
    for node_id in grid.connected_nodes():
        replies, failures = grid.query(EXPORT, [node_id], content, round_number, timeout)
        try:
            if not failures:
                return read_file(replies[node_id].content)
        except UnusableReply as problem:
            failures[node_id] = str(problem)
        reasons.append(f"node {node_id}: {failures[node_id]}")
    raise ExportFailed("no node could export the model: " + ("; ".join(reasons) or "none is connected"))


def _shapes(arrays: Arrays) -> tuple:
    return tuple((name, array.shape, str(array.dtype)) for name, array in arrays.items())
