# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""gpu_hosts.yml, as far as it gets without a hypervisor: what it refuses before it changes anything. tests/vfio has the rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


def refused(zone: ModuleZone, directory: Path, groups: dict, **variables: object) -> str:
    """Run the playbook with this machine as the only host, and return why it is refused."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"vars": local, "children": {group: {"hosts": {name: {}}} for group, name in groups.items()}}}))
    api = {f"one_{name}": value for name, value in zone.options.items() if name.startswith("api_")}
    zone.calls.clear()
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "-e", json.dumps({**api, **variables}), "playbooks/gpu_hosts.yml"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert zone.writes == []
    return re.sub(r"\s+", " ", done.stdout)


def test_a_host_without_devices_is_refused(zone: ModuleZone, tmp_path: Path) -> None:
    shown = refused(zone, tmp_path, {"gpu_hosts": "node1", "frontend": "front"})
    assert "node1 has neither vfio_host_devices nor vfio_host_ids: name the devices that VMs should get" in shown


def test_a_device_that_does_not_exist_is_refused_before_opennebula_is_asked(zone: ModuleZone, tmp_path: Path) -> None:
    shown = refused(zone, tmp_path, {"gpu_hosts": "node1", "frontend": "front"}, vfio_host_devices=["0000:aa:00.0"])
    assert "node1 stays as it is: there is no PCI device 0000:aa:00.0" in shown
    assert zone.calls == []


def test_a_host_that_opennebula_does_not_know_is_refused(zone: ModuleZone, tmp_path: Path) -> None:
    shown = refused(zone, tmp_path, {"gpu_hosts": "node1", "frontend": "front"}, vfio_host_state="absent")
    assert "OpenNebula has 0 hosts with the name 'node1'; set one_host_name of node1" in shown


def test_an_inventory_without_a_front_end_is_refused(zone: ModuleZone, tmp_path: Path) -> None:
    shown = refused(zone, tmp_path, {"gpu_hosts": "modules-host01"}, vfio_host_state="absent")
    assert "The inventory group 'frontend' has no host" in shown
