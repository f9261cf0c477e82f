# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A training in a real federation, watched by the real supervisor, HAProxy, node_exporter and Prometheus, all on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jinja2
import pytest
import requests
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.channel import NoChannel
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.exposition import render, write
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.node_metrics import Counts
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor import Config, Supervisor
from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.app.shipped import APP
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from lab.monitoring import Prometheus

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = REPOSITORY / "roles"
ROUNDS = 3
PROGRAMS = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "haproxy")
DEADLINE = 1800  # seconds, for a machine that others use too
READINGS = "heat,noise,label\n" + "".join(f"{number % 7},{number % 5},0\n" for number in range(200)) + "900,900,1\n" * 20
# There is no GPU and no certificate here; the first is what NVIDIA's exporter writes, the second what the SuperLink's VM does.
DCGM = "".join(
    f'DCGM_FI_DEV_{name}{{gpu="0",UUID="GPU-1",modelName="NVIDIA H200"}} {value}\n'
    for name, value in {"GPU_UTIL": 93, "FB_FREE": 60000, "FB_USED": 80000, "GPU_TEMP": 61, "POWER_USAGE": 512.5, "XID_ERRORS": 0}.items()
)
CERTIFICATES = 'fl_certificate_not_after_timestamp_seconds{certificate="server"} %d\n'


class Monitoring(Prometheus):
    """What watches a federation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes = ExitStack()
        self.pids: dict[str, int] = {}
        self._targets: list[dict[str, Any]] = []
        super().__init__(f"127.0.0.1:{free_port()}")
        self.superlink = ""
        self.alertmanager_address = f"127.0.0.1:{free_port()}"

    def close(self) -> None:
        self._processes.close()

    def start(self, name: str, *command: str) -> None:
        log = self._processes.enter_context((self.directory / f"{name}.log").open("ab"))
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._processes.callback(_stop, process)
        self.pids[name] = process.pid

    def kill(self, name: str) -> None:
        """Kill a program that was started."""
        os.kill(self.pids[name], signal.SIGKILL)

    def exporter(self, name: str, port: int) -> Path:
        """Start node_exporter as the role does and return the directory of its files."""
        files = self.directory / name
        files.mkdir()
        flags = ["--collector.disable-defaults", "--collector.filesystem", "--collector.textfile", f"--collector.textfile.directory={files}"]
        self.start(name, "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}", "--web.disable-exporter-metrics", *flags)
        return files

    def gateway(self, flower: str, exporter: int) -> None:
        """Start HAProxy with the role's own configuration."""
        ports = {name: free_port() for name in ("fleet", "control", "metrics", "loopback")}
        variables = yaml.safe_load((ROLES / "flower_superlink/defaults/main.yml").read_text()) | {
            "ansible_managed": "", "flower_tls_enabled": False, "flower_fleet_api_address": f"127.0.0.1:{ports['fleet']}",
            "flower_control_api_address": f"127.0.0.1:{ports['control']}", "flower_superlink_port": flower.rpartition(":")[2],
            "flower_superlink_artifacts_port": free_port(), "flower_superlink_runtime_port": free_port(),
            "flower_superlink_runtime_methods": ["get-nodes"], "flower_metrics_enabled": True, "flower_metrics_from": [], "flower_metrics_auth": "",
            "flower_metrics_certfile": "", "flower_metrics_port": ports["metrics"],
        }  # fmt: skip
        text = rendered("flower_superlink", "haproxy.cfg.j2", variables)
        # Here Flower itself speaks no TLS, and nothing but it and the ports is another.
        text = re.sub(r" ssl (verify required ca-file|crt) \S*( alpn \S*)?", "", text)
        text = text.replace("127.0.0.1:8405", f"127.0.0.1:{ports['loopback']}").replace("127.0.0.1:8406", f"127.0.0.1:{exporter}")
        (self.directory / "haproxy.cfg").write_text(text)
        self.start("haproxy", "haproxy", "-f", str(self.directory / "haproxy.cfg"))
        self.superlink = f"127.0.0.1:{ports['metrics']}"
        self.fleet = f"127.0.0.1:{ports['fleet']}"

    def target(self, address: str, **labels: str) -> None:
        self._targets.append({"targets": [address], "labels": labels})
        (self.directory / "targets.json").write_text(json.dumps(self._targets))

    def alertmanager(self) -> None:
        """Start Alertmanager with the role's own configuration."""
        variables = {"ansible_managed": "", "flower_monitoring_receiver": {}, "flower_monitoring_critical_receiver": {}}
        path = self.directory / "alertmanager.yml"
        path.write_text(rendered("flower_monitoring", "alertmanager.yml.j2", variables))
        flags = [f"--config.file={path}", f"--storage.path={self.directory / 'alertmanager'}", "--cluster.listen-address="]
        self.start("alertmanager", "prometheus-alertmanager", *flags, f"--web.listen-address={self.alertmanager_address}")

    def told(self, **labels: str) -> set[str]:
        """Return the alerts with these labels that Alertmanager holds."""
        try:
            answer = requests.get(f"http://{self.alertmanager_address}/api/v2/alerts", timeout=60)
        except requests.ConnectionError:
            return set()
        return {alert["labels"]["alertname"] for alert in answer.json() if labels.items() <= alert["labels"].items()} if answer.ok else set()

    def scrape(self, faster: int = 1) -> None:
        """Start Prometheus with the role's own configuration, which looks every second; all times of the rules are divided by a number."""
        rules = self.directory / "rules.yml"
        rules.write_text(quicker((ROLES / "flower_monitoring/files/rules.yml").read_text(), faster))
        variables = yaml.safe_load((ROLES / "flower_monitoring/vars/main.yml").read_text()) | {
            "ansible_managed": "", "flower_monitoring_interval": 1, "flower_monitoring_alertmanager_address": self.alertmanager_address,
            "flower_monitoring_prometheus_address": self.address, "flower_monitoring_targets": [str(self.directory / "targets.json")],
            "flower_monitoring_user": "", "flower_monitoring_ca": "",
        }  # fmt: skip
        text = rendered("flower_monitoring", "prometheus.yml.j2", variables)
        text = text.replace("/etc/prometheus/flower-rules.yml", str(rules))
        (self.directory / "prometheus.yml").write_text(text)
        flags = [f"--config.file={self.directory / 'prometheus.yml'}", f"--storage.tsdb.path={self.directory / 'tsdb'}"]
        self.start("prometheus", "prometheus", *flags, f"--web.listen-address={self.address}")


