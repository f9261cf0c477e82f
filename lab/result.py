# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Prints what a training over several sites came to, a line for each of them: ``python -m lab.result RESULT.json SECONDS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Print it."""
    report, seconds = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2]
    for name, zone in report["zones"].items():
        shown = " ".join(f"{key}={zone[key]}" for key in ("nodes", "rounds", "failures", "examples"))
        print(f"ZONE {name} {shown} seconds={zone['seconds']:.1f}")
    accuracy = float(report["metrics"]["accuracy"])
    print(f"RESULT accuracy={accuracy:.4f} rounds={report['rounds']} nodes={report['nodes']} silent={report['zones_silent']} seconds={seconds}")


if __name__ == "__main__":
    main()
