# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What modules take beside raw calls of OpenNebula's API, all measured in one run against a lab zone that boots nothing.

Modules run as Ansible runs them on a target, from the one file that it would send. Compared are

- a run that changes nothing of each module, with a module that makes one raw call;
- one_vm_info of many VMs, with the same listing as a raw call;
- one_vm that makes many VMs, with the start of a module and the same number of raw calls.

Of several runs in turn the fastest counts, because what else the machine does only ever makes runs slower. The ratio of
processor times is shown beside, which depends less on that.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
os.environ["ANSIBLE_COLLECTIONS_PATH"] = f"{REPOSITORY}:{REPOSITORY / 'build' / 'collections'}"

from ansible.constants import config  # noqa: E402
from ansible.executor import module_common  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import init_plugin_loader, module_loader  # noqa: E402
from ansible.template import Templar  # noqa: E402

MOST_UNCHANGED, MOST_CREATION, MOST_LISTING = 1.1, 1.5, 1.5
USER, PASSWORD = "oneadmin", "bench:mark"
RAW_MODULE = Path(__file__).with_name("raw_call.py")
VM_TEMPLATE = {"CPU": 0.01, "MEMORY": 1}
#: module and options; each names what the module itself made before
UNCHANGED = [
    ("one_cluster", {"name": "bench"}),
    ("one_host", {"name": "bench", "im_mad": "dummy", "vm_mad": "dummy"}),
    ("one_datastore", {"name": "bench", "ds_mad": "fs", "tm_mad": "shared"}),
    ("one_virtual_network", {"name": "bench", "template": {"VN_MAD": "bridge", "BRIDGE": "br0"}}),
    ("one_security_group", {"name": "bench", "rules": [{"RULE_TYPE": "inbound", "PROTOCOL": "tcp", "RANGE": 22}]}),
    ("one_image", {"name": "bench", "path": "/var/tmp/bench", "size": 10, "datastore": "default"}),
    ("one_marketplace_app", {"name": "bench", "marketplace": "bench", "image": "bench"}),
    ("one_template", {"name": "bench", "template": VM_TEMPLATE}),
    ("one_service_template", {"name": "bench", "template": {"roles": [{"name": "a", "vm_template": "bench", "cardinality": 1}]}}),
    ("one_service", {"name": "bench", "service_template": "bench"}),
    ("one_group", {"name": "bench"}),
    ("one_user", {"name": "bench", "password": "secret"}),
    ("one_quota", {"user": "bench", "vm": {"VMS": 5}}),
    ("one_acl", {"rules": [{"group": "bench", "resources": ["VM"], "rights": ["CREATE"]}]}),
    ("one_vdc", {"name": "bench", "groups": ["bench"]}),
    ("one_vm", {"name": "bench", "vm_template": "bench"}),
]


