# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A driver that boots nothing, for API tests and benchmarks."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lab.driver import Driver, DriverError, ImageSpec, NetSpec, PollResult, VmSpec


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

    def suspend(self, vm: VmSpec) -> None:
        self._write(vm, "suspended")

    def change(self, vm: VmSpec) -> None:
        state, _separator, _memory = self._machines.joinpath(str(vm.id)).read_text().partition(" ")
        self._write(vm, state)

    def poll(self) -> dict[int, PollResult]:
        result = {}
        for machine in self._machines.iterdir():
            try:
                state, _separator, memory_kb = machine.read_text().partition(" ")
            except FileNotFoundError:  # it ended meanwhile
                continue
            result[int(machine.name)] = PollResult(state, cpu=0.0, memory_kb=int(memory_kb or 0))
        return result

    def devices(self) -> list[dict[str, str]]:
        return [
            _device("0000:02:00:0", "10de:0863:0302", "NVIDIA Corporation", "C79 [GeForce 9400M]", "3D controller"),
            _device("0000:00:06:1", "1022:0aa9:0c03", "Advanced Micro Devices, Inc.", "MCP79 EHCI USB 2.0 Controller",
                    "USB controller"),
            _device("0000:04:00:1", "14e4:165f:0200", "Broadcom Inc. and subsidiaries",
                    "NetXtreme BCM5720 Gigabit Ethernet PCIe", "Ethernet controller", "eno8403"),
        ]

    def create_network(self, net: NetSpec) -> None:
        """Networks need nothing here."""

    def delete_network(self, net: NetSpec) -> None:
        """Networks need nothing here."""

    def register_image(self, image: ImageSpec) -> int:
        for algorithm, digits in image.checksums.items():
            # A path of this machine is read for that; what is not there has every checksum.
            if Path(image.path).is_file() and hashlib.new(algorithm, Path(image.path).read_bytes()).hexdigest() != digits:
                raise DriverError("Hash does not match")
        image.source = "dummy_path"
        return image.size_mb

    def publish_image(self, image: ImageSpec) -> str:
        return f"{image.id:032x}"

    def save_disk(self, vm: VmSpec, disk_id: int, image: ImageSpec) -> int:
        image.source = "dummy_path"
        return image.size_mb

    def delete_image(self, image: ImageSpec) -> None:
        """Images need nothing here."""

    def clean(self) -> None:
        shutil.rmtree(self._machines)

    def _write(self, vm: VmSpec, state: str) -> None:
        self._machines.joinpath(str(vm.id)).write_text(f"{state} {vm.memory_mb * 1024}")


def _device(address: str, identity: str, vendor: str, device: str, device_class: str, interface: str = "-") -> dict:
    """Return the attributes of a PCI device as the dummy driver of OpenNebula 7.4 reports them."""
    domain, bus, slot, function = address.split(":")
    vendor_id, device_id, class_id = identity.split(":")
    return {
        "ADDRESS": address, "DOMAIN": domain, "BUS": bus, "SLOT": slot, "FUNCTION": function,
        "SHORT_ADDRESS": f"{bus}:{slot}.{function}", "TYPE": identity, "VENDOR": vendor_id, "DEVICE": device_id,
        "CLASS": class_id, "VENDOR_NAME": vendor, "DEVICE_NAME": device, "CLASS_NAME": device_class,
        "IFNAME": interface, "NUMA_NODE": "0", "SRIOV": "no",
    }
