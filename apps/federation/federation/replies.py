# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What nodes send back after training, before any strategy sees it.

Flower's strategies trust replies: one of another shape ends the round for all nodes, one that is not a number spoils the
mean and the median, and some strategies compare arrays by their place and not by their name.
"""

from __future__ import annotations

import math

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict

EXAMPLES = "num-examples"  # what strategies weigh nodes by
TRAIN_LOSS = "train-loss"  # in the configuration of a round: nodes report the loss of the model they were given


def accept(sent: RecordDict, reply: RecordDict) -> str:
    """Put a reply into the form that every strategy can take; return why that is not possible, empty when it is."""
    try:
        record, metrics = reply["arrays"], reply["metrics"]
        arrays = {name: (array.numpy(), record[name].numpy()) for name, array in sent["arrays"].items()}
    except (KeyError, ValueError) as error:
        return f"sent no model that can be read ({type(error).__name__}: {error})"
    if len(record) != len(arrays):
        return f"sent a model of {len(record)} arrays, not {len(arrays)}"
    for name, (before, after) in arrays.items():
        if after.shape != before.shape or after.dtype != before.dtype:
            return f"sent array {name} as {after.dtype}{after.shape}, not {before.dtype}{before.shape}"
        if not np.isfinite(after).all():
            return f"sent array {name} with values that are not finite"
    wanted = [EXAMPLES, *([TRAIN_LOSS] if TRAIN_LOSS in sent["config"] else [])]
    for key in wanted:
        value = metrics.get(key)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0 or (key == EXAMPLES and value == 0):
            return f"sent {key} {value!r}"
    reply["arrays"] = ArrayRecord({name: record[name] for name in arrays})
    reply["metrics"] = MetricRecord({key: metrics[key] for key in wanted})
    return ""
