#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read OneFlow services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_service_info
short_description: Read OneFlow services
version_added: 0.1.0
description:
  - Returns services with their roles and, if asked for, the VMs behind them.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes.info
  - opennebula.flower.attributes.one_group
options:
  name:
    description:
      - Name or id of one service. Without it all services are returned.
      - A service that does not exist gives an empty list.
    type: str
  vm_details:
    description:
      - Whether to read the VMs of the services, for RV(services[].vms). That is one call, whatever their number.
    type: bool
    default: false
  vm_context:
    description:
      - Names of entries of the contexts of these VMs, for RV(services[].vms[].context). Unlike their attributes, no VM can write its context.
    type: list
    elements: str
    version_added: 0.2.0
"""

EXAMPLES = r"""
- name: Read a federation
  opennebula.flower.one_service_info:
    name: flower
    vm_details: true
  register: federation

- name: Show the address of its SuperLink
  ansible.builtin.debug:
    msg: "{{ federation.services[0].vms | selectattr('role', 'eq', 'superlink') | map(attribute='addresses') | first }}"
"""

RETURN = r"""
services:
  description: The services.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The service's id.
      returned: always
      type: int
      sample: 6
    name:
      description: Its name.
      returned: always
      type: str
      sample: flower
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
      description: Its state.
      returned: always
      type: str
      sample: RUNNING
    roles:
      description: Its roles by name, each with C(cardinality), C(min_vms), C(max_vms), C(state) and the ids of its C(vms).
      returned: always
      type: dict
      sample: {"superlink": {"cardinality": 1, "max_vms": 1, "min_vms": 1, "state": "RUNNING", "vms": [3]}}
    vms:
      description: Its VMs, oldest first in each role.
      returned: when O(vm_details=true)
      type: list
      elements: dict
      contains:
        id:
          description: The VM's id.
          returned: always
          type: int
          sample: 3
        name:
          description: Its name.
          returned: always
          type: str
          sample: superlink_0_(service_6)
        role:
          description: The role it belongs to.
          returned: always
          type: str
          sample: superlink
        state:
          description: Its state, the life-cycle state while it is active.
          returned: always
          type: str
          sample: RUNNING
        ready:
          description: Whether it reported C(READY=YES).
          returned: always
          type: bool
        addresses:
          description: The IPv4 addresses of its NICs in their order.
          returned: always
          type: list
          elements: str
          sample: [192.168.150.13]
        context:
          description: Those entries of its context that O(vm_context) names and that it has, values as text.
          returned: when O(vm_context) is given
          type: dict
          sample: {"ONEAPP_FL_NODE_CONFIG": "zone=lyon"}
        attributes:
          description: Its user template, which includes what it published through OneGate.
          returned: always
          type: dict
          sample: {"READY": "YES", "ROLE_NAME": "superlink", "SERVICE_ID": "6"}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import states
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import text
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import facts as vm_facts


def read(module: OneModule) -> dict:
    """Return the module's result."""
    name = module.params["name"]
    if name is None:
        facts = service_facts.listed(module.client, service_facts.all_services(module.client))
    else:
        service = service_facts.find_service(module.client, name)
        facts = [service_facts.facts(service)] if service else []
    if module.params["vm_details"]:
        there = vm_facts.all_vms(module.client) if facts else {}
        for service in facts:
            service["vms"] = _vms(service, there, module.params["vm_context"])
    return {"changed": False, "services": facts}


def _vms(service: dict, there: dict[int, dict], entries: list[str] | None) -> list[dict]:
    return [
        {
            "id": number,
            "name": there[number]["NAME"],
            "role": role,
            "state": states.vm_state(there[number]),
            "ready": vm_facts.is_ready(there[number]),
            "addresses": vm_facts.addresses(there[number]),
            "attributes": xml.section(there[number], "USER_TEMPLATE"),
            **({} if entries is None else {"context": _context(there[number], entries)}),
        }
        for role, settings in service["roles"].items()
        for number in settings["vms"]
        if number in there
    ]


def _context(vm: dict, entries: list[str]) -> dict[str, str]:
    context = xml.section(xml.section(vm, "TEMPLATE"), "CONTEXT")
    return {name: text(context[name]) for name in entries if name in context}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str"},
            "vm_details": {"type": "bool", "default": False},
            "vm_context": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: read(module))


if __name__ == "__main__":
    main()
