# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The images boot as OpenNebula boots them, configure themselves from their context CD, and say that they are ready.

Each VM is emulated and takes minutes of processor time; what each stage took is printed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import IMAGES, Federation
from vm import Vm

SUPERNODE, SUPERLINK, EDGE = "flower-supernode-sklearn-native", "flower-superlink-container", "flower-supernode-edge-sklearn"
GIB = 1 << 30
MIB = 1 << 20
EDGE_IDLE_MEMORY = 250 * MIB
# What the guest took, and its services that took most.
COSTS = r"""
cat /var/log/one-appliance/flower-boot.log; cut -d' ' -f1 /proc/uptime; head -1 /proc/stat
systemctl show '*.service' --property Id,CPUUsageNSec |
awk 'BEGIN { RS = ""; FS = "[=\n]" } { for (i = 1; i < NF; i += 2) of[$i] = $(i + 1); printf "%.1f %s\n", of["CPUUsageNSec"] / 1e9, of["Id"] }' |
sort -rn | head -12
"""


def events(output: Path, name: str) -> list[dict]:
    """Return the data of a run's events of that name."""
    log = output / "events.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [entry["data"] for entry in entries if entry["event"] == name]


def ready(vm: Vm, what: str) -> None:
    """Wait until the VM lets the operator in and until it reports READY, and check what holds for every image."""
    print(f"\n{what}: SSH after {vm.until('SSH', vm.answers)}", flush=True)

    def through() -> bool:
        # Nobody logs in meanwhile, which takes an emulated processor seconds each time.
        published = vm.published()
        return published.get("READY") == "YES" or "FL_ERROR" in published

    is_ready = vm.until("READY", through)
    print(f"{what}: READY after {is_ready}", flush=True)
    assert vm.published().get("READY") == "YES", vm.ssh("tail -n 60 /var/log/one-appliance/*.log").stdout
    print(f"{what}: the guest says:\n{vm.ssh(COSTS).stdout}", flush=True)
    assert int(vm.ssh("df --block-size=1 --output=size / | tail -1").stdout) > 7 * GIB
    assert vm.ssh("hostname").stdout == "booted\n"
    assert len(vm.ssh("cat /etc/machine-id").stdout.strip()) == 32
    assert "/etc/ssh/ssh_host_ed25519_key" in vm.ssh("ls /etc/ssh/ssh_host_*_key").stdout


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_supernode_joins_and_trains(boot: Callable, federation: Federation, firmware: str, tmp_path: Path) -> None:
    vm = boot(
        SUPERNODE, firmware, ONEAPP_FL_SUPERLINK_ADDRESS=federation.address, ONEAPP_FL_TLS_ENABLED="NO", ONEAPP_FL_NODE_AUTH_ENABLED="NO",
        ONEAPP_ML_FRAMEWORK="sklearn"
    )
    ready(vm, f"SuperNode with {firmware.upper()}")
    published = vm.published()
    assert published["FL_NODE_READY"] == "YES"
    is_uefi = vm.ssh("test -d /sys/firmware/efi", check=False).returncode == 0
    assert is_uefi == (firmware == "uefi")

    output = tmp_path / "run"
    federation.submit(
        output_directory=str(output), num_server_rounds=1, min_fit_clients=1, min_evaluate_clients=1, min_available_clients=1, round_timeout=3600
    )
    print(f"SuperNode with {firmware.upper()}: a round trained after {vm.until('a round', lambda: events(output, 'round_end'))}", flush=True)
    assert [event["round"] for event in events(output, "round_end")] == [1]


@pytest.mark.skipif(not (IMAGES / f"{EDGE}.qcow2").is_file(), reason=f"build/appliances has no {EDGE}")
def test_a_small_machine_at_the_edge_waits_for_its_superlink(boot: Callable) -> None:
    # Nothing answers there: that address is for documents (RFC 5737).
    vm = boot(
        EDGE, "bios", memory_mb=1024, vcpu=1,
        ONEAPP_FL_SUPERLINK_ADDRESS="192.0.2.1:9092", ONEAPP_FL_TLS_ENABLED="NO", ONEAPP_FL_NODE_AUTH_ENABLED="NO", ONEAPP_ML_FRAMEWORK="sklearn",
    )  # fmt: skip
    print(f"\nedge: SSH after {vm.until('SSH', vm.answers)}", flush=True)
    log = "cat /var/log/one-appliance/flower-boot.log"
    print(f"edge: waits after {vm.until('what it waits for', lambda: 'waiting for' in vm.ssh(log).stdout)}", flush=True)
    assert "waiting for the SuperLink at 192.0.2.1:9092: " in vm.ssh(log).stdout
    assert "FL_ERROR" not in vm.published() and vm.published().get("READY") != "YES"
    print(f"edge: the guest says:\n{vm.ssh('free -m; df -m /').stdout}", flush=True)
    total, available = (int(vm.ssh(f"awk '/^{name}:/ {{print $2}}' /proc/meminfo").stdout) * 1024 for name in ("MemTotal", "MemAvailable"))
    assert total - available < EDGE_IDLE_MEMORY


def test_superlink_publishes_its_endpoint(boot: Callable) -> None:
    vm = boot(SUPERLINK, "bios")
    ready(vm, "SuperLink")
    published = vm.published()
    assert published["FL_READY"] == "YES"
    assert published["FL_ENDPOINT"] == f"{vm.address}:9092"
