# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Prometheus beside a zone in a box, with the files that playbooks/monitoring.yml writes for an operator's own Prometheus.

``python -m lab.monitoring up``    starts it in the background, and looks at the zone again and again for VMs that offer metrics
``python -m lab.monitoring show``  waits until every target answers and every panel has data, says so, and draws the dashboards
``python -m lab.monitoring down``  ends it; what it saw stays
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import targets
from lab import engine, pid_file
from lab.checkout import ROOT
from lab.dashboard_pictures import page

PROGRAM = {"prometheus": ("prometheus",)}
INTERVAL = 5  # seconds; a training of the demo takes a minute
PICTURED = 900  # seconds that pictures reach back
GPU_DASHBOARD = "flower-gpu"
_START_SECONDS, _STOP_SECONDS, _DATA_SECONDS, _PAUSE = 120, 60, 600, 1


class MonitoringError(Exception):
    """Something is not there; the message is one sentence."""


class Prometheus:
    """A Prometheus at ADDRESS:PORT."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._http = urllib3.PoolManager(timeout=60, retries=False)

    def ask(self, path: str, **parameters: object) -> Any:
        """Return the data of an answer; None while it does not answer or only begins."""
        try:
            answer = self._http.request("GET", f"http://{self.address}/api/v1/{path}", fields=parameters)
        except urllib3.exceptions.HTTPError:
            return None
        if answer.status == 503:
            return None
        content = answer.json()
        return content.get("data", content)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now."""
        answer = self.ask("query", query=expression)
        return answer["result"] if answer and "result" in answer else []

    def span(self, expression: str, seconds: float) -> list[dict[str, Any]]:
        """Return the series that an expression has had lately. Raises MonitoringError for an expression that Prometheus refuses."""
        now = time.time()
        answer = self.ask("query_range", query=expression, start=now - seconds, end=now, step=max(1, seconds / 300))
        if not answer or "result" not in answer:
            raise MonitoringError(f"{expression}: {answer}")
        return answer["result"]


class Files:
    """The files of a monitoring in its directory, where monitoring.yml wrote its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "prometheus.yml"
        self.targets = directory / "targets"
        self.pid = directory / "monitoring.pid"
        self.log = directory / "monitoring.log"
        self.address = directory / "address"

    def running_pid(self) -> int | None:
        """Return the id of the process that watches, or None."""
        return pid_file.running_pid(self.pid)

    def dashboards(self) -> Iterator[dict[str, Any]]:
        """Yield the documents of the dashboards."""
        for path in sorted(self.directory.glob("dashboards/*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))


def filled(expression: str) -> str:
    """Return a query of a dashboard as Grafana sends it with all values of all variables."""
    return re.sub(r"\$\w+", ".*", expression)


def series(prometheus: Prometheus, dashboard: dict[str, Any], seconds: float) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Return what the queries of a dashboard have given lately, by panel and letter."""
    return {
        (panel["id"], target["refId"]): prometheus.span(filled(target["expr"]), seconds) for panel in dashboard["panels"] for target in panel["targets"]
    }


def up(files: Files, zone: Path) -> int:
    """Start Prometheus in the background; one that runs is left as it is."""
    if not shutil.which("prometheus"):
        engine.install(PROGRAM)
    if not (files.directory / "scrape.yml").exists():
        raise MonitoringError(f"{files.directory} has no scrape.yml: playbooks/monitoring.yml with flower_monitoring_export writes it")
    if not files.running_pid():
        files.address.unlink(missing_ok=True)
        with files.log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lab.monitoring", "run", f"--directory={files.directory}", f"--zone={zone}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        _wait(lambda: files.address.exists() or process.poll() is not None, _START_SECONDS, f"Prometheus to answer (log: {files.log})")
        if process.poll() is not None:
            raise MonitoringError(f"Prometheus did not start (log: {files.log})")
    print(f"monitoring: Prometheus answers at http://{files.address.read_text().strip()}", flush=True)
    return 0


