# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owner, group and permissions of objects: as they are, as they are wanted, and giving them."""

from __future__ import annotations

from collections.abc import Callable

from ..transport import xml
from ..transport.client import Client
from ..transport.errors import INVALID, OneException
from . import lookup

OPTIONS = {"owner": {"type": "str"}, "group": {"type": "str"}, "mode": {"type": "raw"}}
_PERMISSIONS = [f"{party}_{right}" for party in ("OWNER", "GROUP", "OTHER") for right in "UMA"]


class Ownership:
    """What a task says of an object's owner, group and permissions.

    params: the options of the task. Raises OneException of kind invalid for permissions that are none.
    """

    def __init__(self, client: Client, params: dict) -> None:
        self._client = client
        self._owner, self._group = params["owner"], params["group"]
        self._mode = _checked_mode(params["mode"])
        self._ids: dict[str, int] = {}

    def before(self, document: dict) -> dict:
        """Return owner, group and mode of an object."""
        permissions = {"PERMISSIONS": document["PERMISSIONS"]}
        return {"owner": document["UNAME"], "group": document["GNAME"], "mode": mode(permissions)}

    def after(self, document: dict) -> dict:
        """Return what owner, group and mode of an object should be, in its own words where they mean the same."""
        return {
            "owner": _named(self._owner, document["UNAME"], document["UID"]),
            "group": _named(self._group, document["GNAME"], document["GID"]),
            "mode": self._mode or mode(document),
        }

    def given(self) -> dict:
        """Return what the task says, for an object that is not there yet."""
        said = {"owner": self._owner, "group": self._group, "mode": self._mode}
        return {name: value for name, value in said.items() if value is not None}

    def check(self, before: dict, after: dict, unresolved: Callable[[OneException], None]) -> None:
        """Call unresolved with the exception for a new user or group there is not."""
        try:
            self.owner_ids(before, after)
        except OneException as error:
            unresolved(error)

    def owner_ids(self, before: dict, after: dict) -> tuple[int, int]:
        """Return the ids of the new owner and group, -1 for one that stays. Raises OneException of kind missing."""
        return (
            self._id("user", self._owner) if before.get("owner") != after.get("owner") else -1,
            self._id("group", self._group) if before.get("group") != after.get("group") else -1,
        )

    def _id(self, kind: str, name_or_id: str | None) -> int:
        if name_or_id is None:
            return -1
        if kind not in self._ids:
            self._ids[kind] = owner_id(self._client, kind, name_or_id)
        return self._ids[kind]


def mode(document: dict) -> str:
    """Return the permissions as three octal digits, owner, group and others, each use 4, manage 2, admin 1."""
    permissions = xml.section(document, "PERMISSIONS")
    bits = "".join(permissions.get(name, "0") for name in _PERMISSIONS)
    return "".join(str(int(bits[start:start + 3], 2)) for start in (0, 3, 6))


def _named(wanted: str | None, name: str, number: str) -> str:
    """Return the wanted owner, in the words of the current one where they mean the same."""
    if wanted is None or (lookup.is_id(wanted) and int(wanted) == int(number)):
        return name
    return wanted


def _checked_mode(digits: object) -> str | None:
    if digits is None:
        return None
    from ...scalars import permissions

    try:
        return permissions(digits)
    except ValueError as error:
        raise OneException(INVALID, f"mode: {error}.") from None


def write(client: Client, ownership: Ownership, prefix: str, document: dict) -> None:
    """Give an object its permissions and, as that may take away the right to the rest, at last its owner.

    prefix: of the methods for its kind, such as one.image. document: the object as it is.
    """
    before, after, number = ownership.before(document), ownership.after(document), int(document["ID"])
    if before["mode"] != after["mode"]:
        client.call(f"{prefix}.chmod", number, *permission_bits(before["mode"], after["mode"]))
    owners = ownership.owner_ids(before, after)
    if owners != (-1, -1):
        client.call(f"{prefix}.chown", number, *owners)


def permission_bits(before: str, after: str) -> list[int]:
    """Return the nine bits for chmod, -1 for those that stay: changing an admin bit takes more rights."""
    old, new = (f"{int(digits, 8):09b}" for digits in (before, after))
    return [-1 if left == right else int(right) for left, right in zip(old, new, strict=True)]


def owner_id(client: Client, kind: str, name_or_id: str) -> int:
    """Return the id of a user or group. Raises OneException of kind missing."""
    for item in xml.items(client.call(f"one.{kind}pool.info"), kind.upper()):
        if name_or_id == item["NAME"] or (lookup.is_id(name_or_id) and int(name_or_id) == int(item["ID"])):
            return int(item["ID"])
    raise lookup.missing(client, kind, name_or_id)
