# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the nodes of a run are, as they say themselves, and what those of each zone did."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

SITE = "site"  # the record of a reply that says where its node is, and that it rests
ZONE = "zone"
RESTS = "rests"

# What nodes say of themselves ends up in events and reports: names of a form, and no more of them than somebody reads.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MOST_ZONES = 100


@dataclass
class _Zone:
    joined: int
    nodes: set[int] = field(default_factory=set)
    rounds: set[int] = field(default_factory=set)
    failures: int = 0
    examples: int = 0
    seconds: float = 0.0


def rests(content: RecordDict) -> bool:
    """Say whether a reply says that its node is about to stop."""
    site = content.get(SITE)
    return isinstance(site, ConfigRecord) and site.get(RESTS) is True


class Zones:
    """What the zones did in this attempt of a run. Without nodes that name their zone there is nothing to tell."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._zones: dict[str, _Zone] = {}
        self._places: dict[int, str] = {}

    def answered(self, node_id: int, content: RecordDict) -> None:
        """Learn from a reply where its node is; the first answer counts."""
        site = content.get(SITE)
        name = site.get(ZONE) if isinstance(site, ConfigRecord) else None
        if node_id in self._places or not isinstance(name, str) or not _NAME.fullmatch(name):
            return
        if name not in self._zones:
            if len(self._zones) >= _MOST_ZONES:
                return
            self._zones[name] = _Zone(joined=int(self._clock()))
        self._places[node_id] = name
        self._zones[name].nodes.add(node_id)

    def trained(self, node_id: int, round_number: int, examples: int, seconds: float) -> None:
        """A node trained in a round on so many examples, and its reply took so many seconds."""
        zone = self._zone(node_id)
        if zone:
            zone.rounds.add(round_number)
            zone.examples += examples
            zone.seconds += seconds

    def failed(self, node_id: int) -> None:
        """A node gave no usable reply."""
        zone = self._zone(node_id)
        if zone:
            zone.failures += 1

    def facts(self) -> dict[str, dict[str, int | float]]:
        """Return what each zone did, by name: since when it is there, and sums over its nodes."""
        return {
            name: {
                "joined": zone.joined, "nodes": len(zone.nodes), "rounds": len(zone.rounds), "failures": zone.failures, "examples": zone.examples,
                "seconds": round(zone.seconds, 3),
            }
            for name, zone in sorted(self._zones.items())
        }  # fmt: skip

    def _zone(self, node_id: int) -> _Zone | None:
        return self._zones.get(self._places.get(node_id, ""))
