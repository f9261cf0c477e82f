# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Groups, their administrators and their quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core import quotas, rights, vdcs
from lab.core.call import Call
from lab.core.errors import ACTION, AUTHORIZATION, INTERNAL, OneError
from lab.core.markup import attributes, element, ids
from lab.core.method import Method
from lab.core.pools import generic_methods

if TYPE_CHECKING:
    from lab.core.api import Core

_ONEADMIN = 0
_FIRST = 100
#: what an administrator may do with what belongs to the group
_ADMINISTERED = ("VM", "NET", "IMAGE", "TEMPLATE", "DOCUMENT", "SECGROUP", "VROUTER", "VMGROUP", "BACKUPJOB")


def new_group(group_id: int, name: str) -> dict:
    """Return a group, not saved yet."""
    return {"id": group_id, "name": name, "template": {}, "admins": [], "quotas": {}}


def remove_member(core: Core, group_id: int, user_id: int) -> None:
    """Note that a user has left a group; the rules of an administrator go too."""
    group = core.store.get("group", group_id)
    if group and user_id in group["admins"]:
        _remove_admin(core, group, user_id)


def members(core: Core, group_id: int) -> list[int]:
    """Return the users of a group."""
    return [user["id"] for user in core.store.all("user") if group_id in user["groups"]]


def _body(core: Core, group: dict) -> dict:
    return {
        "ID": group["id"], "NAME": group["name"], "TEMPLATE": attributes(group["template"]),
        "USERS": ids(members(core, group["id"])), "ADMINS": ids(sorted(group["admins"])),
    }


def _info(call: Call, group_id: int, _decrypt: bool = False) -> str:
    group = call.get("group", call.user["gid"] if group_id == -1 else group_id)
    limits = quotas.sections(call.core, "group", group)
    return element("GROUP", _body(call.core, group) | limits | {"DEFAULT_GROUP_QUOTAS": quotas.defaults(call.core, "group")})


def _pool_info(call: Call) -> str:
    groups = [group for group in reversed(call.core.store.all("group")) if call.may("USE", "group", group)]
    rows = "".join(
        element("GROUP", _body(call.core, group))
        + element("QUOTAS", {"ID": group["id"]} | quotas.sections(call.core, "group", group))
        for group in groups
    )
    general = element("DEFAULT_GROUP_QUOTAS", quotas.defaults(call.core, "group"))
    return f"<GROUP_POOL>{rows}{general}</GROUP_POOL>"


def _allocate(call: Call, name: str) -> int:
    call.authorize(("CREATE", "group", None))
    call.check_name("group", name, INTERNAL, more=" " if call.core.config.release.strict_names else "")
    group = new_group(call.core.store.new_id("group", _FIRST), name)
    call.core.store.save("group", group)
    vdcs.add_group(call.core, call.core.store.get("vdc", vdcs.DEFAULT), group["id"])
    return group["id"]


def _quota(call: Call, group_id: int, text: str) -> int:
    if group_id == _ONEADMIN:
        raise OneError(ACTION, "Cannot set quotas for oneadmin group")
    if call.core.config.release.hides_groups and call.core.store.get("group", group_id) is None:
        raise OneError(AUTHORIZATION, f"User [{call.user['id']}] not authorized to perform action on group.", group_id)
    group = call.get("group", group_id, "ADMIN")
    quotas.set_limits(call, group, text)
    call.core.store.save("group", group)
    return group_id


def _add_admin(call: Call, group_id: int, user_id: int) -> int:
    group, user = _both(call, group_id, user_id)
    if group_id not in user["groups"]:
        raise OneError(INTERNAL, f"Cannot edit group. User {user_id} is not part of Group {group_id}.")
    if user_id in group["admins"]:
        raise OneError(
            INTERNAL, f"Cannot edit group. User {user_id} is already an administrator of Group {group_id}."
        )
    group["admins"].append(user_id)
    for rule in _admin_rules(group_id, user_id):
        rights.ensure_rule(call.core, *rule)
    call.core.store.save("group", group)
    return group_id


def _delete_admin(call: Call, group_id: int, user_id: int) -> int:
    group, _user = _both(call, group_id, user_id)
    if user_id not in group["admins"]:
        raise OneError(INTERNAL, f"Cannot edit group. User {user_id} is not an administrator of Group {group_id}.")
    _remove_admin(call.core, group, user_id)
    return group_id


def _both(call: Call, group_id: int, user_id: int) -> tuple[dict, dict]:
    group, user = call.find("group", group_id), call.find("user", user_id)
    call.authorize(("ADMIN", "group", group), ("ADMIN", "user", user))
    return group, user


def _remove_admin(core: Core, group: dict, user_id: int) -> None:
    group["admins"].remove(user_id)
    for rule in _admin_rules(group["id"], user_id):
        rights.drop_rule(core, *rule)
    core.store.save("group", group)


def _admin_rules(group_id: int, user_id: int) -> list[tuple[int, int, int, int]]:
    subject, of_group = rights.INDIVIDUAL | user_id, rights.GROUP | group_id
    types, levels = rights.TYPES, rights.RIGHTS
    return [
        (subject, types["USER"] | of_group, sum(levels.values()), rights.ALL),
        (subject, sum(types[name] for name in _ADMINISTERED) | of_group, levels["USE"] | levels["MANAGE"], rights.ALL),
        (subject, types["VROUTER"] | rights.ALL, levels["CREATE"], rights.ALL),
        (subject, types["GROUP"] | rights.INDIVIDUAL | group_id, levels["MANAGE"], rights.ALL),
    ]


def _delete(call: Call, group: dict) -> bool:
    if group["id"] < _FIRST:
        raise OneError(ACTION, "Cannot delete group. System Groups (ID < 100) cannot be deleted.")
    if members(call.core, group["id"]):
        raise OneError(ACTION, f"Cannot delete group. Group {group['id']} is not empty.")
    rights.forget_group(call.core, group["id"])
    vdcs.forget_group(call.core, group["id"])
    return True


def _default_quotas(call: Call) -> str:
    return element("DEFAULT_GROUP_QUOTAS", quotas.defaults(call.core, "group"))


def _set_default_quotas(call: Call, text: str) -> str:
    return quotas.set_defaults(call, "group", text)


METHODS = generic_methods("group", _body, deleter=_delete) | {
    "one.group.info": Method(_info, "i b?"),
    "one.grouppool.info": Method(_pool_info),
    "one.group.allocate": Method(_allocate, "s"),
    "one.group.quota": Method(_quota, "i s"),
    "one.group.addadmin": Method(_add_admin, "i i"),
    "one.group.deladmin": Method(_delete_admin, "i i"),
    "one.groupquota.info": Method(_default_quotas),
    "one.groupquota.update": Method(_set_default_quotas, "s"),
}
