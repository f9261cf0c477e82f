# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a lab zone asks of the thing that runs its virtual machines."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

DRIVERS = {
    "docker": "lab.driver.docker:DockerDriver", "dummy": "lab.driver.dummy:DummyDriver", "qemu": "lab.driver.qemu:QemuDriver",
}

#: where a marketplace of the zone has the content of an app, by its MD5 sum
PUBLISHED = re.compile(r"https?://.*/([0-9a-f]{32})")


class DriverError(Exception):
    """The driver could not do what was asked; the text is one sentence for people."""


@dataclass(frozen=True)
class NicSpec:
    """A network interface with its lease."""

    network_id: int
    ip: str
    mac: str


@dataclass(frozen=True)
class DiskSpec:
    """A disk: a copy of an image's source, or the source itself if it is persistent; without a source, an empty one.

    `bus` is what OpenNebula calls DEV_PREFIX: vd, sd or hd.
    """

    id: int
    source: str
    size_mb: int = 0
    bus: str = "sd"
    persistent: bool = False


@dataclass(frozen=True)
class VmSpec:
    """A virtual machine as the driver sees it; `machine` is the type of its main board, the driver's own if empty."""

    id: int
    name: str
    cpu: float
    memory_mb: int
    disks: list[DiskSpec] = field(default_factory=list)
    nics: list[NicSpec] = field(default_factory=list)
    context: dict[str, str] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    vcpu: int = 1
    machine: str = ""
    uefi: bool = False

    @property
    def image(self) -> str:
        """The source of the first disk, empty without one."""
        return self.disks[0].source if self.disks else ""


@dataclass(frozen=True)
class NetSpec:
    """A virtual network; `subnet` is in CIDR notation, empty for a network without addresses of its own."""

    id: int
    name: str
    subnet: str
    gateway: str


@dataclass
class ImageSpec:
    """An image; register_image sets `source` to what VmSpec.image is to be for it (default: its path).

    `checksums`: what the content has to have, hexadecimal digits by algorithm, md5 or sha1.
    """

    id: int
    name: str
    path: str
    size_mb: int = 0
    source: str = ""
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PollResult:
    """What a driver sees of one machine: 'running', 'poweroff', 'suspended' or 'failed'; cpu in percent of one core."""

    state: str
    cpu: float = 0.0
    memory_kb: int = 0
    message: str = ""


class Driver(ABC):
    """Runs virtual machines. Methods are called from several threads, never with the zone locked."""

    #: the name hosts report as their hypervisor and virtualisation driver
    name = "dummy"
    #: what a registered image's FORMAT and DRIVER say
    image_format = "raw"
    #: whether change() works
    can_change = False

    def host_address(self) -> str:
        """Return the address of this machine that VMs reach it at; raises DriverError."""
        return "127.0.0.1"

    @abstractmethod
    def deploy(self, vm: VmSpec) -> None:
        """Start booting a machine and return; raises DriverError."""

    @abstractmethod
    def shutdown(self, vm: VmSpec, hard: bool) -> None:
        """End a machine and remove its disks; one that is already gone is no error. Raises DriverError."""

    @abstractmethod
    def poweroff(self, vm: VmSpec, hard: bool) -> None:
        """Stop a machine and keep its disks; raises DriverError."""

    @abstractmethod
    def resume(self, vm: VmSpec) -> None:
        """Start a stopped machine again, or let a suspended one go on; raises DriverError."""

    def suspend(self, vm: VmSpec) -> None:
        """Stop a machine and keep what it has in memory; raises DriverError."""
        raise DriverError(f"VM {vm.id} cannot be suspended: the driver {self.name} cannot keep a machine's memory.")

    def change(self, vm: VmSpec) -> None:
        """Give a machine that exists the size, interfaces, disks and context it has now; raises DriverError."""
        raise DriverError(f"VM {vm.id} cannot be changed: the driver {self.name} only makes machines as they are.")

    def change_context(self, vm: VmSpec) -> None:
        """Give a machine that runs its context as it is now, on a changed CD; raises DriverError."""
        self.change(vm)

    @abstractmethod
    def poll(self) -> dict[int, PollResult]:
        """What every machine of this zone is doing, by its id."""

    def devices(self) -> list[dict[str, str]]:
        """Return the attributes of the PCI devices of a host; raises DriverError if hosts cannot be looked at."""
        return []

    def filter(self, vm: VmSpec) -> bool:
        """Apply the rules of its security groups to a machine; False if the driver has no filter. Raises DriverError."""
        return False

    @abstractmethod
    def create_network(self, net: NetSpec) -> None:
        """Make a network; one that exists already is no error. Raises DriverError."""

    @abstractmethod
    def delete_network(self, net: NetSpec) -> None:
        """Remove a network; one that is already gone is no error. Raises DriverError."""

    @abstractmethod
    def register_image(self, image: ImageSpec) -> int:
        """Make an image usable, set image.source and return its size in MB; raises DriverError."""

    def publish_image(self, image: ImageSpec) -> str:
        """Copy an image into a marketplace and return its MD5 sum; raises DriverError."""
        raise DriverError(f"Image {image.id} cannot be published: the driver {self.name} has no way to.")

    def save_disk(self, vm: VmSpec, disk_id: int, image: ImageSpec) -> int:
        """Make an image of a disk of a machine, set image.source and return its size in MB; raises DriverError."""
        raise DriverError(f"Disk {disk_id} of VM {vm.id} cannot be saved: the driver {self.name} has no way to.")

    @abstractmethod
    def delete_image(self, image: ImageSpec) -> None:
        """Forget an image; raises DriverError."""

    @abstractmethod
    def clean(self) -> None:
        """Remove everything this driver made for the zone, known to the zone or not; raises DriverError."""


def load_driver(name: str, zone: str, state_dir: str | Path) -> Driver:
    """Return the driver of that name for a zone. Raises DriverError when it cannot work on this machine."""
    module, _separator, attribute = DRIVERS[name].partition(":")
    return getattr(import_module(module), attribute)(zone, str(state_dir))
