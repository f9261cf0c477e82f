# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every change of a OneFlow service, from its start to its removal."""

from __future__ import annotations

from ..core.ownership import Ownership
from ..transport.client import Client
from . import dialect
from .facts import HOLD, RUNNING, WARNING, state

# Everywhere else OneFlow refuses a DELETE.
_DELETABLE = frozenset({RUNNING, WARNING, HOLD, "PENDING"})


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
