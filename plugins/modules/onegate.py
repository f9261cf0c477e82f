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
  - Endpoint, VM and token come from the VM's context unless they are given.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  attributes:
    description:
      - Attributes to publish. Names are kept in upper case.
      - OneGate changes or refuses values with commas, quotes, brackets, backslashes, line breaks or nothing in them.
        Such a value is an error, unless O(encode=true).
    type: dict
    default: {}
  encode:
    description: Whether to publish values as base64url without padding, which carries any text.
    type: bool
    default: false
  absent:
    description: Names of attributes to remove.
    type: list
    elements: str
    default: []
  service:
    description: Whether to return the VM's service as well, with the attributes of all its VMs.
    type: bool
    default: false
  endpoint:
    description: OneGate's URL.
    type: str
  vm_id:
    description: Id of this VM.
    type: int
  token_file:
    description: File with this VM's token.
    type: path
    default: /run/one-context/token.txt
  context_file:
    description: File with the VM's context, where O(endpoint) and O(vm_id) come from when they are not given.
    type: path
    default: /run/one-context/one_env
  timeout:
    description: Seconds after which a request ends with an error.
    type: float
    default: 10
requirements:
  - requests
"""

EXAMPLES = r"""
- name: Publish the certificate of the CA and readiness
  opennebula.flower.onegate:
    attributes:
      FL_CA_CERT: "{{ ca_certificate | b64encode }}"
      FL_READY: true

- name: Read what the other VMs of the service published
  opennebula.flower.onegate:
    service: true
  register: onegate
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

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.opennebula.flower.plugins.module_utils.module import changed_result
from ansible_collections.opennebula.flower.plugins.module_utils.one import onegate
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.http import REQUESTS_IMPORT_ERROR
from ansible_collections.opennebula.flower.plugins.module_utils.one.template import scalar
from ansible_collections.opennebula.flower.plugins.module_utils.one.xml import section


def publish(module: AnsibleModule) -> dict:
    """Bring the VM's attributes to the wanted state and return the module's result."""
    gate = _gate(module)
    wanted = {str(name).upper(): scalar(value) for name, value in module.params["attributes"].items()}
    if module.params["encode"]:
        wanted = {name: onegate.encode(value) for name, value in wanted.items()}
    for name, value in wanted.items():
        onegate.check(name, value)
    vm = gate.get_vm()
    there = section(vm, "USER_TEMPLATE")
    new = {name: value for name, value in wanted.items() if there.get(name) != value}
    gone = [name.upper() for name in module.params["absent"] if name.upper() in there]
    after = {name: value for name, value in {**there, **new}.items() if name not in gone}
    if not module.check_mode:
        gate.put(new)
        gate.delete(gone)
    result = changed_result(there, after, vm={**vm, "USER_TEMPLATE": after})
    if module.params["service"]:
        result["service"] = gate.get_service()
    return result


def _gate(module: AnsibleModule) -> onegate.OneGate:
    endpoint, vm_id = module.params["endpoint"], module.params["vm_id"]
    if endpoint is None or vm_id is None:
        context = _context(Path(module.params["context_file"]))
        endpoint = context.get("ONEGATE_ENDPOINT") if endpoint is None else endpoint
        vm_id = context.get("VMID") if vm_id is None else vm_id
    if not endpoint or vm_id is None:
        lacking = "ONEGATE_ENDPOINT" if not endpoint else "VMID"
        raise OneException(INVALID, f"The context in {module.params['context_file']} has no {lacking}.")
    token = _text(Path(module.params["token_file"])).strip()
    module.no_log_values.add(token)
    return onegate.OneGate(endpoint, vm_id, token, module.params["timeout"])


def _context(path: Path) -> dict[str, str]:
    """Return the variables of a context as OpenNebula's guest agent writes it: export NAME="value"."""
    pattern = re.compile(r"""^(?:export )?([A-Za-z_][A-Za-z0-9_]*)=(["']?)(.*)\2$""", re.MULTILINE)
    return {name: value for name, _quote, value in pattern.findall(_text(path))}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OneException(INVALID, f"{path} cannot be read: {error.strerror}.") from None


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "attributes": {"type": "dict", "default": {}},
            "encode": {"type": "bool", "default": False},
            "absent": {"type": "list", "elements": "str", "default": []},
            "service": {"type": "bool", "default": False},
            "endpoint": {"type": "str"},
            "vm_id": {"type": "int"},
            "token_file": {"type": "path", "default": "/run/one-context/token.txt"},
            "context_file": {"type": "path", "default": "/run/one-context/one_env"},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    if REQUESTS_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
    try:
        result = publish(module)
    except OneException as error:
        module.fail_json(msg=error.message, error={"kind": error.kind})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
