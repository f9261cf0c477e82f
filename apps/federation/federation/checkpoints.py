# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: one npz file per round kept, with everything needed to go on from there.

A file holds ``model/NAME.npy`` and ``strategy/NAME.npy`` for the arrays, in their order, and ``metadata.json``. It appears
in one step and is verified when it is read. Needs numpy, no Flower.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from federation import __version__
from federation.arrays import add_arrays, read_arrays
from federation.events import figure
from federation.files import replace_file

Shapes = Mapping[str, tuple[int, ...]]

FORMAT = 1
LATEST = "checkpoint_latest.npz"

_FILE = re.compile(r"checkpoint_round_([0-9]+)\.npz")
_METADATA = "metadata.json"
_REJECTED = ".rejected"
_PARTS = ("model", "strategy")
# What reading a file raises that is not, or no longer, a checkpoint.
_DAMAGE = (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError)


class UnusableCheckpoint(Exception):
    """A file is no checkpoint of this run; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A run after a round, counted over all its attempts.

    The model, what the strategy remembers, how good the model is, and how many nodes trained it last.
    """

    round: int
    model: Mapping[str, np.ndarray]
    strategy: Mapping[str, np.ndarray] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    nodes: int = 0


class CheckpointStore:
    """The checkpoints of one run, in a directory of its own.

    ``settings`` are those that a checkpoint must have been made with. Settings that a checkpoint does not know are newer
    than it and do not matter. The ``keep`` newest checkpoints are kept.
    """

    def __init__(self, directory: Path, run_name: str, settings: Mapping[str, Any], keep: int) -> None:
        self._directory = directory / run_name
        self._run_name = run_name
        self._settings = dict(settings)
        self._keep = keep

    def save(self, checkpoint: Checkpoint, rounds: int) -> Path:
        """Write a checkpoint of a run that is to have so many rounds, and remove the oldest beyond those to keep.

        Raises:
            OSError: it could not be written; the older ones are as they were.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"checkpoint_round_{checkpoint.round}.npz"
        replace_file(path, lambda stream: self._write(stream, checkpoint, rounds))
        self._point_to(path)
        older = [other for other in self._newest_first() if other != path]
        for other in older[self._keep - 1 :]:
            other.unlink(missing_ok=True)
        return path

    def newest(self, shapes: Shapes | None, rejected: Callable[[Path, str], None]) -> tuple[Checkpoint, Path] | None:
        """Return the newest checkpoint that this run can go on from, a model of these shapes if they are known, or None.

        Files that are damaged or of something else are named to ``rejected`` with the reason, and renamed so that they
        are in nobody's way. Files that cannot be read now are named, too, and left as they are.
        """
        for path in _entries(self._directory):
            if path.name.startswith(".checkpoint_"):
                path.unlink()  # an interrupted attempt left it
        for path in self._newest_first():
            try:
                checkpoint, metadata = read(path)
                self._check(checkpoint, metadata, shapes)
            except UnusableCheckpoint as problem:
                rejected(path, str(problem))
                with suppress(OSError):
                    path.rename(path.with_name(path.name + _REJECTED))
            except OSError as problem:
                rejected(path, f"cannot be read: {problem.strerror or problem}")
            else:
                self._point_to(path)
                return checkpoint, path
        return None

    def _newest_first(self) -> list[Path]:
        found = [(int(match[1]), path) for path in _entries(self._directory) if (match := _FILE.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def _point_to(self, path: Path) -> None:
        """Let the name for the latest checkpoint lead to a file, in one step."""
        link = self._directory / LATEST
        if link.is_symlink() and os.readlink(link) == path.name:
            return
        new = self._directory / f".{LATEST}.partial"
        new.unlink(missing_ok=True)
        new.symlink_to(path.name)
        os.replace(new, link)

    def _write(self, stream: BinaryIO, checkpoint: Checkpoint, rounds: int) -> None:
        metadata = {
            "format": FORMAT,
            "app": {"name": "federation", "version": __version__},
            "run_name": self._run_name,
            "round": checkpoint.round,
            "rounds": rounds,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": self._settings,
            "metrics": {name: figure(value) for name, value in checkpoint.metrics.items()},
            "nodes": checkpoint.nodes,
        }
        with zipfile.ZipFile(stream, "w") as archive:
            for part in _PARTS:
                arrays = getattr(checkpoint, part)
                metadata[part] = {"sha256": add_arrays(archive, arrays, f"{part}/"), "arrays": _described(arrays)}
            archive.writestr(_METADATA, json.dumps(metadata, indent=1))

    def _check(self, checkpoint: Checkpoint, metadata: Mapping[str, Any], shapes: Shapes | None) -> None:
        if metadata["run_name"] != self._run_name:
            raise UnusableCheckpoint(f"is of run '{metadata['run_name']}', not of '{self._run_name}'")
        for key, value in metadata["settings"].items():
            if key in self._settings and self._settings[key] != value:
                raise UnusableCheckpoint(f"was made with {key} {value!r}, not {self._settings[key]!r}")
        check_shapes(checkpoint.model, shapes)


def read(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """Return a verified checkpoint and its metadata.

    Raises:
        UnusableCheckpoint: the file is no checkpoint, or damaged.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if _METADATA not in archive.namelist():
                raise UnusableCheckpoint(f"has no {_METADATA}")
            metadata = json.loads(archive.read(_METADATA))
            if metadata["format"] != FORMAT:
                raise UnusableCheckpoint(f"has format {metadata['format']!r}, this app reads {FORMAT}")
            metadata |= {"run_name": str(metadata["run_name"]), "settings": dict(metadata["settings"])}
            parts = {part: _part(archive, part, metadata[part]) for part in _PARTS}
            metrics = {name: float(value) for name, value in metadata["metrics"].items()}
            return Checkpoint(metadata["round"], metrics=metrics, nodes=metadata["nodes"], **parts), metadata
    except _DAMAGE as problem:
        raise UnusableCheckpoint(f"is damaged: {problem}") from problem


