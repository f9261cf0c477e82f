# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI devices of this machine, as Linux shows them in /sys. No Ansible."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# What a hypervisor's PCI devices mostly are; lspci and its names may not be installed.
_KINDS = {
    "0100": "SCSI controller", "0101": "IDE controller", "0104": "RAID controller", "0106": "SATA controller", "0107": "SAS controller",
    "0108": "NVMe disk", "0200": "Ethernet controller", "0207": "InfiniBand controller", "0280": "network controller",
    "0300": "VGA controller", "0302": "3D controller", "0380": "display controller", "0403": "audio device", "0600": "host bridge",
    "0601": "ISA bridge", "0604": "PCI bridge", "0c03": "USB controller", "0c05": "SMBus controller", "0c80": "serial bus controller",
    "1200": "accelerator",
}
IN_A_PATH = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True)
class Device:
    """One function of a PCI device.

    driver: what holds it, empty for nothing. group: its IOMMU group, none without an IOMMU. numa_node: none where there is only one.
    boot_vga: whether the firmware shows the console on it. siblings: what it cannot be told apart from elsewhere, such as the physical
    function of a virtual one.
    """

    address: str
    vendor: str
    device: str
    kind: str
    driver: str = ""
    group: int | None = None
    numa_node: int | None = None
    boot_vga: bool = False
    physical: str = ""

    @property
    def identity(self) -> str:
        """Vendor and device, 10de:26b9."""
        return f"{self.vendor}:{self.device}"

    @property
    def slot(self) -> str:
        """The address without the function."""
        return self.address.rpartition(".")[0]

    @property
    def is_bridge(self) -> bool:
        """Whether it is part of the machine and leads to other devices."""
        return self.kind.startswith("06")

    @property
    def is_passed_over(self) -> bool:
        """Whether a group may hold it beside the devices of a VM: bridges between buses, which VFIO leaves to the kernel."""
        return self.kind in ("0600", "0604")

    @property
    def is_display(self) -> bool:
        """Whether it is a graphics card; drivers of those do not always let go."""
        return self.kind.startswith("03")

    @property
    def label(self) -> str:
        """Return the device in words."""
        kind = _KINDS.get(self.kind, f"class {self.kind}")
        return f"{self.address} ({kind} {self.identity}, {f'driver {self.driver}' if self.driver else 'no driver'})"

    def to_dict(self) -> dict:
        """Return what modules give away, with the names that one_host_info has."""
        return {
            "address": self.address, "short_address": self.address.partition(":")[2], "vendor": self.vendor, "device": self.device,
            "class": self.kind, "driver": self.driver, "group": self.group, "numa_node": self.numa_node, "boot_vga": self.boot_vga,
        }


def devices(root: Path) -> dict[str, Device]:
    """Return the PCI devices by address. root: the directory that has sys in it, / but for tests."""
    directory = root / "sys/bus/pci/devices"
    if not directory.is_dir():
        return {}
    return {path.name: _device(path) for path in sorted(directory.iterdir())}


def function_of(path: Path) -> str:
    """Return the address of the PCI function that a device in /sys belongs to, empty for none. path: resolved already."""
    return next((part for part in reversed(path.parts) if IN_A_PATH.fullmatch(part)), "")


def _device(path: Path) -> Device:
    group, numa_node = _link(path / "iommu_group"), int(_text(path / "numa_node") or -1)
    return Device(
        address=path.name,
        vendor=_text(path / "vendor")[2:],
        device=_text(path / "device")[2:],
        kind=_text(path / "class")[2:6],
        driver=_link(path / "driver"),
        group=int(group) if group else None,
        numa_node=numa_node if numa_node >= 0 else None,
        boot_vga=_text(path / "boot_vga") == "1",
        physical=_link(path / "physfn"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    """Return the name of what a symbolic link leads to, empty if there is none."""
    return os.path.basename(os.readlink(path)) if path.is_symlink() else ""
