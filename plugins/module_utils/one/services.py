# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OneFlow services and service templates: finding and reading them, and every change of a service's state."""

from __future__ import annotations

from . import dialect, resources, states, xml
from .client import Client
from .errors import INVALID, MISSING, OneException
from .ownership import Ownership, mode

RUNNING = "RUNNING"
COOLDOWN = "COOLDOWN"
WARNING = "WARNING"
HOLD = "HOLD"
LEAVING = frozenset({"UNDEPLOYING", "UNDEPLOYING_NETS", "DONE"})
FAILED = frozenset({"FAILED_DEPLOYING", "FAILED_SCALING", "FAILED_DEPLOYING_NETS"})
FAILED_LEAVING = frozenset({"FAILED_UNDEPLOYING", "FAILED_UNDEPLOYING_NETS"})
# Everywhere else OneFlow refuses a DELETE.
_DELETABLE = frozenset({RUNNING, WARNING, HOLD, "PENDING"})


def find_service(client: Client, name_or_id: str | int) -> dict | None:
    """Return the service's document, None if there is none.

    A number is an id. Raises OneException of kind conflict when several services have the name.
    """
    return _find(client, "service", "service", name_or_id)


def find_template(client: Client, name_or_id: str | int) -> dict | None:
    """Return the service template's document, None if there is none."""
    return _find(client, "service_template", "service template", name_or_id)


def service_by_id(client: Client, service_id: int) -> dict | None:
    """Return the service's document, None if it is gone."""
    return _get(client, "service", service_id)


def get_service(client: Client, name_or_id: str | int) -> dict:
    """Return the service's document. Raises OneException of kind missing if there is none."""
    service = find_service(client, name_or_id)
    if service is None:
        raise resources.missing(client, "service", name_or_id)
    return service


def all_services(client: Client) -> list[dict]:
    """Return the documents of all services the user may see."""
    return _pool(client, "service")


def body(document: dict) -> dict:
    """Return what OneFlow keeps in a service's or service template's document."""
    return xml.section(document, "TEMPLATE", "BODY")


def state(service: dict) -> str:
    """Return the name of the service's state."""
    return states.name(states.SERVICE, body(service).get("state"))


def roles(document: dict) -> dict[str, dict]:
    """Return the roles of a service or service template by name, in their order."""
    return {role["name"]: role for role in body(document).get("roles") or []}


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
        **resources.identity(service),
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


def check_cardinality(role: dict, cardinality: int) -> None:
    """Raise OneException of kind invalid for a number of VMs outside the role's bounds."""
    low, high = int(role.get("min_vms") or 0), role.get("max_vms")
    if cardinality < low or (high is not None and cardinality > int(high)):
        bounds = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise OneException(INVALID, f"Cardinality {cardinality} of role {role['name']!r} must be {bounds}.")


def instantiate(client: Client, template_id: int, merge: dict) -> dict:
    """Create a service from a template and return its document. merge: in the 7.x dialect."""
    action = {"perform": "instantiate", "params": {"merge_template": dialect.render_instantiation(client, merge)}}
    return client.flow("POST", f"/service_template/{template_id}/action", {"action": action})["DOCUMENT"]


def scale(client: Client, service_id: int, role: str, cardinality: int) -> None:
    """Ask for another number of VMs in a role."""
    # Without the key the server builds invalid JSON for itself and answers with status 500.
    request = {"role_name": role, "cardinality": cardinality, "force": False}
    client.flow("POST", f"/service/{service_id}/scale", request)


def recover(client: Client, service_id: int) -> None:
    """Let a failed service try again."""
    client.flow("POST", f"/service/{service_id}/action", {"action": {"perform": "recover"}})


def release(client: Client, service_id: int) -> None:
    """Let a service on hold go on."""
    client.flow("POST", f"/service/{service_id}/action", {"action": {"perform": "release"}})


def act(client: Client, service_id: int, role: str, action: str) -> None:
    """Ask for an action on all VMs of a role."""
    # Without params the server fails.
    client.flow("POST", f"/service/{service_id}/role/{role}/action", {"action": {"perform": action, "params": {}}})


def update(client: Client, service_id: int, new_body: dict) -> None:
    """Replace what OneFlow keeps of a service."""
    client.flow("PUT", f"/service/{service_id}", new_body)


def give(client: Client, path: str, document: dict, ownership: Ownership) -> None:
    """Give a service or service template its permissions and at last its owner. path: service or service_template."""
    before, after = ownership.before(document), ownership.after(document)

    def ask(action: str, params: dict) -> None:
        client.flow("POST", f"/{path}/{document['ID']}/action", {"action": {"perform": action, "params": params}})

    if before["mode"] != after["mode"]:
        ask("chmod", {"octet": after["mode"]})
    owner, group = ownership.owner_ids(before, after)
    if (owner, group) != (-1, -1):
        # Without group_id the server takes the group for 0.
        ask("chown", {"owner_id": owner, "group_id": group})


def delete(client: Client, service: dict) -> None:
    """Begin the removal of a service, whatever state it is in."""
    if state(service) in _DELETABLE:
        client.flow("DELETE", f"/service/{service['ID']}")
        return
    action = {"perform": "recover", "params": {"delete": True}}
    client.flow("POST", f"/service/{service['ID']}/action", {"action": action})


def _find(client: Client, path: str, label: str, name_or_id: str | int) -> dict | None:
    wanted = str(name_or_id)
    if resources.is_id(wanted):
        return _get(client, path, int(wanted))
    found = {int(document["ID"]): document for document in _pool(client, path) if document.get("NAME") == wanted}
    return found[resources.only(list(found), label, wanted)] if found else None


def _get(client: Client, path: str, number: int) -> dict | None:
    try:
        return client.flow("GET", f"/{path}/{number}")["DOCUMENT"]
    except OneException as error:
        if error.kind == MISSING:
            return None
        raise


def _pool(client: Client, path: str) -> list[dict]:
    return xml.items(client.flow("GET", f"/{path}")["DOCUMENT_POOL"], "DOCUMENT")
