#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List virtual machines."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_vm_info
short_description: List virtual machines of OpenNebula
version_added: 0.1.0
description:
  - Lists the VMs that the user may see and that meet every filter.
  - All VMs are listed with one call to the server for each 2,000 of them, whatever is asked for. Only a service or a
    cluster named by something other than its id takes further calls, as VMs know the ids only.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes.info
  - opennebula.flower.attributes.one_group
options:
  name:
    description:
      - Name of the VMs, or the id of one.
      - Also a wildcard such as V(web-*), or a regular expression after C(~) such as V(~^web-[0-9]+$).
    type: str
  labels:
    description: Labels, all of which a VM must have.
    type: list
    elements: str
    default: []
  attributes:
    description:
      - Attributes of the user template and their values, all of which a VM must have; the case of names makes no
        difference.
      - Values may be wildcards or regular expressions as in O(name).
    type: dict
    default: {}
  states:
    description:
      - States, one of which a VM must be in, such as V(RUNNING), V(POWEROFF) or V(BOOT_FAILURE). V(ACTIVE) means all
        states of an active VM.
      - VMs that are V(DONE) are listed only if this has V(DONE) in it.
    type: list
    elements: str
    default: []
  service:
    description: Name or id of the OneFlow service the VMs belong to.
    type: str
  role:
    description: The role in a service, see also O(name) for patterns.
    type: str
  host:
    description: Name or id of the host the VMs are on or were on last, see also O(name) for patterns.
    type: str
  cluster:
    description: Name or id of the cluster of that host.
    type: str
"""

EXAMPLES = r"""
- name: List all VMs
  opennebula.flower.one_vm_info:
  register: everything

- name: List the VMs of the web tier that run, on any host of the rack
  opennebula.flower.one_vm_info:
    name: web-*
    states: [RUNNING]
    labels: [front]
    host: ~^rack1-

- name: List the SuperNodes of a federation that reported ready
  opennebula.flower.one_vm_info:
    service: flower
    role: supernode
    attributes:
      READY: "YES"
"""

RETURN = r"""
vms:
  description: The VMs in the order of their ids.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      returned: always
      type: int
      sample: 5
    name:
      description: Its name.
      returned: always
      type: str
      sample: gateway
    owner:
      description: The user it belongs to.
      returned: always
      type: str
      sample: oneadmin
    group:
      description: The group it belongs to.
      returned: always
      type: str
      sample: oneadmin
    mode:
      description: Its permissions as three octal digits.
      returned: always
      type: str
      sample: "640"
    state:
      description: Its state, the life-cycle state while it is active.
      returned: always
      type: str
      sample: RUNNING
    reason:
      description: Why it is in this state, in the words of scheduler or driver, empty without a reason.
      returned: always
      type: str
      sample: ""
    host:
      description: The host it is or was last on, empty for one that was never placed.
      returned: always
      type: str
      sample: host01
    cluster_id:
      description: The id of that host's cluster.
      returned: always
      type: int
      sample: 0
    template_id:
      description: The id of the VM template it was made from.
      returned: always
      type: int
      sample: 7
    service_id:
      description: The id of the service it belongs to, null without one.
      returned: always
      type: int
      sample: 6
    role:
      description: Its role in that service, empty without one.
      returned: always
      type: str
      sample: supernode
    cpu:
      description: Its share of physical CPUs.
      returned: always
      type: float
      sample: 0.5
    memory:
      description: Its memory in MB.
      returned: always
      type: int
      sample: 1024
    vcpu:
      description: Its number of virtual CPUs.
      returned: always
      type: int
      sample: 1
    labels:
      description: Its labels.
      returned: always
      type: list
      elements: str
      sample: [front, web]
    addresses:
      description: The IPv4 addresses of its interfaces in their order.
      returned: always
      type: list
      elements: str
      sample: [192.168.150.11]
    nics:
      description:
        - Its network interfaces, each with C(id), C(network), C(network_id), C(ip), C(mac) and C(security_groups), which
          are ids.
      returned: always
      type: list
      elements: dict
      sample:
        - {"id": 0, "ip": "192.168.150.11", "mac": "02:00:c0:a8:96:0b", "network": "private", "network_id": 0,
           "security_groups": [0]}
    disks:
      description: Its disks, each with C(id), C(image), C(image_id), C(size) in MB and C(target).
      returned: always
      type: list
      elements: dict
      sample: [{"id": 0, "image": "debian-12", "image_id": 0, "size": 10240, "target": "sda"}]
    pcis:
      description:
        - Its PCI devices, each with C(id), C(address), empty until it is placed, C(vendor), C(device) and C(class), which
          are hexadecimal.
      returned: always
      type: list
      elements: dict
      sample: [{"address": "81:00.0", "class": "0302", "device": "2330", "id": 0, "vendor": "10de"}]
    attributes:
      description: Its user template, values as text.
      returned: always
      type: dict
      sample: {"LABELS": "front,web"}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.filter import VmFilter


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str"},
            "labels": {"type": "list", "elements": "str", "default": []},
            "attributes": {"type": "dict", "default": {}},
            "states": {"type": "list", "elements": "str", "default": []},
            "service": {"type": "str"},
            "role": {"type": "str"},
            "host": {"type": "str"},
            "cluster": {"type": "str"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: {"changed": False, "vms": VmFilter(module.client, module.params).facts()})


if __name__ == "__main__":
    main()