@contextmanager
def started_zone(directory: Path) -> Iterator[tuple[str, str]]:
    """A zone of its own; yields its two endpoints."""
    lab = [sys.executable, "-m", "lab"]
    zone = ["--name=bench", f"--state-dir={directory}", "--driver=dummy"]
    settings = ["--port=0", "--oneflow-port=0", "--onegate-port=0", "--interval=0.1", "--host-cpu=1000", "--host-memory=100000"]
    environment = {**os.environ, "LAB_PASSWORD": PASSWORD}
    done = subprocess.run([*lab, "up", *zone, *settings], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    endpoints = dict(line.split("=", 1) for line in done.stdout.splitlines())
    try:
        yield endpoints["ONE_XMLRPC"], endpoints["ONEFLOW_URL"]
    finally:
        subprocess.run([*lab, "clean", *zone], cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)


class Took(NamedTuple):
    """Seconds by the clock on the wall, and of processor time."""

    wall: float
    processor: float

    @classmethod
    def least(cls, times: Sequence[Took]) -> Took:
        return cls(*(min(kind) for kind in zip(*times, strict=True)))

    def __add__(self, other: Took) -> Took:
        return Took(self.wall + other.wall, self.processor + other.processor)


class Bench:
    """Runs modules and raw calls against one zone, and keeps whether all limits held."""

    def __init__(self, api_url: str, oneflow_url: str, directory: Path, runs: int) -> None:
        self._options = {"api_url": api_url, "oneflow_url": oneflow_url, "api_username": USER, "api_password": PASSWORD}
        self._directory = directory
        self.runs = runs
        self.within = True

    def payload(self, module: str, options: dict) -> Path:
        """The file that Ansible would send to run a module with these options."""
        is_raw = module == RAW_MODULE.stem
        path = RAW_MODULE if is_raw else module_loader.find_plugin(f"opennebula.flower.{module}")
        python = {"ansible_python_interpreter": sys.executable, "ansible_playbook_python": sys.executable}
        built = module_common.modify_module(
            module_name=module if is_raw else f"opennebula.flower.{module}", module_path=str(path),
            module_args={**self._options, **options}, templar=Templar(loader=DataLoader()), task_vars=python,
            module_compression=config.get_config_value("DEFAULT_MODULE_COMPRESSION"), remote_is_local=True,
        )
        file = self._directory / f"{module}-{time.monotonic_ns()}.py"
        file.write_bytes(built.b_module_data)
        return file

    def run(self, payload: Path) -> tuple[Took, dict]:
        """What one run took, and its result."""
        output = payload.with_suffix(".out")
        with output.open("w") as file:
            start = time.perf_counter()
            process = subprocess.Popen([sys.executable, str(payload)], stdout=file)
            _pid, _status, usage = os.wait4(process.pid, 0)
            took = Took(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)
        result = json.loads(re.search(r"\{.*\}", output.read_text(), re.DOTALL).group())
        if result.get("failed"):
            sys.exit(f"{payload.stem} failed: {result['msg']}")
        return took, result

    def fastest(self, *payloads: Path) -> list[Took]:
        """The least that each payload took, of several rounds in which each has its turn."""
        rounds = [[self.run(payload)[0] for payload in payloads] for _round in range(self.runs)]
        return [Took.least(times) for times in zip(*rounds, strict=True)]

    def call(self, method: str, *arguments: object) -> object:
        """One raw call."""
        body = xmlrpc.client.dumps((f"{USER}:{PASSWORD}", *arguments), method).encode()
        request = urllib.request.Request(self._options["api_url"], body, {"Content-Type": "text/xml"})
        with urllib.request.urlopen(request, timeout=60) as response:
            success, value, *_rest = xmlrpc.client.loads(response.read())[0][0]
        if not success:
            sys.exit(str(value))
        return value

    def compare(self, what: str, took: Took, against: Took, limit: float) -> None:
        """Print the ratios and keep whether that of the wall time is within its limit."""
        ratio = took.wall / against.wall
        self.within &= ratio <= limit
        mark = "" if ratio <= limit else "  <-- above the limit"
        print(f"  {what:<22} {took.wall * 1000:7.0f} ms {against.wall * 1000:7.0f} ms {ratio:6.2f} (at most {limit})"
              f"   {took.processor / against.processor:6.2f}{mark}", flush=True)


def header(what: str, against: str) -> None:
    """Print what the columns are."""
    print(f"{what:<24} {'module':>10} {against:>10}  ratio of times   of processor time")


def unchanged(bench: Bench) -> None:
    """Runs without change, against a module that makes one raw call."""
    header("no change", "raw module")
    bench.call("one.market.allocate", 'NAME="bench"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
    raw = bench.payload(RAW_MODULE.stem, {"method": "one.templatepool.info", "arguments": [-2, -1, -1]})
    for module, options in UNCHANGED:
        payload = bench.payload(module, options)
        bench.run(payload)
        if bench.run(payload)[1]["changed"]:
            sys.exit(f"{module} changes something in its second run.")
        bench.compare(module, *bench.fastest(payload, raw), MOST_UNCHANGED)


def listing(bench: Bench, vms: int) -> None:
    """one_vm_info of many VMs, against a module that makes the same call."""
    header("one_vm_info", "raw module")
    template = int(bench.call("one.template.allocate", 'NAME="many"\nCPU="0.01"\nMEMORY="1"'))
    for number in range(vms):
        bench.call("one.template.instantiate", template, f"many-{number}", True, "", False)
    info = bench.payload("one_vm_info", {})
    # However many pages the module takes, the raw call lists the same VMs.
    raw = bench.payload(RAW_MODULE.stem, {"method": "one.vmpool.infoextended", "arguments": [-2, -1, -1, -1]})
    found = len(bench.run(info)[1]["vms"])
    if found < vms:
        sys.exit(f"one_vm_info lists {found} VMs.")
    bench.compare(f"{found} VMs", *bench.fastest(info, raw), MOST_LISTING)


def creation(bench: Bench, vms: int) -> None:
    """Many VMs by one task, against the start of a module and as many raw calls."""
    header("one_vm, one task", "raw calls")
    raw = bench.payload(RAW_MODULE.stem, {"method": "one.templatepool.info", "arguments": [-2, -1, -1]})
    times, parts = [], []
    for number in range(bench.runs):
        made = bench.payload("one_vm", {"name": f"set{number}-###", "count": vms, "vm_template": "bench", "wait": False})
        times.append(bench.run(made)[0])
        start = bench.run(raw)[0]
        begin, processor = time.perf_counter(), time.process_time()
        for vm in range(vms):
            bench.call("one.template.instantiate", 0, f"raw{number}-{vm}", False, "", False)
        parts.append(start + Took(time.perf_counter() - begin, time.process_time() - processor))
    bench.compare(f"{vms} VMs", Took.least(times), Took.least(parts), MOST_CREATION)


def main() -> None:
    """Run the benchmark; exit status 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="rounds of each comparison")
    parser.add_argument("--vms", type=int, default=1000, help="VMs that one_vm_info lists")
    parser.add_argument("--made", type=int, default=100, help="VMs that one task makes")
    arguments = parser.parse_args()
    init_plugin_loader()
    with tempfile.TemporaryDirectory() as directory, started_zone(Path(directory) / "zone") as endpoints:
        bench = Bench(*endpoints, Path(directory), arguments.runs)
        unchanged(bench)
        creation(bench, arguments.made)
        listing(bench, arguments.vms)
    sys.exit(not bench.within)


if __name__ == "__main__":
    main()
