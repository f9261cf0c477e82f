# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A VM of the zone, as its API and its driver show it and from inside, and waiting for what it does.

An emulated VM takes as long as the machine lets it, so that waiting ends when the VM does nothing any more, and not after some time.
"""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyone import OneServer

from lab.driver.qemu import cpu_seconds

# Without a sign of life for that many seconds a VM hangs. A sign is output on its console, or that it had or wanted more than a tenth of a core.
QUIET_SECONDS = 300
# What a boot may take of QEMU's processor time; how long that takes depends on what else the machine does.
CPU_SECONDS = 3000
# Even where one second of processor time takes five.
WALL_SECONDS = 7200
ACTIVE, RUNNING, BOOT_FAILURE = 3, 3, 36


@dataclass(frozen=True)
class Times:
    """What a stage took."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.0f} s, {self.cpu:.0f} s of QEMU's processor time"


class Vm:
    """A VM that boots; ``directory`` is what the driver keeps of it, ``key`` lets the operator in."""

    def __init__(self, api: OneServer, vm_id: int, directory: Path) -> None:
        self.id, self.directory = vm_id, directory
        self.key: Path | None = None
        self.console = directory / "console.log"
        self._api, self._begin = api, time.monotonic()
        self.address = self.info().TEMPLATE["NIC"]["IP"]

    def info(self) -> object:
        """Return what the API says about the VM."""
        return self._api.vm.info(self.id)

    def published(self) -> dict[str, str]:
        """Return what the VM told OneGate."""
        return dict(self.info().USER_TEMPLATE)

    def runs(self) -> bool:
        """Whether the API says RUNNING."""
        info = self.info()
        return (info.STATE, info.LCM_STATE) == (ACTIVE, RUNNING)

    def ssh(self, command: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess:
        """Run a shell command as root."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=60", "IdentitiesOnly=yes")
        return subprocess.run(
            ["ssh", "-F", "/dev/null", "-i", str(self.key), *(part for option in options for part in ("-o", option)), f"root@{self.address}", command],
            capture_output=True, text=True, timeout=timeout, check=check,
        )

    def until(self, what: str, holds: Callable[[], object]) -> Times:
        """Wait until something holds as long as the VM makes progress; return the times since power-on."""
        seen, quiet_since = (0, 0.0), time.monotonic()
        while True:
            if holds():
                return self.times()
            now, signs = time.monotonic(), (self.console.stat().st_size if self.console.exists() else 0, self.wanted())
            if signs[0] > seen[0] or signs[1] - seen[1] > 0.1 * (now - quiet_since) + 1:
                seen, quiet_since = signs, now
            info = self.info()
            reasons = {
                f"it is in state {info.STATE}, {info.LCM_STATE}: {info.USER_TEMPLATE.get('ERROR')}":
                    info.STATE > ACTIVE or info.LCM_STATE == BOOT_FAILURE,
                f"it did nothing for {QUIET_SECONDS} s": now - quiet_since > QUIET_SECONDS,
                f"it took {CPU_SECONDS} s of processor time": self.cpu() > CPU_SECONDS,
                f"{WALL_SECONDS} s passed": now - self._begin > WALL_SECONDS,
            }
            failed = [reason for reason, true in reasons.items() if true]
            assert not failed, f"waited for {what}, but {failed[0]}; the console ends with:\n{self.tail()}"
            time.sleep(1)

    def answers(self) -> bool:
        """Whether the VM lets the operator in."""
        try:
            return self.ssh("true", check=False, timeout=120).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def pid(self) -> int:
        """Return the id of QEMU's process."""
        return int((self.directory / "pid").read_text())

    def cpu(self) -> float:
        """Return the seconds of processor time that QEMU took."""
        try:
            return cpu_seconds(self.pid())
        except FileNotFoundError:
            return 0.0

    def wanted(self) -> float:
        """Return the seconds that QEMU's threads ran or waited for a processor, which on a busy machine they mostly do."""
        nanoseconds = 0
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{self.pid()}/task").iterdir():
                ran, waited, _ = (thread / "schedstat").read_text().split()
                nanoseconds += int(ran) + int(waited)
        return nanoseconds / 1e9

    def times(self) -> Times:
        """Return what passed since power-on."""
        return Times(time.monotonic() - self._begin, self.cpu())

    def tail(self) -> str:
        """Return the end of what the VM said on its console."""
        return self.console.read_text(errors="replace")[-3000:] if self.console.exists() else "(nothing)"


def request(address: str, script: str) -> str | None:
    """Have a small VM run a script and return what it printed, None if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/cgi-bin/sh", data=script.encode(), timeout=60) as answer:
            return answer.read().decode()
    except OSError:
        return None


def wait_until(holds: Callable[[], object], what: str, seconds: float) -> None:
    """Wait until something holds that takes a known time at most."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds} s it is still not so that {what}"
        time.sleep(0.2)
