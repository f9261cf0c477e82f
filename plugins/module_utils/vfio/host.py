# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hypervisor is made of, as far as passing devices through is concerned. No Ansible.

root: the directory that has sys, proc and etc in it, / but for tests.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from . import boot_loaders

# The ACPI table in which the firmware describes the IOMMU, by who makes it, and what its setting is called.
_TABLES = {"intel": "DMAR", "amd": "IVRS"}
_SETTINGS = {"intel": "Intel VT for Directed I/O (VT-d)", "amd": "IOMMU (AMD-Vi)"}
_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
# Intel's IOMMU may need switching on; AMD's is on unless it was switched off. Devices of the host itself are not slowed down by it.
PARAMETERS = {"intel": ["intel_iommu=on", "iommu=pt"], "amd": ["iommu=pt"]}
# What no parameter after it undoes.
_FORBIDDING = ("iommu=off", "iommu=soft", "amd_iommu=off")
DEVICES_FILE = "etc/vfio-host.devices"
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Hardware:
    """The machine. cpu, iommu: intel or amd, empty for others; iommu by the firmware's table. virtualization: vmx or svm."""

    cpu: str
    virtualization: str
    iommu: str
    firmware: str
    groups: int

    def to_dict(self) -> dict:
        """Return what modules give away."""
        return asdict(self)

    @property
    def parameters(self) -> list[str]:
        """The kernel parameters that the machine needs."""
        return PARAMETERS.get(self.iommu or self.cpu, [])

    def missing_settings(self) -> list[str]:
        """Say what is missing in the firmware's settings."""
        if self.groups or self.iommu or self.cpu not in _TABLES:
            return []
        return [f"the IOMMU is off in the firmware (no ACPI table {_TABLES[self.cpu]}); switch '{_SETTINGS[self.cpu]}' on in the BIOS settings"]


def hardware(root: Path) -> Hardware:
    """Look at the machine."""
    cpu = _cpu(root)
    tables = root / "sys/firmware/acpi/tables"
    groups = root / "sys/kernel/iommu_groups"
    return Hardware(
        cpu=_VENDORS.get(cpu.get("vendor_id", ""), ""),
        virtualization=next((flag for flag in ("vmx", "svm") if flag in cpu.get("flags", "").split()), ""),
        iommu=next((vendor for vendor, table in _TABLES.items() if tables.joinpath(table).exists()), ""),
        firmware="uefi" if root.joinpath("sys/firmware/efi").exists() else "bios",
        groups=len(list(groups.iterdir())) if groups.is_dir() else 0,
    )


def system(root: Path) -> dict:
    """Return what of the system matters to the configuration: boot loader, initramfs, driverctl, running kernel's parameters."""
    return {
        "boot_loader": boot_loaders.detect(root),
        "initramfs": _initramfs(root),
        "driverctl": has_program(root, "driverctl"),
        "kernel_parameters": running_parameters(root),
        "configured": root.joinpath(DEVICES_FILE).exists(),
        "configured_devices": configured(root),
    }


def running_parameters(root: Path) -> list[str]:
    """Return the parameters that the running kernel was started with."""
    return root.joinpath("proc/cmdline").read_text(encoding="utf-8", errors="replace").split()


def forbidding_parameters(parameters: list[str]) -> list[str]:
    """Return the parameters that switch the IOMMU off for good."""
    return [parameter for parameter in parameters if parameter in _FORBIDDING]


def configured(root: Path) -> list[str]:
    """Return the addresses of the devices that are bound at every boot, as the role keeps them."""
    try:
        lines = root.joinpath(DEVICES_FILE).read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def has_program(root: Path, name: str) -> bool:
    """Tell whether a program is installed."""
    return shutil.which(name, path=":".join(str(root / path.lstrip("/")) for path in _PROGRAMS.split(":"))) is not None


def _initramfs(root: Path) -> str:
    """Return the tool that makes the initramfs, empty where the kernel starts without one."""
    if has_program(root, "update-initramfs"):
        return "initramfs-tools"
    return "dracut" if has_program(root, "dracut") else ""


def _cpu(root: Path) -> dict[str, str]:
    """Return what /proc/cpuinfo says about the first CPU."""
    found: dict[str, str] = {}
    for line in root.joinpath("proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            break
        name, _colon, value = line.partition(":")
        found[name.strip()] = value.strip()
    return found
