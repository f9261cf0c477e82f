# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node costs the SuperLink, in real federations on this machine: processor time while it waits, and in a round.

Both are the difference between a federation of more nodes and one of fewer, so that what the SuperLink takes by itself is left out. docs/scale.md
says what follows from the figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench.checkpoints import app_with_model
from lab.driver.qemu import cpu_seconds
from tests.app.conftest import make_flower_venv
from tests.app.flower import Federation

FEW, MANY = 2, 6
IDLE_SECONDS = 60
ROUNDS = 3


@dataclass(frozen=True)
class Taken:
    """Processor seconds of the SuperLink: in a minute in which nothing is trained, and in a round beyond that; and of the ServerApp in a round."""

    idle_minute: float
    round: float
    app_round: float


def measure(flower_bin: Path, nodes: int, megabytes: float) -> Taken:
    """Run a federation and return what it took."""
    with tempfile.TemporaryDirectory() as place, Federation(flower_bin, app_with_model(Path(place), megabytes), Path(place)) as federation:
        for _node in range(nodes):
            federation.add_node()
        counts = dict.fromkeys(("min_available_clients", "min_fit_clients", "min_evaluate_clients"), nodes)
        federation.run(num_server_rounds=1, **counts)  # apps are installed in it
        before, begin = federation.superlink_seconds(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        idle = (federation.superlink_seconds() - before) / (time.monotonic() - begin) * 60
        before, begin, app = federation.superlink_seconds(), time.monotonic(), AppSeconds(federation)
        federation.run(num_server_rounds=ROUNDS, while_it_runs=app.look, **counts)
        waited = idle * (time.monotonic() - begin) / 60
        return Taken(idle, (federation.superlink_seconds() - before - waited) / ROUNDS, app.seconds / ROUNDS)


class AppSeconds:
    """Processor seconds of the ServerApp, which is gone when its run has ended: what it had taken at the last look."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self.seconds = 0.0

    def look(self) -> None:
        for process in self._federation.programs()["flwr-serverapp"]:
            self.seconds = max(self.seconds, cpu_seconds(process))


def main() -> None:
    """Print the costs of one node, for a model of the size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=0.04, help="size of the model")
    megabytes = parser.parse_args().megabytes
    flower_bin = make_flower_venv()
    few, many = (measure(flower_bin, nodes, megabytes) for nodes in (FEW, MANY))
    more = MANY - FEW
    print(f"model of {megabytes:g} MB; processor time that a node costs, from federations of {FEW} and {MANY} nodes on this machine")
    print(f"SuperLink, a minute of waiting: {1000 * (many.idle_minute - few.idle_minute) / more:.0f} ms ({few.idle_minute:.2f} s and {many.idle_minute:.2f} s)")
    print(f"SuperLink, a round, beyond the waiting: {1000 * (many.round - few.round) / more:.0f} ms ({few.round:.2f} s and {many.round:.2f} s)")
    print(f"ServerApp, a round: {1000 * (many.app_round - few.app_round) / more:.0f} ms ({few.app_round:.2f} s and {many.app_round:.2f} s)")


if __name__ == "__main__":
    main()
