# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Strange readings in a stream of sensors, by an autoencoder that learns what normal ones look like.

A reading that the autoencoder rebuilds worse than nearly all readings it was trained on is an anomaly. Labels are used for
what they are good for, if there are any: training leaves known anomalies out, evaluation counts hits and misses.
scikit-learn and PyTorch build the same network and exchange the same arrays.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from federation.data import DataError, batches, bundled, own_entries
from federation.partition import split

if TYPE_CHECKING:
    import torch
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import Pipeline

    from federation.usecases import Arrays, Data, Options, Share

FRAMEWORKS = ("sklearn", "pytorch")
LABELS = ("label", "anomaly")
TIMES = ("time", "timestamp")
LAYOUT = "CSV files with a header line, a number for each sensor in every row, and perhaps a column label of 0 and 1"
LOCAL_EPOCHS = 3
BATCH_SIZE = 128
LEARNING_RATE = 0.002
_LAYERS = ("encoder", "code", "decoder", "output")


def proposed_arrays(data: Data, options: Options) -> Arrays:
    """Return an untrained autoencoder for as many sensors as the node has, with middle and spread of their readings."""
    readings = data[0]
    sensors = readings.shape[1]
    outer, inner = 2 * sensors, max(2, sensors // 3)
    generator = np.random.default_rng(options.seed)
    low, middle, high = np.quantile(readings, (0.05, 0.5, 0.95), axis=0)
    arrays = {"scale.middle": middle, "scale.spread": np.where(high > low, (high - low) / 2, 1.0)}
    for name, before, after in zip(_LAYERS, (sensors, outer, inner, outer), (outer, inner, outer, sensors), strict=True):
        bound = np.sqrt(6 / (before + after))
        arrays[f"{name}.weight"] = generator.uniform(-bound, bound, (after, before))
        arrays[f"{name}.bias"] = np.zeros(after)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def load_data(share: Share, options: Options) -> tuple[Data, Data]:
    """Return normal readings to train on; held-out readings, their labels, and the training readings to compare with."""
    entries = own_entries(options.data_directory)
    if entries:
        readings, labels = _own_data(options.data_directory, entries)
        if len(labels) < 10:
            raise DataError(f"{options.data_directory} has {len(labels)} rows, expected at least 10")
        partition = split(len(labels), 0, 1, share.seed)
    else:
        readings, labels = _shuttle()
        partition = split(len(labels), share.partition_id, share.num_partitions, share.seed, labels.tolist(), share.alpha)
    train = readings[partition.train][labels[partition.train] == 0]
    if not len(train):
        raise DataError(f"all rows of {options.data_directory} that this node would train on are anomalies, expected normal ones")
    return (train,), (readings[partition.test], labels[partition.test], train)


def train(arrays: Arrays, data: Data, options: Options) -> Arrays:
    """Train with Adam; middle and spread of the readings stay as they are."""
    scaled = _scaled(arrays, data[0])
    size, epochs = options.batch_size or BATCH_SIZE, options.local_epochs or LOCAL_EPOCHS
    chosen = (scaled[batch] for batch in batches(len(scaled), size, epochs, options.seed))
    rate = options.learning_rate or LEARNING_RATE
    return _OF_FRAMEWORK[options.framework][0](arrays, chosen, rate, options.proximal_mu)


def evaluate(arrays: Arrays, data: Data, options: Options) -> dict[str, float]:
    """Return the mean error over normal readings as loss, and how well anomalies are told from them.

    Without any anomaly among the held-out readings, nothing can be missed (recall 1) and no order judged (auc 0.5).
    """
    readings, labels, trained = data
    threshold = np.quantile(errors(arrays, trained, options), options.settings["anomaly-quantile"])
    scores, strange = errors(arrays, readings, options), labels == 1
    alarms = scores > threshold
    hits, missed, false = (int(x.sum()) for x in (alarms & strange, ~alarms & strange, alarms & ~strange))
    return {
        "loss": float(scores[~strange].mean()) if not strange.all() else 0.0,
        "accuracy": float((alarms == strange).mean()),
        "precision": hits / (hits + false) if hits + false else 1.0,
        "recall": hits / (hits + missed) if hits + missed else 1.0,
        "f1": 2 * hits / (2 * hits + false + missed) if hits + false + missed else 1.0,
        "auc": _auc(scores[~strange], scores[strange]),
    }


def errors(arrays: Arrays, readings: np.ndarray, options: Options) -> np.ndarray:
    """Return the mean squared error, over the sensors, with which each reading is rebuilt."""
    scaled = _scaled(arrays, readings)
    rebuilt = _OF_FRAMEWORK[options.framework][1](arrays, scaled)
    return ((rebuilt - scaled) ** 2).mean(axis=1)


def export(arrays: Arrays, options: Options) -> tuple[str, bytes]:
    """Return a scikit-learn pipeline that scales and rebuilds readings, or the state dict of network() with the scales."""
    return _OF_FRAMEWORK[options.framework][2](arrays)


def network(arrays: Arrays) -> torch.nn.Module:
    """Return the autoencoder in PyTorch, for scaled readings."""
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = torch.nn.Sequential()
    for name in _LAYERS:
        after, before = arrays[f"{name}.weight"].shape
        layers.add_module(name, torch.nn.Linear(before, after))
        if name != "output":
            layers.add_module(f"{name}_tanh", torch.nn.Tanh())
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items() if not name.startswith("scale.")}
    layers.load_state_dict(state)
    return layers.to("cuda" if torch.cuda.is_available() else "cpu")


