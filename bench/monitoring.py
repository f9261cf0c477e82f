# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the events and metrics of a federation cost, on this machine: the share of a round, memory, and the time of a scrape.

The rounds are real ones of a model of 50 MB, which two nodes hardly train, followed by the supervisor and scraped as a machine of the roles is. The scrape goes
through HAProxy with the configuration of the role, for what the supervisor writes of a federation with 200 nodes.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
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
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor import Supervisor
from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.monitoring.conftest import DEADLINE, Monitoring, supervisor_of, wait_until
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from bench.checkpoints import MEGABYTES, app_with_model
from lab.driver.qemu import cpu_seconds

NODE_METRICS = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.node_metrics"
SUPERVISOR = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor"
MOST_SHARE = 0.01
MOST_SUPERLINK_MIB, MOST_SUPERNODE_MIB = 60, 30
MOST_SCRAPE_SECONDS = 0.1
NODES, SCRAPES, LOOKS = 200, 50, 20
ROUNDS = 3
POLL_SECONDS = 2  # the supervisor's pause between two looks, each of which writes the metrics
SCRAPE_SECONDS, NODE_SECONDS = 15, 30  # between two scrapes, and between two looks of a node at its journal
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


def share_of_rounds(directory: Path) -> bool:
    """Print the share of real rounds that events and metrics take of a core, on a SuperLink and on a SuperNode; return whether both are small enough."""
    watch, port, app = Monitoring(directory), free_port(), app_with_model(directory, MEGABYTES)
    try:
        files = watch.exporter("exporter", port)
        with Federation(make_flower_venv(), app, directory) as federation:
            watch.gateway(federation.address, port)
            url = f"http://{watch.superlink}/metrics"
            wait_until(lambda: answered(url), "the gateway to answer")
            for _node in range(2):
                federation.add_node()
            supervisor = supervisor_of(federation, directory, files / "training.prom", {"num-server-rounds": ROUNDS}, app)
            seconds, profile, scrapes = followed(supervisor, watch, url)
        events = [json.loads(line) for line in (directory / "runs/initial/events.jsonl").read_text().splitlines()]
    finally:
        watch.close()
    rounds = [event["data"] for event in events if event["event"] == "round_end"]
    lasted = sum(data["round_duration_seconds"] for data in rounds)
    app_seconds = sum(data["overhead_seconds"]["events"] for data in rounds)
    spent = {"events in the app": app_seconds / lasted, **{name: taken / seconds for name, taken in profile.items()}, "scrapes": scrapes / SCRAPE_SECONDS}
    print(f"model of {MEGABYTES} MB, two nodes, {len(rounds)} rounds of {lasted / len(rounds):.1f} s")
    on_superlink = told_share("a SuperLink", spent)
    look = node_look_seconds(directory)
    on_supernode = told_share("a SuperNode", {"counts": look / NODE_SECONDS, "scrapes": scrapes / SCRAPE_SECONDS})
    return len(rounds) == ROUNDS and on_superlink and on_supernode


def told_share(machine: str, parts: dict[str, float]) -> bool:
    """Print the share of a core that is spent on a machine; return whether it is small enough."""
    share = sum(parts.values())
    told = ", ".join(f"{name} {part:.3%}" for name, part in parts.items())
    print(f"events and metrics take {share:.2%} of a round on {machine} (at most {MOST_SHARE:.0%}): {told}")
    return share <= MOST_SHARE


def followed(supervisor: Supervisor, watch: Monitoring, url: str) -> tuple[float, dict[str, float], float]:
    """Follow a run to its end as the supervisor's program does; return the seconds of that, the processor time of what it did for events and for metrics,
    and that of a scrape."""
    profile, exporters, scraped = cProfile.Profile(time.thread_time), ("exporter", "haproxy"), 0
    begun, before = time.monotonic(), sum(cpu_seconds(watch.pids[name]) for name in exporters)
    while (run := supervisor.runs[0]).status not in ("completed", "failed"):
        if time.monotonic() > begun + DEADLINE:
            sys.exit(f"the run did not end within {DEADLINE} s: {run.message}")
        profile.runcall(supervisor.step)
        # Far more often than Prometheus does: of a few scrapes, the system's clock for processes sees nothing.
        for _scrape in range(SCRAPES // 5):
            requests.get(url, timeout=60).raise_for_status()
            scraped += 1
        time.sleep(POLL_SECONDS)
    if run.status != "completed":
        sys.exit(f"the run failed: {run.message}")
    seconds, after = time.monotonic() - begun, sum(cpu_seconds(watch.pids[name]) for name in exporters)
    found = {function: figures[3] for (_file, _line, function), figures in pstats.Stats(profile).stats.items()}
    return seconds, {"events read": found["_read_events"], "metrics written": found["_write_metrics"]}, (after - before) / scraped


def node_look_seconds(directory: Path) -> float:
    """Return the processor time of a look of a node at its journal."""
    settings = {"health_url": f"http://127.0.0.1:{free_port()}/health", "healthy_command": ["true"]}
    settings |= {"state_file": str(directory / "counts.json"), "metrics_file": str(directory / "node.prom")}
    (directory / "node.json").write_text(json.dumps(settings))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _look in range(LOOKS):
        subprocess.run([sys.executable, "-m", NODE_METRICS, "--config", str(directory / "node.json")], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / LOOKS


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
        within = [measure(Path(tempfile.mkdtemp(dir=place))) for measure in (share_of_rounds, memory_and_scrape)]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
