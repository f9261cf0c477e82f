# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of OneFlow's services and service templates."""

from __future__ import annotations

from . import resources, xml
from .client import Client
from .errors import INVALID, MISSING, OneException


def find_template(client: Client, name_or_id: str | int) -> dict | None:
    """Return the service template's document, None if there is none."""
    return find(client, "service_template", "service template", name_or_id)


def find(client: Client, path: str, label: str, name_or_id: str | int) -> dict | None:
    """Return a document, None if there is none. path: service or service_template. label: the same for people.

    A number is an id. Raises OneException of kind conflict when several documents have the name.
    """
    wanted = str(name_or_id)
    if resources.is_id(wanted):
        return get(client, path, int(wanted))
    found = {int(document["ID"]): document for document in pool(client, path) if document.get("NAME") == wanted}
    return found[resources.only(list(found), label, wanted)] if found else None


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
    """Return what OneFlow keeps in a service's or service template's document."""
    return xml.section(document, "TEMPLATE", "BODY")


def check_cardinality(role: dict, cardinality: int) -> None:
    """Raise OneException of kind invalid for a number of VMs outside the role's bounds."""
    low, high = int(role.get("min_vms") or 0), role.get("max_vms")
    if cardinality < low or (high is not None and cardinality > int(high)):
        bounds = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise OneException(INVALID, f"Cardinality {cardinality} of role {role['name']!r} must be {bounds}.")
