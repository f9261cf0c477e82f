# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: 1797 real images of 8x8 pixels that ship with scikit-learn, and a small neural network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from federation.partition import split

if TYPE_CHECKING:
    from federation.usecases import Arrays, Data

PIXELS = 64
HIDDEN_UNITS = 64
DIGITS = np.arange(10)
LOCAL_EPOCHS = 10
LEARNING_RATE = 0.005
BATCH_SIZE = 32


def initial_arrays(seed: int) -> Arrays:
    """Return random weights of a network with one hidden layer."""
    generator = np.random.default_rng(seed)
    return {
        "hidden.weight": _random_weights(generator, PIXELS, HIDDEN_UNITS),
        "hidden.bias": np.zeros(HIDDEN_UNITS),
        "output.weight": _random_weights(generator, HIDDEN_UNITS, len(DIGITS)),
        "output.bias": np.zeros(len(DIGITS)),
    }


def load_data(partition_id: int, num_partitions: int, seed: int) -> tuple[Data, Data]:
    """Return a node's training data and its share of the held-out data, pixels scaled to 0..1."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - on nodes only, see UseCase

    images, labels = load_digits(return_X_y=True)
    images = images / 16
    partition = split(len(labels), partition_id, num_partitions, seed)
    return (images[partition.train], labels[partition.train]), (images[partition.test], labels[partition.test])


def train(arrays: Arrays, data: Data, seed: int) -> Arrays:
    """Train some epochs with scikit-learn's network, starting from the given weights."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - on nodes only, see UseCase

    images, labels = data
    network = MLPClassifier(
        hidden_layer_sizes=(HIDDEN_UNITS,),
        learning_rate_init=LEARNING_RATE,
        batch_size=min(BATCH_SIZE, len(labels)),
        random_state=seed,
    )
    # The first call makes the arrays. All classes are named, since a partition may lack one.
    network.partial_fit(images[: network.batch_size], labels[: network.batch_size], classes=DIGITS)
    current = dict(zip(_NAMES, (*network.coefs_, *network.intercepts_), strict=True))
    for name, array in current.items():
        array[...] = arrays[name]
    for _ in range(LOCAL_EPOCHS):
        network.partial_fit(images, labels)
    return current


def evaluate(arrays: Arrays, data: Data) -> dict[str, float]:
    """Return the mean cross-entropy and the share of images recognised."""
    images, labels = data
    hidden = np.maximum(images @ arrays["hidden.weight"] + arrays["hidden.bias"], 0)
    scores = hidden @ arrays["output.weight"] + arrays["output.bias"]
    scores -= scores.max(axis=1, keepdims=True)
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return {
        "loss": float(-log_shares[np.arange(len(labels)), labels].mean()),
        "accuracy": float((scores.argmax(axis=1) == labels).mean()),
    }


_NAMES = ("hidden.weight", "output.weight", "hidden.bias", "output.bias")


def _random_weights(generator: np.random.Generator, inputs: int, outputs: int) -> np.ndarray:
    bound = np.sqrt(6 / (inputs + outputs))
    return generator.uniform(-bound, bound, (inputs, outputs))