def _train_pytorch(arrays: Arrays, chosen, rate: float, mu: float) -> Arrays:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = network(arrays)
    device = next(layers.parameters()).device
    start = [parameter.detach().clone() for parameter in layers.parameters()]
    optimizer = torch.optim.Adam(layers.parameters(), lr=rate)
    for batch in chosen:
        optimizer.zero_grad()
        scaled = torch.from_numpy(batch).to(device)
        loss = ((layers(scaled) - scaled) ** 2).mean()
        if mu > 0:
            loss = loss + mu / 2 * sum(((now - then) ** 2).sum() for now, then in zip(layers.parameters(), start, strict=True))
        loss.backward()
        optimizer.step()
    return {**arrays, **{name: tensor.cpu().numpy() for name, tensor in layers.state_dict().items()}}


def _rebuild_pytorch(arrays: Arrays, scaled: np.ndarray) -> np.ndarray:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = network(arrays)
    with torch.no_grad():
        return layers(torch.from_numpy(scaled).to(next(layers.parameters()).device)).cpu().numpy()


def _export_pytorch(arrays: Arrays) -> tuple[str, bytes]:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, stream)
    return ".pt", stream.getvalue()


def _train_sklearn(arrays: Arrays, chosen, rate: float, mu: float) -> Arrays:
    """scikit-learn takes no loss but its own: the proximal operator of the term follows each minibatch instead."""
    regressor = _regressor(arrays, rate)
    current = _arrays_of(regressor)
    for batch in chosen:
        regressor.batch_size = len(batch)
        regressor.partial_fit(batch, batch)
        if mu > 0:
            for name, array in current.items():
                array[...] = (array + rate * mu * arrays[name].T) / (1 + rate * mu)
    return {**arrays, **{name: np.ascontiguousarray(array.T, np.float32) for name, array in current.items()}}


def _rebuild_sklearn(arrays: Arrays, scaled: np.ndarray) -> np.ndarray:
    return _regressor(arrays, LEARNING_RATE).predict(scaled)


def _export_sklearn(arrays: Arrays) -> tuple[str, bytes]:
    import joblib  # noqa: PLC0415 - on nodes only, see UseCase

    stream = io.BytesIO()
    joblib.dump(_pipeline(arrays), stream)
    return ".joblib", stream.getvalue()


def _pipeline(arrays: Arrays) -> Pipeline:
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - on nodes only, see UseCase
    from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: PLC0415

    middle, spread = arrays["scale.middle"], np.maximum(arrays["scale.spread"], _SMALLEST_SPREAD)
    scaler = StandardScaler().fit(np.zeros((1, len(middle)), np.float32))
    scaler.mean_, scaler.scale_, scaler.var_ = middle, spread, spread**2
    steps = [("scale", scaler), ("squash", FunctionTransformer(np.arcsinh)), ("autoencoder", _regressor(arrays, LEARNING_RATE))]
    return Pipeline(steps)


