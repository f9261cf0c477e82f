#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage OneFlow services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_service
short_description: Manage OneFlow services
version_added: 0.1.0
description:
  - Starts, changes, scales, repairs and removes services, and acts on the VMs of their roles.
  - A service that is being deployed is waited for, one that failed tries again, one on hold is released, and one that
    is being removed is awaited and then started anew; there are never two of a name.
  - All that the task says is checked before anything is changed.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.attributes.wait
  - opennebula.flower.object.name
options:
  service_template:
    description:
      - Name or id of the service template of a new service.
      - Required when O(state=present) and the service does not exist.
    type: str
  roles:
    description:
      - What is wanted of the service's roles, by role name.
      - C(cardinality) is the number of VMs, which scales a service that runs, and C(user_inputs) are values of the
        user inputs that the role declares.
      - C(state) is that of all VMs of the role, one of V(running), V(poweroff), V(suspended), V(stopped) and
        V(undeployed). A role whose VMs do not run makes the service C(WARNING), in which it cannot be scaled.
      - C(min_vms), C(max_vms), C(cooldown), C(shutdown_action), C(elasticity_policies) and C(scheduled_policies) are
        settings that a service which runs can change. Policies are taken as a whole; those of a new service are set
        once it runs.
    type: dict
    default: {}
  user_inputs:
    description:
      - Values of the user inputs that the service declares. Others get their default.
      - A service that runs cannot change them; other values than it was started with are an error.
    type: dict
    default: {}
  networks:
    description:
      - The virtual networks that the service template asks for, by its names for them. Others get their default.
      - Each is the name or id of a network that is there, or a dictionary with one of C(id), C(reserve_from) (a network to
        reserve from) and C(template_id) (a template of networks), and C(extra), the reservation's or network's template
        in OpenNebula's syntax.
      - A service that runs cannot change them; others than it was started with are an error.
    type: dict
    default: {}
  template:
    description:
      - Settings of the service in OneFlow's terms that a service which runs can change, such as C(description),
        C(shutdown_action) and C(automatic_deletion). Others stay.
    type: dict
    default: {}
  wait_for_cooldown:
    description:
      - Whether a scaled service must have ended its cooldown.
      - Without it, a service in C(COOLDOWN) counts as scaled.
    type: bool
    default: false
  error_attribute:
    description:
      - Name of the attribute in which a VM says why it will not report C(READY=YES), such as C(FL_ERROR) of the appliances of this collection.
      - A running VM that has it and is not ready ends the wait at once, with the attribute's value. Without it, only OpenNebula's own states do.
    type: str
    default: ""
    version_added: 0.2.0
  drain:
    description:
      - Whether a role that shrinks waits, for O(wait_timeout) seconds and whatever O(wait) says, until what runs in the VMs that go has finished its work
        and left. They are the oldest.
      - The VMs get the attribute C(DRAIN=YES) and answer with C(DRAINED=YES), which the SuperNode appliances of this collection do once they have sent
        what they trained. A VM that does not run needs no answer.
      - After the deadline the role keeps its VMs, and they are told to stay with C(DRAIN=NO).
    type: bool
    default: false
  state:
    description:
      - With V(present) the service runs, and is started if it does not exist.
      - With V(scaled) it must exist already.
      - With V(recovered) it must exist already, and one whose removal failed is removed on.
      - With V(absent) it and its VMs are removed, whatever state it is in.
    type: str
    choices: [present, scaled, recovered, absent]
    default: present
notes:
  - All 16 states of services are known. If the service reaches a state that the task does not want, the wait ends immediately, with the reasons of
    the VMs, the scheduler and OneFlow's log.
"""

EXAMPLES = r"""
- name: Deploy a federation
  opennebula.flower.one_service:
    name: flower
    service_template: Flower Federated Learning
    user_inputs:
      ONEAPP_FL_TLS_ENABLED: true
    roles:
      superlink:
        user_inputs:
          ONEAPP_FL_NUM_ROUNDS: 10
      supernode:
        cardinality: 2

- name: Give it three SuperNodes
  opennebula.flower.one_service:
    name: flower
    state: scaled
    roles:
      supernode:
        cardinality: 3

- name: Shrink it to two, between two messages of its training
  opennebula.flower.one_service:
    name: flower
    state: scaled
    drain: true
    wait_timeout: 1200
    roles:
      supernode:
        cardinality: 2

- name: Power its SuperNodes off over the weekend, and let it grow when they are back
  opennebula.flower.one_service:
    name: flower
    roles:
      supernode:
        state: poweroff
        max_vms: 20
        elasticity_policies:
          - type: CHANGE
            adjust: 1
            expression: CPU > 80
            period: 60
            period_number: 3

