# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone that boots nothing, and the clients of others that ask it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.zone import Zone, ZoneConfig

ROOT = Path(__file__).parents[2]
#: where `make foreign` installs them
CLIENTS = ROOT / "build" / "foreign"
PASSWORD = "opennebula"
DEADLINE = 300.0


class Foreign:
    """A zone and what leads others to it."""

    def __init__(self, zone: Zone, directory: Path) -> None:
        self.zone = zone
        self.directory = directory
        self.session = f"oneadmin:{PASSWORD}"
        (directory / "one_auth").write_text(self.session)
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "HOME": str(directory), "ONE_XMLRPC": zone.xmlrpc_url, "ONE_AUTH": str(directory / "one_auth"),
            "PATH": f"{CLIENTS / 'bin'}:{os.environ['PATH']}", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200",
        }

    def run(self, *words: str, text: str = "") -> str:
        """Run a command that has to succeed and return what it prints; text is given to it as its last argument, a file."""
        result = self._ended(words, text)
        assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
        return result.stdout

    def fails(self, *words: str, text: str = "") -> str:
        """Run a command that has to fail and return what it prints."""
        result = self._ended(words, text)
        assert result.returncode != 0, f"{words}: {result.stdout}"
        return result.stdout + result.stderr

    def shown(self, *words: str) -> object:
        """Return what `one` shows as JSON."""
        return json.loads(self.run("one", "--output", "json", *words))

    def python(self, script: str) -> str:
        """Run a script in the clients' own environment, with the zone's URL and a session as arguments."""
        return self.run(str(CLIENTS / "bin" / "python"), "-c", script, self.zone.xmlrpc_url, self.session)

    def wait(self, condition: Callable[[], object], what: str) -> object:
        """Return the first true answer of a condition."""
        deadline = time.monotonic() + DEADLINE
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s in vain for: {what}"
            time.sleep(0.1)
        return answer

    def state(self, vm_id: int) -> tuple[int, int]:
        """State and life-cycle state of a VM."""
        with self.zone.core.locked():
            vm = self.zone.core.store.get("vm", vm_id)
            return int(vm["state"]), int(vm["lcm"])

    def _ended(self, words: tuple[str, ...], text: str) -> subprocess.CompletedProcess:
        if text:
            path = self.directory / "template"
            path.write_text(text)
            words = (*words, str(path))
        return subprocess.run(
            words, env=self._environment, cwd=self.directory, capture_output=True, text=True, timeout=DEADLINE, check=False
        )


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    directory = tmp_path_factory.mktemp("zone")
    ports = {"port": 0, "oneflow_port": 0, "onegate_port": 0}
    zone = Zone(ZoneConfig(name="foreign", state_dir=directory, password=PASSWORD, interval=0.1, **ports))
    zone.start()
    yield Foreign(zone, directory)
    zone.stop()
