# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What all kinds of resources have in common: info, pools, update, delete, permissions, owner and name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial

from lab.core import quotas, restricted, rights
from lab.core.call import UNLOCKED, Call, name_problem, parse_template
from lab.core.errors import ACTION, INTERNAL, REQUEST, OneError
from lab.core.kinds import KINDS, Kind
from lab.core.markup import element, shown
from lab.core.method import Method

#: how every refusal of a new template begins
FAILED_UPDATE = "Cannot update template. "
_ALL, _MINE_AND_GROUPS, _MINE, _GROUPS = -2, -1, -3, -4
#: levels of locks as callers name them, and as they are kept
_LOCKS = {1: 1, 2: 2, 3: 3, 4: 1}
_PERMISSION_NAMES = [f"{party}_{right}" for party in ("OWNER", "GROUP", "OTHER") for right in "UMA"]


def head(core, item: dict, **before_permissions: object) -> dict:
    """Return the children every owned resource begins with."""
    user, group = core.store.get("user", item["uid"]), core.store.get("group", item["gid"])
    return {
        "ID": item["id"], "UID": item["uid"], "GID": item["gid"],
        "UNAME": user["name"] if user else "", "GNAME": group["name"] if group else "",
        "NAME": item["name"], **lock_of(item), **before_permissions,
        "PERMISSIONS": dict(zip(_PERMISSION_NAMES, item["permissions"], strict=True)),
    }


def lock_of(item: dict) -> dict:
    """Return the LOCK of an object as its document shows it, nothing if it is not locked."""
    return {"LOCK": item["lock"]} if "lock" in item else {}


def visible(call: Call, kind: str, which: int) -> list[dict]:
    """Return the objects of a kind the user may use and asked for, newest first."""
    def wanted(item: dict) -> bool:
        if which == _ALL or not KINDS[kind].permissions:
            return True
        if which >= 0:
            return item["uid"] == which
        mine, ours = item["uid"] == call.user["id"], item["gid"] in call.user["groups"]
        return {_MINE: mine, _GROUPS: ours}.get(which, mine or ours)

    if which < _GROUPS:
        raise OneError(REQUEST, "Incorrect filter_flag")
    return [
        item for item in reversed(call.core.store.all(kind)) if call.may("USE" + UNLOCKED, kind, item) and wanted(item)
    ]


def page(items: list[dict], start: int, end: int) -> list[dict]:
    """Return a range of ids (both given), a page (end is minus its size), or everything (both -1)."""
    if start >= 0 and end < -1:
        return items[start:start - end]
    if start >= 0:
        return [item for item in items if start <= item["id"] and (end < 0 or item["id"] <= end)]
    return items


def pool_document(call: Call, kind: str, body: Callable, items: list[dict]) -> str:
    """Return the document of a pool; body: (core, object) -> children of the object's element."""
    tag, release = KINDS[kind].tag, call.core.config.release
    return element(f"{tag}_POOL", {tag: [shown(release, tag, body(call.core, item)) for item in items]})


def info(kind: Kind, body: Callable, call: Call, object_id: int, _decrypt: bool = False) -> str:
    children = body(call.core, call.get(kind.name, object_id, "USE" + UNLOCKED))
    return element(kind.tag, shown(call.core.config.release, kind.tag, children))


def pool_info(kind: Kind, body: Callable, call: Call, which: int = _ALL, start: int = -1, end: int = -1) -> str:
    return pool_document(call, kind.name, body, page(visible(call, kind.name, which), start, end))


def merged(base: dict, template: dict) -> dict:
    """Return a template with the attributes of another one in place of its own; an empty vector takes one away."""
    return {name: value for name, value in {**base, **template}.items() if value != {} or name not in template}


def update(kind: Kind, updater: Callable, call: Call, object_id: int, text: str, append: int = 0) -> int:
    """Replace the template (0) or merge into it attribute by attribute (1)."""
    item = call.get(kind.name, object_id, kind.change or call.core.config.release.group_right)
    if append not in (0, 1):
        raise OneError(REQUEST, "Wrong update type")
    template = parse_template(text, prefix=FAILED_UPDATE)
    if kind.name != "vn" or item.get("parent") is not None:
        template = restricted.check_update(call, kind.name, template, item["template"], bool(append), FAILED_UPDATE)
    template = merged(item["template"], template) if append else template
    item["template"] = updater(call, item, template)
    call.core.store.save(kind.name, item)
    return object_id


def delete(kind: Kind, deleter: Callable, call: Call, object_id: int) -> int:
    item = call.get(kind.name, object_id, "MANAGE" if kind.permissions else "ADMIN")
    if deleter(call, item):
        call.core.store.remove(kind.name, object_id)
    rights.forget_object(call.core, kind, object_id)
    return object_id


def check_clone(call: Call, kind: str, source: dict) -> None:
    """Demand the rights to copy an object. Raises OneError."""
    call.authorize((call.core.config.release.clone_right, kind, source), ("CREATE", kind, None))


def clone(kind: Kind, cloner: Callable | None, call: Call, object_id: int, name: str) -> int:
    """Copy an object that is nothing but its template, and return the id of the copy."""
    source = call.find(kind.name, object_id)
    check_clone(call, kind.name, source)
    with call.making(kind.name, copying=True):
        copy = cloner(call, name, deepcopy(source["template"]), source)
    call.core.store.save(kind.name, copy)
    return copy["id"]


