# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""gpu_hosts.yml, as far as it gets without a hypervisor: what it refuses before it changes anything, and the order of hosts.

tests/vfio has the rest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


def run(zone: ModuleZone, directory: Path, groups: dict[str, dict], **variables: object) -> subprocess.CompletedProcess:
    """Run the playbook. groups: the variables of each host by its name, by group."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"vars": local, "children": {group: {"hosts": hosts} for group, hosts in groups.items()}}}))
    api = {f"one_{name}": value for name, value in zone.options.items() if name.startswith("api_")}
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "-e", json.dumps({**api, **variables}), "playbooks/gpu_hosts.yml"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )


def refused(zone: ModuleZone, directory: Path, groups: dict, **variables: object) -> str:
    """Run the playbook with this machine as the only host, and return why it is refused."""
    zone.calls.clear()
    done = run(zone, directory, {group: {name: {}} for group, name in groups.items()}, **variables)
    assert done.returncode == 2, done.stdout + done.stderr
    assert zone.writes == []
    return re.sub(r"\s+", " ", done.stdout)


class Node:
    """This machine with another /etc, in which vfio_host has something to undo, and a stand-in for the command that applies udev's rules."""

    def __init__(self, name: str, directory: Path, zone: ModuleZone) -> None:
        self._zone = zone
        self._udevadm = directory / "udevadm"
        self._devices = directory / "etc/vfio-host.devices"
        self.name = name
        self.number = zone.changed("one_host", name=name, im_mad="dummy", vm_mad="dummy", wait_timeout=600)["host"]["id"]
        shutil.copytree("/etc", directory / "etc", symlinks=True)
        self._devices.write_text("0000:01:00.0\n")
        python = directory / "python"
        user = "" if os.geteuid() == 0 else "--map-root-user"
        python.write_text(f"""\
#!/bin/sh
PATH={directory}:$PATH exec unshare --mount {user} sh -c 'mount --bind {directory}/etc /etc && exec {sys.executable} "$@"' sh "$@"
""")
        python.chmod(0o755)
        self.variables = {"ansible_python_interpreter": str(python)}
        for command in ("update-initramfs", "dracut"):
            directory.joinpath(command).symlink_to("/bin/true")
        self.udevadm_ends_with(0)

    def udevadm_ends_with(self, status: int) -> None:
        """Have the command fail or not."""
        self._udevadm.write_text(f"#!/bin/sh\nexit {status}\n")
        self._udevadm.chmod(0o755)

    def status(self) -> str:
        """How the host is in OpenNebula, and whether the machine still has something to undo."""
        disabled = 4
        document = self._zone.call("one.host.info", self.number)
        return f"{self.name} {'disabled' if f'<STATE>{disabled}<' in document else 'enabled'}, {'set up' if self._devices.exists() else 'undone'}"


@pytest.fixture
def nodes(zone: ModuleZone, tmp_path: Path) -> list[Node]:
    directories = [tmp_path / name for name in ("gpu1", "gpu2", "gpu3")]
    for directory in directories:
        directory.mkdir()
    return [Node(directory.name, directory, zone) for directory in directories]


class Watch(threading.Thread):
    """Notes everything that nodes go through."""

    def __init__(self, zone: ModuleZone, nodes: list[Node]) -> None:
        super().__init__()
        self._zone = zone
        self._nodes = nodes
        self._ended = threading.Event()
        self.seen: list[tuple[str, ...]] = []

    def __enter__(self) -> list[tuple[str, ...]]:
        self.start()
        return self.seen

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.is_set():
            # What happens meanwhile waits for the zone, so that no two things happen at once.
            with self._zone.zone.core.locked():
                now = tuple(node.status() for node in self._nodes)
            if not self.seen or self.seen[-1] != now:
                self.seen.append(now)
            self._ended.wait(0.05)


def test_hosts_are_changed_one_after_the_other_and_none_after_one_that_fails(zone: ModuleZone, tmp_path: Path, nodes: list[Node]) -> None:
    nodes[1].udevadm_ends_with(1)
    groups = {"gpu_hosts": {node.name: node.variables for node in nodes}, "frontend": {"front": {}}}
    with Watch(zone, nodes) as seen:
        done = run(zone, tmp_path, groups, vfio_host_state="absent", vfio_host_reboot=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Host gpu2 stays disabled in OpenNebula until a run succeeds." in re.sub(r"\s+", " ", done.stdout)
    assert seen == [
        ("gpu1 enabled, set up", "gpu2 enabled, set up", "gpu3 enabled, set up"),
        ("gpu1 disabled, set up", "gpu2 enabled, set up", "gpu3 enabled, set up"),
        ("gpu1 disabled, undone", "gpu2 enabled, set up", "gpu3 enabled, set up"),
        ("gpu1 enabled, undone", "gpu2 enabled, set up", "gpu3 enabled, set up"),
        ("gpu1 enabled, undone", "gpu2 disabled, set up", "gpu3 enabled, set up"),
    ]


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
