#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage VM templates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_template
short_description: Manage VM templates of OpenNebula
version_added: 0.1.0
description:
  - Makes, changes and removes VM templates.
  - A template is compared by meaning; the order and case of attributes, and numbers written as text make no difference.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
options:
  name:
    description: Name of the VM template, or the id of one that exists.
    type: str
    required: true
  template:
    description:
      - Attributes of the template in OpenNebula's terms. A dictionary is a vector attribute, a list a repeated one.
      - Booleans are written as C(YES) and C(NO).
      - Networks of C(NIC) and images of C(DISK) that are named have to exist.
      - C(SECURITY_GROUPS) of a C(NIC) takes names as well as ids, as a list or separated by commas; names are replaced by
        ids, as the server knows these only.
    type: dict
    default: {}
  update:
    description:
      - What happens to attributes of an existing template that O(template) does not name.
      - With V(merge) they stay, with V(replace) they are removed.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether the VM template should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A VM template for the SuperLink
  opennebula.flower.one_template:
    name: flower-superlink
    template:
      CPU: 1
      VCPU: 2
      MEMORY: 2048
      DISK:
        - IMAGE: flower-superlink
      NIC:
        - NETWORK: private
          SECURITY_GROUPS: [default, flower]
      CONTEXT:
        NETWORK: true
        TOKEN: true
        REPORT_READY: true

- name: The template is gone
  opennebula.flower.one_template:
    name: flower-superlink
    state: absent
"""

RETURN = r"""
vm_template:
  description: The VM template as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 7
    name:
      description: Its name.
      returned: always
      type: str
      sample: flower-superlink
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
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {"CPU": "1", "MEMORY": "2048"}
"""

from collections.abc import Callable

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import compare, lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, Ownership, mode, write
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

_PREFIX = "one.template"
# Attributes that mean another object by its name, and who else than the user may own that object.
_REFERENCES = (
    ("NIC", "NETWORK", "network", ("NETWORK_UNAME", "NETWORK_UID")),
    ("DISK", "IMAGE", "image", ("IMAGE_UNAME", "IMAGE_UID")),
)


def ensure(module: OneModule) -> dict:
    """Bring the VM template to the wanted state and return the module's result."""
    current = lookup.find(module.client, "template", module.params["name"], module.params["owner"])
    if module.params["state"] == "present":
        return _present(module, current)
    if current and not module.check_mode:
        lookup.delete(module.client, "template", int(current["ID"]))
    return module.result(_state(current), {}, vm_template={})


def _present(module: OneModule, current: dict | None) -> dict:
    client, name = module.client, module.params["name"]
    if any(str(attribute).upper() == "NAME" for attribute in module.params["template"]):
        raise OneException(INVALID, "The template has NAME; use the option name for it.")
    if current is None and lookup.is_id(name):
        raise lookup.missing(client, "VM template", name)
    ownership = Ownership(client, module.params)
    before = {**_state(current), **(ownership.before(current) if current else {})}
    wanted = _with_security_groups(module, module.params["template"])
    attributes = before.get("template", {})
    target = compare.wanted_template(attributes, wanted, module.params["update"] == "replace")
    owned = ownership.after(current) if current else ownership.given()
    after = {"name": before.get("name", name), "template": target, **owned}
    if before != after:
        _check_references(module, target)
        ownership.check(before, after, module.unresolved)
        if not module.check_mode:
            current = _write(module, current, target, ownership)
    identity = {**lookup.identity(current), "mode": mode(current)} if current else {}
    return module.result(before, after, vm_template={**identity, **after})


def _write(module: OneModule, current: dict | None, target: dict, ownership: Ownership) -> dict:
    client = module.client
    if current is None:
        number = client.call(f"{_PREFIX}.allocate", {**target, "NAME": module.params["name"]})
        current = lookup.get(client, "template", number)
    elif _attributes(current) != target:
        client.call(f"{_PREFIX}.update", int(current["ID"]), *compare.update(_attributes(current), target))
    write(client, ownership, _PREFIX, current)
    return current


def _with_security_groups(module: OneModule, template: dict) -> dict:
    """Return the wanted template with ids in the place of names of security groups."""
    if not any(str(name).upper() == "NIC" for name in template):
        return template
    from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.references import References

    references = References(module.client, module.unresolved)
    return {
        name: _each(value, references.nic_template) if str(name).upper() == "NIC" else value
        for name, value in template.items()
    }


def _each(value: object, change: Callable[[dict], dict]) -> object:
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return change(value) if isinstance(value, dict) else value


def _check_references(module: OneModule, target: dict) -> None:
    for attribute, key, kind, owners in _REFERENCES:
        vectors = [vector for vector in xml.items(target, attribute) if isinstance(vector, dict)]
        # Only the user's own objects can be looked up by name alone.
        names = {vector[key] for vector in vectors if vector.get(key) and not any(owner in vector for owner in owners)}
        there = {item["NAME"] for item in lookup.pool(module.client, kind)} if names else set()
        for name in sorted(names - there):
            module.unresolved(lookup.missing(module.client, lookup.KINDS[kind].label, name))


def _state(document: dict | None) -> dict:
    return {"name": document["NAME"], "template": _attributes(document)} if document else {}


def _attributes(document: dict) -> dict:
    return xml.section(document, "TEMPLATE")


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "template": {"type": "dict", "default": {}},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            **OPTIONS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: ensure(module))


if __name__ == "__main__":
    main()
