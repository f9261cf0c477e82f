# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Use cases: one module each, named like the use case, with the functions of UseCase."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]
    Data = tuple[np.ndarray, np.ndarray]


class UseCase(Protocol):
    """What a use case module offers. Only initial_arrays runs on the SuperLink, which has numpy and no ML library."""

    def initial_arrays(self, seed: int) -> Arrays:
        """Return the untrained model."""

    def load_data(self, partition_id: int, num_partitions: int, seed: int) -> tuple[Data, Data]:
        """Return a node's training data and its share of the held-out data."""

    def train(self, arrays: Arrays, data: Data, seed: int) -> Arrays:
        """Return the model after one round of local training; the arrays given stay as they are."""

    def evaluate(self, arrays: Arrays, data: Data) -> dict[str, float]:
        """Return loss and accuracy on data the model was not trained on."""


def load(name: str) -> UseCase:
    """Return the module of a use case of settings.USE_CASES."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
