#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage virtual machines."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_vm
short_description: Manage virtual machines of OpenNebula
version_added: 0.1.0
description:
  - Makes virtual machines from a VM template, changes those that exist, starts, stops and removes them.
  - Works on one VM by its name or id, or on a numbered set of VMs, see O(name) and O(count).
  - All that the task says is checked before anything is changed.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.attributes.wait
options:
  name:
    description:
      - Name of the VM, or the id of one that exists.
      - With C(#) in it the name means a numbered set. Each C(#) stands for a digit, and longer numbers belong to it as
        well; V(node-##) means C(node-00), C(node-01) and so on.
    type: str
    required: true
  count:
    description:
      - How many VMs there are of a numbered set, whose O(name) has C(#) in it.
      - Lacking ones get the lowest free numbers, surplus ones with the highest numbers are terminated.
      - Without it the task is about the VMs of the set that exist.
    type: int
  vm_template:
    description:
      - The VM template of new VMs, by name or id.
      - Also a wildcard such as V(debian-*), or a regular expression after C(~) such as V(~^debian-1[23]$); only one VM
        template may be meant.
      - Needed when a VM has to be made. VMs that exist are not compared with it.
    type: str
  template:
    description:
      - Attributes in OpenNebula's terms, such as C(CPU_MODEL), C(CONTEXT) or C(LABELS). A dictionary is a vector
        attribute, a list a repeated one, and booleans are written as C(YES) and C(NO).
      - A new VM has them on top of those of the VM template, vectors key by key.
      - In a VM that exists, C(BACKUP_CONFIG), C(CONTEXT), C(CPU_MODEL), C(FEATURES), C(GRAPHICS), C(INPUT), C(OS), C(RAW)
        and C(VIDEO) are updated as its configuration. Other than C(BACKUP_CONFIG) and C(CONTEXT) they take effect at its
        next start.
      - Attributes that only count when a VM is made, such as C(TOPOLOGY), C(VMGROUP) and C(SCHED_ACTION), and keys of the
        configuration that the server does not change, such as C(PORT) of C(GRAPHICS) and C(TARGET) of C(CONTEXT), are an
        error for a VM that exists and has them otherwise. All other attributes are changed in its user template.
      - Values are compared as the server keeps them, so V(true), V(yes) and V(YES) are the same where it knows only C(YES)
        and C(NO).
      - Attributes of its user template that are not named stay unless O(update=replace); keys of its configuration
        always stay.
      - The server replaces variables such as C($NETWORK[DNS]) in C(CONTEXT) by their values, so an entry with a C($) in
        it is set when it is missing, and not compared with what is there. So is C(PASSWORD) in it, which the server keeps
        encrypted, unless an administrator asks.
    type: dict
  cpu:
    description:
      - Share of physical CPUs.
      - A VM that runs changes its size only with O(restart=true), or without a restart where C(MEMORY_MAX) or
        C(VCPU_MAX), which O(template) can give a new VM, leave room for it and the driver can.
    type: float
  memory:
    description: Memory in MB, see also O(cpu).
    type: int
  vcpu:
    description: Number of virtual CPUs, see also O(cpu).
    type: int
  restart:
    description: Whether a VM that runs may be powered off and started again for a change of its size or PCI devices.
    type: bool
    default: false
  nics:
    description:
      - The network interfaces, in OpenNebula's terms.
      - Each has C(NETWORK), a name or id, or C(NETWORK_ID). An empty address or id says nothing. C(SECURITY_GROUPS) is a list of names or ids.
      - One with C(SHORT_ADDRESS), or C(VENDOR), C(DEVICE) and C(CLASS) or some of them, is a PCI device of the host, see
        O(pcis). PCI and ordinary interfaces are matched separately.
      - A new VM has these in the place of those of the VM template.
      - In a VM that exists, an interface is known by its network, and by C(IP) and C(MAC) where they are given. Lacking
        interfaces and security groups are attached. Other attributes count when an interface is attached.
    type: list
    elements: dict
  disks:
    description:
      - The disks, in OpenNebula's terms.
      - Each has C(IMAGE), a name or id, or C(IMAGE_ID), or for a volatile disk C(SIZE) in MB. The C(TYPE) of a volatile one
        is C(fs) or C(swap), without it C(fs), and the C(FORMAT) of C(fs) is C(raw) without it.
      - A new VM has these in the place of those of the VM template.
      - In a VM that exists, a disk is known by its image, a volatile one by C(SIZE) and C(TYPE), and lacking ones are
        attached.
      - A disk with an image that has less than the C(SIZE) it is given is enlarged. One that has more is an error, as no disk
        can become smaller.
    type: list
    elements: dict
  pcis:
    description:
      - The PCI devices, in OpenNebula's terms.
      - Each has C(SHORT_ADDRESS) for one device of the host, or C(VENDOR), C(DEVICE) and C(CLASS) or some of them for
        any device of a kind. They are hexadecimal and have to be quoted, such as C("10de").
      - A new VM has these in the place of those of the VM template.
      - In a VM that exists, a device is known by what is said of it, and lacking ones are attached. A VM that runs
        changes its devices only with O(restart=true).
      - Devices that are network interfaces belong to O(nics).
    type: list
    elements: dict
  update:
    description:
      - What happens to interfaces, disks, PCI devices and attributes of the user template of a VM that exists and that
        O(nics), O(disks), O(pcis) and O(template) do not name.
      - With V(merge) they stay. With V(replace) they are detached and removed, of each kind only if the task has its
        option.
      - What the scheduler and OneFlow write into the user template always stays. What the VM published itself
        does not.
    type: str
    choices: [merge, replace]
    default: merge
  new_name:
    description: The name a single VM gets. The task also finds the VM when it has this name already.
    type: str
  hard:
    description: Whether VMs are powered off and terminated without giving their systems the time to shut down.
    type: bool
    default: false
  state:
    description:
      - With V(present) the VM exists, whether it runs or not. One that is made is waited for until it runs.
      - With V(running) it runs. One that is on hold is released, one that is powered off, suspended, stopped or
        undeployed is resumed.
      - With V(poweroff) it is powered off.
      - With V(suspended) it is stopped with its memory kept. Where it does not run it is started first.
      - With V(hold) it is kept from being scheduled, which is possible only before it runs.
      - With V(absent) it is terminated.
    type: str
    choices: [present, running, poweroff, suspended, hold, absent]
    default: present
notes:
  - Interfaces, disks and PCI devices are attached before others are detached. Only what stands in the way of a new one, such
    as an interface with the same address, goes first, and comes back if the new one cannot be attached. A VM that is powered
    off for a change that fails is started again.
  - A VM in a state of failure is an error for V(running), V(poweroff), V(suspended) and V(hold); the message has the
    server's reason.
  - Steps that build on each other, such as powering off before a change of size, are waited for whatever O(wait) says.
  - Changing interfaces and disks takes a VM that runs or is powered off, changing PCI devices one that is powered off.
"""

EXAMPLES = r"""
- name: Create a VM in the private network with two security groups
  opennebula.flower.one_vm:
    name: gateway
    vm_template: ~^debian-1[23]$
    cpu: 0.5
    memory: 1024
    nics:
      - NETWORK: private
        SECURITY_GROUPS: [default, web]
    template:
      CPU_MODEL:
        MODEL: host-passthrough
      LABELS: front,web
      CONTEXT:
        SSH_PUBLIC_KEY: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    mode: "640"

- name: Run exactly three workers
  opennebula.flower.one_vm:
    name: worker-#
    count: 3
    vm_template: worker*
    state: running

- name: Power all workers off
  opennebula.flower.one_vm:
    name: worker-#
    state: poweroff

- name: Enlarge the gateway and give it another disk
  opennebula.flower.one_vm:
    name: gateway
    memory: 2048
    restart: true
    disks:
      - IMAGE: debian-12
      - SIZE: 10240
        TYPE: fs
        FORMAT: raw

- name: Give the trainer one GPU of a kind, whichever is free
  opennebula.flower.one_vm:
    name: trainer
    pcis:
      - VENDOR: "10de"
        CLASS: "0302"
    restart: true

- name: Remove the gateway
  opennebula.flower.one_vm:
    name: gateway
    state: absent
"""

RETURN = r"""
vms:
  description: The VMs as they are now, in the order of their ids, without those that are absent.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id, absent for one that a run in check mode would make.
      returned: when it exists
      type: int
      sample: 5
    name:
      description: Its name.
      returned: always
      type: str
      sample: gateway
    owner:
      description: The user it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    group:
      description: The group it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    mode:
      description: Its permissions as three octal digits.
      returned: when it exists
      type: str
      sample: "640"
    state:
      description: Its state, the life-cycle state while it is active.
      returned: when it exists
      type: str
      sample: RUNNING
    reason:
      description: Why it is in this state, in the words of scheduler or driver, empty without a reason.
      returned: when it exists
      type: str
      sample: ""
    host:
      description: The host it is or was last on, empty for one that was never placed.
      returned: when it exists
      type: str
      sample: host01
    cluster_id:
      description: The id of that host's cluster.
      returned: when it exists
      type: int
      sample: 0
    template_id:
      description: The id of the VM template it was made from.
      returned: when it exists
      type: int
      sample: 7
    service_id:
      description: The id of the service it belongs to, null without one.
      returned: when it exists
      type: int
      sample: 6
    role:
      description: Its role in that service, empty without one.
      returned: when it exists
      type: str
      sample: supernode
    cpu:
      description: Its share of physical CPUs.
      returned: when it exists
      type: float
      sample: 0.5
    memory:
      description: Its memory in MB.
      returned: when it exists
      type: int
      sample: 1024
    vcpu:
      description: Its number of virtual CPUs.
      returned: when it exists
      type: int
      sample: 1
    labels:
      description: Its labels.
      returned: when it exists
      type: list
      elements: str
      sample: [front, web]
    addresses:
      description: The IPv4 addresses of its interfaces in their order.
      returned: when it exists
      type: list
      elements: str
      sample: [192.168.150.11]
    nics:
      description:
        - Its network interfaces, each with C(id), C(network), C(network_id), C(ip), C(mac) and C(security_groups), which
          are ids.
      returned: when it exists
      type: list
      elements: dict
      sample:
        - {"id": 0, "ip": "192.168.150.11", "mac": "02:00:c0:a8:96:0b", "network": "private", "network_id": 0,
           "security_groups": [0]}
    disks:
      description: Its disks, each with C(id), C(image), C(image_id), C(size) in MB and C(target).
      returned: when it exists
      type: list
      elements: dict
      sample: [{"id": 0, "image": "debian-12", "image_id": 0, "size": 10240, "target": "sda"}]
    pcis:
      description:
        - Its PCI devices, each with C(id), C(address), empty until it is placed, C(vendor), C(device) and C(class), which
          are hexadecimal.
      returned: when it exists
      type: list
      elements: dict
      sample: [{"address": "81:00.0", "class": "0302", "device": "2330", "id": 0, "vendor": "10de"}]
    attributes:
      description: Its user template, values as text.
      returned: when it exists
      type: dict
      sample: {"LABELS": "front,web"}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.selection import VmSelection


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **WAIT_OPTIONS,
            **OPTIONS,
            "count": {"type": "int"},
            "vm_template": {"type": "str"},
            "template": {"type": "dict"},
            "cpu": {"type": "float"},
            "memory": {"type": "int"},
            "vcpu": {"type": "int"},
            "restart": {"type": "bool", "default": False},
            "nics": {"type": "list", "elements": "dict"},
            "disks": {"type": "list", "elements": "dict"},
            "pcis": {"type": "list", "elements": "dict"},
            "new_name": {"type": "str"},
            "hard": {"type": "bool", "default": False},
            "state": {
                "type": "str", "choices": ["present", "running", "poweroff", "suspended", "hold", "absent"],
                "default": "present",
            },
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: VmSelection(module.client, module.params, module.unresolved, module.progress).transition())


if __name__ == "__main__":
    main()
