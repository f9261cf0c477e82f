# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A hypervisor in a box: a QEMU machine with an emulated IOMMU and spare PCI devices, reached by SSH.

Everything is emulated (TCG), so that the tests need no virtualisation of the machine they run on.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disk import Platform, built, run

from ansible_collections.opennebula.flower.tests.support.ports import free_port
from lab.qmp import Qmp

# Alone, a machine boots in 20 to 60 s.
BOOT_SECONDS = 600


class Machine:
    """A machine that runs, and how to reach it."""

    def __init__(self, port: int, key: Path, console: Path, monitor: Path, process: subprocess.Popen) -> None:
        self.port = port
        self.key = key
        self._console = console
        self._monitor = monitor
        self._process = process

    def ssh(self, command: str, timeout: float = 60) -> str:
        """Run a shell command as root and return its output; an error if it fails."""
        return self._ssh(command, timeout).stdout

    def boot_id(self) -> str:
        """Return what differs from boot to boot."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> None:
        """Restart the machine and wait until it has booted."""
        before = self.boot_id()
        self._ssh("systemctl reboot", 60, check=False)
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            self.wait_for_ssh()
            try:
                if self.boot_id() != before:
                    return
            except subprocess.SubprocessError:
                # It went down between the two.
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"no new boot after {BOOT_SECONDS} s; the console ends with: {self._tail()}")
            time.sleep(1)

    def wait_for_ssh(self) -> None:
        """Wait until the machine has booted."""
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                if self._ssh("true", 20, check=False).returncode == 0:
                    return
            except subprocess.TimeoutExpired:
                pass
            if self._process.poll() is not None:
                raise AssertionError(f"QEMU ended with {self._process.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no SSH after {BOOT_SECONDS} s; the console ends with: {self._tail()}")
            time.sleep(1)

    def plug_in_card(self) -> None:
        """Plug another network card of the spare ones' kind into the port that is empty."""
        with Qmp(self._monitor) as qemu:
            qemu("device_add", driver="e1000e", bus="rp4", id="late")

    def _ssh(self, command: str, timeout: float, check: bool = True) -> subprocess.CompletedProcess:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"]
        return subprocess.run(
            ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(self.port), *options, "root@127.0.0.1", command],
            capture_output=True, text=True, timeout=timeout, check=check,
        )

    def _tail(self) -> str:
        return self._console.read_text(errors="replace")[-1500:]


@contextmanager
def running(platform: Platform, directory: Path) -> Iterator[Machine]:
    """Boot a machine of the platform with a fresh disk.

    In groups of their own: an NVMe disk of the same kind as the one with the root file system, two network cards of another kind than the
    machine's own, which the cloud kernel has no driver for, a sound card, and a port that is empty. The functions of the chipset share one
    group.
    """
    made = built(platform)
    overlay, spare, console, monitor = (directory / name for name in ("disk.qcow2", "spare.img", "console.log", "monitor"))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(made / "disk.img"), "-F", "raw", str(overlay))
    run("qemu-img", "create", "-q", "-f", "raw", str(spare), "64M")
    port = free_port()
    with console.open("wb") as log:
        process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
                "-smp", "2", "-m", "1024", "-display", "none", "-serial", "stdio", "-no-user-config",
                "-qmp", f"unix:{monitor},server=on,wait=off",
                "-device", platform.iommu, "-kernel", str(made / "grub.krn"),
                "-drive", f"file={overlay},if=none,id=d0,format=qcow2,cache=unsafe",
                "-device", "nvme,drive=d0,serial=root0,bootindex=1,addr=4",
                "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=n0,addr=5",
                "-device", "pcie-root-port,id=rp1,chassis=1,slot=1,addr=6",
                "-drive", f"file={spare},if=none,id=d1,format=raw,cache=unsafe", "-device", f"nvme,drive=d1,serial=spare0,{platform.spare}",
                "-device", "pcie-root-port,id=rp2,chassis=2,slot=2,addr=7", "-device", "e1000e,bus=rp2",
                "-device", "pcie-root-port,id=rp3,chassis=3,slot=3,addr=9", "-device", "e1000e,bus=rp3",
                "-device", "pcie-root-port,id=rp4,chassis=4,slot=4,addr=10", "-device", "ich9-intel-hda,addr=11",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )
    try:
        machine = Machine(port, made / "key", console, monitor, process)
        machine.wait_for_ssh()
        yield machine
    finally:
        process.kill()
        process.wait(timeout=30)
