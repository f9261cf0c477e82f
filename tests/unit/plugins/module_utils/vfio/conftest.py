# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine as a tree of files: /sys, /proc and /etc as far as the code under test reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Tree:
    """Makes the files of a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro quiet\n")
        self.file("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx\n\nprocessor\t: 1\n")
        self.file("proc/self/mountinfo", "")

    def file(self, path: str, text: str = "") -> Path:
        """Write a file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def link(self, path: str, target: Path | str) -> None:
        """Make a symbolic link. target: a path in the tree, or any other."""
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.root / target if isinstance(target, Path) else target)

    def device(self, address: str, identity: str, kind: str, driver: str = "", group: int | None = None, numa_node: int = -1) -> Path:
        """Add a PCI device and return its directory, relative to the root."""
        vendor, device = identity.split(":")
        path = Path("sys/devices/pci0000:00", address)
        for name, value in {"vendor": f"0x{vendor}", "device": f"0x{device}", "class": f"0x{kind}00", "numa_node": str(numa_node)}.items():
            self.file(f"{path}/{name}", f"{value}\n")
        if driver:
            self.link(f"{path}/driver", f"../../../bus/pci/drivers/{driver}")
        if group is not None:
            self.link(f"{path}/iommu_group", f"../../../kernel/iommu_groups/{group}")
            self.link(f"sys/kernel/iommu_groups/{group}/devices/{address}", path)
        self.link(f"sys/bus/pci/devices/{address}", path)
        return path

    def disk(self, pci: Path, name: str, number: str, *partitions: tuple[str, str]) -> None:
        """Add a disk on a PCI device, with partitions: name and major:minor of each."""
        block = pci / "host0/block" / name
        self.block(block, number)
        for part, part_number in partitions:
            self.block(block / part, part_number)
            self.file(f"{block}/{part}/partition", "1\n")

    def block(self, path: Path, number: str, *slaves: str) -> None:
        """Add a block device, and what it is made of."""
        (self.root / path / "slaves").mkdir(parents=True)
        for slave in slaves:
            self.link(f"{path}/slaves/{slave}", os.readlink(self.root / "sys/class/block" / slave))
        self.link(f"sys/class/block/{path.name}", path)
        self.link(f"sys/dev/block/{number}", path)

    def mount(self, number: str, mount_point: str, file_system: str = "ext4", source: str = "/dev/root") -> None:
        """Mount something."""
        with self.root.joinpath("proc/self/mountinfo").open("a") as stream:
            stream.write(f"36 35 {number} / {mount_point} rw,relatime shared:1 - {file_system} {source} rw\n")

    def interface(self, name: str, device: Path | None = None, lower: tuple[str, ...] = ()) -> None:
        """Add a network interface on a device, or above others."""
        directory = self.root / "sys/class/net" / name
        directory.mkdir(parents=True)
        if device is not None:
            self.link(f"sys/class/net/{name}/device", device)
        for other in lower:
            self.link(f"sys/class/net/{name}/lower_{other}", Path("sys/class/net", other))

    def process(self, number: int, *arguments: str, files: tuple[str, ...] = (), environment: str = "", parent: int = 1) -> None:
        """Start a process."""
        self.file(f"proc/{number}/cmdline", "\0".join(arguments) + "\0")
        self.file(f"proc/{number}/environ", environment)
        self.file(f"proc/{number}/status", f"Name:\tx\nPPid:\t{parent}\n")
        (self.root / f"proc/{number}/fd").mkdir()
        for index, file in enumerate(files):
            self.link(f"proc/{number}/fd/{index}", file)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)
