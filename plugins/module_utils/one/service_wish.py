# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may say about a service's roles and inputs, compared with what a template or a service has."""

from __future__ import annotations

from . import dialect, service_settings, services, user_inputs
from .client import Client
from .errors import CONFLICT, INVALID, OneException
from .values import scalar


class ServiceWish:
    """The wanted number of VMs and user inputs of a service.

    roles: role name -> {"cardinality": int or None, "user_inputs": dict or None}. inputs: those of the service.
    """

    def __init__(self, roles: dict[str, dict], inputs: dict[str, object]) -> None:
        self._roles = roles
        self._inputs = inputs

    def cardinalities(self, document: dict) -> dict[str, int]:
        """Return the wanted number of VMs of each role that has one, checked against the document's roles.

        Raises OneException for unknown roles and numbers outside a role's bounds.
        """
        result = {}
        for name, wanted in self._roles.items():
            role = services.require_role(document, name)
            if wanted.get("cardinality") is not None:
                result[name] = int(wanted["cardinality"])
                services.check_cardinality({**role, **service_settings.of_role(wanted)}, result[name])
        return result

    def instantiation(self, client: Client, template: dict, name: str) -> dict:
        """Return what to merge into a service template for this service, in the 7.x dialect.

        Every declared input gets a value, because OneFlow fills in no defaults, and every role is there in the
        template's order, because 6.x merges roles by position. Raises OneException as cardinalities does, and for
        user inputs that are wrong.
        """
        cardinalities = self.cardinalities(template)
        self._check_levels(template)
        merge: dict = {"name": name, "roles": []}
        _add_values(client, merge, services.body(template), self._inputs, f"service {name!r}")
        for role_name, role in services.roles(template).items():
            entry = {"name": role_name, "cardinality": cardinalities.get(role_name, int(role.get("cardinality") or 0))}
            entry |= service_settings.at_instantiation(self._roles.get(role_name, {}))
            _add_values(client, entry, role, self._role_inputs(role_name), f"role {role_name!r} of service {name!r}")
            merge["roles"].append(entry)
        return merge

    def check_inputs(self, client: Client, service: dict) -> None:
        """Raise OneException when a running service was started with other user inputs: they cannot be changed."""
        differing = _differing(client, services.body(service), self._inputs, "")
        for name in self._roles:
            role = services.require_role(service, name)
            differing += _differing(client, role, self._role_inputs(name), f" of role {name}")
        if differing:
            raise OneException(
                CONFLICT,
                f"Service {service['NAME']!r} (id {service['ID']}) was started with other user inputs, and a running "
                f"service cannot change them: {'; '.join(differing)}; use another name, or remove the service first.",
            )

    def secrets(self, document: dict) -> list[str]:
        """Return the wanted values that the document declares as passwords."""
        result = user_inputs.secrets(dialect.declared_inputs(services.body(document)), self._inputs)
        for name, role in services.roles(document).items():
            result += user_inputs.secrets(dialect.declared_inputs(role), self._role_inputs(name))
        return result

    def _role_inputs(self, name: str) -> dict[str, object]:
        return self._roles.get(name, {}).get("user_inputs") or {}

    def _check_levels(self, template: dict) -> None:
        shared = dialect.declared_inputs(services.body(template))
        for name in self._inputs:
            owners = [role for role, part in services.roles(template).items() if name in dialect.declared_inputs(part)]
            if name not in shared and owners:
                raise OneException(
                    INVALID, f"User input {name} belongs to role {', '.join(owners)} of {template['NAME']!r}: "
                    "give it under roles.",
                )


def _add_values(client: Client, merge: dict, declaring: dict, given: dict[str, object], where: str) -> None:
    declared = dialect.declared_inputs(declaring)
    values = user_inputs.values(declared, given, where)
    if declared:
        merge["user_inputs_values"] = {name: dialect.render_value(client, value) for name, value in values.items()}


def _differing(client: Client, part: dict, given: dict[str, object], where: str) -> list[str]:
    there = dialect.input_values(part)
    hidden = {name for name, text in dialect.declared_inputs(part).items() if "|password|" in str(text)}
    result = []
    for name, value in given.items():
        if there.get(name) != dialect.render_value(client, scalar(value)):
            shown = "another value" if name in hidden else f"{there.get(name)!r}, not {scalar(value)!r}"
            result.append(f"{name}{where} is {shown}")
    return result
