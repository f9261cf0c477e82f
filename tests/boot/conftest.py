# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone whose driver boots disk images, seen by its XML-RPC API."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from pyone import OneServer
from vm import Vm, request, wait_until

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation
from ansible_collections.opennebula.flower.tests.app.shipped import APP
from lab import qemu
from lab.addresses import free_subnet
from lab.driver.qemu import QemuDriver
from lab.zone import Zone, ZoneConfig

IMAGES = Path(__file__).resolve().parents[2] / "build" / "appliances"
NAME, PASSWORD = "boot", "secret-of-the-zone"
DEFAULT_DATASTORE = 1
CONTEXT = {"TOKEN": "YES", "NETWORK": "YES"}
APPLIANCE = {"REPORT_READY": "YES", "READY_SCRIPT_PATH": "/opt/flower/bin/health-check", "SET_HOSTNAME": "booted"}
READY, LOCKED, DONE = 1, 4, 6


class BootZone:
    """The zone, the address of this machine at its networks, and what its driver keeps in this machine."""

    def __init__(self, zone: Zone, driver: QemuDriver) -> None:
        self.host = driver.host_address()
        self.within = driver.within
        self.xmlrpc_url, self.oneflow_url = zone.xmlrpc_url, zone.oneflow_url
        self.api = OneServer(zone.xmlrpc_url, session=f"oneadmin:{PASSWORD}")
        self.directory = zone.config.state_dir / "qemu"
        self.network = self._network("private")

    def add_network(self, name: str) -> int:
        """Make one more network and return its id."""
        return self._network(name)

    def add_image(self, path: Path) -> int:
        """Register a disk image by its path and return its id."""
        name = f"image-{len(self.api.imagepool.info(-2, -1, -1).IMAGE)}"
        image = self.api.image.allocate(render({"NAME": name, "PATH": str(path)}), DEFAULT_DATASTORE)
        wait_until(lambda: self.api.image.info(image).STATE != LOCKED, f"image {path} is registered", 120)
        about = self.api.image.info(image)
        assert about.STATE == READY, about.TEMPLATE.get("ERROR")
        return image

    def allocate(self, image: int, memory_mb: int, size_mb: int, context: dict[str, str], **more: object) -> Vm:
        """Make a VM with one disk and one interface; more: attributes of its template."""
        template = {
            "NAME": "booted", "CPU": "0.5", "VCPU": "2", "MEMORY": str(memory_mb), "DISK": {"IMAGE_ID": str(image), "SIZE": str(size_mb)},
            "NIC": {"NETWORK": "private"}, "CONTEXT": {**CONTEXT, **context}, **more,
        }
        vm_id = self.api.vm.allocate(render(template), False)
        return Vm(self.api, vm_id, self.directory / "machines" / str(vm_id))

    def terminate(self, vm: Vm) -> None:
        """End a VM, whatever it does."""
        if vm.info().STATE != DONE:
            self.api.vm.action("terminate-hard", vm.id)
            wait_until(lambda: vm.info().STATE == DONE, f"VM {vm.id} is gone", 60)

    def _network(self, name: str) -> int:
        prefix = free_subnet("10.214").removesuffix(".0/24")
        template = {
            "NAME": name, "VN_MAD": "bridge", "BRIDGE": name, "NETWORK_ADDRESS": f"{prefix}.0", "NETWORK_MASK": "255.255.255.0",
            "GATEWAY": f"{prefix}.1", "AR": {"TYPE": "IP4", "IP": f"{prefix}.10", "SIZE": "20"},
        }
        network = self.api.vn.allocate(render(template), -1)
        wait_until(lambda: self.api.vn.info(network).STATE == READY, f"network {name} is made", 60)
        return network


@pytest.fixture(scope="session", autouse=True)
def emulated() -> None:
    """Install what is missing."""
    qemu.ensure()


@pytest.fixture(scope="session")
def zone(emulated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootZone]:
    """The zone."""
    state = tmp_path_factory.mktemp("zone")
    driver = QemuDriver(NAME, str(state))
    try:
        host = driver.host_address()
        zone = Zone(ZoneConfig(NAME, state, PASSWORD, host=host, port=0, oneflow_port=0, onegate_port=0, onegate_host=host, interval=0.5), driver)
        zone.start()
        yield BootZone(zone, driver)
        zone.stop()
    finally:
        driver.clean()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's key."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def boot(zone: BootZone, key: Path) -> Iterator[Callable[..., Vm]]:
    """Boots an appliance with BIOS (machine type pc) or UEFI (q35) and this in its context; returns the VM."""
    running: list[Vm] = []

    def start(name: str, firmware: str, memory_mb: int = 2048, vcpu: int = 2, **context: str) -> Vm:
        path = IMAGES / f"{name}.qcow2"
        assert path.is_file(), f"{path} is not there; make appliance-images makes it"
        board = {"bios": {"MACHINE": qemu.BIOS_MACHINE}, "uefi": {"MACHINE": qemu.UEFI_MACHINE, "FIRMWARE": "UEFI"}}[firmware]
        login = {"SSH_PUBLIC_KEY": key.with_suffix(".pub").read_text().strip()}
        # The disk is larger than the image, so that there is something to grow into.
        vm = zone.allocate(zone.add_image(path), memory_mb, 8192, {**APPLIANCE, **login, **context}, OS=board, VCPU=str(vcpu))
        vm.key = key
        running.append(vm)
        return vm

    yield start
    for vm in running:
        zone.terminate(vm)


@pytest.fixture(scope="module")
def small(zone: BootZone) -> Iterator[Vm]:
    """A small VM that runs what it is sent."""
    vm = zone.allocate(
        zone.add_image(tiny.image()), 256, 512, {"GREETING": "it's $NAME"}, OS={"MACHINE": qemu.BIOS_MACHINE},
    )
    vm.until("its shell", lambda: request(vm.address, "true") is not None)
    yield vm
    zone.terminate(vm)


@pytest.fixture
def federation(zone: BootZone, tmp_path: Path) -> Iterator[Federation]:
    """A SuperLink on this machine that a VM can join."""
    with Federation(make_flower_venv(), APP, tmp_path / "federation", zone.host) as running:
        yield running
