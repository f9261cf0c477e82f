# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node says about its GPU, with a PyTorch and a TensorFlow that have one, or none."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from federation import gpu

from .event_schema import checked


@pytest.fixture
def torch(monkeypatch):
    """Give this process a PyTorch with the GPUs of these names, and return the limits it is told."""

    def make(*names):
        limits = {}
        cuda = SimpleNamespace(
            is_available=lambda: bool(names),
            device_count=lambda: len(names),
            get_device_name=lambda device: names[device],
            get_device_properties=lambda _device: SimpleNamespace(total_memory=80 << 30),
            set_per_process_memory_fraction=lambda fraction, device: limits.update({device: fraction}),
        )
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        return limits

    return make


def test_pytorch_keeps_to_its_share_of_every_gpu(torch):
    limits = torch("A100", "L40S")
    assert gpu.prepare("pytorch", 0.5) == "Using GPU: A100, L40S"
    assert limits == {0: 0.5, 1: 0.5}


def test_without_a_share_there_is_no_limit(torch):
    limits = torch("A100")
    assert gpu.prepare("pytorch", None) == "Using GPU: A100"
    assert limits == {}


def test_without_a_gpu_training_runs_on_the_cpu(torch):
    torch()
    assert gpu.prepare("pytorch", 0.5) == "CUDA not available, using CPU"


def test_tensorflow_is_asked_for_its_gpus(monkeypatch):
    config = SimpleNamespace(list_physical_devices=lambda kind: [SimpleNamespace(name=f"/physical_device:{kind}:0")])
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    assert gpu.prepare("tensorflow", None) == "Using GPU: /physical_device:GPU:0"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version:  gcc version 12.2.0\n", "535.129.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)  Thu Jan  9 2025\n", "570.86.15"),
        ("\x1b[2J", None),
        (None, None),
    ],
)
def test_a_gpu_is_told_with_its_memory_and_its_driver(torch, monkeypatch, tmp_path, capsys, text, version):
    torch("A100", "L40S")
    if text:
        (tmp_path / "version").write_text(text)
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    gpu.prepare("pytorch", None)
    (event,) = checked([json.loads(capsys.readouterr().out)])
    driver = {"driver_version": version} if version else {}
    assert event["data"] == {"gpu_name": "A100, L40S", "gpu_memory_mb": 2 * 80 * 1024, **driver}


def test_scikit_learn_uses_no_gpu():
    assert gpu.prepare("sklearn", None) == "Using CPU"
