# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: 1797 real images of 8x8 pixels that ship with scikit-learn, and a small neural network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from federation.data import bundled
from federation.partition import split

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

    from federation.usecases import Arrays, Data, Options, Share

FRAMEWORKS = ("sklearn",)
PIXELS = 64
HIDDEN_UNITS = 64
DIGITS = np.arange(10)
LOCAL_EPOCHS = 10
LEARNING_RATE = 0.005
BATCH_SIZE = 32


def initial_arrays(seed: int, _settings: Mapping[str, object] | None = None) -> Arrays:
    """Return random weights of a network with one hidden layer."""
    generator = np.random.default_rng(seed)
    return {
        "hidden.weight": _random_weights(generator, PIXELS, HIDDEN_UNITS),
        "hidden.bias": np.zeros(HIDDEN_UNITS),
        "output.weight": _random_weights(generator, HIDDEN_UNITS, len(DIGITS)),
        "output.bias": np.zeros(len(DIGITS)),
    }


def load_data(share: Share, _options: Options) -> tuple[Data, Data]:
    """Return a node's training data and its share of the held-out data, pixels scaled to 0..1."""
    # Not with load_digits: importing scikit-learn takes longer than an evaluation, which does without.
    table = np.loadtxt(bundled("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    images, labels = table[:, :PIXELS] / 16, table[:, PIXELS].astype(int)
    partition = split(len(labels), share.partition_id, share.num_partitions, share.seed, labels, share.alpha)
    return (images[partition.train], labels[partition.train]), (images[partition.test], labels[partition.test])


def train(arrays: Arrays, data: Data, options: Options) -> Arrays:
    """Train some epochs with scikit-learn's network, starting from the given weights."""
    images, labels = data
    network = _network(arrays, options)
    network.batch_size = min(network.batch_size, len(labels))
    epochs = options.local_epochs or LOCAL_EPOCHS
    if options.proximal_mu > 0:
        _train_near(arrays, network, data, epochs, options)
    else:
        for _ in range(epochs):
            network.partial_fit(images, labels)
    return _arrays(network)


def evaluate(arrays: Arrays, data: Data, _options: Options) -> dict[str, float]:
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


def export(arrays: Arrays, options: Options) -> tuple[str, bytes]:
    """Return scikit-learn's network as joblib writes it."""
    import joblib  # noqa: PLC0415 - on nodes only, see UseCase

    stream = io.BytesIO()
    joblib.dump(_network(arrays, options), stream)
    return ".joblib", stream.getvalue()


def _network(arrays: Arrays, options: Options) -> MLPClassifier:
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - on nodes only, see UseCase

    network = MLPClassifier(
        hidden_layer_sizes=(HIDDEN_UNITS,),
        learning_rate_init=options.learning_rate or LEARNING_RATE,
        batch_size=options.batch_size or BATCH_SIZE,
        random_state=options.seed,
    )
    # The first call makes the arrays. All classes are named, since a partition may lack one.
    network.partial_fit(np.zeros((network.batch_size, PIXELS)), np.zeros(network.batch_size, dtype=int), classes=DIGITS)
    for name, array in _arrays(network).items():
        array[...] = arrays[name]
    return network


def _train_near(arrays: Arrays, network: MLPClassifier, data: Data, epochs: int, options: Options) -> None:
    """Train with a proximal term, mu/2 times the squared distance from the given weights.

    The network takes no loss but its own: each minibatch is followed by the proximal operator of the term instead.
    """
    images, labels = data
    generator = np.random.default_rng(options.seed)
    size, pull = network.batch_size, network.learning_rate_init * options.proximal_mu
    current = _arrays(network)
    for _ in range(epochs):
        order = generator.permutation(len(labels))
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            network.batch_size = len(batch)
            network.partial_fit(images[batch], labels[batch])
            for name, array in current.items():
                array[...] = (array + pull * arrays[name]) / (1 + pull)


def _arrays(network: MLPClassifier) -> Arrays:
    names = ("hidden.weight", "output.weight", "hidden.bias", "output.bias")
    return dict(zip(names, (*network.coefs_, *network.intercepts_), strict=True))


def _random_weights(generator: np.random.Generator, inputs: int, outputs: int) -> np.ndarray:
    bound = np.sqrt(6 / (inputs + outputs))
    return generator.uniform(-bound, bound, (inputs, outputs))
