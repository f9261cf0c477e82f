# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Users, their groups and quotas, sessions."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from lab.core import groups, quotas, rights
from lab.core.call import Call
from lab.core.errors import ACTION, AUTHENTICATION, INTERNAL, NO_EXISTS, REQUEST, OneError
from lab.core.markup import Data, attributes, element, ids
from lab.core.method import Method
from lab.core.pools import generic_methods

if TYPE_CHECKING:
    from lab.core.api import Core

ONEADMIN, USERS = 0, 1
_CORE = "core"
_MOST_TOKENS = 10
_NOT_IN_PASSWORDS = " \t\n\v\f\r"
_NOT_IN_NAMES = " :\t\n\v\f\r"


def hashed(password: str) -> str:
    """Return a password as the driver core keeps it."""
    return hashlib.sha256(password.encode()).hexdigest()


def authenticate(core: Core, session: str) -> dict:
    """Return the user of a session "name:password", where a login token is a password too. Raises OneError."""
    name, _separator, password = session.partition(":")
    user = next((user for user in core.store.all("user") if user["name"] == name), None)
    if user and (
        core.is_internal_password(password)
        # No other driver runs here, so nobody can vouch for its users.
        or (user["enabled"] and user["auth_driver"] == _CORE and _knows(core, user, password))
    ):
        return user
    raise OneError(AUTHENTICATION, "User couldn't be authenticated, aborting call.")


def new_user(user_id: int, name: str, password: str, group: int, auth_driver: str = _CORE) -> dict:
    """Return a user, not saved yet."""
    return {
        "id": user_id, "name": name, "gid": group, "groups": [group], "auth_driver": auth_driver, "enabled": True,
        "password": hashed(password) if auth_driver == _CORE else password, "tokens": [], "quotas": {},
        "template": {"TOKEN_PASSWORD": secrets.token_hex(32)},
    }


def _knows(core: Core, user: dict, password: str) -> bool:
    return secrets.compare_digest(user["password"], hashed(password)) or any(
        token["token"] == password and token["expires"] > core.now() for token in user["tokens"]
    )


def _body(core: Core, user: dict) -> dict:
    return {
        "ID": user["id"], "GID": user["gid"], "GROUPS": ids(user["groups"]),
        "GNAME": core.store.get("group", user["gid"])["name"], "NAME": user["name"],
        "PASSWORD": Data(user["password"]), "AUTH_DRIVER": Data(user["auth_driver"]), "ENABLED": int(user["enabled"]),
        "LOGIN_TOKEN": [
            {"TOKEN": token["token"], "EXPIRATION_TIME": token["expires"], "EGID": token["group"]}
            for token in user["tokens"]
        ],
        "TEMPLATE": attributes(user["template"]),
    }


def _info(call: Call, user_id: int, _decrypt: bool = False) -> str:
    user = call.get("user", call.user["id"] if user_id == -1 else user_id)
    limits = quotas.sections(call.core, "user", user)
    return element("USER", _body(call.core, user) | limits | {"DEFAULT_USER_QUOTAS": quotas.defaults(call.core, "user")})


def _pool_info(call: Call) -> str:
    users = [user for user in reversed(call.core.store.all("user")) if call.may("USE", "user", user)]
    rows = "".join(
        element("USER", _body(call.core, user))
        + element("QUOTAS", {"ID": user["id"]} | quotas.sections(call.core, "user", user))
        for user in users
    )
    general = element("DEFAULT_USER_QUOTAS", quotas.defaults(call.core, "user"))
    return f"<USER_POOL>{rows}{general}</USER_POOL>"


def _allocate(call: Call, name: str, password: str, auth_driver: str, group_ids: list | None = None) -> int:
    """Make a user; the first group is the primary one, and none means that of ordinary users."""
    own_group = USERS if call.user["gid"] == ONEADMIN else call.user["gid"]
    wanted = list(group_ids or [own_group])
    demands = [("MANAGE", "group", call.find("group", number)) for number in wanted if number != call.user["gid"]]
    call.authorize(("CREATE", "user", None), *(demands if group_ids else ()))
    _check_password(password, INTERNAL, end=".")
    call.check_name("user", name, INTERNAL, more=_NOT_IN_NAMES, end=".")
    user = new_user(call.core.store.new_id("user"), name, password, wanted[0], auth_driver or _CORE)
    user["groups"] = sorted(set(wanted))
    call.core.store.save("user", user)
    return user["id"]


def _passwd(call: Call, user_id: int, password: str) -> int:
    user = call.get("user", call.user["id"] if user_id == -1 else user_id, "MANAGE")
    _set_password(user, password)
    call.core.store.save("user", user)
    return user["id"]


def _chauth(call: Call, user_id: int, auth_driver: str, password: str) -> int:
    """Change the driver, and the password too unless it is empty."""
    user = call.get("user", user_id, "ADMIN")
    if password:
        _check_password(password, ACTION)
    user["auth_driver"] = auth_driver
    if password:
        _set_password(user, password)
    call.core.store.save("user", user)
    return user_id


def _enable(call: Call, user_id: int, enabled: bool) -> int:
    user = call.get("user", user_id, "ADMIN")
    if user_id == ONEADMIN:
        raise OneError(ACTION, "Cannot enable/disable oneadmin user")
    user["enabled"] = enabled
    call.core.store.save("user", user)
    return user_id


