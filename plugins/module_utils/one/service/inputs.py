# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task says about the user inputs of a service, compared with what a template or a service has."""

from __future__ import annotations

from ..transport.client import Client
from ..transport.errors import CONFLICT, INVALID, OneException
from . import dialect, user_inputs
from . import facts as service_facts


class ServiceInputs:
    """The wanted user inputs of a service.

    roles: role name -> {"user_inputs": dict or None}. inputs: those of the service.
    """

    def __init__(self, roles: dict[str, dict], inputs: dict[str, object]) -> None:
        self._inputs = inputs
        self._by_role = {name: role.get("user_inputs") or {} for name, role in roles.items()}

    def values(self, client: Client, template: dict, name: str) -> tuple[dict, dict[str, dict]]:
        """Return what to merge into a service template and into each of its roles for a service of this name.

        Every declared input gets a value. Raises OneException of kind invalid for user inputs that are wrong.
        """
        self._check_levels(template)
        shared = _values(client, service_facts.body(template), self._inputs, f"service {name!r}")
        roles = {
            role: _values(client, part, self._by_role.get(role, {}), f"role {role!r} of service {name!r}")
            for role, part in service_facts.roles(template).items()
        }
        return shared, roles

    def check(self, client: Client, service: dict) -> None:
        """Raise OneException when a running service was started with other user inputs: they cannot be changed."""
        differing = _differing(client, service_facts.body(service), self._inputs, "")
        for name, given in self._by_role.items():
            differing += _differing(client, service_facts.require_role(service, name), given, f" of role {name}")
        if differing:
            raise OneException(
                CONFLICT,
                f"Service {service['NAME']!r} (id {service['ID']}) was started with other user inputs, and a running "
                f"service cannot change them: {'; '.join(differing)}; use another name, or remove the service first.",
            )

    def secrets(self, document: dict) -> list[str]:
        """Return the values, those that are there and the wanted ones, that the document declares as passwords."""
        result = _secrets(service_facts.body(document), self._inputs)
        for name, role in service_facts.roles(document).items():
            result += _secrets(role, self._by_role.get(name, {}))
        return result

    def _check_levels(self, template: dict) -> None:
        shared = dialect.declared_inputs(service_facts.body(template))
        for name in self._inputs:
            owners = [role for role, part in service_facts.roles(template).items() if name in dialect.declared_inputs(part)]
            if name not in shared and owners:
                raise OneException(
                    INVALID, f"User input {name} belongs to role {', '.join(owners)} of {template['NAME']!r}: "
                    "give it under roles.",
                )


def _values(client: Client, declaring: dict, given: dict[str, object], where: str) -> dict:
    declared = dialect.declared_inputs(declaring)
    values = user_inputs.values(declared, given, where, dialect.input_values(declaring))
    if not declared:
        return {}
    return {"user_inputs_values": {name: dialect.render_value(client, value) for name, value in values.items()}}


def _secrets(part: dict, given: dict[str, object]) -> list[str]:
    declared = dialect.declared_inputs(part)
    return user_inputs.secrets(declared, dialect.input_values(part)) + user_inputs.secrets(declared, given)


def _differing(client: Client, part: dict, given: dict[str, object], where: str) -> list[str]:
    there = dialect.input_values(part)
    declared = dialect.declared_inputs(part)
    hidden = {name for name, text in declared.items() if user_inputs.is_password(text)}
    result = []
    for name, value in given.items():
        wanted = user_inputs.in_form(declared.get(name, ""), value)
        if there.get(name) != dialect.render_value(client, wanted):
            shown = "another value" if name in hidden else f"{there.get(name)!r}, not {wanted!r}"
            result.append(f"{name}{where} is {shown}")
    return result
