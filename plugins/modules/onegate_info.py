#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read through OneGate, from inside a VM."""

from __future__ import annotations

DOCUMENTATION = r"""
module: onegate_info
short_description: Read through OneGate, from inside a VM
version_added: 0.2.0
description:
  - Returns what OneGate knows of the VM the module runs on, of another VM of its service, and of the service with all
    its VMs.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes.info
  - opennebula.flower.onegate
options:
  vm:
    description: Id of another VM of the service, to return instead of this one.
    type: int
  service:
    description: Whether to return the VM's service as well, with its VMs. A VM outside a service is an error then.
    type: bool
    default: false
  decode:
    description:
      - Names of attributes whose values M(opennebula.flower.onegate) published with O(opennebula.flower.onegate#module:encode=true).
      - They are decoded in RV(attributes) and RV(members[].attributes). A value of this VM that is not encoded is an error;
        one of another member is left out with a warning.
    type: list
    elements: str
    default: []
seealso:
  - module: opennebula.flower.onegate
"""

EXAMPLES = r"""
- name: Read this VM
  opennebula.flower.onegate_info:
  register: onegate

- name: Read what the VMs of the service published
  opennebula.flower.onegate_info:
    service: true
    decode: [FL_NOTES]
  register: onegate

- name: Show the notes of the SuperLink
  ansible.builtin.debug:
    msg: "{{ (onegate.members | selectattr('role', 'eq', 'superlink') | first).attributes.FL_NOTES }}"
"""

RETURN = r"""
vm:
  description: The VM, as OneGate returns it.
  returned: success
  type: dict
  sample: {"ID": "2", "NAME": "superlink_0_(service_6)", "USER_TEMPLATE": {"FL_READY": "YES"}}
attributes:
  description: The VM's user template, values as text.
  returned: success
  type: dict
  sample: {"FL_READY": "YES"}
service:
  description: The VM's service, as OneGate returns it.
  returned: when O(service=true)
  type: dict
  sample: {"id": "6", "name": "flower", "roles": [], "state": 2}
members:
  description: The VMs of the service, oldest first in each role.
  returned: when O(service=true)
  type: list
  elements: dict
  contains:
    id:
      description: The VM's id.
      returned: always
      type: int
      sample: 2
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
    addresses:
      description: The IPv4 addresses of its NICs in their order.
      returned: always
      type: list
      elements: str
      sample: [192.168.150.13]
    attributes:
      description: Its user template, values as text.
      returned: always
      type: dict
      sample: {"FL_READY": "YES"}
"""

from collections.abc import Callable

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import facts as vm_facts
from ansible_collections.opennebula.flower.plugins.module_utils.onegate import client as onegate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.module import OneGateModule


def read(module: OneGateModule) -> dict:
    """Return the module's result."""
    encoded = {name.upper() for name in module.params["decode"]}
    vm = module.gate.get_vm(module.params["vm"])
    attributes = {
        name: _decoded(vm["ID"], name, value) if name in encoded else value for name, value in vm["USER_TEMPLATE"].items()
    }
    result = {"changed": False, "vm": vm, "attributes": attributes}
    if module.params["service"]:
        service = module.gate.get_service()
        result |= {"service": service, "members": _members(service, encoded, module.warn)}
    return result


def _members(service: dict, encoded: set[str], warn: Callable[[str], None]) -> list[dict]:
    return [
        {
            "id": int(node["deploy_id"]),
            "name": xml.section(node, "vm_info", "VM").get("NAME", ""),
            "role": role["name"],
            "addresses": vm_facts.addresses(xml.section(node, "vm_info", "VM")),
            "attributes": _attributes_of_member(node, encoded, warn),
        }
        for role in service["roles"]
        for node in role.get("nodes") or []
    ]


def _attributes_of_member(node: dict, encoded: set[str], warn: Callable[[str], None]) -> dict:
    attributes = {}
    for name, value in xml.section(node, "vm_info", "VM", "USER_TEMPLATE").items():
        try:
            attributes[name] = _decoded(node["deploy_id"], name, value) if name in encoded else value
        except OneException as error:
            # What another VM writes must not keep this one from its work.
            warn(f"{error.message} It is left out.")
    return attributes


def _decoded(vm_id: str | int, name: str, value: object) -> str:
    try:
        return onegate.decode(str(value))
    except OneException as error:
        raise OneException(error.kind, f"{name} of VM {vm_id} was not published encoded: {error.message}") from None


def main() -> None:
    """Run the module."""
    module = OneGateModule(
        argument_spec={
            "vm": {"type": "int"},
            "service": {"type": "bool", "default": False},
            "decode": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.run(lambda: read(module))


if __name__ == "__main__":
    main()
