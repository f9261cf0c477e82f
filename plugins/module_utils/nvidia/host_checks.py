# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a hypervisor that passes NVIDIA GPUs through to its VMs. None of them changes anything."""

from __future__ import annotations

import re

from ..vfio.host import forbidding_parameters
from .machine import ERROR, OK, SKIPPED, WARNING, Check, Machine

# On the front end, and where its probes are copied to on a host.
_PCI_FILTERS = ("/var/lib/one/remotes/etc/im/kvm-probes.d/pci.conf", "/var/tmp/one/etc/im/kvm-probes.d/pci.conf")


def kernel_parameters(machine: Machine) -> Check:
    """The IOMMU is switched on. AMD's is unless the command line says otherwise; of Intel's only some kernels say so themselves."""
    name = "kernel_parameters"
    words = machine.text("/proc/cmdline").split()
    amd = "AuthenticAMD" in machine.text("/proc/cpuinfo")
    intel = [word for word in words if word.startswith("intel_iommu=")]
    # Of Intel's own parameter the last one counts.
    off = forbidding_parameters(words) + ([] if amd else [word for word in intel[-1:] if word == "intel_iommu=off"])
    if off:
        return Check(name, ERROR, f"the kernel command line switches the IOMMU off: {off[0]}", f"take {off[0]} from the kernel command line and reboot")
    if amd:
        return Check(name, OK, "AMD's IOMMU is on by default")
    if any("on" in word.partition("=")[2].split(",") for word in intel):
        return Check(name, OK, "intel_iommu=on is on the kernel command line")
    if _groups(machine):
        return Check(name, OK, "intel_iommu=on is not on the kernel command line, but this kernel has the IOMMU on")
    fix = "run role opennebula.flower.vfio_host, or add intel_iommu=on iommu=pt to it and reboot"
    return Check(name, ERROR, "intel_iommu=on is not on the kernel command line", fix)


def iommu_groups(machine: Machine) -> Check:
    """The kernel has made IOMMU groups."""
    groups = _groups(machine)
    if groups:
        return Check("iommu_groups", OK, f"{len(groups)} IOMMU groups")
    fix = "switch on VT-d or AMD-Vi in the firmware, and see kernel_parameters"
    return Check("iommu_groups", ERROR, "there are no IOMMU groups", fix)


def vfio_module(machine: Machine) -> Check:
    """vfio-pci is there to bind devices to."""
    if machine.exists("/sys/bus/pci/drivers/vfio-pci"):
        return Check("vfio_module", OK, "vfio-pci is loaded")
    return Check("vfio_module", WARNING, "vfio-pci is not loaded", "name vfio-pci in /etc/modules-load.d/vfio-pci.conf, and: modprobe vfio-pci")


def binding(machine: Machine) -> Check:
    """Every GPU is bound to vfio-pci."""
    gpus = machine.gpus()
    if not gpus:
        return Check("binding", WARNING, "no NVIDIA GPU on the PCI bus", "nothing to pass through; if there should be one, look at its slot and power")
    finding = ", ".join(f"{gpu.address} {gpu.driver or 'no driver'}" for gpu in gpus)
    wrong = [gpu for gpu in gpus if gpu.driver != "vfio-pci"]
    if not wrong:
        return Check("binding", OK, finding)
    fix = "name it in vfio_host_devices of role opennebula.flower.vfio_host, or: " + "; ".join(
        f"driverctl set-override {gpu.address} vfio-pci" for gpu in wrong
    )
    return Check("binding", ERROR if any(gpu.driver for gpu in wrong) else WARNING, finding, fix)


def group_members(machine: Machine) -> Check:
    """A VM gets whole IOMMU groups: what shares one with a GPU has to be bound to vfio-pci too, but for bridges."""
    gpus = machine.gpus()
    groups = {gpu.group: gpu.address for gpu in gpus if gpu.group is not None}
    if not groups:
        return Check("group_members", SKIPPED, "no NVIDIA GPU is in an IOMMU group")
    members = [device for device in machine.pci_devices() if device.group in groups and device not in gpus and not device.is_passed_over]
    wrong = [device for device in members if device.driver != "vfio-pci"]
    if not wrong:
        return Check("group_members", OK, f"{len(members)} other devices in the GPUs' IOMMU groups, all bound to vfio-pci" if members else "no others")
    finding = ", ".join(f"{device.address} ({device.driver or 'no driver'}) shares group {device.group} with {groups[device.group]}" for device in wrong)
    return Check("group_members", ERROR, finding, "bind them to vfio-pci as well, or move the GPU to another slot")


def udev_rule(machine: Machine) -> Check:
    """Members of group kvm may open VFIO's devices, others not."""
    fix = "write to /etc/udev/rules.d/99-vfio.rules: SUBSYSTEM==\"vfio\", GROUP=\"kvm\", MODE=\"0660\""
    rules = [
        (path.name, line)
        for directory in ("/etc/udev/rules.d", "/usr/lib/udev/rules.d")
        for path in machine.files(directory, "*.rules")
        for line in machine.text(f"{directory}/{path.name}").splitlines()
        if re.match(r"[^#]*SUBSYSTEM\s*==\s*\"(?:[^\"]*\|)?vfio(?:\|[^\"]*)?\"", line) and "GROUP" in line
    ]
    if not rules:
        return Check("udev_rule", WARNING, "no udev rule gives VFIO's devices to group kvm", fix)
    name, rule = rules[0]
    mode = re.search(r"MODE\s*:?=\s*\"0?(\d{3})\"", rule)
    if mode and mode.group(1)[2] != "0":
        return Check("udev_rule", WARNING, f"{name} lets everybody open VFIO's devices (mode 0{mode.group(1)})", fix)
    return Check("udev_rule", OK, f"{name} gives VFIO's devices to a group")


def pci_filter(machine: Machine) -> Check:
    """OpenNebula's host probe reports NVIDIA devices."""
    path = next((path for path in _PCI_FILTERS if machine.exists(path)), None)
    if path is None:
        return Check("pci_filter", SKIPPED, "no PCI filter of OpenNebula on this machine; it is on the front end")
    rules = [line for line in machine.text(path).splitlines() if not line.lstrip().startswith("#")]
    if any(re.search(r":filter:.*10de:", line) or re.match(r"\s*-\s*['\"]?10de:", line) for line in rules):
        return Check("pci_filter", OK, f"{path} reports NVIDIA devices")
    fix = "on the front end add 10de:* to :filter: in pci.conf, then onehost sync --force and onehost forceupdate"
    return Check("pci_filter", WARNING, f"{path} does not report NVIDIA devices", fix)


CHECKS = {check.__name__: check for check in (kernel_parameters, iommu_groups, vfio_module, binding, group_members, udev_rule, pci_filter)}


def _groups(machine: Machine) -> list[str]:
    return [path.name for path in machine.files("/sys/kernel/iommu_groups", "*")]
