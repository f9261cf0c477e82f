#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage OneFlow service templates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_service_template
short_description: Manage OneFlow service templates
version_added: 0.1.0
description:
  - Makes, changes and removes service templates.
  - The template is written as OpenNebula 7 names things and rendered for the server at hand; for OpenNebula 6 that
    includes passing every user input on to the context of the roles' VMs.
  - Services that run are not touched by a change of their template.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.object
  - opennebula.flower.object.name
options:
  template:
    description:
      - The service template in OneFlow's terms, with the keys C(description), C(deployment) (V(none) or V(straight)),
        C(shutdown_action), C(ready_status_gate), C(automatic_deletion), C(user_inputs), C(networks) and C(roles).
      - A role has the keys C(name), C(vm_template) (name or id), C(cardinality), C(min_vms), C(max_vms), C(cooldown),
        C(parents), C(user_inputs), C(template_contents) (a dictionary in OpenNebula's terms or text in its syntax),
        C(shutdown_action), C(elasticity_policies) and C(scheduled_policies).
      - A user input is declared as C(M|type|description|options|default), with C(O) for an optional one.
      - The names of OpenNebula 6, C(custom_attrs) and C(vm_template_contents), are understood too, as in the service
        templates of OpenNebula's marketplace; keys that OneFlow does not know are refused.
      - Required when O(state=present).
    type: dict
"""

EXAMPLES = r"""
- name: Register a federation of one SuperLink and two SuperNodes
  opennebula.flower.one_service_template:
    name: Flower Federated Learning
    template:
      deployment: straight
      ready_status_gate: true
      user_inputs:
        ONEAPP_FL_TLS_ENABLED: "O|boolean|TLS between the nodes||YES"
      roles:
        - name: superlink
          vm_template: flower-superlink
          cardinality: 1
          min_vms: 1
          max_vms: 1
          user_inputs:
            ONEAPP_FL_NUM_ROUNDS: "O|number|Rounds of the first run||3"
        - name: supernode
          vm_template: flower-supernode
          parents: [superlink]
          cardinality: 2
          min_vms: 2
          max_vms: 10
          cooldown: 30

- name: Remove the service template
  opennebula.flower.one_service_template:
    name: Flower Federated Learning
    state: absent
"""

RETURN = r"""
service_template:
  description: The service template as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 12
    name:
      description: Its name.
      returned: always
      type: str
      sample: Flower Federated Learning
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
      description: Its content as the server keeps it.
      returned: always
      type: dict
      sample: {"deployment": "straight", "name": "Flower Federated Learning", "roles": []}
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import dialect, documents
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import templates as service_templates
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException


class ServiceTemplate(ReconciledObject):
    """One service template and what the task wants of it. Its template is the body of a OneFlow document."""

    kind = "service_template"
    fact = "service_template"
    owned = True

    def find(self) -> dict | None:
        """Return the service template's document, None if there is none."""
        return documents.find_template(self.client, self.name, self.params["owner"])

    def read(self, number: int) -> dict:
        """Return the service template's document."""
        return documents.get(self.client, "service_template", number)

    def check_template(self) -> None:
        """Refuse nothing yet: the body is judged as a whole, and a name in it is the service template's."""

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {"name": document["NAME"], "template": documents.body(document)}

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        name = before.get("name", self.name)
        if not self.params["template"]:
            raise OneException(INVALID, f"Service template {name!r}: template is needed.")
        wanted = service_templates.normalize(name, self.params["template"])
        merged = service_templates.merged(before.get("template", {}), self._rendered(wanted), self.params["update"] == "replace")
        return {"name": name, "template": merged}

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {**lookup.identity(document), "mode": mode(document), **self.attributes(document)}

    def check_storable(self, before: dict, after: dict) -> None:
        """Do nothing: the document is not a template, and was judged when it was read."""

    def create(self, after: dict) -> int:
        """Make the service template and return its id."""
        return int(self.client.flow("POST", "/service_template", after["template"])["DOCUMENT"]["ID"])

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the service template."""
        if before["template"] != after["template"]:
            self.client.flow("PUT", f"/service_template/{number}", after["template"])

    def remove(self, document: dict) -> None:
        """Remove the service template."""
        self.client.flow("DELETE", f"/service_template/{document['ID']}")

    def give(self, document: dict) -> None:
        """Give the service template the owner, group and permissions that the task names."""
        from ansible_collections.opennebula.flower.plugins.module_utils.one.service.actions import give

        give(self.client, "service_template", document, self.ownership)

    def _rendered(self, wanted: dict) -> dict:
        """Return the document for the server at hand, with the VM templates' names resolved."""
        vm_templates = lookup.pool(self.client, "template")
        used = {}
        roles = []
        for role in wanted["roles"]:
            named = role.get("vm_template", role.get("template_id"))
            document = self._vm_template(vm_templates, str(named))
            # In check mode the VM template may not exist yet.
            number = int(document["ID"]) if document else named
            used[number] = xml.section(document or {}, "TEMPLATE", "CONTEXT")
            roles.append({**{key: value for key, value in role.items() if key != "vm_template"}, "template_id": number})
        return dialect.render_template(self.client, {**wanted, "roles": roles}, used)

    def _vm_template(self, vm_templates: list[dict], name_or_id: str) -> dict | None:
        if lookup.is_id(name_or_id):
            found = next((item for item in vm_templates if int(item["ID"]) == int(name_or_id)), None)
        else:
            found = lookup.named(self.client, "VM template", vm_templates, name_or_id)
        if found is None:
            self.module.unresolved(lookup.missing(self.client, "VM template", name_or_id))
        return found


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={**STATE_OPTIONS, **OPTIONS, "template": {"type": "dict"}},
        supports_check_mode=True,
    )
    module.reconcile(lambda: ServiceTemplate(module).transition())


if __name__ == "__main__":
    main()
