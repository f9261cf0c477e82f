# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a hypervisor, on trees that look like /proc, /sys and /etc of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import host_checks
from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.machine import Machine

GPU, AUDIO, NIC, BRIDGE = "0000:e1:00.0", "0000:e1:00.1", "0000:e2:00.0", "0000:e0:00.0"
INTEL, AMD = "vendor_id\t: GenuineIntel\n", "vendor_id\t: AuthenticAMD\n"
FRONT_END = "var/lib/one/remotes/etc/im/kvm-probes.d/pci.conf"


class Host:
    """A tree that is filled step by step, and the machine that it is taken for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(lambda _argv: (127, "", ""), str(root))
        (root / "sys/bus/pci/devices").mkdir(parents=True)

    def write(self, name: str, text: str) -> Host:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self

    def boot(self, cpu: str, command_line: str, groups: int = 0) -> Host:
        for number in range(groups):
            (self.root / f"sys/kernel/iommu_groups/{number}").mkdir(parents=True, exist_ok=True)
        return self.write("proc/cpuinfo", cpu).write("proc/cmdline", f"BOOT_IMAGE=/vmlinuz {command_line}\n")

    def device(self, address: str, kind: str, driver: str = "", vendor: str = "0x10de", group: str = "13") -> Host:
        path = self.root / "sys/bus/pci/devices" / address
        self.write(f"sys/bus/pci/devices/{address}/vendor", f"{vendor}\n")
        self.write(f"sys/bus/pci/devices/{address}/device", "0x20b5\n").write(f"sys/bus/pci/devices/{address}/class", f"{kind}\n")
        for link, target in (("driver", driver and f"sys/bus/pci/drivers/{driver}"), ("iommu_group", f"sys/kernel/iommu_groups/{group}")):
            if target:
                (self.root / target).mkdir(parents=True, exist_ok=True)
                (path / link).symlink_to(self.root / target)
        return self


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("cpu", "command_line", "groups", "state", "finding"),
    [
        (INTEL, "intel_iommu=on iommu=pt", 3, "ok", "intel_iommu=on is on"),
        (INTEL, "quiet", 0, "error", "intel_iommu=on is not on"),
        (INTEL, "iommu=on", 0, "error", "intel_iommu=on is not on"),
        (INTEL, "quiet", 3, "ok", "this kernel has the IOMMU on"),
        (INTEL, "intel_iommu=off intel_iommu=on", 0, "ok", "intel_iommu=on is on"),
        (INTEL, "intel_iommu=off", 0, "error", "switches the IOMMU off: intel_iommu=off"),
        (AMD, "quiet", 3, "ok", "AMD's IOMMU is on by default"),
        (AMD, "amd_iommu=off", 0, "error", "switches the IOMMU off: amd_iommu=off"),
        (AMD, "iommu=off", 0, "error", "switches the IOMMU off: iommu=off"),
    ],
)
def test_the_kernel_command_line_is_judged_by_the_cpu(host: Host, cpu: str, command_line: str, groups: int, state: str, finding: str) -> None:
    check = host_checks.kernel_parameters(host.boot(cpu, command_line, groups).machine)
    assert (check.state, finding in check.finding) == (state, True)


def test_iommu_groups_are_counted(host: Host) -> None:
    assert host_checks.iommu_groups(host.machine).state == "error"
    check = host_checks.iommu_groups(host.boot(AMD, "", 5).machine)
    assert (check.state, check.finding) == ("ok", "5 IOMMU groups")


def test_a_missing_vfio_pci_is_a_warning(host: Host) -> None:
    assert host_checks.vfio_module(host.machine).state == "warning"
    (host.root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    assert host_checks.vfio_module(host.machine).state == "ok"


@pytest.mark.parametrize(("driver", "state"), [("vfio-pci", "ok"), ("nouveau", "error"), ("", "warning")])
def test_a_gpu_has_to_be_bound_to_vfio_pci_and_its_audio_need_not(host: Host, driver: str, state: str) -> None:
    check = host_checks.binding(host.device(GPU, "0x030200", driver).device(AUDIO, "0x040300", "snd_hda_intel").machine)
    assert check.state == state
    assert check.finding == f"{GPU} {driver or 'no driver'}"
    assert ("driverctl set-override 0000:e1:00.0 vfio-pci" in check.fix) == (state != "ok")


def test_a_host_without_a_gpu_is_a_warning(host: Host) -> None:
    assert host_checks.binding(host.device(NIC, "0x020000", "mlx5_core", "0x15b3").machine).state == "warning"
    assert host_checks.group_members(host.machine).state == "skipped"


def test_a_device_in_the_group_of_a_gpu_that_the_host_uses_is_named(host: Host) -> None:
    host.device(GPU, "0x030000", "vfio-pci").device(BRIDGE, "0x060400", "pcieport", "0x1022")
    assert host_checks.group_members(host.device(AUDIO, "0x040300", "vfio-pci").machine).state == "ok"
    check = host_checks.group_members(host.device(NIC, "0x020000", "mlx5_core", "0x15b3").machine)
    assert check.state == "error"
    assert check.finding == "0000:e2:00.0 (mlx5_core) shares group 13 with 0000:e1:00.0"


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ('SUBSYSTEM=="vfio", GROUP="kvm", MODE="0660"', "ok"),
        ('SUBSYSTEM=="vfio|vfio-dev", GROUP="kvm", MODE="0660"', "ok"),
        ('SUBSYSTEM=="vfio", GROUP="kvm", MODE="0666"', "warning"),
        ('# SUBSYSTEM=="vfio", GROUP="kvm", MODE="0660"', "warning"),
    ],
)
def test_the_devices_of_vfio_are_for_a_group_alone(host: Host, rule: str, state: str) -> None:
    assert host_checks.udev_rule(host.write("etc/udev/rules.d/99-vfio.rules", f"{rule}\n").machine).state == state


@pytest.mark.parametrize(
    ("text", "state"),
    [(":filter:\n  - '10de:*'\n", "ok"), (":filter: '10de:*'\n", "ok"), (":filter: '0:0'\n", "warning"), ("# :filter: '10de:*'\n", "warning")],
)
def test_the_probe_of_opennebula_has_to_report_nvidia(host: Host, text: str, state: str) -> None:
    assert host_checks.pci_filter(host.write(FRONT_END, text).machine).state == state


def test_without_a_front_end_its_filter_is_skipped(host: Host) -> None:
    assert host_checks.pci_filter(host.machine).state == "skipped"


def test_every_check_that_is_not_well_says_what_to_do(host: Host) -> None:
    host.boot(INTEL, "quiet").device(GPU, "0x030000", "nouveau")
    checks = [check(host.machine) for check in host_checks.CHECKS.values()]
    assert [check.name for check in checks] == list(host_checks.CHECKS)
    assert all(check.fix for check in checks if check.state in ("warning", "error"))
