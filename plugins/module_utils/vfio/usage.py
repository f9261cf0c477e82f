# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What uses the PCI devices of this machine: file systems, the way to the machine, and VMs. No Ansible.

Each function returns reasons by the address of the device. root: the directory that has sys and proc in it, / but for tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .pci import function_of

_VFIO_FILE = re.compile(r"/dev/vfio/(devices/)?(vfio)?([0-9]+)")
_SSH = b"SSH_CONNECTION="


def disks(root: Path) -> dict[str, str]:
    """Return the devices with disks in use: mounted file systems, below device mapper, RAID and the like too, and swap."""
    found: dict[str, str] = {}
    mounts = [line.split() for line in _lines(root / "proc/self/mountinfo")]
    # The root file system counts most, should one device carry several.
    for fields in sorted(mounts, key=lambda fields: fields[4]):
        number, mount_point = fields[2], fields[4]
        file_system, source = fields[fields.index("-") + 1 :][:2]
        reason = f"carries the file system that is mounted at {mount_point}"
        for block in _blocks(root, number, file_system, source):
            for address in _carriers(root, block):
                found.setdefault(address, reason)
    for line in _lines(root / "proc/swaps")[1:]:
        block = _named(root, line.split()[0])
        for address in _carriers(root, block) if block else ():
            found.setdefault(address, f"carries the swap space {line.split()[0]}")
    return found


def network_cards(root: Path, interfaces: dict[str, str]) -> dict[str, str]:
    """Return the devices below interfaces, also through bridges, bonds and VLANs. interfaces: why each must stay, by its name."""
    found: dict[str, str] = {}
    for interface, reason in interfaces.items():
        for address in _below(root, interface, set()):
            found.setdefault(address, reason)
    return found


def management_interfaces(routes: Iterable[dict], addresses: Iterable[dict], ssh_address: str) -> dict[str, str]:
    """Return the interfaces that lead to this machine, and why each of them does.

    routes, addresses: what ``ip -json route show default`` and ``ip -json address`` say. ssh_address: where Ansible's connection ends.
    """
    found: dict[str, str] = {}
    for link in addresses:
        if ssh_address and ssh_address in (entry.get("local") for entry in link.get("addr_info", ())):
            found[link["ifname"]] = f"is the management network card: {link['ifname']} has {ssh_address}, where Ansible is connected"
    for route in routes:
        for hop in route.get("nexthops") or [route]:
            if hop.get("dev"):
                found.setdefault(hop["dev"], f"is the management network card: the default route leads through {hop['dev']}")
    return found


def ssh_address(root: Path, pid: int) -> str:
    """Return the address of this machine that the SSH connection above a process ends at, empty without one."""
    # sudo clears the environment; one of its parents still has it.
    while pid > 1:
        try:
            variables = root.joinpath(f"proc/{pid}/environ").read_bytes().split(b"\0")
            status = root.joinpath(f"proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        for variable in variables:
            if variable.startswith(_SSH):
                return variable[len(_SSH) :].decode("ascii", "replace").split()[2].removeprefix("::ffff:").partition("%")[0]
        pid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
    return ""


def machines(root: Path) -> dict[str, str]:
    """Return the devices that a program such as QEMU has opened through VFIO."""
    found: dict[str, str] = {}
    for process in root.joinpath("proc").iterdir():
        if not process.name.isdigit():
            continue
        for target in _open_files(process):
            match = _VFIO_FILE.fullmatch(target)
            if match:
                for address in _opened(root, *match.groups()):
                    found.setdefault(address, f"is in use by process {process.name} ({_program(process)})")
    return found


def _blocks(root: Path, number: str, file_system: str, source: str) -> Iterator[Path]:
    """Yield the block devices of a mount. number: major:minor as mountinfo has it."""
    if file_system == "zfs":
        # Which disks a pool has only ZFS's own tools know: none of them is given away.
        yield from root.joinpath("sys/class/block").iterdir()
    elif not number.startswith("0:"):
        yield root / "sys/dev/block" / number
    elif source.startswith("/dev/"):
        # btrfs has no number of its own, and perhaps more disks than it names.
        named = _named(root, source)
        for devices in root.glob("sys/fs/btrfs/*/devices"):
            if named and named.name in (path.name for path in devices.iterdir()):
                yield from (root / "sys/class/block" / path.name for path in devices.iterdir())
        if named:
            yield named


def _named(root: Path, device_file: str) -> Path | None:
    """Return the block device of a file in /dev, none for a file that is no device."""
    # /dev/mapper/x leads to /dev/dm-0.
    target = root / device_file.lstrip("/")
    name = os.path.basename(os.readlink(target)) if target.is_symlink() else target.name
    block = root / "sys/class/block" / name
    return block if block.exists() else None


def _carriers(root: Path, block: Path) -> Iterator[str]:
    """Yield the PCI functions that a block device is on."""
    block = block.resolve()
    if block.joinpath("partition").exists():
        block = block.parent
    below = block / "slaves"
    parts = list(below.iterdir()) if below.is_dir() else []
    for part in parts:
        yield from _carriers(root, part)
    address = function_of(block)
    if address:
        yield address
    elif block.parent.parent.name == "nvme-subsystem":
        # A disk with several ways to it is none of its controllers' own.
        for controller in block.parent.glob("nvme*"):
            address = function_of(controller.resolve())
            if address:
                yield address


def _below(root: Path, interface: str, seen: set[str]) -> Iterator[str]:
    if interface in seen:
        return
    seen.add(interface)
    directory = root / "sys/class/net" / interface
    if not directory.exists():
        return
    own = directory / "device"
    address = function_of(own.resolve()) if own.exists() else ""
    if address:
        yield address
        physical = root / "sys/bus/pci/devices" / address / "physfn"
        if physical.is_symlink():
            yield os.path.basename(os.readlink(physical))
    lower = [path.name.removeprefix("lower_") for path in directory.glob("lower_*")]
    if not address and not lower:
        # An internal port of Open vSwitch does not say which cards are below its bridge.
        lower = [path.name.removeprefix("lower_") for path in root.glob("sys/class/net/ovs-system/lower_*")]
    for name in lower:
        yield from _below(root, name, seen)


def _opened(root: Path, by_device: str | None, _prefix: str | None, number: str) -> list[str]:
    """Return the devices behind /dev/vfio/7, a group, or /dev/vfio/devices/vfio0, one device."""
    if by_device:
        address = function_of(root.joinpath("sys/class/vfio-dev", f"vfio{number}").resolve())
        return [address] if address else []
    group = root / "sys/kernel/iommu_groups" / number / "devices"
    # A mediated device such as a vGPU has no address: it is a part of the one it is below.
    return [function_of(path.resolve()) or path.name for path in group.iterdir()] if group.is_dir() else []


def _open_files(process: Path) -> Iterator[str]:
    try:
        files = list(process.joinpath("fd").iterdir())
    except OSError:
        return
    for file in files:
        try:
            yield os.readlink(file)
        except OSError:
            # Closed meanwhile.
            continue


def _program(process: Path) -> str:
    """Return the program of a process, with the name that libvirt gives a VM."""
    try:
        arguments = process.joinpath("cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "ended"
    name = os.path.basename(arguments[0])
    guest = arguments[arguments.index("-name") + 1].partition(",")[0].removeprefix("guest=") if "-name" in arguments[:-1] else ""
    return f"{name}, VM {guest}" if guest else name


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
