# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives PCI devices to vfio-pci and back to their own drivers, while the machine runs.

Also the program that does so at every boot: it takes the file with the addresses, needs nothing beside Python, and ends with 1
when a device is not bound.
"""

from __future__ import annotations

import os
import subprocess
import sys

_PCI = "/sys/bus/pci"
_DRIVER = "vfio-pci"


def driver(address: str) -> str:
    """Return what holds a device, empty for nothing."""
    link = f"{_PCI}/devices/{address}/driver"
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def bind(address: str) -> None:
    """Take a device from its driver and give it to vfio-pci. OSError: when Linux refuses."""
    # From now on no other driver takes it, whichever is loaded.
    _write(f"{_PCI}/devices/{address}/driver_override", _DRIVER)
    if driver(address) != _DRIVER:
        _probe(address)


def release(address: str) -> None:
    """Give a device back to the driver that Linux has for it. OSError: when Linux refuses."""
    _write(f"{_PCI}/devices/{address}/driver_override", "\n")
    if driver(address) == _DRIVER:
        _probe(address)


def load() -> None:
    """Load vfio-pci. CalledProcessError: when there is none."""
    subprocess.run(["modprobe", _DRIVER], check=True)


def _probe(address: str) -> None:
    if driver(address):
        _write(f"{_PCI}/devices/{address}/driver/unbind", address)
    _write(f"{_PCI}/drivers_probe", address)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def main() -> int:
    """Bind the devices of the file."""
    with open(sys.argv[1], encoding="ascii") as stream:
        addresses = [line.strip() for line in stream if line.strip() and not line.startswith("#")]
    load()
    status = 0
    for address in addresses:
        try:
            bind(address)
        except OSError as error:
            sys.stderr.write(f"{address}: {error}\n")
        holder = driver(address)
        if holder != _DRIVER:
            sys.stderr.write(f"{address} is held by {holder or 'no driver'}, not {_DRIVER}\n")
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
