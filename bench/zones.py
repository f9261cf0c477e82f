# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What more zones cost the control node: site.yml over six zones of one node against site.yml over two, with zones that boot nothing.

Zones are worked on side by side. What counts is the time from start to end, the first time and when nothing has to be changed; the processor time of
ansible-playbook says how much of that is work that cannot be side by side on few cores. Zones and playbook share this machine.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

FEW, MANY, MOST = 2, 6, 1.5


@dataclass(frozen=True)
class Taken:
    """Seconds of a run of site.yml: from start to end, and of processor time."""

    wall: float
    processor: float


def measured(zones: Zones) -> Taken:
    """Run site.yml over all zones, each with one node."""
    sites = {name: {"flower_supernodes": 1, "flower_site_addresses": [f"198.51.100.{number}"]} for number, name in enumerate(zones.zones)}
    begin, before = time.perf_counter(), _children()
    status, output = zones.play("--forks", str(MANY), shared={"flower_min_available_clients": 2}, **sites)
    taken = Taken(time.perf_counter() - begin, _children() - before)
    if status:
        raise SystemExit(f"site.yml over {len(sites)} zones failed: {output[-2000:]}")
    return taken


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Print the figures; return 1 when six zones take longer than they may."""
    runs: dict[int, tuple[Taken, Taken]] = {}
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as place, open_zones(Path(place), {f"zone{number}": "7.4" for number in range(count)}) as zones:
            runs[count] = measured(zones), measured(zones)
    ratios = []
    for what, few, many in zip(("first run", "run without changes"), runs[FEW], runs[MANY], strict=True):
        ratios.append(many.wall / few.wall)
        print(f"{what}: {FEW} zones {few.wall:.1f} s ({few.processor:.1f} s of processor), {MANY} zones {many.wall:.1f} s "
              f"({many.processor:.1f} s of processor), ratio {ratios[-1]:.2f} (limit {MOST})")  # fmt: skip
    return int(max(ratios) > MOST)


if __name__ == "__main__":
    sys.exit(main())
