# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Trained models on their way to the SuperLink: what training changed, with fewer bits for each number. No Flower in here.

An update is small beside the model, so that it loses less than the model would. Each array has a scale of its own, its largest change, by which
float16 neither overflows nor underflows, and whole numbers use all their steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NONE = "none"
FLOAT16 = "float16"
INT8 = "int8"

_STEPS = 127  # on each side of zero
_WIRE_TYPES = {FLOAT16: np.dtype(np.float16), INT8: np.dtype(np.int8)}


def wire_type(dtype: np.dtype, compression: str) -> np.dtype:
    """Return the type in which an array of a model travels. What are no floating point numbers stays as it is."""
    return _WIRE_TYPES[compression] if compression != NONE and dtype.kind == "f" else dtype


def compress(before: np.ndarray, after: np.ndarray, compression: str, generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return what travels of an array that training changed, and its scale.

    Whole numbers are rounded up or down by chance, so that small changes do not vanish from the mean of many nodes.
    """
    if wire_type(after.dtype, compression) == after.dtype:
        return after, 1.0
    change = np.asarray(after, np.float64) - before
    scale = float(np.abs(change).max(initial=0))
    share = change / scale if scale else change
    if compression == INT8:
        share = np.floor(share * _STEPS + generator.random(change.shape)).clip(-_STEPS, _STEPS)
    return np.asarray(share).astype(_WIRE_TYPES[compression]), scale


def restore(before: np.ndarray, travelled: np.ndarray, scale: float, compression: str) -> np.ndarray:
    """Return the array that training made, as far as it can be told from what travelled; its type is that of the model."""
    if wire_type(before.dtype, compression) == before.dtype:
        return travelled
    step = scale / _STEPS if compression == INT8 else scale
    return np.asarray(before + np.asarray(travelled, np.float64) * step).astype(before.dtype)


def error(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], restored: Mapping[str, np.ndarray]) -> float:
    """Return how far the restored model is from the trained one, as a share of how far training moved it."""
    moved = sum(float(np.square(np.asarray(after[name], np.float64) - before[name]).sum()) for name in after)
    off = sum(float(np.square(np.asarray(after[name], np.float64) - restored[name]).sum()) for name in after)
    return float(np.sqrt(off / moved)) if moved else 0.0