def rendered(role: str, template: str, variables: dict[str, Any]) -> str:
    """Return a file of a role, as far as Ansible's own filters are not needed for it."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLES / role / "templates"), trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - no HTML
    environment.filters["comment"] = lambda text: f"# {text}"
    environment.filters["combine"] = lambda one, other: one | other
    environment.filters["to_json"] = json.dumps
    return environment.get_template(template).render(variables)


def quicker(rules: str, faster: int) -> str:
    """Return rules whose delays, ranges and spans of time are so many times shorter, none below a second; rates stay rates per minute."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def shorter(match: re.Match[str]) -> str:
        return f"{match[1]}{max(1, int(match[2]) * seconds[match[3]] // faster)}s"

    if faster == 1:
        return rules
    rules = re.sub(r"(for: |\[|offset )(\d+)([smhd])\b", shorter, rules)
    return re.sub(r"(?<= )(300|600|3600|86400)\b", lambda match: str(int(match[1]) // faster), rules)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition is true. Raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE} s for {what}")
        time.sleep(0.5)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


def work_of(log: Path) -> Counts:
    """Count what a SuperNode's output tells, which is its journal on a VM."""
    counts = Counts()
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            counts.add(json.loads(line))
    return counts


@pytest.fixture(scope="session")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """A training of three rounds, all of which Prometheus has seen."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    assert not missing, f"{missing} is missing: make monitoring installs it"
    directory = tmp_path_factory.mktemp("monitoring")
    flower = tmp_path_factory.mktemp("federation")
    watch = Monitoring(directory)
    exporter = free_port()
    try:
        with Federation(make_flower_venv(), APP, flower) as federation:
            files = watch.exporter("superlink", exporter)
            write(str(files / "certificates.prom"), CERTIFICATES % (time.time() + 300 * 86400))
            watch.gateway(federation.address, exporter)
            watch.target(watch.superlink, zone="north", name="link", role="superlink", vm="1")
            nodes = {}
            for name in ("one", "two"):
                (flower / name).mkdir()
                (flower / name / "readings.csv").write_text(READINGS)
                before = set(flower.glob("supernode-*.log"))
                federation.add_node(data=flower / name)
                (log,) = set(flower.glob("supernode-*.log")) - before
                port = free_port()
                nodes[log] = watch.exporter(name, port)
                watch.target(f"127.0.0.1:{port}", zone="north" if name == "one" else "south", name=name, role="supernode", vm=name)
            watch.scrape()
            wait_until(lambda: watch.query('haproxy_server_status{state="UP",proxy="superlink"} == 1'), "Prometheus to see the SuperLink")
            supervise(federation, flower, files, nodes)
            requests.get(f"http://{watch.fleet}/health", timeout=60)
            wait_until(lambda: watch.query("fl_training_status == 2"), "Prometheus to see the end of the training")
            wait_until(lambda: watch.query("sum(fl_supernode_trainings_total) >= 6"), "Prometheus to see what the nodes did")
            yield watch
    finally:
        watch.close()


def supervisor_of(federation: Federation, flower: Path, metrics: Path, run: dict[str, Any], app: Path = APP) -> Supervisor:
    """Return a supervisor that trains an app with this configuration and writes its metrics to a file."""
    (flower / "runs").mkdir()
    binaries = make_flower_venv()
    config = Config(
        flwr_command=["env", f"FLWR_HOME={flower / 'home'}", f"PATH={binaries}:/usr/bin:/bin", str(binaries / "flwr")],
        superlink_connection="local",
        app_directory=str(app),
        runs_directory=str(flower / "runs"),
        runs_directory_in_app=str(flower / "runs"),
        state_file=str(flower / "supervisor.json"),
        initial_run={"name": "initial", "config": run},
        health_url=f"http://{federation.address}/health",
        metrics_file=str(metrics),
        failing_seconds=DEADLINE,
    )
    return Supervisor(config, NoChannel())


def supervise(federation: Federation, flower: Path, files: Path, nodes: dict[Path, Path]) -> None:
    """Have the supervisor train, and write the metrics of all machines meanwhile."""
    run = {"use-case": "anomaly-detection", "num-server-rounds": ROUNDS, "checkpoint-enabled": True, "checkpoint-interval": 1}
    supervisor = supervisor_of(federation, flower, files / "training.prom", {**run, "checkpoint-path": str(flower / "checkpoints")})

    def at_work() -> bool:
        supervisor.step()
        for log, directory in nodes.items():
            write(str(directory / "node.prom"), render(work_of(log).metrics(connected=True)))
            write(str(directory / "dcgm.prom"), DCGM)
        return supervisor.runs[0].status in ("completed", "failed")

    wait_until(at_work, "the training to end")
    assert supervisor.runs[0].status == "completed", supervisor.runs[0].message
    at_work()
