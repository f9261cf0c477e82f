# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of OpenNebula's access control list: what people write, as the numbers the server compares."""

from __future__ import annotations

from dataclasses import dataclass

from ..transport.errors import INVALID, OneException

# Bits of the kinds of objects, in the server's order.
TYPES = {
    "VM": 1 << 36, "HOST": 1 << 37, "NET": 1 << 38, "IMAGE": 1 << 39, "USER": 1 << 40, "TEMPLATE": 1 << 41,
    "GROUP": 1 << 42, "DATASTORE": 1 << 44, "CLUSTER": 1 << 45, "DOCUMENT": 1 << 46, "ZONE": 1 << 47,
    "SECGROUP": 1 << 48, "VDC": 1 << 49, "VROUTER": 1 << 50, "MARKETPLACE": 1 << 51, "MARKETPLACEAPP": 1 << 52,
    "VMGROUP": 1 << 53, "VNTEMPLATE": 1 << 54, "BACKUPJOB": 1 << 56,
}
RIGHTS = {"USE": 1, "MANAGE": 2, "ADMIN": 4, "CREATE": 8}
# What an id in a rule is the id of.
ONE, GROUP, ALL, CLUSTER = 1 << 32, 1 << 33, 1 << 34, 1 << 35
_SIGNS = {ONE: "#", GROUP: "@", CLUSTER: "%", ALL: "*"}
_ID = 0xFFFFFFFF
# Kinds of which a cluster has some, kinds that belong to no group, and kinds that all zones share.
_IN_CLUSTERS = frozenset({"HOST", "NET", "DATASTORE"})
_WITHOUT_GROUP = frozenset({"HOST", "GROUP", "CLUSTER", "ZONE", "VDC"})
SHARED = frozenset({"USER", "GROUP", "ZONE", "VDC"})


@dataclass(frozen=True)
class Rule:
    """A rule as the server compares it; two rules mean the same exactly when they are equal."""

    user: int
    resource: int
    rights: int
    zone: int

    @classmethod
    def read(cls, document: dict) -> Rule:
        """Return the rule of an element ACL."""
        return cls(*(int(document[name], 16) for name in ("USER", "RESOURCE", "RIGHTS", "ZONE")))

    @property
    def arguments(self) -> tuple[str, str, str, str]:
        """What one.acl.addrule takes."""
        return tuple(f"{number:x}" for number in (self.user, self.resource, self.rights, self.zone))

    def __str__(self) -> str:
        """Return the rule as the server shows it: @100 VM+IMAGE/* USE #0."""
        types = "+".join(name for name, bit in TYPES.items() if self.resource & bit)
        rights = "+".join(name for name, bit in RIGHTS.items() if self.rights & bit)
        return f"{_selector(self.user)} {types}/{_selector(self.resource)} {rights} {_selector(self.zone)}"


def bits(words: list[str], table: dict[str, int], what: str) -> tuple[list[str], int]:
    """Return words in the server's spelling and the sum of their bits. Raises OneException for one not in the table."""
    names = list(dict.fromkeys(word.upper() for word in words))
    for name in names:
        if name not in table:
            raise OneException(INVALID, f"A rule has the {what} {name!r}, which is none of {', '.join(table)}.")
    if not names:
        raise OneException(INVALID, f"A rule has no {what}.")
    return names, sum(table[name] for name in names)


def check(types: list[str], which: int, zone: int) -> None:
    """Refuse what the server would refuse, before anything is changed. Raises OneException."""
    kinds = set(types)
    wrong: set[str] = set()
    reason = ""
    if which == CLUSTER:
        wrong, reason = kinds - _IN_CLUSTERS, "is in no cluster"
    elif which == GROUP:
        wrong, reason = kinds & _WITHOUT_GROUP, "belongs to no group"
    elif which == ONE and zone & ALL:
        wrong, reason = kinds - SHARED, "is in one zone only, while the rule is for all zones"
    if wrong:
        raise OneException(INVALID, f"A rule cannot be about this {', '.join(sorted(wrong))}, which {reason}.")


def _selector(value: int) -> str:
    sign = next((sign for bit, sign in _SIGNS.items() if value & bit), "??")
    return sign if sign in ("*", "??") else f"{sign}{value & _ID}"
