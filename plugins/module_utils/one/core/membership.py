# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to something: hosts, datastores and networks to clusters."""

from __future__ import annotations

from collections.abc import Callable

from ..transport.client import Client
from ..transport.errors import OneException
from . import lookup


class Directory:
    """The names and ids of all objects of a kind that the user may see, listed once."""

    def __init__(self, client: Client, kind: str) -> None:
        self._client = client
        self._kind = kind
        self._objects = {int(item["ID"]): item for item in lookup.pool(client, kind)}

    def find(self, name_or_id: str) -> int | None:
        """Return the id of the object, None if there is none. Raises OneException of kind conflict."""
        if lookup.is_id(name_or_id):
            return int(name_or_id) if int(name_or_id) in self._objects else None
        found = lookup.named(self._client, lookup.KINDS[self._kind].label, self._objects.values(), name_or_id)
        return int(found["ID"]) if found else None

    def missing(self, name_or_id: str) -> OneException:
        """Return the exception for an object that should be there."""
        return lookup.missing(self._client, lookup.KINDS[self._kind].label, name_or_id)

    def text(self, number: int) -> str:
        """Return the object as people know it."""
        # Names are unique per owner only, and some may be hidden from the user.
        return f"{self._objects.get(number, {}).get('NAME', '')} (id {number})"


class Members:
    """The members of one kind that something has, and those it should have.

    there: the ids it has. wanted: names or ids. replace: whether those that are not wanted go. missing: called with the
    exception for one there is not; the member is taken for granted when it returns. Raises OneException.

    ids: the ids it should have. added, removed: the difference. before, after: the members, as people know them.
    """

    def __init__(
        self, directory: Directory, there: list[int], wanted: list[str], replace: bool,
        missing: Callable[[OneException], None],
    ) -> None:
        chosen, unresolved = [], []
        for name_or_id in map(str, wanted):
            number = directory.find(name_or_id)
            if number is None:
                missing(directory.missing(name_or_id))
                unresolved.append(name_or_id)
            else:
                chosen.append(number)
        self.ids = sorted({*chosen, *(() if replace else there)})
        self.added = [number for number in self.ids if number not in there]
        self.removed = [number for number in there if number not in self.ids]
        self.before = [directory.text(number) for number in sorted(there)]
        self.after = [*(directory.text(number) for number in self.ids), *unresolved]
