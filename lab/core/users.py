# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Users, groups, sessions and quotas."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from lab.core.call import Call, as_list, parse_template
from lab.core.errors import ACTION, AUTHENTICATION, AUTHORIZATION, INTERNAL, NO_EXISTS, OneError
from lab.core.markup import Data, attributes, element, ids
from lab.core.pools import BODIES, DELETERS
from lab.core.registry import method

if TYPE_CHECKING:
    from lab.core.api import Core

ONEADMIN, USERS = 0, 1
_QUOTAS = {"DATASTORE_QUOTA": {}, "NETWORK_QUOTA": {}, "VM_QUOTA": {}, "IMAGE_QUOTA": {}}
_VM_QUOTA_LIMITS = ("CPU", "MEMORY", "VMS")
_UNLIMITED = (-2, -1)


def hashed(password: str) -> str:
    """Return a password as it is kept."""
    return hashlib.sha256(password.encode()).hexdigest()


def authenticate(core: Core, session: str) -> dict:
    """Return the user of a session "name:password", where a login token is a password too. Raises OneError."""
    name, _separator, password = session.partition(":")
    user = next((user for user in core.store.all("user") if user["name"] == name), None)
    if user and (
        core.is_internal_password(password)
        or secrets.compare_digest(user["password"], hashed(password))
        or any(token["token"] == password and token["expires"] > core.now() for token in user["tokens"])
    ):
        return user
    raise OneError(AUTHENTICATION, "User couldn't be authenticated, aborting call.")


def new_user(user_id: int, name: str, password: str, group: int, auth_driver: str = "core") -> dict:
    """Return a user, not saved yet."""
    return {
        "id": user_id, "name": name, "gid": group, "groups": [group], "auth_driver": auth_driver,
        "password": hashed(password), "tokens": [], "quotas": {}, "template": {"TOKEN_PASSWORD": secrets.token_hex(32)},
    }


def check_vm_quota(call: Call, owner: dict, cpu: float, memory: int) -> None:
    """Refuse one more VM of that size above its owner's limits. Raises OneError."""
    used = vm_usage(call.core, owner["id"])
    for name, amount in (("CPU", cpu), ("MEMORY", memory), ("VMS", 1)):
        limit = float(owner["quotas"].get(name, -1))
        if limit not in _UNLIMITED and used[name] + amount > limit:
            raise OneError(
                AUTHORIZATION,
                f"User [{call.user['id']}] : user [{owner['id']}] limit of {limit:g} reached for {name} quota in VM.",
            )


def vm_usage(core: Core, user_id: int) -> dict[str, float]:
    """Return what a user's machines take, by the names of the quotas."""
    mine = [vm["template"] for vm in core.store.all("vm") if vm["uid"] == user_id and vm["etime"] == 0]
    return {
        "CPU": sum(float(template["CPU"]) for template in mine),
        "MEMORY": sum(int(template["MEMORY"]) for template in mine),
        "VMS": len(mine),
    }


def _body(core: Core, user: dict) -> dict:
    return {
        "ID": user["id"], "GID": user["gid"], "GROUPS": ids(user["groups"]),
        "GNAME": core.store.get("group", user["gid"])["name"], "NAME": user["name"],
        "PASSWORD": Data(user["password"]), "AUTH_DRIVER": Data(user["auth_driver"]), "ENABLED": 1,
        "LOGIN_TOKEN": [
            {"TOKEN": token["token"], "EXPIRATION_TIME": token["expires"], "EGID": token["group"]}
            for token in user["tokens"]
        ],
        "TEMPLATE": attributes(user["template"]),
    }


def _quotas(core: Core, user: dict) -> dict:
    if not user["quotas"]:
        return _QUOTAS
    used = vm_usage(core, user["id"])
    limits = {name: Data(user["quotas"].get(name, -1)) for name in _VM_QUOTA_LIMITS}
    return _QUOTAS | {"VM_QUOTA": {"VM": limits | {f"{name}_USED": Data(f"{used[name]:g}") for name in used}}}


