# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding OpenNebula's objects by name or id."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..transport import xml
from ..transport.client import Client
from ..transport.errors import CONFLICT, MISSING, OneException


class Kind(NamedTuple):
    """A kind of object: what people call it, its XML element, the prefix of its methods.

    paged: whether its pool comes in pages. whole: whether the pool shows all that the object's own document does.
    arguments: what the method of its pool takes after the page.
    """

    label: str
    element: str
    prefix: str
    paged: bool = True
    whole: bool = False
    arguments: tuple[int, ...] = ()


KINDS = {
    "image": Kind("image", "IMAGE", "one.image"),
    "network": Kind("virtual network", "VNET", "one.vn"),
    "template": Kind("VM template", "VMTEMPLATE", "one.template"),
    "datastore": Kind("datastore", "DATASTORE", "one.datastore", paged=False, whole=True),
    "cluster": Kind("cluster", "CLUSTER", "one.cluster", paged=False, whole=True),
    "security_group": Kind("security group", "SECURITY_GROUP", "one.secgroup", whole=True),
    "marketplace": Kind("marketplace", "MARKETPLACE", "one.market", paged=False, whole=True),
    "marketplace_app": Kind("marketplace app", "MARKETPLACEAPP", "one.marketapp", whole=True),
    "zone": Kind("zone", "ZONE", "one.zone", paged=False, whole=True),
    "host": Kind("host", "HOST", "one.host", paged=False),
    "user": Kind("user", "USER", "one.user", paged=False),
    "group": Kind("group", "GROUP", "one.group", paged=False),
    "vdc": Kind("virtual data center", "VDC", "one.vdc", paged=False, whole=True),
    # Documents of the type that OneFlow keeps its service templates in.
    "service_template": Kind("service template", "DOCUMENT", "one.document", arguments=(101,)),
}


def find(client: Client, kind: str, name_or_id: str | int, owner: str | None = None) -> dict | None:
    """Return the object, None if there is none.

    A number is an id, everything else a name, see ``named``.
    """
    wanted = str(name_or_id)
    if is_id(wanted):
        return get(client, kind, int(wanted))
    found = named(client, KINDS[kind].label, pool(client, kind), wanted, owner)
    return found if found is None or KINDS[kind].whole else get(client, kind, int(found["ID"]))


def named(client: Client, label: str, pool: Iterable[dict], name: str, owner: str | None = None) -> dict | None:
    """Return the object of a pool that a name means, None if none has it.

    Names are unique per owner only, so that anybody can make an object of somebody else's name. OWNER/NAME says whose
    is meant; no name has a slash in it. Otherwise it is that of the owner whom the task names, or that of the user who
    asks; those of others are left alone when the task names an owner, and taken when it does not. Whatever may be
    another one than meant comes with a warning. label: the kind for people.
    Raises OneException of kind conflict when several objects are meant.
    """
    found = list({item["ID"]: item for item in pool if item["NAME"] == name}.values())
    if not found and "/" in name:
        whose, _slash, rest = name.rpartition("/")
        return next((item for item in pool if item["NAME"] == rest and _is_owner(item, whose)), None)
    if not found:
        return None
    listed = ", ".join(f"{item['ID']} of {item.get('UNAME', '')}" for item in sorted(found, key=lambda item: int(item["ID"])))
    preferred = of_owners(found, owner) or of_owners(found, client.username)
    if not preferred and owner is not None:
        client.warn(f"Neither {owner} nor {client.username} has a {label} of the name {name!r}; ids {listed} are left alone.")
        return None
    preferred = preferred or found
    if len(preferred) > 1:
        raise OneException(
            CONFLICT, f"The {label} name {name!r} is ambiguous: ids {listed} have it; use the id or OWNER/NAME."
        )
    taken = preferred[0]
    if len(found) > 1:
        client.warn(f"The {label} name {name!r} is not unique, ids {listed} have it: id {taken['ID']} is taken.")
    # The operator offers what is oneadmin's; kinds without an owner have none.
    elif not of_owners(found, owner, client.username) and taken.get("UID", "0") != "0":
        client.warn(f"The {label} {name!r} that is taken, id {taken['ID']}, belongs to {taken['UNAME']}; use its id if it is meant.")
    return taken


def of_owners(objects: list[dict], *owners: str | None) -> list[dict]:
    """Return those of the objects that belong to one of the users, who are names, ids, or None."""
    return [item for item in objects if any(who is not None and _is_owner(item, who) for who in owners)]


def _is_owner(item: dict, name_or_id: str) -> bool:
    return name_or_id == item.get("UNAME") or ("UID" in item and is_id(name_or_id) and int(name_or_id) == int(item["UID"]))


def require(client: Client, kind: str, name_or_id: str | int) -> dict:
    """Return the object. Raises OneException of kind missing if there is none."""
    found = find(client, kind, name_or_id)
    if found is None:
        raise missing(client, KINDS[kind].label, name_or_id)
    return found


def get(client: Client, kind: str, number: int) -> dict | None:
    """Return the object with this id, None if there is none."""
    try:
        return client.call(f"{KINDS[kind].prefix}.info", number)
    except OneException as error:
        if error.kind == MISSING:
            return None
        raise


def delete(client: Client, kind: str, number: int, leaving: Callable[[dict], bool] | None = None) -> None:
    """Remove an object. One that is gone by now, or leaving because somebody else removes it, is no error."""
    try:
        client.call(f"{KINDS[kind].prefix}.delete", number)
    except OneException:
        left = get(client, kind, number)
        if left is not None and not (leaving and leaving(left)):
            raise


def pool(client: Client, kind: str) -> list[dict]:
    """Return all objects of the kind that the user may see."""
    method = f"{KINDS[kind].prefix}pool.info"
    if KINDS[kind].paged:
        return client.pool(method, KINDS[kind].element, *KINDS[kind].arguments)
    return xml.items(client.call(method), KINDS[kind].element)


def is_id(name_or_id: str) -> bool:
    """Tell whether the text is an id."""
    return name_or_id.isascii() and name_or_id.isdigit()


def missing(client: Client, label: str, name_or_id: str | int) -> OneException:
    """Return the exception for an object that should be there."""
    by = "id" if is_id(str(name_or_id)) else "name"
    return OneException(MISSING, f"There is no {label} with the {by} {str(name_or_id)!r} at {client.place}.")


def identity(document: dict) -> dict:
    """Return what every returned object begins with: id, name, owner and group."""
    return {
        "id": int(document["ID"]),
        "name": document["NAME"],
        "owner": document.get("UNAME", ""),
        "group": document.get("GNAME", ""),
    }