def _regressor(arrays: Arrays, rate: float) -> MLPRegressor:
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415 - on nodes only, see UseCase

    sizes = tuple(len(arrays[f"{name}.bias"]) for name in _LAYERS[:-1])
    regressor = MLPRegressor(
        hidden_layer_sizes=sizes, activation="tanh", alpha=0.0, learning_rate_init=rate, batch_size=1, random_state=0
    )
    nothing = np.zeros((1, len(arrays["scale.middle"])), np.float32)
    regressor.partial_fit(nothing, nothing)  # makes the arrays
    del regressor._optimizer  # Adam begins anew with the next call
    for name, array in _arrays_of(regressor).items():
        array[...] = arrays[name].T
    return regressor


def _arrays_of(regressor: MLPRegressor) -> Arrays:
    weights = {f"{name}.weight": array for name, array in zip(_LAYERS, regressor.coefs_, strict=True)}
    return weights | {f"{name}.bias": array for name, array in zip(_LAYERS, regressor.intercepts_, strict=True)}


# Framework -> how it trains, rebuilds and exports.
_OF_FRAMEWORK = {
    "sklearn": (_train_sklearn, _rebuild_sklearn, _export_sklearn),
    "pytorch": (_train_pytorch, _rebuild_pytorch, _export_pytorch),
}
_SMALLEST_SPREAD = 1e-6  # strategies may add noise to all arrays


def _scaled(arrays: Arrays, readings: np.ndarray) -> np.ndarray:
    """Return readings on a scale that is the same for all sensors; the few that are far out count by their logarithm."""
    spread = np.maximum(arrays["scale.spread"], _SMALLEST_SPREAD)
    return np.arcsinh((readings - arrays["scale.middle"]) / spread).astype(np.float32)


def _auc(normal: np.ndarray, strange: np.ndarray) -> float:
    """Return the share of pairs of a normal and a strange reading in which the strange one has the larger error."""
    if not len(normal) or not len(strange):
        return 0.5
    ordered = np.sort(normal)
    below, up_to = (np.searchsorted(ordered, strange, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(normal))


def _shuttle() -> tuple[np.ndarray, np.ndarray]:
    """Return 49097 readings of nine sensors of a space shuttle, 7 % of them anomalies, from the package river."""
    path = bundled("river", "datasets/shuttle.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return _read(path, stream)[1:]


def _own_data(directory: Path, entries: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    header, parts = None, []
    for entry in entries:
        if entry.suffix.lower() != ".csv":
            raise DataError(f"{directory} holds {entry.name}, expected {LAYOUT}")
        with entry.open(encoding="utf-8", newline="") as stream:
            columns, readings, labels = _read(entry, stream)
        if header not in (None, columns):
            raise DataError(f"{entry} has the sensors {', '.join(columns)}, expected {', '.join(header)} as in {entries[0]}")
        header = columns
        parts.append((readings, labels))
    return np.concatenate([readings for readings, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read(path: Path, stream: io.TextIOBase) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names of the sensors in alphabetical order, their readings, and the labels, 0 where there are none."""
    try:
        rows = csv.reader(stream)
        names = [name.strip() for name in next(rows, [])]
        sensors = sorted(name for name in names if name.lower() not in (*LABELS, *TIMES))
        if not sensors or all(_number(name) is not None for name in names):
            raise DataError(f"{path} starts with {','.join(names)[:80]!r}, expected {LAYOUT}")
        columns = [names.index(name) for name in sensors]
        label = next((number for number, name in enumerate(names) if name.lower() in LABELS), None)
        readings, labels = [], []
        for row in rows:
            if not row:
                continue
            if len(row) != len(names):
                raise DataError(f"{path} line {rows.line_num} has {len(row)} values, expected {len(names)} as in the header")
            values = [_number(row[column]) for column in columns]
            if None in values:
                column = columns[values.index(None)]
                raise DataError(f"{path} line {rows.line_num} has {row[column]!r} for {names[column]}, expected a number")
            if label is not None and row[label] not in ("0", "1"):
                raise DataError(f"{path} line {rows.line_num} has {row[label]!r} for {names[label]}, expected 0 or 1")
            readings.append(values)
            labels.append(0 if label is None else int(row[label]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}; expected {LAYOUT}") from error
    return sensors, np.array(readings, np.float32).reshape(-1, len(sensors)), np.array(labels, np.int64)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
