# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual networks that a service template asks for: M|network|description| |id:7, and what a task says of them."""

from __future__ import annotations

from ..core import lookup
from ..transport.client import Client
from ..transport.errors import CONFLICT, INVALID, OneException
from . import facts as service_facts

# Where a network of a service comes from: it is there, it is made of a template, or reserved from another one.
_SOURCES = ("id", "template_id", "reserve_from")


def values(client: Client, template: dict, given: dict[str, object], name: str) -> list[dict]:
    """Return OneFlow's networks_values for a new service: the given network, else the default, for each declared one.

    given: network name or id by the template's name for it, or one of id, template_id and reserve_from with extra.
    Raises OneException for networks that are not declared, have no value, or do not exist.
    """
    body = service_facts.body(template)
    declared = body.get("networks") or {}
    there = {key: value for item in body.get("networks_values") or [] for key, value in item.items()}
    problems = [f"{key} is not declared (declared: {', '.join(declared) or 'none'})" for key in given if key not in declared]
    result = []
    for key, declaration in declared.items():
        value = _given(client, key, given[key]) if key in given else there.get(key) or _default(declaration)
        if value is None:
            problems.append(f"{key} has no value")
        result.append({key: value})
    if problems:
        raise OneException(INVALID, f"Networks of service {name!r}: {'; '.join(problems)}.")
    return result


def problems(body: dict) -> list[str]:
    """Return what is wrong with the networks that a service template declares and the values it has for them."""
    found = []
    for key, declaration in (body.get("networks") or {}).items():
        fields = [field.strip() for field in declaration.split("|")] if isinstance(declaration, str) else []
        source, _colon, number = "".join(fields[4:5]).partition(":")
        if fields[1:2] != ["network"] or source not in ("", *_SOURCES) or number.strip(":") and not number.isdigit():
            found.append(f"network {key} is declared as {declaration!r}, it must be M|network|description| |id:NUMBER, or another of {', '.join(_SOURCES)}")
    for item in body.get("networks_values") or []:
        values_ = item.values() if isinstance(item, dict) else [item]
        if not all(isinstance(value, dict) and value.keys() & {*_SOURCES} for value in values_):
            found.append(f"networks_values has {item!r}, it must be a network's name with one of {', '.join(_SOURCES)}")
    return found


def check(client: Client, service: dict, given: dict[str, object]) -> None:
    """Raise OneException when a service that exists was started with other networks: they cannot be changed."""
    there = {key: value for item in service_facts.body(service).get("networks_values") or [] for key, value in item.items()}
    for key, wanted in given.items():
        value = _given(client, key, wanted)
        if any(str(there.get(key, {}).get(part)) != text for part, text in value.items() if part in _SOURCES):
            raise OneException(
                CONFLICT,
                f"Service {service['NAME']!r} (id {service['ID']}) was started with another network {key}, and a running "
                "service cannot change it; use another name, or remove the service first.",
            )


def _given(client: Client, key: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        value = {"id": value}
    sources = [part for part in value if part in _SOURCES]
    if len(sources) != 1 or not value.keys() <= {*_SOURCES, "extra"}:
        raise OneException(
            INVALID, f"Network {key} is {value!r}, it must be a network, or have one of {', '.join(_SOURCES)} and perhaps extra."
        )
    source = sources[0]
    number = str(value[source]).strip()
    if source == "template_id":
        if not lookup.is_id(number):
            raise OneException(INVALID, f"Network {key} has template_id {value[source]!r}, it must be a number.")
        number = str(int(number))
    else:
        number = lookup.require(client, "network", number)["ID"]
    # Without extra OneFlow reserves nothing.
    extra = {"extra": str(value.get("extra") or "")} if source != "id" else {}
    return {source: number, **extra}


def _default(declaration: object) -> dict[str, str] | None:
    source, _colon, number = "".join(str(declaration).split("|")[4:5]).strip().partition(":")
    return {source: number} if source in _SOURCES and number.isdigit() else None
