# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which samples of a demonstration data set a node trains on, and which nobody trains on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

HELD_OUT_SHARE = 0.2


class Partition(NamedTuple):
    """Sample numbers of one node."""

    train: list[int]
    test: list[int]


def split(samples: int, partition_id: int, num_partitions: int, seed: int) -> Partition:
    """Return the samples of one of num_partitions nodes.

    The held-out samples depend on the seed alone, so none of them is ever trained on, even when the number of nodes
    changes during a run. The nodes together evaluate on exactly the held-out samples, each on its share.

    Raises:
        ValueError: there is no such partition, or a node would get no samples.
    """
    held_out = int(samples * HELD_OUT_SHARE)
    if not 0 <= partition_id < num_partitions:
        raise ValueError(f"there is no partition {partition_id} of {num_partitions}")
    if num_partitions > held_out:
        raise ValueError(f"{samples} samples are too few for {num_partitions} partitions")
    order = list(range(samples))
    random.Random(seed).shuffle(order)
    return Partition(
        train=order[held_out:][partition_id::num_partitions],
        test=order[:held_out][partition_id::num_partitions],
    )


def assign(node_ids: Iterable[int]) -> dict[int, int]:
    """Number the connected nodes: node id -> partition id."""
    return {node_id: number for number, node_id in enumerate(sorted(node_ids))}
