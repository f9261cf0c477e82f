# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node says about its GPU before it trains, and the share of the memory that it may use."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from federation.events import tell

DRIVER = Path("/proc/driver/nvidia/version")
_VERSION = re.compile(r"Kernel Module\b.*?\s([0-9]+(?:\.[0-9]+)+)\s")


def prepare(framework: str, memory_fraction: float | None) -> str:
    """Keep PyTorch to a share of the memory of each GPU (None is no limit) and return what this process trains on, in a sentence.

    TensorFlow takes memory as it needs it, which its environment says; scikit-learn uses no GPU.
    """
    if framework not in ("pytorch", "tensorflow"):
        return "Using CPU"
    names, memory = _pytorch(memory_fraction) if framework == "pytorch" else (_tensorflow(), {})
    if not names:
        tell("gpu_unavailable", "no GPU can be used", level=logging.WARNING, fallback_device="cpu")
        return "CUDA not available, using CPU"
    tell("gpu_detected", f"GPU: {', '.join(names)}", gpu_name=", ".join(names), **memory, **_driver())
    return f"Using GPU: {', '.join(names)}"


def _driver() -> dict[str, str]:
    """Return the version of NVIDIA's driver, which is that of the machine in a container, too; nothing where it cannot be known."""
    try:
        found = _VERSION.search(DRIVER.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return {}
    return {"driver_version": found[1]} if found else {}


def _pytorch(memory_fraction: float | None) -> tuple[list[str], dict[str, int]]:
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    if not torch.cuda.is_available():
        return [], {}
    devices = range(torch.cuda.device_count())
    if memory_fraction is not None:
        for device in devices:
            torch.cuda.set_per_process_memory_fraction(memory_fraction, device)
    memory = sum(torch.cuda.get_device_properties(device).total_memory for device in devices)
    return [torch.cuda.get_device_name(device) for device in devices], {"gpu_memory_mb": memory >> 20}


def _tensorflow() -> list[str]:
    import tensorflow  # noqa: PLC0415 - on nodes only, see UseCase

    return [device.name for device in tensorflow.config.list_physical_devices("GPU")]
