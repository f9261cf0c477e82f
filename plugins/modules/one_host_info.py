#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_host_info
short_description: List hosts of OpenNebula
version_added: 0.2.0
description:
  - Lists the hosts that the user may see and that meet every filter, with their capacity, their PCI devices and who uses
    each of these.
  - All hosts are listed with one call to the server. Where a VM has a PCI device, the VMs are listed as well, with one
    call for each 2,000.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes.info
  - opennebula.flower.attributes.one_group
options:
  name:
    description:
      - Name of the hosts, or the id of one.
      - Also a wildcard such as V(node*), or a regular expression after C(~) such as V(~^node[0-9]+$).
    type: str
  cluster:
    description: Name or id of the cluster the hosts belong to, see also O(name) for patterns.
    type: str
  states:
    description: States, one of which a host must be in, such as V(MONITORED), V(ERROR) or V(DISABLED).
    type: list
    elements: str
    default: []
  attributes:
    description:
      - Attributes of the host's template and their values, all of which a host must have; the case of names makes no
        difference.
      - Values may be wildcards or regular expressions as in O(name).
    type: dict
    default: {}
  pci_device:
    description:
      - What a PCI device must be, one of which a host must have, with the names that
        RV(hosts[].pci_devices) has, such as C(vendor), C(device), C(class) or C(address).
      - Values may be wildcards or regular expressions as in O(name); their case makes no difference.
    type: dict
    default: {}
seealso:
  - module: opennebula.flower.one_host
"""

EXAMPLES = r"""
- name: List all hosts
  opennebula.flower.one_host_info:
  register: everything

- name: List the hosts of a rack with an NVIDIA GPU that get VMs
  opennebula.flower.one_host_info:
    cluster: rack1
    states: [MONITORED]
    pci_device:
      vendor: 10de
      class: "03*"
  register: gpu_hosts

- name: Show the GPUs that no VM has
  ansible.builtin.debug:
    msg: "{{ gpu_hosts.hosts | map(attribute='pci_devices') | flatten | selectattr('vendor', '==', '10de')
      | selectattr('vm_id', 'none') | map(attribute='short_address') }}"
"""

RETURN = r"""
hosts:
  description: The hosts in the order of their ids.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      returned: always
      type: int
      sample: 0
    name:
      description: Its name.
      returned: always
      type: str
      sample: node1.example.com
    status:
      description: Whether it is enabled, disabled or offline.
      returned: always
      type: str
      sample: enabled
    state:
      description: Its state.
      returned: always
      type: str
      sample: MONITORED
    reason:
      description: Why it is in state C(ERROR), empty otherwise.
      returned: always
      type: str
      sample: ""
    cluster:
      description: The cluster's name.
      returned: always
      type: str
      sample: default
    cluster_id:
      description: The cluster's id.
      returned: always
      type: int
      sample: 0
    im_mad:
      description: The driver that monitors it.
      returned: always
      type: str
      sample: kvm
    vm_mad:
      description: The driver that runs its VMs.
      returned: always
      type: str
      sample: kvm
    cpu:
      description:
        - Its CPU cores. C(total) is what it has, C(usable) what is left for VMs after reservations or with
          overcommitment, C(used) what VMs have, C(free) what they can still get.
      returned: always
      type: dict
      sample: {"total": 32.0, "usable": 30.0, "used": 4.5, "free": 25.5}
    memory:
      description: Its memory in MB, as RV(hosts[].cpu).
      returned: always
      type: dict
      sample: {"total": 131072, "usable": 122880, "used": 16384, "free": 106496}
    vms:
      description: The ids of the VMs on it.
      returned: always
      type: list
      elements: int
      sample: [3, 5]
    pci_devices:
      description:
        - Its PCI devices as far as the PCI filter lets OpenNebula see them, each with C(address), C(short_address),
          C(vendor), C(vendor_name), C(device), C(device_name), C(class), C(class_name), C(interface) and C(profiles),
          which are texts, and C(numa_node).
        - C(vm_id), C(vm) and C(owner) say which VM has it; C(vm_id) is null if none has. C(vm) and C(owner) are empty
          also for a VM that the user may not see.
      returned: always
      type: list
      elements: dict
      sample:
        - {"address": "0000:e1:00:0", "short_address": "e1:00.0", "vendor": "10de", "vendor_name": "NVIDIA Corporation",
           "device": "26b9", "device_name": "AD102GL [L40S]", "class": "0302", "class_name": "3D controller",
           "interface": "", "profiles": "", "numa_node": 0, "vm_id": 5, "vm": "supernode-1", "owner": "alice"}
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {"ARCH": "x86_64", "HYPERVISOR": "kvm"}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.host.listing import listed


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str"},
            "cluster": {"type": "str"},
            "states": {"type": "list", "elements": "str", "default": []},
            "attributes": {"type": "dict", "default": {}},
            "pci_device": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    module.run(lambda: {"changed": False, "hosts": listed(module.client, module.params)})


if __name__ == "__main__":
    main()
