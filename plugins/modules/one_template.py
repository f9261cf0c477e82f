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
  - Networks of C(NIC) and images of C(DISK) that O(template) names have to exist.
  - C(SECURITY_GROUPS) of a C(NIC) takes names as well as ids, as a list or separated by commas; names are replaced by
    ids, as the server knows these only.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
"""

EXAMPLES = r"""
- name: Register a VM template for the SuperLink
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

- name: Remove the template
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

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml

# Attributes that mean another object by its name, and who else than the user may own that object.
_REFERENCES = (
    ("NIC", "NETWORK", "network", ("NETWORK_UNAME", "NETWORK_UID")),
    ("DISK", "IMAGE", "image", ("IMAGE_UNAME", "IMAGE_UID")),
)


class VmTemplate(ReconciledObject):
    """One VM template and what the task wants of it."""

    kind = "template"
    fact = "vm_template"
    owned = True

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {"name": document["NAME"], "template": self.template(document)}

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        target = self.desired_template(before)
        if target != before.get("template"):
            self._check_references(target)
        return {"name": before.get("name", self.name), "template": target}

    def requested_template(self) -> dict:
        """Return the template that the task asks for, with ids in the place of names of security groups."""
        template = super().requested_template()
        if not any(str(name).upper() == "NIC" for name in template):
            return template
        from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.references import References

        references = References(self.client, self.module.unresolved)
        return {
            name: _each(value, references.nic_template) if str(name).upper() == "NIC" else value
            for name, value in template.items()
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {**lookup.identity(document), "mode": mode(document), "template": self.template(document)}

    def create(self, after: dict) -> int:
        """Make the VM template and return its id."""
        return self.client.call("one.template.allocate", {**after["template"], "NAME": self.name})

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the VM template."""
        self.update_template(number, before, after)

    def _check_references(self, target: dict) -> None:
        for attribute, key, kind, owners in _REFERENCES:
            vectors = [vector for vector in xml.items(target, attribute) if isinstance(vector, dict)]
            # Only the user's own objects can be looked up by name alone.
            names = {vector[key] for vector in vectors if vector.get(key) and not any(owner in vector for owner in owners)}
            there = {item["NAME"] for item in lookup.pool(self.client, kind)} if names else set()
            for name in sorted(names - there):
                self.module.unresolved(lookup.missing(self.client, lookup.KINDS[kind].label, name))


def _each(value: object, change: Callable[[dict], dict]) -> object:
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return change(value) if isinstance(value, dict) else value


def main() -> None:
    """Run the module."""
    module = OneModule(argument_spec={**STATE_OPTIONS, **OPTIONS}, supports_check_mode=True)
    module.reconcile(lambda: VmTemplate(module).transition())


if __name__ == "__main__":
    main()
