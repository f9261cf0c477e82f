# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Use cases: one module each, named like the use case, with FRAMEWORKS and the functions of UseCase."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]
    Data = tuple[np.ndarray, ...]

# Names of use cases, as in the setting use-case: the modules beside this one.
NAMES = tuple(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


@dataclass(frozen=True)
class Options:
    """How a node works on one request. 0 local epochs, batch size or learning rate: the use case's own value.

    ``settings`` is the run configuration, for what only one use case needs.
    """

    framework: str
    data_directory: Path
    seed: int
    local_epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    proximal_mu: float = 0.0
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """Which part of a bundled data set a node gets, see partition.split. A node's own data is its own as a whole."""

    partition_id: int
    num_partitions: int
    seed: int
    alpha: float = 0.0


class UseCase(Protocol):
    """What a use case module offers. The SuperLink has numpy and no ML library: frameworks are imported in functions.

    The first array of Data has one entry per example. A module has one of initial_arrays and proposed_arrays.
    """

    FRAMEWORKS: tuple[str, ...]
    """What it runs on, the usual one first."""

    def initial_arrays(self, seed: int, settings: Mapping[str, object]) -> Arrays:
        """Return the untrained model for a run configuration. Runs on the SuperLink."""

    def proposed_arrays(self, data: Data, options: Options) -> Arrays:
        """Return the untrained model where only nodes know its shape; the federation starts with the median."""

    def load_data(self, share: Share, options: Options) -> tuple[Data, Data]:
        """Return a node's training data and its held-out data.

        Raises:
            federation.data.DataError: the node's own data does not have the documented layout.
        """

    def train(self, arrays: Arrays, data: Data, options: Options) -> Arrays:
        """Return the model after one round of local training; the arrays given stay as they are."""

    def evaluate(self, arrays: Arrays, data: Data, options: Options) -> dict[str, float]:
        """Return loss, accuracy and perhaps more on data the model was not trained on."""

    def export(self, arrays: Arrays, options: Options) -> tuple[str, bytes]:
        """Return the model in the framework's own format: the ending of the file's name and its content."""


def load(name: str) -> UseCase:
    """Return the module of a use case of NAMES."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def shapes(name: str, seed: int, settings: Mapping[str, object]) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a use case's model, None where only the nodes know them."""
    use_case = load(name)
    if not hasattr(use_case, "initial_arrays"):
        return None
    return {name: array.shape for name, array in use_case.initial_arrays(seed, settings).items()}
