# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The pilot's criteria (docs/project/pilot.md) that a zone in a box can answer, each measured and held against its threshold.

``python -m lab.pilot`` deploys a federation that finds anomalies, trains it, runs the same again, takes it down, and prints a table. What belongs to
other suites, such as failures, is not repeated here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass

from lab.checkout import ROOT

PLAY = ("ansible-playbook", "-i", "inventories/lab")
SETTINGS = ("-e", "flower_use_case=anomaly-detection")
ALL, ANY = -2, -1


@dataclass(frozen=True)
class Criterion:
    """What has to hold, as the plan numbers it, with the value that was measured."""

    number: int
    text: str
    measured: float
    threshold: str
    holds: Callable[[float], bool]


def main() -> int:
    """Run the pilot; return the exit status."""
    started = time.monotonic()
    run("lab/demo.sh", USE_CASE="anomaly-detection")
    seconds = time.monotonic() - started
    result = json.loads((ROOT / "build/report/result.json").read_text())
    again = changes(run(*PLAY, "opennebula.flower.site", *SETTINGS))
    run(*PLAY, "opennebula.flower.teardown", *SETTINGS)
    return report([
        Criterion(1, "images built, deployed and trained, seconds", seconds, "at most 900", lambda value: value <= 900),
        Criterion(2, "changes of a second run", again, "0", lambda value: value == 0),
        Criterion(3, "AUC on held-out readings", float(result["metrics"]["auc"]), "at least 0.90", lambda value: value >= 0.90),
        Criterion(4, "nodes that trained in the last round", result["nodes"], "2", lambda value: value == 2),
        Criterion(9, "VMs, images, templates and networks left", left_behind(), "0", lambda value: value == 0),
    ])  # fmt: skip


def run(*command: str, **environment: str) -> str:
    """Run a command and show its output as it comes; ends the pilot unless it succeeds."""
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return "".join(lines)


def changes(output: str) -> int:
    """Return how many tasks of a playbook changed something."""
    return sum(map(int, re.findall(r"changed=(\d+)", output)))


def left_behind() -> int:
    """Return how many objects the zone has, which had none before."""
    endpoints = dict(line.split("=", 1) for line in (ROOT / "build/lab/zone0/endpoints").read_text().splitlines() if "=" in line)
    session = (ROOT / "build/lab/zone0/one_auth").read_text().strip()
    one = xmlrpc.client.ServerProxy(endpoints["ONE_XMLRPC"].strip("\"'")).one
    calls = [("VM", one.vmpool.info, (-1,)), ("IMAGE", one.imagepool.info, ()), ("VMTEMPLATE", one.templatepool.info, ()), ("VNET", one.vnpool.info, ())]
    return sum(len(re.findall(rf"<{kind}>", ask(session, ALL, ANY, ANY, *more)[1])) for kind, ask, more in calls)


def report(criteria: list[Criterion]) -> int:
    """Print the table; return 1 if something does not hold."""
    print("\ncriterion                                         measured  threshold      holds")
    for one in criteria:
        print(f"{one.number:2}  {one.text:44} {one.measured:9.4g}  {one.threshold:14} {'yes' if one.holds(one.measured) else 'NO'}")
    return int(not all(one.holds(one.measured) for one in criteria))


if __name__ == "__main__":
    sys.exit(main())
