# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone whose VMs are booted from the images in build/appliances."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vm import ADDRESS, HOST, Vm

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import to_dict
from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation, free_port
from ansible_collections.opennebula.flower.tests.app.shipped import APP
from lab.zone import Zone, ZoneConfig

IMAGES = Path(__file__).resolve().parents[2] / "build" / "appliances"
NETWORK = {
    "NAME": "private", "VN_MAD": "bridge", "BRIDGE": "one0", "NETWORK_ADDRESS": "10.0.2.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": HOST,
    "AR": {"TYPE": "IP4", "IP": ADDRESS, "SIZE": "1"},
}
CONTEXT = {
    "TOKEN": "YES", "NETWORK": "YES", "REPORT_READY": "YES", "READY_SCRIPT_PATH": "/opt/flower/bin/health-check", "SET_HOSTNAME": "booted",
}


class BootZone:
    """A zone that boots nothing by itself, and OneGate, which the VMs reach."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._session = zone.core.session_for(0)
        zone.core.config.onegate_endpoint = zone.onegate_url.replace("127.0.0.1", HOST)
        network = self._call("one.vn.allocate", render(NETWORK), -1)

        def usable() -> bool | None:
            return to_dict(self._call("one.vn.info", network, False))["STATE"] == "1" or None

        wait_until(usable, lambda: "the network is not made", 60)

    def allocate(self, **context: str) -> int:
        """Make a VM with this in its context besides what every appliance has."""
        template = {"NAME": "booted", "CPU": "1", "MEMORY": "2048", "NIC": {"NETWORK": "private"}, "CONTEXT": {**CONTEXT, **context}}
        return self._call("one.vm.allocate", render(template), False)

    def context(self, vm_id: int) -> tuple[dict[str, str], str, str]:
        """Return what is on the VM's CD, its token, and the hardware address of its network card."""
        template = self._info(vm_id)["TEMPLATE"]
        return template["CONTEXT"], self._zone.core.vm_token(vm_id), template["NIC"]["MAC"]

    def published(self, vm_id: int) -> dict[str, str]:
        """Return what the VM told OneGate."""
        return self._info(vm_id)["USER_TEMPLATE"] or {}

    def terminate(self, vm_id: int) -> None:
        """Give the address back."""
        self._call("one.vm.action", "terminate-hard", vm_id)

    def _info(self, vm_id: int) -> dict:
        return to_dict(self._call("one.vm.info", vm_id, False))

    def _call(self, method: str, *arguments: object) -> object:
        return self._zone.core.call(self._session, method, *arguments)


@pytest.fixture(scope="session")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootZone]:
    """The zone."""
    config = ZoneConfig(name="boot", state_dir=tmp_path_factory.mktemp("zone"), password="secret-of-the-zone", port=0, oneflow_port=0, onegate_port=0)
    zone = Zone(config)
    zone.start()
    yield BootZone(zone)
    zone.stop()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's key."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def boot(zone: BootZone, key: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[Vm, int]]]:
    """Boots an image with BIOS (machine type pc) or UEFI (q35); returns the VM and its id. One at a time: they share an address."""
    running: list[tuple[Vm, int]] = []

    def start(image: str, firmware: str, **context: str) -> tuple[Vm, int]:
        path = IMAGES / f"{image}.qcow2"
        assert path.is_file(), f"{path} is not there; make appliance-images makes it"
        vm_id = zone.allocate(SSH_PUBLIC_KEY=key.with_suffix(".pub").read_text().strip(), **context)
        values, token, mac = zone.context(vm_id)
        running.append((Vm(path, tmp_path, firmware, values, token, mac, key, free_port()), vm_id))
        return running[-1]

    yield start
    for vm, vm_id in running:
        vm.stop()
        zone.terminate(vm_id)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """A SuperLink on this machine that a VM can join."""
    with Federation(make_flower_venv(), APP, tmp_path / "federation") as running:
        yield running
