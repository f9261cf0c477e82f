# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What nodes send back, before any strategy sees it.

Flower's strategies trust replies: one of another shape ends the round for all nodes, one that is not a number, or too large
to reckon with, spoils the mean and the median, some strategies compare arrays by their place and not by their name, and evaluations have to hold the
same figures.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from federation import compression as compressed
from federation.rounds import short

SCALES = "scales"  # the record with the scale of each compressed array
EXAMPLES = "num-examples"  # what strategies weigh nodes by
TRAIN_LOSS = "train-loss"  # in the configuration of a round: nodes report the loss of the model they were given
FIGURES = ("loss", "accuracy")  # what every evaluation measures

_MOST_EXAMPLES = 10**12  # sums of more are no numbers any longer
# No trained number comes near. Strategies add up the squares of all numbers of all nodes, which of larger ones are soon beyond
# float32, and a mean of larger ones is a model that nobody can train.
_LARGEST = 1e10
_MOST_FIGURES = 32  # with loss and accuracy; the supervisor takes over as many
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]{0,39}")
_SUFFIX = re.compile(r"[.-][A-Za-z0-9._-]{1,40}")


def accept(sent: RecordDict, reply: RecordDict, compression: str = compressed.NONE) -> str:
    """Put a trained model into the form that every strategy can take; return why that is not possible, empty when it is.

    It has to have travelled as it was asked for: no node chooses the compression.
    """
    try:
        record = _restored(reply, sent["arrays"], compression) if compression != compressed.NONE else reply.get("arrays")
        arrays = read_arrays(record, sent["arrays"])
    except UnusableReply as problem:
        return str(problem)
    wanted = [EXAMPLES, *([TRAIN_LOSS] if TRAIN_LOSS in sent["config"] else [])]
    metrics = reply.get("metrics")
    if not isinstance(metrics, MetricRecord):
        return "sent no metrics"
    for key in wanted:
        value = metrics.get(key)
        if not _is_finite(value) or not 0 <= value <= (_MOST_EXAMPLES if key == EXAMPLES else _LARGEST) or (key == EXAMPLES and value == 0):
            return f"sent {key} {short(value)}"
    _keep(reply, arrays=ArrayRecord({name: record[name] for name in arrays}), metrics=MetricRecord({key: metrics[key] for key in wanted}))
    return ""


def accept_evaluation(reply: RecordDict) -> str:
    """Leave only single figures in an evaluation; return why it cannot be used, empty when it can. ``agree`` goes on."""
    metrics = reply.get("metrics")
    if not isinstance(metrics, MetricRecord):
        return "sent no metrics"
    examples = metrics.get(EXAMPLES)
    if not _is_finite(examples) or not 0 < examples <= _MOST_EXAMPLES:
        return f"sent {EXAMPLES} {short(examples)}"
    for key in FIGURES:
        if key not in metrics:
            return f"sent no {key}"
        if not isinstance(metrics[key], (int, float)):
            return f"sent {key} {short(metrics[key])}"
    others = [key for key, value in metrics.items() if isinstance(value, (int, float)) and _NAME.fullmatch(key)]
    kept = list(dict.fromkeys((EXAMPLES, *FIGURES, *others)))[: 1 + _MOST_FIGURES]
    _keep(reply, metrics=MetricRecord({key: metrics[key] for key in kept}))
    return ""


def agree(replies: Mapping[int, RecordDict], required: int) -> tuple[dict[int, str], set[int]]:
    """Make accepted evaluations alike: they keep the figures that most nodes send.

    Return the nodes whose figures lack one of these, or are no finite numbers, with the reason, and those that are to be left
    out. These are the same, unless too few others would be left: then nobody is left out, a figure that one of them lacks is
    dropped, and one that is no finite number is what the model is worth.
    """
    senders = Counter(key for reply in replies.values() for key in reply["metrics"])
    common = [key for key, nodes in senders.items() if 2 * nodes > len(replies)]
    faults = {node_id: fault for node_id, reply in replies.items() if (fault := _fault(reply["metrics"], common))}
    left_out = set(faults) if len(replies) - len(faults) >= required else set()
    kept = [reply for node_id, reply in replies.items() if node_id not in left_out]
    shared = [key for key in common if all(key in reply["metrics"] for reply in kept)]
    for reply in kept:
        reply["metrics"] = MetricRecord({key: reply["metrics"][key] for key in shared})
    return faults, left_out