def chmod(kind: Kind, call: Call, object_id: int, *bits: int) -> int:
    """Set the nine permission bits; -1 leaves one as it is."""
    item = call.find(kind.name, object_id)
    # What stays as it is needs no right, but who only names it may still be refused for its value.
    changed = [bit if str(bit) != old else -1 for old, bit in zip(item["permissions"], bits, strict=True)]
    call.authorize(("ADMIN" if any(bit != -1 for bit in changed[2::3]) else "MANAGE", kind.name, item))
    if any(bit not in (-1, 0, 1) for bit in bits):
        raise OneError(INTERNAL, "New permission values must be -1, 0 or 1")
    item["permissions"] = "".join(
        old if bit == -1 else str(bit) for old, bit in zip(item["permissions"], bits, strict=True)
    )
    call.core.store.save(kind.name, item)
    return object_id


def chown(kind: Kind, call: Call, object_id: int, user_id: int, group_id: int) -> int:
    """Give an object to another user and group; -1 leaves one as it is."""
    user = call.find("user", user_id) if user_id > -1 else None
    group = call.find("group", group_id) if group_id > -1 else None
    item = call.find(kind.name, object_id)
    user, group = (
        None if new is None or new["id"] == item[owner] else new for new, owner in ((user, "uid"), (group, "gid"))
    )
    demands = [("MANAGE", kind.name, item)]
    demands += [("MANAGE", "user", user)] if user else []
    demands += [("USE", "group", group)] if group else []
    call.authorize(*demands)
    taken = call.owner_of_name(kind.name, item["name"], user["id"]) if user and kind.unique == "owner" else None
    if taken is not None:
        raise OneError(INTERNAL, f"user [{user['id']}] already owns {kind.label} [{taken}] with NAME {item['name']}")
    user_id, group_id = (-1 if new is None else new["id"] for new in (user, group))
    quotas.check_new_owner(call, kind.name, item, user_id, group_id)
    item["uid"] = item["uid"] if user is None else user_id
    item["gid"] = item["gid"] if group is None else group_id
    call.core.store.save(kind.name, item)
    return object_id


def rename(kind: Kind, call: Call, object_id: int, name: str) -> int:
    item = call.find(kind.name, object_id)
    if name == item["name"]:
        return object_id
    call.authorize((kind.change, kind.name, item))
    taken = call.owner_of_name(kind.name, name, item.get("uid"))
    if taken is not None:
        reason = f"{kind.label} cannot be renamed to {name} because it collides with {kind.label} {taken}"
        raise OneError(ACTION, reason)
    problem = name_problem(call.core.config.release.not_in_names, name)
    if problem:
        raise OneError(ACTION, problem)
    item["name"] = name
    call.core.store.save(kind.name, item)
    return object_id


def lock(kind: Kind, call: Call, object_id: int, level: int, test: bool = False) -> int:
    """Keep others, administrators too, from using (1, 4), managing (2) or administering (3) an object."""
    item = call.get(kind.name, object_id, "MANAGE" + UNLOCKED)
    if level not in _LOCKS:
        raise OneError(ACTION, "Wrong lock level specified")
    if test and "lock" in item:
        raise OneError(ACTION, str(item["lock"]["TIME"]))
    if "lock" in item and item["lock"]["OWNER"] != call.user["id"] and not call.is_admin:
        raise OneError(ACTION, "Error trying to lock the resource.")
    item["lock"] = {"LOCKED": _LOCKS[level], "OWNER": call.user["id"], "TIME": call.core.now(), "REQ_ID": 0}
    call.core.store.save(kind.name, item)
    return object_id


def unlock(kind: Kind, call: Call, object_id: int) -> int:
    item = call.get(kind.name, object_id, "MANAGE" + UNLOCKED)
    owner = item.get("lock", {}).get("OWNER", -1)
    if owner != call.user["id"] and not call.is_admin:
        raise OneError(ACTION, "Cannot unlock: Lock is owned by another user")
    item.pop("lock", None)
    call.core.store.save(kind.name, item)
    return object_id


def generic_methods(
    kind_name: str,
    body: Callable,
    *,
    pool_body: Callable | None = None,
    updater: Callable = lambda _call, _item, template: template,
    deleter: Callable = lambda _call, _item: True,
    cloner: Callable | None = None,
) -> dict[str, Method]:
    """Return the methods that a kind has in common with others, and that of its pool.

    body: (core, object) -> children of its document's root element
    pool_body: the same for the pool, where that shows less
    updater: (call, object, new template) -> the template to keep; raises OneError
    deleter: (call, object) -> whether the object can go at once; raises OneError when it cannot go
    cloner: (call, name, template, source) -> a copy of an object, not saved yet; raises OneError when there can be none
    """
    kind = KINDS[kind_name]
    generic = {
        "info": Method(partial(info, kind, body), "i b?"),
        "update": Method(partial(update, kind, updater), "i s i?"),
        "delete": Method(partial(delete, kind, deleter), "i"),
        "clone": Method(partial(clone, kind, cloner), "i s"),
        "chmod": Method(partial(chmod, kind), "i" + " i" * 9),
        "chown": Method(partial(chown, kind), "i i i"),
        "rename": Method(partial(rename, kind), "i s"),
        "lock": Method(partial(lock, kind), "i i b?"),
        "unlock": Method(partial(unlock, kind), "i"),
    }
    methods = {f"one.{kind.name}.{name}": generic[name] for name in kind.methods}
    if kind.pool:
        methods[f"one.{kind.name}pool.info"] = Method(partial(pool_info, kind, pool_body or body), "i i i" if kind.paged else "")
    return methods
