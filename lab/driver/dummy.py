# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A driver that boots nothing, for API tests and benchmarks."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.driver import Driver, ImageSpec, NetSpec, PollResult, VmSpec


class DummyDriver(Driver):
    """Every machine is one file that holds its state, so machines outlive a restart of the zone."""

    name = "dummy"
    image_format = "dummy_format"
    can_change = True

    def __init__(self, zone: str, state_dir: str) -> None:
        self._machines = Path(state_dir, "dummy")
        self._machines.mkdir(parents=True, exist_ok=True)

    def deploy(self, vm: VmSpec) -> None:
        self._write(vm, "running")

    def shutdown(self, vm: VmSpec, hard: bool) -> None:
        self._machines.joinpath(str(vm.id)).unlink(missing_ok=True)

    def poweroff(self, vm: VmSpec, hard: bool) -> None:
        self._write(vm, "poweroff")

    def resume(self, vm: VmSpec) -> None:
        self._write(vm, "running")

    def change(self, vm: VmSpec) -> None:
        state, _separator, _memory = self._machines.joinpath(str(vm.id)).read_text().partition(" ")
        self._write(vm, state)

    def poll(self) -> dict[int, PollResult]:
        result = {}
        for machine in self._machines.iterdir():
            state, _separator, memory_kb = machine.read_text().partition(" ")
            result[int(machine.name)] = PollResult(state, cpu=0.0, memory_kb=int(memory_kb or 0))
        return result

    def create_network(self, net: NetSpec) -> None:
        """Networks need nothing here."""

    def delete_network(self, net: NetSpec) -> None:
        """Networks need nothing here."""

    def register_image(self, image: ImageSpec) -> int:
        image.source = "dummy_path"
        return image.size_mb

    def delete_image(self, image: ImageSpec) -> None:
        """Images need nothing here."""

    def clean(self) -> None:
        shutil.rmtree(self._machines)

    def _write(self, vm: VmSpec, state: str) -> None:
        self._machines.joinpath(str(vm.id)).write_text(f"{state} {vm.memory_mb * 1024}")