def _group_body(core: Core, group: dict) -> dict:
    members = [user["id"] for user in core.store.all("user") if group["id"] in user["groups"]]
    return {
        "ID": group["id"], "NAME": group["name"], "TEMPLATE": attributes(group["template"]),
        "USERS": ids(members), "ADMINS": {},
    }


BODIES["user"] = _body
BODIES["group"] = _group_body


@method("one.user.info", "i b?")
def _user_info(call: Call, user_id: int, _decrypt: bool = False) -> str:
    user = call.get("user", call.user["id"] if user_id == -1 else user_id)
    body = _body(call.core, user) | _quotas(call.core, user) | {"DEFAULT_USER_QUOTAS": _QUOTAS}
    return element("USER", body)


@method("one.userpool.info")
def _user_pool_info(call: Call) -> str:
    users = [user for user in reversed(call.core.store.all("user")) if call.is_admin or user is call.user]
    rows = "".join(
        element("USER", _body(call.core, user)) + element("QUOTAS", {"ID": user["id"]} | _quotas(call.core, user))
        for user in users
    )
    return f"<USER_POOL>{rows}{element('DEFAULT_USER_QUOTAS', _QUOTAS)}</USER_POOL>"


@method("one.user.allocate", "s s s? a?")
def _user_allocate(call: Call, name: str, password: str, auth_driver: str = "", groups: list | None = None) -> int:
    call.authorize(("CREATE", "user", None))
    call.check_name("user", name, INTERNAL)
    for group_id in groups or ():
        call.find("group", group_id)
    user_id = call.core.store.new_id("user")
    user = new_user(user_id, name, password, groups[0] if groups else USERS, auth_driver or "core")
    user["groups"] = sorted(set(groups)) if groups else user["groups"]
    call.core.store.save("user", user)
    return user_id


@method("one.user.passwd", "i s")
def _user_passwd(call: Call, user_id: int, password: str) -> int:
    user = call.get("user", call.user["id"] if user_id == -1 else user_id, "MANAGE")
    user["password"] = hashed(password)
    call.core.store.save("user", user)
    return user["id"]


@method("one.user.login", "s s? i? i?")
def _user_login(call: Call, name: str, token: str = "", seconds: int = -1, group: int = -1) -> str:
    """Make a login token (seconds -1: without end), or drop one or all (seconds 0)."""
    user = next((user for user in call.core.store.all("user") if user["name"] == name), None)
    if user is None:
        raise OneError(NO_EXISTS, f"Error getting user [{name}].")
    call.authorize(("MANAGE", "user", user))
    if seconds == 0:
        user["tokens"] = [known for known in user["tokens"] if token and known["token"] != token]
    else:
        token = token or secrets.token_hex(32)
        expires = 2**63 - 1 if seconds < 0 else call.core.now() + seconds
        user["tokens"].append({"token": token, "expires": expires, "group": group})
    call.core.store.save("user", user)
    return token


@method("one.user.quota", "i s")
def _user_quota(call: Call, user_id: int, text: str) -> int:
    """Set limits on VMs; the other quotas are refused, as they would not be kept."""
    user = call.get("user", user_id, "ADMIN")
    quotas = parse_template(text)
    if set(quotas) - {"VM"}:
        raise OneError(ACTION, f"Error setting quotas: {', '.join(sorted(set(quotas) - {'VM'}))} is not supported.")
    for limits in as_list(quotas.get("VM")):
        user["quotas"].update({name: value for name, value in limits.items() if name in _VM_QUOTA_LIMITS})
    call.core.store.save("user", user)
    return user_id


def _delete_user(call: Call, user: dict) -> bool:
    if user["id"] == ONEADMIN:
        raise OneError(ACTION, "Cannot delete user. oneadmin cannot be deleted")
    if user is call.user:
        raise OneError(ACTION, "Cannot delete user. a user cannot delete itself")
    return True


DELETERS["user"] = _delete_user


@method("one.group.allocate", "s")
def _group_allocate(call: Call, name: str) -> int:
    call.authorize(("CREATE", "group", None))
    call.check_name("group", name, INTERNAL)
    group = call.new("group", name, at_least=100, template={})
    call.core.store.save("group", group)
    return group["id"]
