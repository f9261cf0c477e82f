#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and publish through OneGate, from inside a VM."""

from __future__ import annotations

DOCUMENTATION = r"""
module: onegate
short_description: Read and publish through OneGate, from inside a VM
version_added: 0.1.0
description:
  - Publishes attributes of the VM the module runs on, removes them, and returns what OneGate knows of the VM and its service.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
  - opennebula.flower.onegate
options:
  attributes:
    description:
      - Attributes to publish. Names are kept in upper case.
      - OneGate changes or refuses values with commas, quotes, brackets, backslashes, line breaks or nothing in them.
        Such a value is an error, unless O(encode=true).
    type: dict
    default: {}
  encode:
    description:
      - Whether to publish values as base64url without padding, which carries any text. M(opennebula.flower.onegate_info)
        decodes it.
    type: bool
    default: false
  absent:
    description: Names of attributes to remove. None of them is in O(attributes), in whatever case.
    type: list
    elements: str
    default: []
  service:
    description: Whether to return the VM's service as well, with the attributes of all its VMs.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Publish the certificate of the CA and readiness
  opennebula.flower.onegate:
    attributes:
      FL_CA_CERT: "{{ ca_certificate | b64encode }}"
      FL_READY: true

- name: Publish a text with commas and line breaks
  opennebula.flower.onegate:
    attributes:
      FL_NOTES: "{{ notes }}"
    encode: true
"""

RETURN = r"""
vm:
  description: The VM, as OneGate returns it.
  returned: success
  type: dict
  sample: {"ID": "2", "NAME": "superlink_0_(service_6)", "USER_TEMPLATE": {"FL_READY": "YES"}}
service:
  description: The VM's service, as OneGate returns it.
  returned: when O(service=true)
  type: dict
  sample: {"id": "6", "name": "flower", "roles": [], "state": 2}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import scalar
from ansible_collections.opennebula.flower.plugins.module_utils.onegate import client as onegate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.module import OneGateModule
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import changed_result


def publish(module: OneGateModule) -> dict:
    """Bring the VM's attributes to the wanted state and return the module's result."""
    wanted = _wanted(module.params["attributes"])
    absent = _absent(module.params["absent"], wanted)
    if module.params["encode"]:
        wanted = {name: onegate.encode(value) for name, value in wanted.items()}
    for name, value in wanted.items():
        onegate.check(name, value)
    gate = module.gate
    vm = gate.get_vm()
    there = vm["USER_TEMPLATE"]
    new = {name: value for name, value in wanted.items() if there.get(name) != value}
    gone = [name for name in absent if name in there]
    after = {name: value for name, value in {**there, **new}.items() if name not in gone}
    if not module.check_mode:
        gate.put(new)
        gate.delete(gone)
    result = changed_result(there, after, vm={**vm, "USER_TEMPLATE": after})
    if module.params["service"]:
        result["service"] = gate.get_service()
    return result


def _wanted(attributes: dict) -> dict[str, str]:
    """Return the attributes to publish by the names that OneGate keeps. Raises OneException of kind invalid."""
    wanted: dict[str, str] = {}
    for given, value in attributes.items():
        name = str(given).upper()
        if name in wanted:
            raise OneException(INVALID, f"{name} is twice in attributes: the case of names makes no difference.")
        if isinstance(value, (dict, list)):
            raise OneException(INVALID, f"The value of {name} is {value!r}, expected a text, a number or a boolean.")
        wanted[name] = scalar(value)
    return wanted


def _absent(names: list[str], wanted: dict[str, str]) -> list[str]:
    """Return the names of attributes to remove, each once. Raises OneException of kind invalid for one that is published too."""
    absent = list(dict.fromkeys(name.upper() for name in names))
    both = [name for name in absent if name in wanted]
    if both:
        raise OneException(INVALID, f"{both[0]} is both in attributes and in absent: the case of names makes no difference.")
    return absent


def main() -> None:
    """Run the module."""
    module = OneGateModule(
        argument_spec={
            "attributes": {"type": "dict", "default": {}},
            "encode": {"type": "bool", "default": False},
            "absent": {"type": "list", "elements": "str", "default": []},
            "service": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.run(lambda: publish(module))


if __name__ == "__main__":
    main()
