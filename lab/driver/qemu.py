# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The driver that boots disk images as a hypervisor does: with KVM where that works, emulated where it does not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lab import qemu
from lab.checkout import CHECKOUT
from lab.driver import PUBLISHED, DiskSpec, Driver, DriverError, ImageSpec, NetSpec, NicSpec, PollResult, VmSpec
from lab.driver.bridges import Bridges
from lab.driver.context import context_files
from lab.driver.usage import CpuShare
from lab.qemu import QemuError
from lab.qmp import Qmp, QmpError

_MB = 1 << 20
#: how long a guest may take to shut down before it loses its power; an emulated one is slow
SHUTDOWN_SECONDS = 180
_KILL_SECONDS = 10
#: how long a guest may take to give up a device
_UNPLUG_SECONDS = 60
_PAUSE = 0.1
#: what a disk is to the guest, by OpenNebula's prefix of its name
_DISKS = {"vd": "virtio-blk-pci", "sd": "scsi-hd", "hd": "ide-hd"}
#: empty sockets of a PCI Express board, which has no other places for devices that come later
_PORTS = tuple(f"port{number}" for number in range(4))


class QemuDriver(Driver):
    """Each machine is a QEMU process and a directory with its disks, which are overlays of copies of the images, and its CD.

    The processes outlive the zone's own. What is made for the zone is in state_dir/qemu and in a network namespace.
    """

    name = "qemu"
    image_format = "qcow2"

    def __init__(self, zone: str, state_dir: str) -> None:
        """Raises DriverError when programs or rights are missing."""
        missing = qemu.missing()
        if missing:
            raise DriverError(f"{', '.join(missing)} missing on this machine: run `python -m lab.qemu ensure` as root on Debian or Ubuntu.")
        if os.geteuid() != 0:
            raise DriverError("Only root can make the networks of VMs.")
        self._directory = Path(state_dir, "qemu").resolve()
        self._machines, self._images = self._directory / "machines", self._directory / "images"
        self._bridges = Bridges(f"one-{CHECKOUT}-{zone}", self._directory)
        self._share = CpuShare()

    def host_address(self) -> str:
        """Return the address of this machine at the zone's networks."""
        return self._bridges.address()

    def within(self, command: list[str]) -> list[str]:
        """Return a command that runs where nothing but this machine and the VMs can be reached."""
        return self._bridges.within(command)

    def deploy(self, vm: VmSpec) -> None:
        """Make the disks and start the machine; nothing is left of it when that fails."""
        if not vm.image:
            raise DriverError(f"VM {vm.id} cannot boot: it has no disk with an image.")
        try:
            self._start(vm)
        except DriverError:
            self._remove(vm.id)
            raise

    def shutdown(self, vm: VmSpec, hard: bool) -> None:
        """Remove the machine, its disks, its CD and its ends in the networks; without `hard` the guest shuts down first."""
        if not hard:
            self._power_down(vm.id)
        self._remove(vm.id)

    def poweroff(self, vm: VmSpec, hard: bool) -> None:
        """Press the power button, and pull the plug when the guest does not obey."""
        if not hard:
            self._power_down(vm.id)
        self._kill(vm.id)

    def resume(self, vm: VmSpec) -> None:
        """Start the machine with everything as it is now, or let one that is suspended go on."""
        if self._pid(vm.id):
            self._command(vm.id, f"VM {vm.id} cannot be resumed", "cont")
            self._suspended(vm.id).unlink(missing_ok=True)
        else:
            self._start(vm)

    def suspend(self, vm: VmSpec) -> None:
        """Stop the machine's processors."""
        self._command(vm.id, f"VM {vm.id} cannot be suspended", "stop")
        self._suspended(vm.id).touch()

    def change(self, vm: VmSpec) -> None:
        """Attach and detach disks and interfaces of a machine that runs; one that is off gets them when it starts."""
        if not self._pid(vm.id):
            return
        what = f"VM {vm.id} cannot be changed"
        with self._talk(vm.id, what) as machine:
            there = {item["name"] for item in machine("qom-list", path="/machine/peripheral")}
            disks = {_disk_name(disk): disk for disk in vm.disks}
            nics = {_nic_name(nic): nic for nic in vm.nics}
            try:
                for name in sorted(there):
                    if name.startswith("disk-") and name not in disks:
                        self._pull_disk(machine, vm.id, name)
                    elif name.startswith("nic-") and name not in nics:
                        self._pull_nic(machine, vm.id, name)
                for name, disk in disks.items():
                    if name not in there:
                        self._push_disk(machine, vm, disk)
                    elif disk.size_mb * _MB > _virtual_size(what, self._disk_file(vm.id, disk)):
                        machine("block_resize", node_name=name, size=disk.size_mb * _MB)
                for name, nic in nics.items():
                    if name not in there:
                        self._push_nic(machine, vm.id, nic)
            except QmpError as error:
                raise DriverError(f"{what}: {error}.") from error
        self.change_context(vm)

    def change_context(self, vm: VmSpec) -> None:
        """Put a new CD into the drive."""
        what = f"The context of VM {vm.id} cannot be changed"
        self._write_cd(vm, what)
        if self._pid(vm.id):
            self._command(vm.id, what, "blockdev-change-medium", id="cd", filename=str(self._cd(vm.id)), format="raw", force=True)

    def poll(self) -> dict[int, PollResult]:
        """Look for the process of every machine; load comes from the kernel's own counters."""
        found = {}
        for directory in self._machines.iterdir() if self._machines.exists() else ():
            vm_id = int(directory.name)
            pid = self._pid(vm_id)
            if pid is None:
                found[vm_id] = PollResult("poweroff", message="QEMU has ended")
            else:
                state = "suspended" if self._suspended(vm_id).exists() else "running"
                found[vm_id] = PollResult(state, self._share.of(pid, cpu_seconds(pid)), _resident_kb(pid))
        return found

    def create_network(self, net: NetSpec) -> None:
        """Make a bridge."""
        self._bridges.create(net)

    def delete_network(self, net: NetSpec) -> None:
        """Remove the bridge."""
        self._bridges.delete(net)

    def register_image(self, image: ImageSpec) -> int:
        """Copy a disk image into the zone, as a datastore does, and return the size of the disk in MB."""
        what, copy = f"Image {image.name} cannot be registered", self._images / f"{image.id}.qcow2"
        self._images.mkdir(parents=True, exist_ok=True)
        image.source = str(copy)
        if not image.path:
            _tool(what, "qemu-img", "create", "-q", "-f", "qcow2", str(copy), f"{image.size_mb}M")
            return image.size_mb
        published = PUBLISHED.fullmatch(image.path)
        path = self._published(published[1]) if published else Path(image.path)
        if not path.is_file():
            raise DriverError(f"{what}: PATH {image.path} is not a file of this machine.")
        for algorithm, digits in image.checksums.items():
            with path.open("rb") as file:
                if hashlib.file_digest(file, algorithm).hexdigest() != digits:
                    raise DriverError("Hash does not match")
        about = json.loads(_tool(what, "qemu-img", "info", "--output=json", str(path)))
        if "backing-filename" in about:
            # It would take what somebody wrote into the image for a file of this machine.
            raise DriverError(f"{what}: {image.path} is only an overlay of another image.")
        if about["format"] == "qcow2":
            _tool(what, "cp", "--reflink=auto", "--sparse=always", str(path), str(copy))
        else:
            _tool(what, "qemu-img", "convert", "-f", about["format"], "-O", "qcow2", str(path), str(copy))
        return -(-about["virtual-size"] // _MB)

    def publish_image(self, image: ImageSpec) -> str:
        """Copy an image to where the zone's marketplaces have their apps and return its MD5 sum."""
        what = f"Image {image.name} cannot be published"
        try:
            with open(image.source, "rb") as file:
                digest = hashlib.file_digest(file, "md5").hexdigest()
        except OSError as error:
            raise DriverError(f"{what}: {error.strerror}.") from error
        copy = self._published(digest)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _tool(what, "cp", "--reflink=auto", "--sparse=always", image.source, str(copy))
        return digest

    def save_disk(self, vm: VmSpec, disk_id: int, image: ImageSpec) -> int:
        """Copy a disk as it is now, of a VM that runs too, with what it has from its image; return its size in MB."""
        what, copy = f"Disk {disk_id} of VM {vm.id} cannot be saved", self._images / f"{image.id}.qcow2"
        disk = next((disk for disk in vm.disks if disk.id == disk_id), None)
        if disk is None:
            raise DriverError(f"{what}: the VM has no such disk.")
        self._images.mkdir(parents=True, exist_ok=True)
        _tool(what, "qemu-img", "convert", "-q", "--force-share", "-f", "qcow2", "-O", "qcow2", str(self._disk_file(vm.id, disk)), str(copy))
        image.source = str(copy)
        return -(-_virtual_size(what, copy) // _MB)

    def delete_image(self, image: ImageSpec) -> None:
        """Remove the zone's copy."""
        (self._images / f"{image.id}.qcow2").unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove every process, network, disk and image of the zone, known to it or not."""
        self._bridges.clean()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, vm: VmSpec) -> None:
        what = f"VM {vm.id} cannot boot"
        directory = self._machine(vm.id)
        directory.mkdir(parents=True, exist_ok=True)
        self._suspended(vm.id).unlink(missing_ok=True)
        for disk in vm.disks:
            self._make_disk(vm.id, disk, what)
        kept = {self._disk_file(vm.id, disk) for disk in vm.disks}
        for file in directory.glob("disk-*.qcow2"):
            if file not in kept:
                file.unlink()
        ends = {self._bridges.plug(vm.id, nic) for nic in vm.nics}
        for end in set(self._bridges.ends(vm.id)) - ends:
            self._bridges.unplug(vm.id, end)
        self._write_cd(vm, what)
        try:
            command = qemu.machine(directory, vm.machine, vm.uefi, vm.vcpu, vm.memory_mb)
        except QemuError as error:
            raise DriverError(f"{what}: {error}.") from error
        command += ["-name", f"one-{vm.id}", "-pidfile", str(self._pid_file(vm.id)), "-qmp", "unix:qmp,server=on,wait=off", "-daemonize",
                    "-device", "virtio-scsi-pci,id=scsi"]
        if "q35" in vm.machine or (vm.uefi and not vm.machine):
            command += [part for number, port in enumerate(_PORTS, start=1)
                        for part in ("-device", f"pcie-root-port,id={port},chassis={number},slot={number}")]
        for number, disk in enumerate(vm.disks):
            device = self._disk_device(disk) | ({"bootindex": 1} if number == 0 else {})
            command += ["-blockdev", json.dumps(self._block(vm.id, disk)), "-device", json.dumps(device)]
        for nic in vm.nics:
            backend = ",".join(f"{name}={value}" for name, value in self._backend(vm.id, nic).items())
            command += ["-netdev", backend.removeprefix("type="), "-device", json.dumps(self._nic_device(vm.id, nic))]
        if vm.context:
            command += ["-drive", f"file={self._cd(vm.id)},if=none,id=context,format=raw,readonly=on,media=cdrom",
                        "-device", "ide-cd,drive=context,id=cd"]
        # The socket's name has to be short, so it is relative.
        started = subprocess.run(
            self._bridges.within(command), cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        if started.returncode:
            # Hints follow behind the reason.
            reason = started.stderr.strip().splitlines() or ["no reason given"]
            raise DriverError(f"{what}: {reason[0].removeprefix('qemu-system-x86_64: ').rstrip('.')}.")

    def _make_disk(self, vm_id: int, disk: DiskSpec, what: str) -> None:
        if disk.bus not in _DISKS:
            raise DriverError(f"{what}: disk {disk.id} is to be {disk.bus}, expected one of: {', '.join(_DISKS)}.")
        file = self._disk_file(vm_id, disk)
        if not file.exists():
            backing = ("-b", disk.source, "-F", "qcow2") if disk.source else ()
            _tool(what, "qemu-img", "create", "-q", "-f", "qcow2", *backing, str(file), *(() if disk.source else (f"{disk.size_mb}M",)))
        if disk.size_mb * _MB > _virtual_size(what, file):
            _tool(what, "qemu-img", "resize", "-q", str(file), f"{disk.size_mb}M")

    def _push_disk(self, machine: Qmp, vm: VmSpec, disk: DiskSpec) -> None:
        self._make_disk(vm.id, disk, f"Disk {disk.id} cannot be attached to VM {vm.id}")
        try:
            machine("blockdev-add", **self._block(vm.id, disk))
            try:
                _plug(machine, self._disk_device(disk))
            except QmpError:
                machine("blockdev-del", node_name=_disk_name(disk))
                raise
        except QmpError:
            if not disk.persistent:
                self._disk_file(vm.id, disk).unlink()
            raise

    def _pull_disk(self, machine: Qmp, vm_id: int, name: str) -> None:
        _unplug(machine, name)
        # The device lets go of it a moment after it is gone.
        if not _wait(lambda: _succeeds(machine, "blockdev-del", node_name=name), _KILL_SECONDS):
            machine("blockdev-del", node_name=name)
        (self._machine(vm_id) / f"{name}.qcow2").unlink(missing_ok=True)

    def _push_nic(self, machine: Qmp, vm_id: int, nic: NicSpec) -> None:
        end = self._bridges.plug(vm_id, nic)
        try:
            machine("netdev_add", **self._backend(vm_id, nic))
            try:
                _plug(machine, self._nic_device(vm_id, nic))
            except QmpError:
                machine("netdev_del", id=end)
                raise
        except QmpError:
            self._bridges.unplug(vm_id, end)
            raise

    def _pull_nic(self, machine: Qmp, vm_id: int, name: str) -> None:
        end = self._bridges.end(vm_id, NicSpec(0, "", name.removeprefix("nic-")))
        _unplug(machine, name)
        machine("netdev_del", id=end)
        self._bridges.unplug(vm_id, end)

    def _block(self, vm_id: int, disk: DiskSpec) -> dict:
        file = {"driver": "file", "filename": str(self._disk_file(vm_id, disk))}
        # What a guest writes may be lost when this machine loses its power.
        return {"driver": "qcow2", "node-name": _disk_name(disk), "file": file, "cache": {"no-flush": True}}

    @staticmethod
    def _disk_device(disk: DiskSpec) -> dict:
        bus = {"bus": "scsi.0"} if disk.bus == "sd" else {}
        return {"driver": _DISKS[disk.bus], "id": _disk_name(disk), "drive": _disk_name(disk)} | bus

    def _backend(self, vm_id: int, nic: NicSpec) -> dict[str, str]:
        end = self._bridges.end(vm_id, nic)
        return {"type": "tap", "id": end, "ifname": end, "script": "no", "downscript": "no"}

    def _nic_device(self, vm_id: int, nic: NicSpec) -> dict:
        # Nothing boots from the network.
        return {"driver": "virtio-net-pci", "id": _nic_name(nic), "netdev": self._bridges.end(vm_id, nic), "mac": nic.mac, "romfile": ""}

    def _write_cd(self, vm: VmSpec, what: str) -> None:
        try:
            qemu.context_cd(context_files(vm), self._cd(vm.id))
        except QemuError as error:
            raise DriverError(f"{what}: {error}.") from error

    def _power_down(self, vm_id: int) -> None:
        """Wait until the guest has shut down, or SHUTDOWN_SECONDS."""
        if not self._pid(vm_id):
            return
        what = f"VM {vm_id} cannot be shut down"
        if self._suspended(vm_id).exists():
            self._command(vm_id, what, "cont")
        self._command(vm_id, what, "system_powerdown")
        _wait(lambda: not self._pid(vm_id), SHUTDOWN_SECONDS)

    def _kill(self, vm_id: int) -> None:
        pid = self._pid(vm_id)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if not _wait(lambda: not self._pid(vm_id), _KILL_SECONDS):
                raise DriverError(f"VM {vm_id} cannot be powered off: process {pid} did not end within {_KILL_SECONDS} seconds.")
        self._suspended(vm_id).unlink(missing_ok=True)

    def _remove(self, vm_id: int) -> None:
        self._kill(vm_id)
        for end in self._bridges.ends(vm_id):
            self._bridges.unplug(vm_id, end)
        shutil.rmtree(self._machine(vm_id), ignore_errors=True)

    def _command(self, vm_id: int, what: str, command: str, **arguments: object) -> None:
        with self._talk(vm_id, what) as machine:
            try:
                machine(command, **arguments)
            except QmpError as error:
                raise DriverError(f"{what}: {error}.") from error

    def _talk(self, vm_id: int, what: str) -> Qmp:
        try:
            return Qmp(self._machine(vm_id) / "qmp")
        except QmpError as error:
            raise DriverError(f"{what}: {error}.") from error

    def _pid(self, vm_id: int) -> int | None:
        """Return the id of a machine's process, None if it has ended."""
        try:
            pid = int(self._pid_file(vm_id).read_text(encoding="ascii"))
            # Another process may have the number now. That of one nobody waited for is empty.
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if str(self._pid_file(vm_id)).encode() in arguments else None

    def _machine(self, vm_id: int) -> Path:
        return self._machines / str(vm_id)

    def _pid_file(self, vm_id: int) -> Path:
        return self._machine(vm_id) / "pid"

    def _suspended(self, vm_id: int) -> Path:
        return self._machine(vm_id) / "suspended"

    def _cd(self, vm_id: int) -> Path:
        return self._machine(vm_id) / "context.iso"

    def _published(self, digest: str) -> Path:
        return self._directory / "published" / f"{digest}.qcow2"

    def _disk_file(self, vm_id: int, disk: DiskSpec) -> Path:
        return Path(disk.source) if disk.persistent else self._machine(vm_id) / f"{_disk_name(disk)}.qcow2"


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process took, 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_kb(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _disk_name(disk: DiskSpec) -> str:
    return f"disk-{disk.id}"


def _nic_name(nic: NicSpec) -> str:
    return f"nic-{nic.mac.replace(':', '').lower()}"


def _plug(machine: Qmp, device: dict) -> None:
    """Add a device, on a PCI Express board in the first socket that is empty; raises QmpError."""
    ports = {item["name"] for item in machine("qom-list", path="/machine/peripheral")}.intersection(_PORTS)
    if "bus" in device or not ports:
        machine("device_add", **device)
        return
    for port in sorted(ports):
        try:
            machine("device_add", **device, bus=port)
            return
        except QmpError as error:
            problem = error
    raise problem


def _unplug(machine: Qmp, name: str) -> None:
    """Take a device away, which the guest has to agree to; raises QmpError."""
    machine("device_del", id=name)
    if not _wait(lambda: name not in {item["name"] for item in machine("qom-list", path="/machine/peripheral")}, _UNPLUG_SECONDS):
        raise QmpError(f"the guest did not give up {name} within {_UNPLUG_SECONDS} seconds")


def _succeeds(machine: Qmp, command: str, **arguments: object) -> bool:
    try:
        machine(command, **arguments)
    except QmpError:
        return False
    return True


def _wait(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _virtual_size(what: str, file: Path) -> int:
    return json.loads(_tool(what, "qemu-img", "info", "--force-share", "--output=json", str(file)))["virtual-size"]


def _tool(what: str, *command: str) -> str:
    try:
        return qemu.run(*command)
    except QemuError as error:
        raise DriverError(f"{what}: {str(error).rstrip('.')}.") from error
