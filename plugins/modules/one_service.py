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
  - Starts, scales, repairs and removes services.
  - A service that is being deployed is waited for, one that failed tries again, and one that is being removed is
    awaited and then started anew; there are never two of a name.
  - All that the task says is checked before anything is changed.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.wait
options:
  name:
    description: Name of the service, or the id of one that exists.
    type: str
    required: true
  service_template:
    description:
      - Name or id of the service template of a new service.
      - Required when O(state=present) and the service does not exist.
    type: str
  roles:
    description:
      - What is wanted of the service's roles, by role name.
      - Each has the keys C(cardinality), the number of VMs, which scales a service that runs, and C(user_inputs).
    type: dict
    default: {}
  user_inputs:
    description:
      - Values of the user inputs that the service declares. Others get their default.
      - A service that runs cannot change them; other values than it was started with are an error.
    type: dict
    default: {}
  wait_for_cooldown:
    description:
      - Whether a scaled service must have ended its cooldown.
      - Without it, a service in C(COOLDOWN) counts as scaled.
    type: bool
    default: false
  state:
    description:
      - With V(present) the service runs, and is started if it does not exist.
      - With V(scaled) it must exist already.
      - With V(absent) it and its VMs are removed, whatever state it is in.
    type: str
    choices: [present, scaled, absent]
    default: present
"""

EXAMPLES = r"""
- name: A federation runs
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

- name: It has three SuperNodes
  opennebula.flower.one_service:
    name: flower
    state: scaled
    roles:
      supernode:
        cardinality: 3

- name: The federation is gone
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

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one import resources, services
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import INVALID, WRONG_STATE, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.service_wait import ServiceWait, has_failed
from ansible_collections.opennebula.flower.plugins.module_utils.one.service_wish import ServiceWish
from ansible_collections.opennebula.flower.plugins.module_utils.one.services import (
    FAILED_LEAVING,
    HOLD,
    LEAVING,
    RUNNING,
)

_ROLE_KEYS = {"cardinality", "user_inputs"}


class Service:
    """One service and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.wish = ServiceWish(_checked_roles(module.params["roles"]), module.params["user_inputs"])

    def ensure(self) -> dict:
        """Bring the service to the wanted state and return the module's result."""
        current = services.find_service(self.client, self.name)
        if self.params["state"] == "absent":
            return self._absent(current)
        if current and services.state(current) in LEAVING:
            return self._start(leaving=current)
        if current is None:
            return self._start()
        return self._change(current)

    def _absent(self, current: dict | None) -> dict:
        if current is None or services.state(current) == "DONE":
            return self.module.result({}, {}, service={})
        if not self.module.check_mode:
            if services.state(current) not in LEAVING:
                services.delete(self.client, current)
            if self.params["wait"]:
                self._waiting(current).gone()
        return self.module.result(_summary(current), {}, service={})

    def _start(self, leaving: dict | None = None) -> dict:
        if self.params["state"] == "scaled" or resources.is_id(self.name):
            raise resources.missing(self.client, "service", self.name)
        template = self._service_template()
        if template is None:
            # In check mode the service template may not exist yet.
            wanted = {name: {"cardinality": role.get("cardinality")} for name, role in self.params["roles"].items()}
            after = {"name": self.name, "roles": wanted}
            return self.module.result({}, after, service=after)
        self.module.no_log_values.update(self.wish.secrets(template))
        merge = self.wish.instantiation(self.client, template, self.name)
        after = {
            "name": self.name,
            "service_template": template["NAME"],
            "user_inputs": merge.get("user_inputs_values", {}),
            "roles": {
                role["name"]: {"cardinality": role["cardinality"], "user_inputs": role.get("user_inputs_values", {})}
                for role in merge["roles"]
            },
        }
        if self.module.check_mode:
            return self.module.result({}, after, service=after)
        if leaving:
            self._waiting(leaving).gone()
        service = services.instantiate(self.client, int(template["ID"]), merge)
        return self.module.result({}, after, service=services.facts(self._running(service, {})))

    def _service_template(self) -> dict | None:
        name = self.params["service_template"]
        if name is None:
            raise OneException(INVALID, f"Service {self.name!r} does not exist: service_template is needed to start it.")
        template = services.find_template(self.client, name)
        if template is None:
            self.module.unresolved(resources.missing(self.client, "service template", name))
        return template

    def _change(self, current: dict) -> dict:
        state = services.state(current)
        if state in FAILED_LEAVING or state == HOLD:
            raise OneException(
                WRONG_STATE,
                f"Service {self.name!r} (id {current['ID']}) is in state {state}: "
                + ("release it first." if state == HOLD else "remove it first, with state absent."),
            )
        self.module.no_log_values.update(self.wish.secrets(current))
        wanted = self.wish.cardinalities(current)
        self.wish.check_inputs(self.client, current)
        before = _comparable(current)
        after = {**before, "roles": {name: wanted.get(name, number) for name, number in before["roles"].items()}}
        failed = has_failed(self.client, current)
        if failed:
            before, after = {**before, "state": state}, {**after, "state": RUNNING}
        if not self.module.check_mode:
            current = self._apply(current, wanted, failed)
        return self.module.result(before, after, service=services.facts(current))

    def _apply(self, current: dict, wanted: dict[str, int], failed: bool) -> dict:
        number = int(current["ID"])
        if failed:
            services.recover(self.client, number)
        there = _comparable(current)["roles"]
        changed = {name: cardinality for name, cardinality in wanted.items() if there[name] != cardinality}
        for name, cardinality in changed.items():
            # OneFlow scales one role at a time, and only a service that has come to rest.
            current = self._running(current, {}, cooled_down=True)
            services.scale(self.client, number, name, cardinality)
            current = self._running(current, {name: cardinality})
        return self._running(current, {}) if not changed else current

    def _running(self, service: dict, cardinalities: dict[str, int], cooled_down: bool = False) -> dict:
        """Return the service as it is now, waiting until it runs if the task says so."""
        if not self.params["wait"]:
            return services.service_by_id(self.client, int(service["ID"])) or service
        return self._waiting(service).running(cardinalities, cooled_down or self.params["wait_for_cooldown"])

    def _waiting(self, service: dict) -> ServiceWait:
        return ServiceWait(self.client, service, self.params["wait_timeout"], self.module.progress)


def _checked_roles(roles: dict) -> dict[str, dict]:
    for name, role in roles.items():
        if not isinstance(role, dict) or not role.keys() <= _ROLE_KEYS:
            raise OneException(INVALID, f"Role {name!r} is {role!r}, it must have the keys cardinality and user_inputs only.")
        text = str(role.get("cardinality", 0))
        if role.get("cardinality") is not None and not (text.isascii() and text.isdigit()):
            raise OneException(INVALID, f"Cardinality {text!r} of role {name!r} must be a number of 0 or more.")
    return roles


def _comparable(service: dict) -> dict:
    numbers = {name: int(role.get("cardinality") or 0) for name, role in services.roles(service).items()}
    return {"name": service["NAME"], "roles": numbers}


def _summary(service: dict) -> dict:
    return {**_comparable(service), "state": services.state(service)}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "service_template": {"type": "str"},
            "roles": {"type": "dict", "default": {}},
            "user_inputs": {"type": "dict", "default": {}},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "float", "default": 600},
            "wait_for_cooldown": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "scaled", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: Service(module).ensure())


if __name__ == "__main__":
    main()