- name: Try again what failed
  opennebula.flower.one_service:
    name: flower
    state: recovered

- name: Remove the federation
  opennebula.flower.one_service:
    name: flower
    state: absent
"""

RETURN = r"""
service:
  description: The service as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 6
    name:
      description: Its name.
      returned: always
      type: str
      sample: flower
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
      description: Its state.
      returned: when it exists
      type: str
      sample: RUNNING
    roles:
      description: Its roles by name, each with C(cardinality), C(min_vms), C(max_vms), C(state) and the ids of its C(vms).
      returned: when it exists
      type: dict
      sample: {"superlink": {"cardinality": 1, "max_vms": 1, "min_vms": 1, "state": "RUNNING", "vms": [3]}}
"""

import re
from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.compare import Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, Ownership
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import documents
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import settings as service_settings
from ansible_collections.opennebula.flower.plugins.module_utils.one.service.desired import DesiredService
from ansible_collections.opennebula.flower.plugins.module_utils.one.service.facts import FAILED_LEAVING, LEAVING, RUNNING
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, WRONG_STATE, OneException

if TYPE_CHECKING:
    from ansible_collections.opennebula.flower.plugins.module_utils.one.service.apply import ServiceChanger

_ROLE_KEYS = ("cardinality", "user_inputs", "state", *service_settings.ROLE_SETTINGS)
_MUST_EXIST = ("scaled", "recovered")


class Service:
    """One service and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.roles = _checked_roles(module.params["roles"])
        service_settings.check(module.params["template"], self.roles)
        if re.search("[&<]", self.name):
            raise OneException(INVALID, f"Service name {self.name!r}: OneFlow cannot store a name with & or <.")
        self.desired = DesiredService(self.roles, module.params["user_inputs"])
        self.ownership = Ownership(module.client, module.params)
        self.has_role_states = any(role.get("state") for role in self.roles.values())

    def transition(self) -> Transition:
        """Return the way from what there is to what the task wants. Raises OneException."""
        current = service_facts.find_service(self.client, self.name, self.params["owner"])
        if self.params["state"] == "absent":
            if current is None or service_facts.state(current) == "DONE":
                return Transition({}, {}, _no_facts)
            return self._removal(current, "delete")
        if current and self.params["state"] == "recovered" and service_facts.state(current) in FAILED_LEAVING | LEAVING:
            return self._removal(current, "recover")
        if current and service_facts.state(current) in LEAVING:
            return self._creation(leaving=current)
        if current is None:
            return self._creation()
        return self._change(current)

    def _removal(self, current: dict, action: str) -> Transition:
        """Remove a service by one of OneFlow's actions, unless it is leaving already."""
        changer = self._changer()
        is_leaving = changer.is_leaving(current)

        def apply() -> dict:
            changer.remove(current, None if is_leaving else action)
            return _no_facts()

        return Transition({} if is_leaving else _summary(current), {}, _no_facts, apply)

    def _creation(self, leaving: dict | None = None) -> Transition:
        if self.params["state"] in _MUST_EXIST or lookup.is_id(self.name):
            raise lookup.missing(self.client, "service", self.name)
        template = self._service_template()
        if template is None:
            # In check mode the service template may not exist yet.
            wanted = {name: {"cardinality": role.get("cardinality")} for name, role in self.params["roles"].items()}
            after = {"name": self.name, "roles": wanted}
            return Transition({}, after, lambda: {"service": after})
        from ansible_collections.opennebula.flower.plugins.module_utils.one.service import contents as service_contents

        self.module.no_log_values.update(self.desired.secrets(template, shown=True))
        merge = {**self.params["template"], **self.desired.instantiation(self.client, template, self.name)}
        merge |= self._networks(template)
        service_contents.check(self.client, template, merge, self.module.warn)
        self.ownership.check({}, self.ownership.given(), self.module.unresolved)
        after = {
            "name": self.name,
            "service_template": template["NAME"],
            "user_inputs": merge.get("user_inputs_values", {}),
            "roles": {
                role["name"]: {
                    "cardinality": role["cardinality"], "user_inputs": role.get("user_inputs_values", {}),
                    **service_settings.of_role(self.roles.get(role["name"], {})),
                }
                for role in merge["roles"]
            },
            **({"networks": merge["networks_values"]} if "networks_values" in merge else {}),
            **self.params["template"],
            **self.ownership.given(),
        }

        def apply() -> dict:
            return {"service": service_facts.facts(self._changer().start(int(template["ID"]), merge, leaving))}

        return Transition({}, after, lambda: {"service": after}, apply)

    def _networks(self, template: dict) -> dict:
        """Return what to merge into the service template for its networks."""
        if not self.params["networks"] and not documents.body(template).get("networks"):
            return {}
        from ansible_collections.opennebula.flower.plugins.module_utils.one.service import networks as service_networks

        return {"networks_values": service_networks.values(self.client, template, self.params["networks"], self.name)}

    def _service_template(self) -> dict | None:
        name = self.params["service_template"]
        if name is None:
            raise OneException(INVALID, f"Service {self.name!r} does not exist: service_template is needed to start it.")
        template = documents.find_template(self.client, name)
        if template is None:
            self.module.unresolved(lookup.missing(self.client, "service template", name))
        return template

    def _change(self, current: dict) -> Transition:
        state = service_facts.state(current)
        if state in FAILED_LEAVING:
            raise OneException(
                WRONG_STATE,
                f"Service {self.name!r} (id {current['ID']}) is in state {state}: remove it first, with state absent.",
            )
        self.module.no_log_values.update(self.desired.secrets(current))
        wanted = self.desired.cardinalities(current)
        self.desired.check_inputs(self.client, current)
        if self.params["networks"]:
            from ansible_collections.opennebula.flower.plugins.module_utils.one.service import networks as service_networks

            service_networks.check(self.client, current, self.params["networks"])
        body = service_facts.body(current)
        new_body = service_settings.updated(body, self.params["template"], self.roles)
        # One that runs needs no help, and its VMs are where they should be unless the task says where.
        mend = None if state == RUNNING else self._changer().mending(current)
        states_before, states_after = self._changer().predicted_states(current) if self.has_role_states else ({}, {})
        shown = self.params["template"], self.roles
        before = {
            **service_facts.sizes(current), "vms": states_before, "settings": service_settings.said(body, *shown),
            **self.ownership.before(current),
        }
        after = {
            **before, "roles": {name: wanted.get(name, number) for name, number in before["roles"].items()},
            "vms": states_after, "settings": service_settings.said(new_body, *shown), **self.ownership.after(current),
        }
        self.ownership.check(before, after, self.module.unresolved)
        if mend:
            before, after = {**before, "state": state}, {**after, "state": RUNNING}

        def apply() -> dict:
            return {"service": service_facts.facts(self._changer().apply(current, wanted, mend, give=before != after))}

        # Also where nothing differs: one that does not run, or whose VMs are to be in a state, may be on its way.
        is_needed = before != after or state != RUNNING or self.has_role_states
        return Transition(before, after, lambda: {"service": service_facts.facts(current)}, apply if is_needed else None)

    def _changer(self) -> ServiceChanger:
        from ansible_collections.opennebula.flower.plugins.module_utils.one.service.apply import ServiceChanger

        return ServiceChanger(self.client, self.params, self.ownership, self.module.progress)


