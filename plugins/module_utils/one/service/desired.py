# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may say about a service's roles, compared with what a template or a service has."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..transport.client import Client
from . import facts as service_facts
from . import settings as service_settings
from .documents import check_cardinality

if TYPE_CHECKING:
    from .inputs import ServiceInputs


class DesiredService:
    """The wanted number of VMs and user inputs of a service.

    roles: role name -> {"cardinality": int or None, "user_inputs": dict or None}. inputs: those of the service.
    """

    def __init__(self, roles: dict[str, dict], inputs: dict[str, object]) -> None:
        self._roles = roles
        self._inputs = inputs
        self._has_inputs = bool(inputs) or any(role.get("user_inputs") for role in roles.values())

    def cardinalities(self, document: dict) -> dict[str, int]:
        """Return the wanted number of VMs of each role that has one, checked against the document's roles.

        Raises OneException for unknown roles and numbers outside a role's bounds.
        """
        result = {}
        for name, wanted in self._roles.items():
            role = service_facts.require_role(document, name)
            settings = service_settings.of_role(wanted)
            if wanted.get("cardinality") is not None:
                result[name] = int(wanted["cardinality"])
            if name in result or not settings.keys().isdisjoint(("min_vms", "max_vms")):
                check_cardinality({**role, **settings}, result.get(name, int(role.get("cardinality") or 0)))
        return result

    def instantiation(self, client: Client, template: dict, name: str) -> dict:
        """Return what to merge into a service template for this service, in the 7.x dialect.

        Every declared input gets a value, because OneFlow fills in no defaults, and every role is there in the
        template's order, because 6.x merges roles by position. Raises OneException as cardinalities does, and for
        user inputs that are wrong.
        """
        cardinalities = self.cardinalities(template)
        values, role_values = self._service_inputs.values(client, template, name)
        merge: dict = {"name": name, "roles": [], **values}
        for role_name, role in service_facts.roles(template).items():
            merge["roles"].append({
                "name": role_name, "cardinality": cardinalities.get(role_name, int(role.get("cardinality") or 0)),
                **service_settings.at_instantiation(self._roles.get(role_name, {})), **role_values[role_name],
            })
        return merge

    def check_inputs(self, client: Client, service: dict) -> None:
        """Raise OneException when a running service was started with other user inputs: they cannot be changed."""
        if self._has_inputs:
            self._service_inputs.check(client, service)

    def secrets(self, document: dict, shown: bool = False) -> list[str]:
        """Return the values that the document declares as passwords. shown: also without wanted ones, because those of the document are."""
        return self._service_inputs.secrets(document) if shown or self._has_inputs else []

    @cached_property
    def _service_inputs(self) -> ServiceInputs:
        from .inputs import ServiceInputs

        return ServiceInputs(self._roles, self._inputs)
