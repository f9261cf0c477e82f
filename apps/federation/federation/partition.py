# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which samples of a demonstration data set a node trains on, and which nobody trains on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

HELD_OUT_SHARE = 0.2


class Partition(NamedTuple):
    """Sample numbers of one node."""

    train: list[int]
    test: list[int]


def split(samples: int, partition_id: int, num_partitions: int, seed: int, labels: Sequence[int] = (), alpha: float = 0.0) -> Partition:
    """Return the samples of one of num_partitions nodes.

    The held-out samples depend on the seed alone, so none of them is ever trained on, even when the number of nodes
    changes during a run. The nodes together evaluate on exactly the held-out samples, each on its share.

    With an alpha above 0, which needs the label of every sample, the samples of each label go to the nodes in shares
    drawn from a Dirichlet distribution: about one node for each label near 0, even shares with a large one.

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
    train = order[held_out:]
    mine = _skewed(train, labels, num_partitions, seed, alpha)[partition_id] if alpha > 0 else train[partition_id::num_partitions]
    return Partition(train=mine, test=order[:held_out][partition_id::num_partitions])


def _skewed(train: list[int], labels: Sequence[int], num_partitions: int, seed: int, alpha: float) -> list[list[int]]:
    """Return the samples of every node. One that would get none takes half of the largest partition."""
    generator = np.random.default_rng(seed)
    partitions: list[list[int]] = [[] for _ in range(num_partitions)]
    for label in sorted({labels[sample] for sample in train}):
        of_label = [sample for sample in train if labels[sample] == label]
        # A tiny alpha underflows to shares that are not numbers; it means one node for each label.
        shares = np.nan_to_num(generator.dirichlet([max(alpha, 1e-3)] * num_partitions))
        bounds = (np.cumsum(shares)[:-1] * len(of_label)).round().astype(int)
        for partition, part in zip(partitions, np.split(of_label, bounds), strict=True):
            partition.extend(part.tolist())
    for number, partition in enumerate(partitions):
        if not partition:
            largest = max(partitions, key=len)
            middle = len(largest) // 2
            partitions[number], largest[middle:] = largest[middle:], []
    return partitions


def assign(node_ids: Iterable[int]) -> dict[int, int]:
    """Number the connected nodes: node id -> partition id."""
    return {node_id: number for number, node_id in enumerate(sorted(node_ids))}