def read_model(path: Path, shapes: Shapes | None) -> Mapping[str, np.ndarray]:
    """Return the model of a checkpoint or of a final model's file, for a run that starts with it.

    Raises:
        UnusableCheckpoint: there is no model of these shapes in the file; the message names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            is_checkpoint = _METADATA in archive.namelist()
            model = read(path)[0].model if is_checkpoint else read_arrays(archive)[0]
        check_shapes(model, shapes)
    except UnusableCheckpoint as problem:
        raise UnusableCheckpoint(f"the initial model {path} {problem}") from problem
    except _DAMAGE as problem:
        raise UnusableCheckpoint(f"the initial model {path} is damaged: {problem}") from problem
    except OSError as problem:
        raise UnusableCheckpoint(f"the initial model {path} cannot be read: {problem.strerror or problem}") from problem
    return model


def check_shapes(model: Mapping[str, np.ndarray], shapes: Shapes | None) -> None:
    """Raise UnusableCheckpoint when a model's arrays are not those of the use case, by name, order and shape."""
    if shapes is None:
        return
    if list(model) != list(shapes):
        raise UnusableCheckpoint(f"holds the arrays {', '.join(model)}; the use case has {', '.join(shapes)}")
    for name, shape in shapes.items():
        if model[name].shape != tuple(shape):
            raise UnusableCheckpoint(f"holds {name} with shape {model[name].shape}; the use case has {tuple(shape)}")


def _part(archive: zipfile.ZipFile, part: str, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays, digest = read_arrays(archive, f"{part}/")
    if digest != expected["sha256"] or _described(arrays) != expected["arrays"]:
        raise UnusableCheckpoint(f"is damaged: the arrays of the {part} are not those that were written")
    return arrays


def _described(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [{"name": name, "shape": list(array.shape), "dtype": array.dtype.str} for name, array in arrays.items()]


def _entries(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from directory.iterdir()
