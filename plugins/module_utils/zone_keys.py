# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which SuperNodes of other zones may join: the keys that their VMs publish, under the names of their zones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .flower.node_keys import read_key
from .supervisor.untrusted import sentence

# What is said of one zone: VMs in a sentence, sentences, characters of what a VM says.
_NAMED = 10
_SENTENCES = 20
_ERROR = 200
# A VM of a zone, or the machine that an edge site is.
_OF_A_ZONE = re.compile(r"(.+)/(?:vm-[0-9]+|machine)")


def zone_keys(vms: Iterable[Mapping[str, Any]], zone: str, most: int) -> dict[str, list[str]]:
    """Return the keys of a zone's SuperNodes as lines named ZONE/vm-ID, and one sentence for each VM that publishes something else.

    What a VM publishes is its own doing, so that one with nonsense is left out and the others join. Which VMs there are says the zone's API, which
    another party may run: no more than ``most`` keys are taken, those of the oldest VMs.
    """
    keys: list[str] = []
    refused: list[str] = []
    surplus: list[int] = []
    for vm in sorted(vms, key=lambda vm: vm["id"]):
        published = vm["attributes"].get("FL_NODE_KEY", "")
        try:
            # Given twice, an attribute is a list; with parts, a dictionary.
            line = read_key(published if isinstance(published, str) else "").line
        except ValueError as problem:
            # Some VMs fail to boot and say why.
            error = vm["attributes"].get("FL_ERROR", "")
            refused.append(
                f"zone {zone}: the key that VM {vm['id']} publishes is not taken: {problem}" + (f"; FL_ERROR is {sentence(error, _ERROR)}" if error else "")
            )
            continue
        if len(keys) < most:
            keys.append(f"{line} {zone}/vm-{vm['id']}")
        else:
            surplus.append(vm["id"])
    if surplus:
        some = ", ".join(map(str, surplus[:_NAMED])) + (f" and {len(surplus) - _NAMED} more" if len(surplus) > _NAMED else "")
        refused.append(f"zone {zone}: flower_supernodes_max is {most}, so that the keys of VM {some} are not taken")
    return {"keys": keys, "refused": refused[:_SENTENCES] + ([f"zone {zone}: and {len(refused) - _SENTENCES} more"] if len(refused) > _SENTENCES else [])}


def joined_keys(known: str, present: Sequence[str], reached: Mapping[str, Sequence[str]], given: Iterable[str] = ()) -> list[str]:
    """Return the keys that the SuperLink is to know of other zones.

    ``known``: what it was given before, by commas. ``present``: the zones that belong to the federation; of those that were not reached the known
    keys stay, since a zone that does not answer has not left. ``reached``: the keys of the others. ``given``: the operator's own keys, which stand for
    themselves. A key that two VMs publish counts once.
    """
    seen = {read_key(line).pem for line in given}
    lines = [line.strip() for line in known.split(",") if _zone_of(line) in present and _zone_of(line) not in reached]
    joined = []
    for line in [*lines, *(line for name in present for line in reached.get(name, []))]:
        key = read_key(line)
        if key.pem not in seen:
            seen.add(key.pem)
            joined.append(f"{key.line} {key.name}")
    return sorted(joined, key=lambda line: line.rpartition(" ")[2])


def _zone_of(line: str) -> str:
    match = _OF_A_ZONE.fullmatch(line.strip().rpartition(" ")[2])
    return match[1] if match else ""