def _chgrp(call: Call, user_id: int, group_id: int) -> int:
    """Change the primary group; the old one is left unless the user belonged to the new one already."""
    user, group = call.find("user", user_id), call.find("group", group_id)
    if user_id == ONEADMIN:
        raise OneError(INTERNAL, "user [0] oneadmin cannot be moved outside of the group [0] oneadmin")
    call.authorize(("MANAGE", "user", user), ("USE", "group", group))
    old = user["gid"]
    if old == group_id:
        return user_id
    user["gid"] = group_id
    if group_id not in user["groups"]:
        user["groups"] = sorted({*user["groups"], group_id} - {old})
        groups.remove_member(call.core, old, user_id)
    call.core.store.save("user", user)
    return user_id


def _addgroup(call: Call, user_id: int, group_id: int) -> int:
    user = _member(call, user_id, group_id)
    if group_id in user["groups"]:
        raise OneError(ACTION, "User is already in this group")
    user["groups"] = sorted({*user["groups"], group_id})
    call.core.store.save("user", user)
    return user_id


def _delgroup(call: Call, user_id: int, group_id: int) -> int:
    user = _member(call, user_id, group_id)
    if group_id not in user["groups"]:
        raise OneError(ACTION, "User is not part of this group")
    if group_id == user["gid"]:
        raise OneError(ACTION, "Cannot remove user from the primary group")
    user["groups"].remove(group_id)
    groups.remove_member(call.core, group_id, user_id)
    call.core.store.save("user", user)
    return user_id


def _login(call: Call, name: str, token: str, seconds: int, group: int = -1) -> str:
    """Make a login token (seconds -1: without end), or drop one or all (seconds 0)."""
    user = next((user for user in call.core.store.all("user") if user["name"] == name), None)
    if user is None:
        # oned looks for a name and tells the number of none.
        raise OneError(NO_EXISTS, "Error getting user Pool.")
    call.authorize(("MANAGE", "user", user))
    if seconds < -1:
        raise OneError(REQUEST, "Wrong valid period for token")
    if seconds == 0:
        if token and all(known["token"] != token for known in user["tokens"]):
            raise OneError(REQUEST, f"Could not find token: {token}")
        user["tokens"] = [known for known in user["tokens"] if token and known["token"] != token]
    else:
        user["tokens"] = [known for known in user["tokens"] if known["expires"] > call.core.now()]
        if group != -1 and not call.is_admin and group not in {*user["groups"]} & {*call.user["groups"]}:
            raise OneError(REQUEST, "EGID is not in user group list")
        if group == -1 and {*user["groups"]} != {*call.user["groups"]}:
            raise OneError(REQUEST, "Cannot create a full token with a specific group token")
        if len(user["tokens"]) >= _MOST_TOKENS:
            raise OneError(REQUEST, "Max number of tokens limit reached.")
        token = token or secrets.token_hex(32)
        expires = 2**63 - 1 if seconds < 0 else call.core.now() + seconds
        user["tokens"].append({"token": token, "expires": expires, "group": group})
    call.core.store.save("user", user)
    return token


def _quota(call: Call, user_id: int, text: str) -> int:
    user = call.get("user", user_id, "ADMIN")
    if user_id == ONEADMIN:
        raise OneError(ACTION, "Cannot set quotas for oneadmin user")
    quotas.set_limits(call, user, text)
    call.core.store.save("user", user)
    return user_id


def _member(call: Call, user_id: int, group_id: int) -> dict:
    user, group = call.find("user", user_id), call.find("group", group_id)
    call.authorize(("MANAGE", "user", user), ("MANAGE", "group", group))
    return user


def _set_password(user: dict, password: str) -> None:
    """Change a password, which ends all sessions of the user. Raises OneError."""
    _check_password(password, ACTION)
    user["password"] = hashed(password) if user["auth_driver"] == _CORE else password
    user["tokens"] = []


def _check_password(password: str, code: int, end: str = "") -> None:
    if not password:
        raise OneError(code, f"Invalid password, it cannot be empty{end}")
    wrong = next((character for character in password if character in _NOT_IN_PASSWORDS), None)
    if wrong:
        raise OneError(code, f"Invalid password, character '{wrong}' is not allowed{end}")


def _delete(call: Call, user: dict) -> bool:
    if user["id"] == ONEADMIN:
        raise OneError(ACTION, "Cannot delete user. oneadmin cannot be deleted.")
    for group_id in user["groups"]:
        groups.remove_member(call.core, group_id, user["id"])
    rights.forget_user(call.core, user["id"])
    return True


def _default_quotas(call: Call) -> str:
    return element("DEFAULT_USER_QUOTAS", quotas.defaults(call.core, "user"))


def _set_default_quotas(call: Call, text: str) -> str:
    return quotas.set_defaults(call, "user", text)


METHODS = generic_methods("user", _body, deleter=_delete) | {
    "one.user.info": Method(_info, "i b?"),
    "one.userpool.info": Method(_pool_info),
    "one.user.allocate": Method(_allocate, "s s s a?"),
    "one.user.passwd": Method(_passwd, "i s"),
    "one.user.chauth": Method(_chauth, "i s s"),
    "one.user.enable": Method(_enable, "i b"),
    "one.user.chgrp": Method(_chgrp, "i i"),
    "one.user.addgroup": Method(_addgroup, "i i"),
    "one.user.delgroup": Method(_delgroup, "i i"),
    "one.user.login": Method(_login, "s s i i?"),
    "one.user.quota": Method(_quota, "i s"),
    "one.userquota.info": Method(_default_quotas),
    "one.userquota.update": Method(_set_default_quotas, "s"),
}
