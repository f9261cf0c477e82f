# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of many objects by name: one call for each kind, and only when something is asked that an id does not say."""

from __future__ import annotations

from ..transport.client import Client
from ..transport.errors import OneException
from . import lookup


class Names:
    """Names and ids of a zone's objects, of kinds as in ``lookup.KINDS``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pools: dict[str, dict[int, dict]] = {}

    def find(self, kind: str, name_or_id: str | int) -> int | None:
        """Return the id of an object, None for a name that nothing has.

        A number is taken for an id, whether it exists or not. Raises OneException of kind conflict for a name that
        several objects have.
        """
        wanted = str(name_or_id)
        if lookup.is_id(wanted):
            return int(wanted)
        found = lookup.named(self._client, lookup.KINDS[kind].label, self._pool(kind).values(), wanted)
        return int(found["ID"]) if found else None

    def missing(self, kind: str, name_or_id: str | int) -> OneException:
        """Return the exception for an object that should be there."""
        return lookup.missing(self._client, lookup.KINDS[kind].label, name_or_id)

    def name(self, kind: str, number: int) -> str:
        """Return the name of an object, its id as text if nothing with this id can be seen."""
        found = self._pool(kind).get(number)
        return found["NAME"] if found else str(number)

    def ids(self, kind: str) -> list[int]:
        """Return the ids of all objects."""
        return list(self._pool(kind))

    def _pool(self, kind: str) -> dict[int, dict]:
        if kind not in self._pools:
            self._pools[kind] = {int(item["ID"]): item for item in lookup.pool(self._client, kind)}
        return self._pools[kind]
