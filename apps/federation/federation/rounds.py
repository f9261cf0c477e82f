# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""When a round counts, and how long the run waits. No Flower in here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

TRAINING = "training"
EVALUATION = "evaluation"

_MOST_NAMED = 10
_SHORTEST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0


class NotEnoughNodes(RuntimeError):
    """Too few nodes connected in time."""

    def __init__(self, connected: int, required: int, waited_seconds: float) -> None:
        super().__init__(f"waited {waited_seconds:.0f} s for nodes: {connected} connected, {required} needed")


class RoundFailed(RuntimeError):
    """A phase (training or evaluation) of a round has no result that could count as the federation's.

    ``failed`` are the nodes without a usable reply, ``spare`` is how many might have failed.
    """

    def __init__(self, number: int, phase: str, reason: str, failed: Iterable[int] = (), spare: int = 0) -> None:
        super().__init__(f"round {number}: {reason}")
        self.number = number
        self.phase = phase
        self.reason = reason
        self.failed = tuple(failed)
        self.spare = spare


class TooManyFailedRounds(RuntimeError):
    """So many rounds failed one after the other that the run is given up; ``failures`` are these, the last one at the end."""

    def __init__(self, failures: Sequence[RoundFailed]) -> None:
        last, times = failures[-1], len(failures)
        repeated = f" {times} times in a row, at last" if times > 1 else ""
        super().__init__(f"round {last.number} failed{repeated}: {last.reason}{_culprits(failures)}")


def check_replies(round_number: int, phase: str, replied: int, failures: Mapping[int, str], required: int) -> None:
    """Refuse a phase that too few nodes answered: its result would not be the federation's.

    Raises:
        RoundFailed: fewer than required usable replies; the message counts them and gives each node's failure.
    """
    if replied >= required:
        return
    asked = replied + len(failures)
    named = [f"node {node_id}: {reason}" for node_id, reason in sorted(failures.items())[:_MOST_NAMED]]
    if len(failures) > len(named):
        named.append(f"and {len(failures) - len(named)} more")
    counts = f"{replied} of {asked} nodes completed the {phase}, at least {required} must"
    reason = f"{counts} ({'; '.join(named)})" if named else counts
    raise RoundFailed(round_number, phase, reason, failures, asked - required)


def completing(asked: int, share: float, required: int) -> int:
    """Return how many usable replies of so many asked nodes complete a phase."""
    # A share like 0.07 of 100 is a little more than 7 in binary.
    return max(required, math.ceil(round(asked * share, 9)))


def short(text: object, most: int = 200) -> str:
    """Return what a node said on one line of printable characters, cut to so many."""
    words = str(text)[: most + 1]
    line = "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in words)
    return line if len(line) <= most else f"{line[:most]}..."


def _culprits(failures: Sequence[RoundFailed]) -> str:
    """Return which nodes failed again and again, and that none may while all of them are needed; empty for a single round."""
    often = Counter(node_id for failure in failures for node_id in failure.failed)
    again = [(node_id, times) for node_id, times in often.most_common(_MOST_NAMED) if times > 1]
    if not again:
        return ""
    named = ", ".join(f"node {node_id} failed in {times} of these {len(failures)} rounds" for node_id, times in again)
    last = failures[-1]
    if last.spare > 0:
        return f"; {named}"
    key = "min-fit-clients" if last.phase == TRAINING else "min-evaluate-clients"
    return f"; {named}, and no node may fail while {key} is the number of nodes"


def pause(waited_seconds: float) -> float:
    """Return the seconds until the next look: short at first, so that quick rounds stay quick."""
    return min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, waited_seconds / 20))
