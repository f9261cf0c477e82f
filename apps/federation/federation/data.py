# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a node's data comes from: its own directory, or a data set that a Python package brings along."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_NOT_DATA = ("lost+found",)  # what a file system of its own brings


class DataError(ValueError):
    """A node's own data cannot be used; the message names the path, what was found and what is expected."""


def own_entries(directory: Path) -> list[Path]:
    """Return what lies in a node's data directory, sorted by name; nothing when there is no such directory."""
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror}") from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _NOT_DATA]


def bundled(package: str, path: str) -> Path:
    """Return a data file of an installed package, without importing it.

    Raises:
        DataError: the package is not installed, or comes without the file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise DataError(f"this node has no data of its own, and the package {package} with bundled data is not installed")
    file = Path(spec.submodule_search_locations[0], path)
    if not file.exists():
        raise DataError(f"this node has no data of its own, and its package {package} comes without {path}")
    return file


def batches(examples: int, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the numbers of the examples of each minibatch, in a new order each epoch."""
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(examples)
        for start in range(0, examples, size):
            yield order[start : start + size]
