#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what a hypervisor can pass through to VMs, and plan it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vfio_info
short_description: Find out what a hypervisor can pass through to VMs, and plan it
version_added: 0.2.0
description:
  - Looks at the machine's IOMMU, PCI devices, what uses these, and how the machine boots.
  - Given devices, plans what passing them through takes, and says why it must not be done. A plan with problems is not an error of the module.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
  - opennebula.flower.attributes.info
options:
  devices:
    description:
      - PCI addresses of the devices that VMs should get, such as V(0000:e1:00.0) or V(e1:00.0).
      - The other functions of a device are taken along where its IOMMU group has them.
    type: list
    elements: str
    default: []
  ids:
    description:
      - Vendor and device ids, such as V(10de:26b9), of devices that VMs should get besides.
      - Has to be quoted, as YAML may read digits with a colon as a number.
      - All devices of the kind are meant. Those that the machine itself needs are refused as with O(devices).
    type: list
    elements: str
    default: []
  kernel_parameters:
    description: Kernel parameters that are needed, instead of V(intel_iommu=on iommu=pt) on Intel and V(iommu=pt) on AMD.
    type: list
    elements: str
requirements:
  - ip, of iproute2
seealso:
  - module: opennebula.flower.vfio_binding
  - module: opennebula.flower.kernel_parameters
"""

EXAMPLES = r"""
- name: List the PCI devices
  opennebula.flower.vfio_info:
  register: machine

- name: Show the GPUs
  ansible.builtin.debug:
    msg: "{{ machine.devices | selectattr('class', 'match', '03') }}"

- name: Look at what passing a GPU through would take
  opennebula.flower.vfio_info:
    devices: ["0000:e1:00.0"]
  register: machine
  failed_when: machine.plan.problems != []
"""

RETURN = r"""
hardware:
  description:
    - C(cpu) and C(iommu) are C(intel), C(amd) or empty; C(iommu) follows the firmware's tables. C(virtualization) is C(vmx), C(svm) or empty,
      C(firmware) C(uefi) or C(bios), C(groups) the number of IOMMU groups.
  returned: success
  type: dict
  sample: {"cpu": "intel", "virtualization": "vmx", "iommu": "intel", "firmware": "uefi", "groups": 94}
system:
  description:
    - How the machine boots. C(boot_loader) is C(grub-debian), C(grubby), C(grub2), C(systemd-boot) or empty, C(initramfs) is
      C(initramfs-tools), C(dracut) or empty.
    - C(configured) says whether the role P(opennebula.flower.vfio_host#role) has configured the machine, C(configured_devices) are the
      addresses of the devices that are bound at every boot by it.
  returned: success
  type: dict
  sample:
    boot_loader: grub-debian
    initramfs: initramfs-tools
    driverctl: false
    kernel_parameters: ["root=/dev/sda1", "ro"]
    configured: false
    configured_devices: []
devices:
  description:
    - All PCI devices. C(use) says what the machine or a VM needs it for, empty for nothing that was found.
  returned: success
  type: list
  elements: dict
  sample:
    - {"address": "0000:e1:00.0", "short_address": "e1:00.0", "vendor": "10de", "device": "26b9", "class": "0302", "driver": "nvidia",
       "group": 42, "numa_node": 1, "boot_vga": false, "use": ""}
in_vms:
  description: The devices that programs such as QEMU have opened, and which programs, by address.
  returned: success
  type: dict
  sample: {"0000:c1:00.0": "is in use by process 4711 (qemu-system-x86_64, VM one-12)"}
plan:
  description:
    - C(ids) are the kinds of O(ids) in their one form.
    - C(devices) are all that VFIO holds in the end. The drivers of those in C(bind) and C(release) change; those in C(deferred)
      can be bound by a boot only.
    - C(parameters) are the kernel's. C(reboot) says why the machine has to boot, C(problems) why nothing may be done, C(warnings)
      what should be known.
  returned: success
  type: dict
  sample:
    devices: []
    ids: []
    bind: ["0000:e1:00.0"]
    release: []
    deferred: []
    parameters: ["intel_iommu=on", "iommu=pt"]
    reboot: ["there are no IOMMU groups"]
    problems: []
    warnings: []
"""

import json
import os
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule
from ansible_collections.opennebula.flower.plugins.module_utils.vfio import host, pci, usage
from ansible_collections.opennebula.flower.plugins.module_utils.vfio.plan import Machine, make_plan

_ROOT = Path("/")


def look(module: SafeModule) -> dict:
    """Return the module's result."""

    def ip(*arguments: str) -> list:
        status, output, error = module.run_command([program, "-json", *arguments])
        if status:
            module.fail_json(msg=f"ip {' '.join(arguments)} failed: {error.strip() or output.strip()}.")
        # Without routes some versions print nothing at all.
        return json.loads(output or "[]")

    program = module.get_bin_path("ip", required=True)
    routes = ip("-4", "route", "show", "default") + ip("-6", "route", "show", "default")
    interfaces = usage.management_interfaces(routes, ip("address"), usage.ssh_address(_ROOT, os.getpid()))
    kept = {**usage.network_cards(_ROOT, interfaces), **usage.disks(_ROOT)}
    in_vms = usage.machines(_ROOT)
    hardware, system, devices = host.hardware(_ROOT), host.system(_ROOT), pci.devices(_ROOT)
    machine = Machine(hardware, devices, kept, in_vms, system["kernel_parameters"], system["boot_loader"])
    params = module.params
    plan = make_plan(machine, params["devices"], params["ids"], system["configured_devices"], params["kernel_parameters"])
    uses = {**in_vms, **kept}
    return {
        "changed": False,
        "hardware": hardware.to_dict(),
        "system": system,
        "devices": [{**device.to_dict(), "use": uses.get(address, "")} for address, device in devices.items()],
        "in_vms": in_vms,
        "plan": plan.to_dict(),
    }


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "devices": {"type": "list", "elements": "str", "default": []},
            "ids": {"type": "list", "elements": "str", "default": []},
            "kernel_parameters": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: look(module))


if __name__ == "__main__":
    main()
