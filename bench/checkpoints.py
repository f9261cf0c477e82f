# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What checkpoints and events cost, in a real federation on this machine.

``cost``: two nodes, a 50 MB model and a checkpoint every round; prints the share of each round that the app itself spent on
them. The nodes hardly train, so the rounds are as short as Flower's transport makes them.

``memory``: one node, a small model and many rounds; prints the memory of the SuperLink's processes after some rounds and at the end.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.app.conftest import make_flower_venv
from tests.app.flower import Federation, wait_for_event
from tests.app.shipped import APP

MOST_SHARE = 0.03
MOST_GROWTH = 1.05
MEGABYTES = 50
COST_ROUNDS, MEMORY_ROUNDS, WARM_ROUND = 5, 200, 20

USE_CASE = """
import numpy as np
FRAMEWORKS = ("sklearn",)
def initial_arrays(seed, settings):
    generator = np.random.default_rng(seed)
    return {{f"layer{{number}}": generator.random({size}, dtype=np.float32) for number in range(10)}}
def load_data(share, options):
    return (np.zeros(100),), (np.zeros(100),)
def train(arrays, data, options):
    return {{name: array + np.float32(0.001) for name, array in arrays.items()}}
def evaluate(arrays, data, options):
    return {{"loss": 0.5, "accuracy": 0.5}}
def export(arrays, options):
    return ".txt", b"nothing"
"""


def app_with_model(directory: Path, megabytes: float) -> Path:
    """A copy of the app whose one use case has a model of that size and next to no training."""
    copy = directory / "app"
    shutil.copytree(APP, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = USE_CASE.format(size=int(megabytes * 1e6 / 4 / 10))
    (copy / "federation" / "usecases" / "digits.py").write_text(source)
    return copy


def cost(flower_bin: Path, directory: Path) -> bool:
    """Print the share of each round; return whether it is small enough."""
    with Federation(flower_bin, app_with_model(directory, MEGABYTES), directory) as federation:
        federation.add_node()
        federation.add_node()
        run = federation.run(
            num_server_rounds=COST_ROUNDS,
            run_name="cost",
            checkpoint_enabled=True,
            checkpoint_interval=1,
            checkpoint_path=str(directory / "checkpoints"),
        )
    if run.status != "finished:completed":
        sys.exit(f"the run ended as {run.status}: {run.details}")
    shares = []
    print(f"model of {MEGABYTES} MB, two nodes, a checkpoint every round")
    for data in run.data("round_end"):
        spent = data["overhead_seconds"]
        shares.append(sum(spent.values()) / data["round_duration_seconds"])
        parts = ", ".join(f"{part} {seconds:.3f} s" for part, seconds in spent.items())
        print(f"round {data['round']}: {data['round_duration_seconds']:.1f} s, of which {parts}: {shares[-1]:.2%}")
    share = statistics.median(shares)
    print(f"median share {share:.2%}, at most {MOST_SHARE:.0%}")
    return share <= MOST_SHARE


def resident_kib(address: str) -> dict[str, int]:
    """The resident memory of the processes of the SuperLink there by program."""
    port = address.rpartition(":")[2]
    found: dict[str, int] = {}
    listing = subprocess.run(["ps", "-eo", "rss=,args="], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        size, command = line.split(maxsplit=1)
        for program in ("flower-superlink", "flower-superexec", "flwr-serverapp"):
            if f"/{program} " in command and (f"{address} " in f"{command} " or f"--port {port} " in f"{command} "):
                found[program] = found.get(program, 0) + int(size)
    return found


def memory(flower_bin: Path, directory: Path, rounds: int) -> bool:
    """Print the memory early and late; return whether it hardly grew."""
    with Federation(flower_bin, app_with_model(directory, 0.1), directory) as federation:
        federation.add_node()
        output = directory / "memory"
        federation.submit(
            num_server_rounds=rounds + 1,
            output_directory=str(output),
            min_fit_clients=1,
            min_evaluate_clients=1,
            min_available_clients=1,
            run_name="memory",
            checkpoint_enabled=True,
            checkpoint_interval=1,
            checkpoint_path=str(directory / "checkpoints"),
        )
        sizes = {}
        started = time.monotonic()
        marks = sorted({WARM_ROUND, *range(50, rounds, 50), rounds})
        for number in marks:
            wait_for_event(output, "round_end", within=3600, round=number)
            sizes[number] = resident_kib(federation.address)
            shown = ", ".join(f"{program} {size / 1024:.1f} MiB" for program, size in sizes[number].items())
            print(f"round {number}, {time.monotonic() - started:.0f} s: {shown}", flush=True)
    growth = sum(sizes[rounds].values()) / sum(sizes[WARM_ROUND].values())
    print(f"memory after round {rounds} over that after round {WARM_ROUND}: {growth:.3f}, at most {MOST_GROWTH}")
    return growth <= MOST_GROWTH


def main() -> int:
    """Run one of the benchmarks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "memory"])
    parser.add_argument("--rounds", type=int, default=MEMORY_ROUNDS, help="rounds of the memory benchmark")
    options = parser.parse_args()
    flower_bin = make_flower_venv()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        small = cost(flower_bin, directory) if options.what == "cost" else memory(flower_bin, directory, options.rounds)
    return 0 if small else 1


if __name__ == "__main__":
    sys.exit(main())
