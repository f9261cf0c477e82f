# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A hypervisor with AMD's IOMMU, which is on by itself, an initramfs that has the driver of the device, and driverctl.

The tests build on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Hypervisor, changes
from disk import AMD

ROOT_DISK, SPARE_DISK = "0000:00:04.0", "0000:00:08.0"


@pytest.fixture(scope="module")
def host(booted: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    with booted(AMD, tmp_path_factory.mktemp("amd")) as host:
        yield host


def test_from_a_device_in_its_driver_s_hands_to_one_that_the_driver_never_sees(host: Hypervisor) -> None:
    assert host.groups() != [] and host.driver(SPARE_DISK) == "nvme"
    boot = host.machine.boot_id()
    print(host.succeeds(devices=[SPARE_DISK], reboot=True).stdout)
    assert host.machine.boot_id() != boot
    assert (host.driver(SPARE_DISK), host.driver(ROOT_DISK)) == ("vfio-pci", "nvme")
    assert "iommu=pt" in host.ssh("cat /proc/cmdline")
    assert "vfio-pci" in host.ssh("cat /etc/driverctl.d/pci-*")
    # The driver is loaded from the initramfs, for the root disk; the udev rule is there before it.
    assert SPARE_DISK not in host.ssh("dmesg | grep nvme")
    assert host.ssh("systemctl --failed --no-legend") == ""


def test_a_second_run_changes_nothing(host: Hypervisor) -> None:
    done = host.role(devices=[SPARE_DISK], reboot=True)
    assert changes(done) == 0, done.stdout


def test_undone_the_device_is_with_its_driver_again_also_after_a_boot(host: Hypervisor) -> None:
    host.succeeds(state="absent")
    assert host.driver(SPARE_DISK) == "nvme"
    host.machine.reboot()
    assert host.driver(SPARE_DISK) == "nvme"
