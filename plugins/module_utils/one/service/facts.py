# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OneFlow services: finding and reading them."""

from __future__ import annotations

from ..core import lookup, states
from ..core.ownership import mode
from ..transport.client import Client
from ..transport.errors import MISREADINGS, MISSING, OneException
from .documents import body, find, get, pool

RUNNING = "RUNNING"
COOLDOWN = "COOLDOWN"
WARNING = "WARNING"
HOLD = "HOLD"
LEAVING = frozenset({"UNDEPLOYING", "UNDEPLOYING_NETS", "DONE"})
FAILED = frozenset({"FAILED_DEPLOYING", "FAILED_SCALING", "FAILED_DEPLOYING_NETS"})
FAILED_LEAVING = frozenset({"FAILED_UNDEPLOYING", "FAILED_UNDEPLOYING_NETS"})
# The states that a task can ask of all VMs of a role.
ROLE_STATES = ("running", "poweroff", "suspended", "stopped", "undeployed")


def find_service(client: Client, name_or_id: str | int, owner: str | None = None) -> dict | None:
    """Return the service's document, None if there is none.

    A number is an id, everything else a name, see ``lookup.named``.
    """
    return find(client, "service", "service", name_or_id, owner)


def service_by_id(client: Client, service_id: int) -> dict | None:
    """Return the service's document, None if it is gone."""
    return get(client, "service", service_id)


def get_service(client: Client, name_or_id: str | int) -> dict:
    """Return the service's document. Raises OneException of kind missing if there is none."""
    service = find_service(client, name_or_id)
    if service is None:
        raise lookup.missing(client, "service", name_or_id)
    return service


def all_services(client: Client) -> list[dict]:
    """Return the documents of all services the user may see."""
    return pool(client, "service")


def state(service: dict) -> str:
    """Return the name of the service's state."""
    return states.name(states.SERVICE, body(service).get("state"))


def roles(document: dict) -> dict[str, dict]:
    """Return the roles of a service or service template by name, in their order."""
    return {role["name"]: role for role in body(document).get("roles") or []}


def sizes(service: dict) -> dict:
    """Return a service's name and the number of VMs each of its roles should have."""
    numbers = {name: int(role.get("cardinality") or 0) for name, role in roles(service).items()}
    return {"name": service["NAME"], "roles": numbers}


def require_role(document: dict, name: str) -> dict:
    """Return the role. Raises OneException of kind missing, naming the roles there are."""
    there = roles(document)
    if name not in there:
        raise OneException(
            MISSING, f"{document['NAME']!r} has no role {name!r}, its roles are {', '.join(there) or 'none'}."
        )
    return there[name]


def service_vms(service: dict, role: str) -> list[int]:
    """Return the ids of the role's VMs, oldest first. Raises OneException for a role the service does not have."""
    return [int(node["deploy_id"]) for node in require_role(service, role).get("nodes") or []]


def facts(service: dict) -> dict:
    """Return a service as the modules show it: identity, state, and its roles with the ids of their VMs."""
    return {
        **lookup.identity(service),
        "mode": mode(service),
        "state": state(service),
        "roles": {
            name: {
                "cardinality": int(role.get("cardinality") or 0),
                "min_vms": role.get("min_vms"),
                "max_vms": role.get("max_vms"),
                "state": states.name(states.ROLE, role.get("state")),
                "vms": service_vms(service, name),
            }
            for name, role in roles(service).items()
        },
    }


def listed(client: Client, documents: list[dict]) -> list[dict]:
    """Return services as ``facts``; of one that cannot be understood only whose it is, with a warning.

    Whoever may make documents decides what is in them, and must not keep others from seeing theirs.
    """
    found = []
    for document in documents:
        try:
            found.append(facts(document))
        except (OneException, *MISREADINGS):
            identity = lookup.identity(document)
            client.warn(f"Service {identity['name']!r} (id {identity['id']}) holds what cannot be understood; it is shown without roles.")
            found.append({**identity, "mode": mode(document), "state": "", "roles": {}})
    return found
