# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving objects permissions and owners."""

from __future__ import annotations

from . import resources, xml
from .client import Client
from .ownership import Ownership


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
        if name_or_id == item["NAME"] or (resources.is_id(name_or_id) and int(name_or_id) == int(item["ID"])):
            return int(item["ID"])
    raise resources.missing(client, kind, name_or_id)
