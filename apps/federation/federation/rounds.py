# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""When a round counts, and how long the run waits. No Flower in here."""

from __future__ import annotations

from collections.abc import Mapping

TRAINING = "training"
EVALUATION = "evaluation"

_SHORTEST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0


class NotEnoughNodes(RuntimeError):
    """Too few nodes connected in time."""

    def __init__(self, connected: int, required: int, waited_seconds: float) -> None:
        super().__init__(f"waited {waited_seconds:.0f} s for nodes: {connected} connected, {required} needed")


class RoundFailed(RuntimeError):
    """A phase (training or evaluation) of a round has no result that could count as the federation's."""

    def __init__(self, number: int, phase: str, reason: str) -> None:
        super().__init__(f"round {number}: {reason}")
        self.number = number
        self.phase = phase
        self.reason = reason


class TooManyFailedRounds(RuntimeError):
    """So many rounds failed one after the other that the run is given up."""

    def __init__(self, in_a_row: int, last: RoundFailed) -> None:
        repeated = f" {in_a_row} times in a row, at last" if in_a_row > 1 else ""
        super().__init__(f"round {last.number} failed{repeated}: {last.reason}")


def check_replies(round_number: int, phase: str, replied: int, failures: Mapping[int, str], required: int) -> None:
    """Refuse a phase that too few nodes answered: its result would not be the federation's.

    Raises:
        RoundFailed: fewer than required usable replies; the message counts them and gives each node's failure.
    """
    if replied >= required:
        return
    asked = replied + len(failures)
    reasons = "; ".join(f"node {node_id}: {reason}" for node_id, reason in sorted(failures.items()))
    counts = f"{replied} of {asked} nodes completed the {phase}, at least {required} must"
    raise RoundFailed(round_number, phase, f"{counts} ({reasons})" if reasons else counts)


def pause(waited_seconds: float) -> float:
    """Return the seconds until the next look: short at first, so that quick rounds stay quick."""
    return min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, waited_seconds / 20))