def run(files: Files, zone: Path) -> int:
    """Run Prometheus and look at the zone until SIGTERM."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: stopped.set())
    with pid_file.hold(files.pid):
        prometheus = Prometheus(_configure(files))
        child = subprocess.Popen(
            ["prometheus", f"--config.file={files.config}", f"--storage.tsdb.path={files.directory / 'tsdb'}", f"--web.listen-address={prometheus.address}"]
        )
        try:
            while not stopped.wait(INTERVAL if files.address.exists() else _PAUSE) and child.poll() is None:
                for problem in targets.discover(files.targets, zones) if (zones := list(_zones(zone))) else ():
                    logging.warning("%s", problem)
                if prometheus.ask("targets") is not None:
                    files.address.write_text(f"{prometheus.address}\n")
        finally:
            files.address.unlink(missing_ok=True)
            child.terminate()
            child.wait(_STOP_SECONDS)
    return 0 if stopped.is_set() else 1


def show(files: Files) -> int:
    """Say which targets answer and which panels have data, after waiting for all of them, and draw the dashboards; return 1 if something is missing."""
    if not files.address.exists():
        raise MonitoringError("Prometheus does not run here: python -m lab.monitoring up starts it")
    prometheus = Prometheus(files.address.read_text().strip())
    deadline = time.monotonic() + _DATA_SECONDS
    while (problems := _problems(prometheus, files)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    found = prometheus.ask("targets")["activeTargets"]
    print(f"Targets: {sum(target['health'] == 'up' for target in found)} of {len(found)} up")
    for dashboard in files.dashboards():
        drawn = series(prometheus, dashboard, PICTURED)
        picture = files.directory / f"{dashboard['uid']}.html"
        picture.write_text(page(dashboard, drawn), encoding="utf-8")
        full = len(dashboard["panels"]) - len(_empty(dashboard, drawn))
        print(f"{dashboard['title']}: {full} of {len(dashboard['panels'])} panels have data"
              f"{' (it takes SuperNodes with a GPU)' if dashboard['uid'] == GPU_DASHBOARD and not full else ''}, drawn in {picture}")
    firing = [alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"]
    print(f"Alerts: {', '.join(firing) or 'none'}")
    print(f"Prometheus: http://{prometheus.address}")
    for problem in problems:
        print(f"after {_DATA_SECONDS} s {problem}", file=sys.stderr)
    return 1 if problems else 0


def down(files: Files) -> int:
    """End Prometheus; what it saw stays."""
    pid = files.running_pid()
    if pid:
        os.kill(pid, signal.SIGTERM)
        _wait(lambda: not files.running_pid(), _STOP_SECONDS, f"process {pid} to end")
        print("monitoring: Prometheus is stopped")
    return 0


def _configure(files: Files) -> str:
    """Write what Prometheus reads, and return the address it is to listen at."""
    files.targets.mkdir(exist_ok=True)
    scrape = yaml.safe_load((files.directory / "scrape.yml").read_text(encoding="utf-8"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    content = {
        "global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": [str(files.directory / "rules.yml")],
        **scrape,
    }
    files.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return address


def _zones(directory: Path) -> Iterator[targets.Zone]:
    """Yield the zone in a directory while it runs."""
    endpoints = directory / "endpoints"
    if endpoints.exists():
        values = dict(line.split("=", 1) for line in endpoints.read_text(encoding="utf-8").splitlines())
        username, password = Path(values["ONE_AUTH"]).read_text(encoding="utf-8").strip().split(":", 1)
        yield targets.Zone(directory.name, values["ONE_XMLRPC"], username, password)


def _problems(prometheus: Prometheus, files: Files) -> list[str]:
    """Return what is missing, a phrase each."""
    found = (prometheus.ask("targets") or {}).get("activeTargets", [])
    problems = [f"{target['scrapeUrl']} is not up: {target['lastError']}" for target in found if target["health"] != "up"]
    if not found:
        problems.append("no VM offers metrics")
    for dashboard in files.dashboards():
        if dashboard["uid"] != GPU_DASHBOARD:
            problems += [f"the panel '{title}' of {dashboard['title']} has no data" for title in _empty(dashboard, series(prometheus, dashboard, PICTURED))]
    return problems


def _empty(dashboard: dict[str, Any], found: dict[tuple[int, str], list[dict[str, Any]]]) -> list[str]:
    """Return the titles of panels of which a query has given nothing."""
    return [panel["title"] for panel in dashboard["panels"] if not all(found[panel["id"], target["refId"]] for target in panel["targets"])]


def _wait(condition: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise MonitoringError(f"waited {seconds} s for {what}")
        time.sleep(_PAUSE)


def main() -> int:
    """Command line of ``python -m lab.monitoring``."""
    parser = argparse.ArgumentParser(prog="python -m lab.monitoring", description="Prometheus beside a zone in a box.")
    parser.add_argument("action", choices=("up", "run", "show", "down"))
    parser.add_argument("--directory", type=Path, default=ROOT / "build/monitoring")
    parser.add_argument("--zone", type=Path, default=ROOT / "build/lab/zone0", help="state directory of the zone")
    args = parser.parse_args()
    files = Files(args.directory.resolve())
    try:
        if args.action in ("up", "run"):
            return {"up": up, "run": run}[args.action](files, args.zone.resolve())
        return {"show": show, "down": down}[args.action](files)
    except (MonitoringError, engine.EngineError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