class UnusableReply(ValueError):
    """What a node sent cannot be used; the message says why."""


def read_arrays(record: object, like: ArrayRecord | None = None, compression: str = compressed.NONE) -> dict[str, np.ndarray]:
    """Return the arrays of a record by name, in the order and form of another one if there is one, whose types are those of a compression.

    Raises:
        UnusableReply: there are none, they have another form, or hold values that are not finite or too large.
    """
    if not isinstance(record, ArrayRecord):
        raise UnusableReply("sent no model that can be read (no arrays)")
    names = list(like or record)
    try:
        arrays = {name: record[name].numpy() for name in names}
        shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    except Exception as error:  # noqa: BLE001 - numpy reads bytes that a node made, and says so in many ways
        raise UnusableReply(f"sent no model that can be read ({type(error).__name__}: {short(error)})") from error
    if len(record) != len(names):
        raise UnusableReply(f"sent a model of {len(record)} arrays, not {len(names)}")
    for name, (dtype, shape) in shapes.items():
        before = like[name].numpy() if like else None
        if before is not None and (dtype, shape) != (wanted := compressed.wire_type(before.dtype, compression), before.shape):
            raise UnusableReply(f"sent array {name} as {short(dtype)}{short(shape)}, not {wanted}{before.shape}")
        if dtype.kind not in "biuf" or not np.isfinite(arrays[name]).all():
            raise UnusableReply(f"sent array {short(name)} with values that are not finite")
        largest = max(float(arrays[name].max(initial=0)), -float(arrays[name].min(initial=0)))
        if largest > _LARGEST:
            raise UnusableReply(f"sent array {short(name)} with values of up to {largest:.3g}, above {_LARGEST:g}")
    return arrays


def read_file(reply: RecordDict) -> tuple[str, bytes]:
    """Return the ending of the name and the content of a file that a node sent.

    Raises:
        UnusableReply: it sent none, or an ending that would lead to another place.
    """
    arrays = read_arrays(reply.get("arrays"))
    config = reply.get("config")
    suffix = config.get("suffix") if isinstance(config, ConfigRecord) else None
    if "file" not in arrays:
        raise UnusableReply("sent no file")
    if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
        raise UnusableReply(f"sent a file with the ending {short(suffix)}")
    return suffix, arrays["file"].tobytes()


def _restored(reply: RecordDict, before: ArrayRecord, compression: str) -> ArrayRecord:
    """Return the arrays of a compressed reply as they were trained. Raises UnusableReply."""
    arrays = read_arrays(reply.get("arrays"), before, compression)
    scales = reply.get(SCALES)
    if not isinstance(scales, MetricRecord):
        raise UnusableReply("sent no scales of its arrays")
    restored = {}
    for name, array in arrays.items():
        scale = scales.get(name)
        if not _is_finite(scale) or not 0 <= scale <= _LARGEST:
            raise UnusableReply(f"sent array {name} with the scale {short(scale)}")
        restored[name] = Array(compressed.restore(before[name].numpy(), array, scale, compression))
    return ArrayRecord(restored)


def _fault(metrics: MetricRecord, common: list[str]) -> str:
    """Return what is wrong with the figures of a node, empty when nothing is."""
    missing = [key for key in common if key not in metrics]
    if missing:
        return f"sent no {missing[0]}"
    odd = [key for key in common if not math.isfinite(metrics[key])]
    return f"sent {odd[0]} {metrics[odd[0]]}" if odd else ""


def _keep(reply: RecordDict, **records: ArrayRecord | MetricRecord) -> None:
    """Leave these records in a reply and nothing else: strategies refuse all replies when one has more."""
    for name in [name for name in reply if name not in records]:
        del reply[name]
    for name, record in records.items():
        reply[name] = record


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
