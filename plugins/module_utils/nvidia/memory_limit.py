# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of its own: tells PyTorch to use a share of the GPU's memory, asks for more, and prints the outcome as JSON.

Argument: the share, from 0 to 1.
"""

from __future__ import annotations

import json
import sys


def judge(torch, fraction):
    """Return the outcome: ok (None when it cannot be told) and detail."""
    if not torch.cuda.is_available():
        built = getattr(torch.version, "cuda", None)
        return {"ok": False, "detail": "PyTorch sees no GPU" if built else "PyTorch is built without CUDA"}
    torch.cuda.set_per_process_memory_fraction(fraction, 0)
    total = torch.cuda.get_device_properties(0).total_memory
    limit = int(total * fraction)
    try:
        torch.empty(limit + (64 << 20), dtype=torch.uint8, device="cuda:0")
    except torch.cuda.OutOfMemoryError:
        return {"ok": True, "detail": f"more than {limit >> 20} of {total >> 20} MiB are refused"}
    return {"ok": False, "detail": f"more than {limit >> 20} of {total >> 20} MiB were handed out"}


def main():
    """Print the outcome as one line of JSON."""
    try:
        import torch  # noqa: PLC0415 a missing one is an outcome
    except ImportError:
        outcome = {"ok": None, "detail": "there is no PyTorch"}
    else:
        outcome = judge(torch, float(sys.argv[1]))
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main()
