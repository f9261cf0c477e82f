# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone without real machines, whose clock and driver the test holds."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.core.errors import OneError
from lab.driver import DriverError, ImageSpec, NetSpec, VmSpec
from lab.driver.dummy import DummyDriver
from lab.releases import NEWEST
from lab.zone import Zone, ZoneConfig

RECORDINGS = Path(__file__).parent / "recordings"
ADMIN, ALICE = "oneadmin:opennebula", "alice:alicepw"
RUNNING = ("<STATE>3<", "<LCM_STATE>3<")
DEADLINE = 300.0


class HeldDriver(DummyDriver):
    """A driver whose work waits while it is held, and fails while it has a reason to."""

    def __init__(self, zone: str, state_dir: str) -> None:
        super().__init__(zone, state_dir)
        self.free = threading.Event()
        self.free.set()
        self.reason = ""
        self.deployed: dict[int, VmSpec] = {}

    def deploy(self, vm: VmSpec) -> None:
        self._work()
        self.deployed[vm.id] = vm
        super().deploy(vm)

    def shutdown(self, vm: VmSpec, hard: bool) -> None:
        self._work()
        super().shutdown(vm, hard)

    def create_network(self, net: NetSpec) -> None:
        self._work()

    def register_image(self, image: ImageSpec) -> int:
        self._work()
        return super().register_image(image)

    def save_disk(self, vm: VmSpec, disk_id: int, image: ImageSpec) -> int:
        self._work()
        return super().save_disk(vm, disk_id, image)

    def _work(self) -> None:
        self.free.wait(DEADLINE)
        if self.reason:
            raise DriverError(self.reason)


class World:
    """The zone under test and what was answered in it so far."""

    def __init__(self, state_dir: Path, **settings: object) -> None:
        self.state_dir = state_dir
        self.recordings = RECORDINGS / settings.get("version", NEWEST) / "xmlrpc"
        self.settings = {"monitor_interval": 0, "host_cpu": 8, "host_memory": 16384} | settings
        self.answers: dict[str, bytes] = {}
        self.start()

    def start(self) -> None:
        """Start the zone, or start it again with the state it left."""
        self.driver = HeldDriver("contract", str(self.state_dir))
        # So long an interval means that the zone's clock stands still: tick() moves it.
        config = ZoneConfig(
            "contract", self.state_dir, "opennebula", port=0, oneflow_port=0, onegate_port=0, interval=3600,
            **self.settings,
        )
        self.zone = Zone(config, self.driver)
        self.zone.start()

    def stop(self) -> None:
        self.driver.free.set()
        self.zone.stop()

    def replay(self, name: str) -> None:
        """Send a recorded request and keep the answer."""
        body = (self.recordings / f"{name}.req.xml").read_bytes()
        request = urllib.request.Request(self.zone.xmlrpc_url, body, {"Content-Type": "text/xml"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            self.answers[name] = response.read()

    def call(self, method: str, *params: object, session: str = ADMIN) -> object:
        return self.zone.core.call(session, method, *params)

    def tick(self) -> None:
        self.zone.core.tick()

    def wait(self, method: str, object_id: int, *parts: str) -> str:
        """Return an object's document once it contains all parts."""
        return self.wait_for(lambda: self._containing(method, object_id, parts), f"{method} {object_id} with {parts}")

    def wait_for(self, condition: Callable[[], object], what: str) -> object:
        """Return the first true answer of a condition."""
        deadline = time.monotonic() + DEADLINE
        pause = threading.Event()
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE} seconds"
            pause.wait(0.01)
        return answer

    def instantiate(self, name: str, extra: str = "", hold: bool = False, session: str = ADMIN) -> int:
        return self.call("one.template.instantiate", 0, name, hold, extra, False, session=session)

    def run(self, name: str, extra: str = "", session: str = ADMIN) -> int:
        """Make a VM and wait until it runs."""
        vm_id = self.instantiate(name, extra, session=session)
        self.tick()
        self.wait("one.vm.info", vm_id, *RUNNING)
        return vm_id

    def _containing(self, method: str, object_id: int, parts: tuple[str, ...]) -> str:
        document = self.call(method, object_id)
        return document if all(part in document for part in parts) else ""


def refusal(world: World, method: str, *params: object, session: str = ADMIN) -> tuple[int, str]:
    """Code and words of a refusal, without the method in front."""
    with pytest.raises(OneError) as caught:
        world.call(method, *params, session=session)
    return caught.value.code, caught.value.message.removeprefix(f"[{method}] ")
