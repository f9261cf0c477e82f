# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A device whose group holds others, on a machine whose groups nobody knows before it was restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import failed
from disk import INTEL

SATA, ISA_BRIDGE, SPARE_DISK = "0000:00:1f.2", "0000:00:1f.0", "0000:01:00.0"


def test_the_devices_go_back_to_their_drivers_and_are_not_bound_again(booted: Callable, tmp_path: Path) -> None:
    with booted(INTEL, tmp_path) as host:
        before = host.driver(SATA)
        done = host.role(devices=[SPARE_DISK, SATA], reboot=True)
        message = failed(done)
        assert "hypervisor was restarted, and its devices are with their own drivers again" in message
        assert f"of {SATA} (SATA controller 8086:2922, driver vfio-pci) also holds {ISA_BRIDGE} (ISA bridge 8086:2918" in message
        assert (host.driver(SATA), host.driver(SPARE_DISK)) == (before, "nvme")
        assert "0000:" not in host.ssh("cat /etc/vfio-host.devices /etc/udev/rules.d/99-vfio-host.rules | grep -v '^#'")
