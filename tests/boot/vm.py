# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A VM of an image as OpenNebula boots it: an overlay of the image as its disk, its context on a CD, and nothing else.

Emulated (TCG), whatever the machine offers. Its network is QEMU's own: it reaches the loopback interface of this process at HOST, and
nothing else of the machine when the tests run in a network namespace of their own, as `make image-boot` has it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOST = "10.0.2.2"
ADDRESS = "10.0.2.15"
# Without a sign of life for that many seconds a VM hangs. A sign is output on its console, or more than a tenth of a core's time.
QUIET_SECONDS = 300
# What a boot may take of QEMU's processor time; how long that takes depends on what else the machine does.
CPU_SECONDS = 3000
# Even where one second of processor time takes five.
WALL_SECONDS = 7200
FIRMWARE = Path("/usr/share/OVMF")
MACHINES = {"bios": "pc", "uefi": "q35"}


@dataclass(frozen=True)
class Times:
    """What a stage took."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.0f} s, {self.cpu:.0f} s of QEMU's processor time"


class Vm:
    """A VM that runs."""

    def __init__(self, image: Path, directory: Path, firmware: str, context: dict[str, str], token: str, mac: str, key: Path, port: int) -> None:
        self.directory = directory
        self._key, self._port = key, port
        self.console = directory / "console.log"
        overlay = directory / "disk.qcow2"
        # Larger than the image, so that there is something to grow into.
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(overlay), "8G")
        cd = context_cd(directory, context, token)
        self._begin = time.monotonic()
        self._process = subprocess.Popen(
            [
                "nice", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", MACHINES[firmware], "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
                "-smp", "2", "-m", "2048", "-display", "none", "-no-user-config", "-serial", f"file:{self.console}",
                *_firmware(firmware, directory),
                "-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe",
                # On SATA with q35 and on IDE with pc, as OpenNebula has it.
                "-drive", f"file={cd},if=none,id=context,format=raw,readonly=on,media=cdrom", "-device", "ide-cd,drive=context",
                "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:22", "-device", f"virtio-net-pci,netdev=n0,mac={mac},romfile=",
            ],
            stdin=subprocess.DEVNULL,
        )

    def ssh(self, command: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess:
        """Run a shell command as root."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=60", "IdentitiesOnly=yes")
        return subprocess.run(
            ["ssh", "-F", "/dev/null", "-i", str(self._key), "-p", str(self._port), *(part for option in options for part in ("-o", option)),
             "root@127.0.0.1", command],
            capture_output=True, text=True, timeout=timeout, check=check,
        )

    def until(self, what: str, holds: Callable[[], object]) -> Times:
        """Wait until something holds as long as the VM makes progress; return the times since power-on."""
        seen, quiet_since = (0, 0.0), time.monotonic()
        while True:
            if holds():
                return self.times()
            now, signs = time.monotonic(), (self.console.stat().st_size if self.console.exists() else 0, self.cpu())
            if signs[0] > seen[0] or signs[1] - seen[1] > 0.1 * (now - quiet_since) + 1:
                seen, quiet_since = signs, now
            reasons = {
                f"QEMU ended with {self._process.returncode}": self._process.poll() is not None,
                f"it did nothing for {QUIET_SECONDS} s": now - quiet_since > QUIET_SECONDS,
                f"it took {CPU_SECONDS} s of processor time": signs[1] > CPU_SECONDS,
                f"{WALL_SECONDS} s passed": now - self._begin > WALL_SECONDS,
            }
            failed = [reason for reason, true in reasons.items() if true]
            assert not failed, f"waited for {what}, but {failed[0]}; the console ends with:\n{self.tail()}"
            time.sleep(2)

    def answers(self) -> bool:
        """Whether the VM lets the operator in."""
        try:
            return self.ssh("true", check=False, timeout=120).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def cpu(self) -> float:
        """Return the seconds of processor time that QEMU took."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def times(self) -> Times:
        """Return what passed since power-on."""
        return Times(time.monotonic() - self._begin, self.cpu())

    def tail(self) -> str:
        """Return the end of what the VM said on its console."""
        return self.console.read_text(errors="replace")[-3000:] if self.console.exists() else "(nothing)"

    def stop(self) -> None:
        """Pull the plug."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=60)


def context_cd(directory: Path, context: dict[str, str], token: str) -> Path:
    """Make the CD that OpenNebula attaches to a VM, and return its path."""
    files, cd = directory / "context", directory / "context.iso"
    files.mkdir()
    lines = []
    for name, value in context.items():
        escaped = value.replace("'", "'\\''")
        lines.append(f"{name}='{escaped}'\n")
    (files / "context.sh").write_text("".join(lines))
    (files / "token.txt").write_text(token)
    run("xorriso", "-as", "mkisofs", "-quiet", "-o", str(cd), "-V", "CONTEXT", "-J", "-R", str(files))
    return cd


def _firmware(firmware: str, directory: Path) -> list[str]:
    if firmware == "bios":
        return []
    variables = directory / "variables.fd"
    variables.write_bytes((FIRMWARE / "OVMF_VARS_4M.fd").read_bytes())
    code = FIRMWARE / "OVMF_CODE_4M.fd"
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={code}", "-drive", f"if=pflash,format=raw,file={variables}"]


def run(*command: str) -> None:
    """Run a program that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
