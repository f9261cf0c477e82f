# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What all kinds of resources have in common: info, pools, update, delete, permissions, owner and name."""

from __future__ import annotations

from collections.abc import Callable

from lab.core import quotas, rights
from lab.core.call import Call, parse_template
from lab.core.errors import ACTION
from lab.core.kinds import KINDS, Kind
from lab.core.markup import attributes, element
from lab.core.registry import METHODS, Method
from lab.releases import shown

#: (core, object) -> children of its document's root element, by kind
BODIES: dict[str, Callable] = {}
#: the same for the pool where that shows less
POOL_BODIES: dict[str, Callable] = {}
#: (call, object) -> whether the object can go at once, by kind; raises OneError when it cannot go
DELETERS: dict[str, Callable] = {}
#: (call, object, new template) -> the template to keep, by kind
UPDATERS: dict[str, Callable] = {}

_ALL, _MINE_AND_GROUPS, _MINE, _GROUPS = -2, -1, -3, -4
_PERMISSION_NAMES = [f"{party}_{right}" for party in ("OWNER", "GROUP", "OTHER") for right in "UMA"]


def head(core, item: dict, **before_permissions: object) -> dict:
    """Return the children every owned resource begins with."""
    user, group = core.store.get("user", item["uid"]), core.store.get("group", item["gid"])
    return {
        "ID": item["id"], "UID": item["uid"], "GID": item["gid"],
        "UNAME": user["name"] if user else "", "GNAME": group["name"] if group else "",
        "NAME": item["name"], **before_permissions,
        "PERMISSIONS": dict(zip(_PERMISSION_NAMES, item["permissions"], strict=True)),
    }


def simple_body(core, item: dict) -> dict:
    """Return the document of a resource that is nothing but its template."""
    return head(core, item) | {"TEMPLATE": attributes(item["template"])}


def visible(call: Call, kind: str, which: int) -> list[dict]:
    """Return the objects of a kind the user may use and asked for, newest first."""
    def wanted(item: dict) -> bool:
        if which == _ALL or not KINDS[kind].permissions:
            return True
        if which >= 0:
            return item["uid"] == which
        mine, ours = item["uid"] == call.user["id"], item["gid"] in call.user["groups"]
        return {_MINE: mine, _GROUPS: ours}.get(which, mine or ours)

    return [item for item in reversed(call.core.store.all(kind)) if call.may("USE", kind, item) and wanted(item)]


def page(items: list[dict], start: int, end: int) -> list[dict]:
    """Return a range of ids (both given), a page (end is minus its size), or everything (both -1)."""
    if start >= 0 and end < -1:
        return items[start:start - end]
    if start >= 0:
        return [item for item in items if start <= item["id"] and (end < 0 or item["id"] <= end)]
    return items


def pool_document(call: Call, kind: str, items: list[dict], full: bool = False) -> str:
    """Return the document of a pool; `full` shows each object as its own document does."""
    body = BODIES[kind] if full else POOL_BODIES.get(kind, BODIES[kind])
    tag, release = KINDS[kind].tag, call.core.config.release
    return element(f"{tag}_POOL", {tag: [shown(release, tag, body(call.core, item)) for item in items]})


def info(kind: Kind, call: Call, object_id: int) -> str:
    body = BODIES[kind.name](call.core, call.get(kind.name, object_id))
    return element(kind.tag, shown(call.core.config.release, kind.tag, body))


def pool_info(kind: Kind, call: Call, which: int = _ALL, start: int = -1, end: int = -1) -> str:
    return pool_document(call, kind.name, page(visible(call, kind.name, which), start, end))


def _right_to_change(kind: Kind) -> str:
    """What has no owner is the administrators'; users are their own."""
    return "MANAGE" if kind.permissions or kind.name in ("user", "vdc") else "ADMIN"


def update(kind: Kind, call: Call, object_id: int, text: str, append: int) -> int:
    """Replace the template (0) or merge into it attribute by attribute (1)."""
    item = call.get(kind.name, object_id, _right_to_change(kind))
    template = parse_template(text, prefix="Cannot update template. ")
    template = {**item["template"], **template} if append else template
    item["template"] = UPDATERS.get(kind.name, lambda _call, _item, new: new)(call, item, template)
    call.core.store.save(kind.name, item)
    return object_id


def delete(kind: Kind, call: Call, object_id: int) -> int:
    item = call.get(kind.name, object_id, "MANAGE" if kind.permissions else "ADMIN")
    if DELETERS.get(kind.name, lambda _call, _item: True)(call, item):
        call.core.store.remove(kind.name, object_id)
    rights.forget_object(call.core, kind, object_id)
    return object_id


def chmod(kind: Kind, call: Call, object_id: int, *bits: int) -> int:
    """Set the nine permission bits; -1 leaves one as it is."""
    item = call.get(kind.name, object_id, "MANAGE")
    changes_admin_rights = any(bit != -1 for bit in bits[2::3])
    if changes_admin_rights:
        call.authorize(("ADMIN", kind.name, item))
    item["permissions"] = "".join(
        old if bit == -1 else str(int(bit == 1)) for old, bit in zip(item["permissions"], bits, strict=True)
    )
    call.core.store.save(kind.name, item)
    return object_id


def chown(kind: Kind, call: Call, object_id: int, user_id: int, group_id: int) -> int:
    """Give an object to another user and group; -1 leaves one as it is."""
    item = call.find(kind.name, object_id)
    user_id, group_id = (-1 if new == item[owner] else new for new, owner in ((user_id, "uid"), (group_id, "gid")))
    demands = [("MANAGE", kind.name, item)]
    if user_id != -1:
        demands.append(("MANAGE", "user", call.find("user", user_id)))
    if group_id != -1:
        demands.append(("USE", "group", call.find("group", group_id)))
    call.authorize(*demands)
    if user_id != -1:
        call.check_name(kind.name, item["name"], ACTION, owner=user_id)
    quotas.check_new_owner(call, kind.name, item, user_id, group_id)
    item["uid"] = item["uid"] if user_id == -1 else user_id
    item["gid"] = item["gid"] if group_id == -1 else group_id
    call.core.store.save(kind.name, item)
    return object_id


def rename(kind: Kind, call: Call, object_id: int, name: str) -> int:
    item = call.get(kind.name, object_id, _right_to_change(kind))
    if name != item["name"]:
        call.check_name(kind.name, name, ACTION, owner=item.get("uid"))
    item["name"] = name
    call.core.store.save(kind.name, item)
    return object_id


_GENERIC = {
    "info": (info, "i"),
    "update": (update, "i s i"),
    "delete": (delete, "i"),
    "chmod": (chmod, "i" + " i" * 9),
    "chown": (chown, "i i i"),
    "rename": (rename, "i s"),
}


def register_generic_methods() -> None:
    """Add the generic methods and the pool of every kind to the table, unless a kind brought its own."""
    def bound(function: Callable, kind: Kind) -> Callable:
        return lambda call, *params: function(kind, call, *params)

    for kind in KINDS.values():
        for name in kind.methods:
            function, signature = _GENERIC[name]
            METHODS.setdefault(f"one.{kind.name}.{name}", Method(bound(function, kind), signature))
        if kind.pool:
            pool_signature = "i i i" if kind.paged else ""
            METHODS.setdefault(f"one.{kind.name}pool.info", Method(bound(pool_info, kind), pool_signature))
