# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a round moves over the network and how much memory the SuperLink needs for it, in real federations on this machine.

Nodes reach the SuperLink through HAProxy, which counts bytes. What they move while nothing is trained is subtracted. The memory is the peak of each
process. docs/decisions/capacity.md and plan.yml say what follows from the figures.
"""

from __future__ import annotations

import csv
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.opennebula.flower.tests.support.ports import free_port
from bench.checkpoints import app_with_model
from tests.app.conftest import make_flower_venv
from tests.app.flower import Federation

CASES = ((2, 10), (2, 50), (6, 50))  # nodes, megabytes of the model
ROUNDS = 2
IDLE_SECONDS = 30
# Headers, heartbeats that a training node sends besides, and the configuration of the round.
MOST_BEYOND = 0.02
GATEWAY = """
global
  stats socket {place}/stats level operator
defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen fleet
  bind {address}
  server superlink {superlink}
"""


@dataclass
class Gateway:
    """A HAProxy in front of a SuperLink."""

    address: str
    stats: Path

    def moved(self) -> int:
        """The bytes that passed it in both directions since it began."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.stats))
            asked.sendall(b"show stat\n")
            answer = asked.makefile().read()
        (fleet,) = (row for row in csv.DictReader(answer.lstrip("# ").splitlines()) if (row["pxname"], row["svname"]) == ("fleet", "FRONTEND"))
        return int(fleet["bin"]) + int(fleet["bout"])


@contextmanager
def gateway(place: Path, superlink: str) -> Iterator[Gateway]:
    """Start one and end it."""
    address = f"127.0.0.1:{free_port()}"
    (place / "haproxy.cfg").write_text(GATEWAY.format(place=place, address=address, superlink=superlink))
    with subprocess.Popen(["haproxy", "-f", str(place / "haproxy.cfg")]) as process:
        try:
            yield Gateway(address, place / "stats")
        finally:
            process.terminate()


@dataclass
class Peaks:
    """The most memory that each program of a SuperLink has had, in bytes; asked for again and again, because a ServerApp ends with its run."""

    federation: Federation
    of: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        for program, processes in self.federation.programs().items():
            for process in processes:
                with suppress(OSError):  # it ended meanwhile, or is about to and has no memory any more
                    for peak in re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text()):
                        self.of[program] = max(self.of.get(program, 0), int(peak) * 1024)


@dataclass(frozen=True)
class Taken:
    """What one federation took: bytes of a round, and peaks of memory in bytes."""

    nodes: int
    model: float
    round: float
    peaks: dict[str, int]

    @property
    def expected(self) -> float:
        """The bytes of a round by the formula."""
        return self.model * 3 * self.nodes


def measure(flower_bin: Path, nodes: int, megabytes: float) -> Taken:
    """Run a federation in which all nodes train and evaluate."""
    with tempfile.TemporaryDirectory() as name, Federation(flower_bin, app_with_model(Path(name), megabytes), Path(name)) as federation:
        with gateway(Path(name), federation.address) as between:
            for _node in range(nodes):
                federation.add_node(through=between.address)
            counts = dict.fromkeys(("min_available_clients", "min_fit_clients", "min_evaluate_clients"), nodes)
            federation.run(num_server_rounds=1, **counts)  # each node gets the app in it
            before, begin = between.moved(), time.monotonic()
            time.sleep(IDLE_SECONDS)
            idle = (between.moved() - before) / (time.monotonic() - begin)
            before, begin, peaks = between.moved(), time.monotonic(), Peaks(federation)
            federation.run(num_server_rounds=ROUNDS, while_it_runs=peaks.look, **counts)
            moved = between.moved() - before - idle * (time.monotonic() - begin)
        return Taken(nodes, megabytes * 1e6, moved / ROUNDS, peaks.of)


def main() -> int:
    """Print the figures; exit status 1 if a round moves more than the formula says."""
    flower_bin = make_flower_venv()
    taken = [measure(flower_bin, *case) for case in CASES]
    for one in taken:
        memory = ", ".join(f"{program} {peak / 1e6:.0f} MB" for program, peak in sorted(one.peaks.items()))
        print(
            f"{one.nodes} nodes, model of {one.model / 1e6:g} MB: {one.round / 1e6:.1f} MB in a round, "
            f"{one.round / one.expected - 1:+.2%} beside the formula; peaks: {memory}"
        )
    small, large, many = (sum(one.peaks.values()) for one in taken)
    (_few, (nodes, megabytes), (more, _same)) = CASES
    per_node = (many - large) / (more - nodes) / (megabytes * 1e6)
    per_model = (large - small) / ((megabytes - CASES[0][1]) * 1e6)
    print(f"memory of the SuperLink: {per_node:.1f} models for each node, and {per_model - nodes * per_node:.1f} models besides")
    print(f"without a model: {(small - per_model * CASES[0][1] * 1e6) / 1e6:.0f} MB")
    return int(any(abs(one.round / one.expected - 1) > MOST_BEYOND for one in taken))


if __name__ == "__main__":
    sys.exit(main())
