# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the metrics of a federation cost, on this machine: processor time, memory, and the time of a scrape.

The scrape goes through HAProxy with the configuration of the role, for what the supervisor writes of a federation with 200 nodes. What events take of a
round is in bench/checkpoints.py.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import render, write
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.metrics import Totals, supervisor_metrics
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.runs import Run
from ansible_collections.opennebula.flower.tests.monitoring.conftest import Monitoring
from ansible_collections.opennebula.flower.tests.support.ports import free_port

SUPERVISOR = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor"
MOST_SHARE = 0.01
MOST_SUPERLINK_MIB, MOST_SUPERNODE_MIB = 60, 30
MOST_SCRAPE_SECONDS = 0.1
NODES, SCRAPES, WRITES = 200, 50, 200
POLL_SECONDS = 2  # the supervisor's pause between two looks, each of which writes the metrics
SETTLED, STARTED = 5, 120  # seconds in which the memory of a program that has all it needs stays as it is, and until then at most


def many_nodes() -> str:
    """The metrics of a federation with many nodes, in the middle of a training."""
    totals = Totals()
    for number in range(1, 11):
        totals.add({"event": "round_end", "data": {"round_duration_seconds": 7.0 * number}}, "FedAvg")
        for _node in range(NODES // 10):
            totals.add({"event": "client_failure", "data": {}}, "FedAvg")
    measured = {"loss": 0.2, "accuracy": 0.9, "precision": 0.8, "recall": 0.8, "f1": 0.8, "auc": 0.9}
    last = {"round": 10, "seconds": 70.0, "nodes": NODES, "metrics": measured}
    run = Run("initial", status="running", rounds=20, round=10, strategy="FedAvg", nodes=NODES, selected=NODES, connected=NODES, history=[last], started=1)
    return render(supervisor_metrics([run], totals, 1))


def metrics_share(directory: Path) -> bool:
    """Print the share of its time that a supervisor writes metrics, whatever it does meanwhile; return whether it is small enough."""
    begun = time.process_time()
    for _write in range(WRITES):
        write(str(directory / "training.prom"), many_nodes())
    share = (time.process_time() - begun) / WRITES / POLL_SECONDS
    print(f"metrics take {share:.3%} of a core while a round goes on (at most {MOST_SHARE:.0%})")
    return share <= MOST_SHARE


def resident_mib(process: int) -> float:
    """The memory of a process."""
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def supervisor_mib(directory: Path, metrics: bool) -> float:
    """The memory of a supervisor with or without metrics, whose SuperLink does not answer."""
    directory.mkdir()
    (directory / "runs").mkdir()
    settings = {
        "flwr_command": ["false"], "superlink_connection": "local", "app_directory": str(directory), "runs_directory": str(directory / "runs"),
        "runs_directory_in_app": str(directory / "runs"), "state_file": str(directory / "state.json"), "initial_run": {"name": "initial", "config": {}},
        "health_url": f"http://127.0.0.1:{free_port()}/health", "metrics_file": str(directory / "training.prom") if metrics else "", "poll_seconds": 0.1,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(settings))
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", SUPERVISOR, "--config", str(directory / "config.json")], stdout=log, stderr=log)
    try:
        deadline, seen = time.monotonic() + STARTED, [0.0]
        while not (directory / "state.json").exists() or metrics != (directory / "training.prom").exists() or len(set(seen[-SETTLED:])) > 1:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the supervisor does not work: {(directory / 'log').read_text()}")
            time.sleep(1)
            seen.append(resident_mib(process.pid))
        return seen[-1]
    finally:
        process.terminate()
        process.wait()


def answered(url: str) -> bool:
    """Say whether there is an answer."""
    try:
        return requests.get(url, timeout=10).ok
    except requests.ConnectionError:
        return False


def memory_and_scrape(directory: Path) -> bool:
    """Print both; return whether they are small enough."""
    supervisor = {metrics: supervisor_mib(directory / f"supervisor-{metrics}", metrics) for metrics in (False, True)}
    watch, port = Monitoring(directory), free_port()
    try:
        write(str(watch.exporter("exporter", port) / "training.prom"), many_nodes())
        watch.gateway(f"127.0.0.1:{free_port()}", port)
        url, deadline = f"http://{watch.superlink}/metrics", time.monotonic() + 60
        while not answered(url):
            if time.monotonic() > deadline:
                sys.exit((directory / "haproxy.log").read_text())
        taken = []
        for _scrape in range(SCRAPES):
            begun = time.perf_counter()
            text = requests.get(url, timeout=10).text
            taken.append(time.perf_counter() - begun)
        if f"fl_clients_connected {NODES}" not in text:
            sys.exit(f"{url} does not tell of {NODES} nodes.")
        exporter = resident_mib(watch.pids["exporter"])
    finally:
        watch.close()
    superlink, scrape = exporter + supervisor[True] - supervisor[False], statistics.median(taken)
    print(f"supervisor {supervisor[False]:.1f} MiB without metrics, {supervisor[True]:.1f} MiB with; node_exporter {exporter:.1f} MiB")
    print(f"more on a SuperLink {superlink:.1f} MiB (at most {MOST_SUPERLINK_MIB}), on a SuperNode {exporter:.1f} MiB (at most {MOST_SUPERNODE_MIB})")
    longest = sorted(taken)[int(SCRAPES * 0.95)]
    print(f"scrape of a SuperLink with {NODES} nodes: {scrape * 1000:.1f} ms (at most {MOST_SCRAPE_SECONDS * 1000:.0f} ms), 95 % below {longest * 1000:.1f} ms")
    return superlink <= MOST_SUPERLINK_MIB and exporter <= MOST_SUPERNODE_MIB and scrape <= MOST_SCRAPE_SECONDS


def main() -> int:
    """Run the benchmark; exit status 1 when a limit is passed."""
    with tempfile.TemporaryDirectory() as place:
        within = [measure(Path(place)) for measure in (metrics_share, memory_and_scrape)]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