def _checked_roles(roles: dict) -> dict[str, dict]:
    for name, role in roles.items():
        if not isinstance(role, dict) or not role.keys() <= set(_ROLE_KEYS):
            raise OneException(INVALID, f"Role {name!r} is {role!r}, it must have keys among {', '.join(_ROLE_KEYS)} only.")
        if not isinstance(role.get("user_inputs") or {}, dict):
            raise OneException(INVALID, f"user_inputs of role {name!r} must be a dictionary of names and values.")
        if role.get("state") not in (None, *service_facts.ROLE_STATES):
            allowed = ", ".join(service_facts.ROLE_STATES)
            raise OneException(INVALID, f"State of role {name!r} is {role['state']!r}, it must be one of {allowed}.")
        text = str(role.get("cardinality", 0))
        if role.get("cardinality") is not None and not (text.isascii() and text.isdigit()):
            raise OneException(INVALID, f"Cardinality {text!r} of role {name!r} must be a number of 0 or more.")
    return roles


def _no_facts() -> dict:
    return {"service": {}}


def _summary(service: dict) -> dict:
    return {**service_facts.sizes(service), "state": service_facts.state(service)}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": STATE_OPTIONS["name"],
            "service_template": {"type": "str"},
            "roles": {"type": "dict", "default": {}},
            "user_inputs": {"type": "dict", "default": {}},
            "networks": {"type": "dict", "default": {}},
            "template": STATE_OPTIONS["template"],
            **WAIT_OPTIONS,
            **OPTIONS,
            "wait_for_cooldown": {"type": "bool", "default": False},
            "error_attribute": {"type": "str", "default": ""},
            "drain": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "scaled", "recovered", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: Service(module).transition())


if __name__ == "__main__":
    main()
