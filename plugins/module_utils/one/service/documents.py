# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of OneFlow's services and service templates."""

from __future__ import annotations

from ..core import lookup
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import INVALID, MISSING, PROTOCOL, OneException


def find_template(client: Client, name_or_id: str | int, owner: str | None = None) -> dict | None:
    """Return the service template's document, None if there is none. owner: whose is preferred, see ``lookup.named``."""
    return find(client, "service_template", "service template", name_or_id, owner)


def find(client: Client, path: str, label: str, name_or_id: str | int, owner: str | None = None) -> dict | None:
    """Return a document, None if there is none. path: service or service_template. label: the same for people.

    A number is an id, everything else a name, see ``lookup.named``.
    """
    wanted = str(name_or_id)
    if lookup.is_id(wanted):
        return get(client, path, int(wanted))
    return lookup.named(client, label, pool(client, path), wanted, owner)


def get(client: Client, path: str, number: int) -> dict | None:
    """Return the document with this id, None if there is none."""
    try:
        return client.flow("GET", f"/{path}/{number}")["DOCUMENT"]
    except OneException as error:
        if error.kind == MISSING:
            return None
        raise


def pool(client: Client, path: str) -> list[dict]:
    """Return all documents that the user may see."""
    return xml.items(client.flow("GET", f"/{path}")["DOCUMENT_POOL"], "DOCUMENT")


def body(document: dict) -> dict:
    """Return what OneFlow keeps in a service's or service template's document.

    Raises OneException of kind protocol for a document without; whoever may make documents can make such.
    """
    found = xml.section(document, "TEMPLATE").get("BODY")
    if not isinstance(found, dict):
        raise OneException(PROTOCOL, f"Document {document['NAME']!r} (id {document['ID']}) has no body that can be read.")
    return found


def check_cardinality(role: dict, cardinality: int) -> None:
    """Raise OneException of kind invalid for a number of VMs outside the role's bounds."""
    low, high = int(role.get("min_vms") or 0), role.get("max_vms")
    if cardinality < low or (high is not None and cardinality > int(high)):
        bounds = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise OneException(INVALID, f"Cardinality {cardinality} of role {role['name']!r} must be {bounds}.")
