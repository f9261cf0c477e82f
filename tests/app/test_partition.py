# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest

from federation.partition import Partition, assign, split

SAMPLES = 1797


@pytest.mark.parametrize("nodes", [1, 2, 3, 10])
def test_partitions_are_disjoint_and_cover_everything(nodes: int) -> None:
    partitions = [split(SAMPLES, number, nodes, seed=42) for number in range(nodes)]
    used = [sample for partition in partitions for sample in (*partition.train, *partition.test)]
    assert sorted(used) == list(range(SAMPLES))


def test_held_out_samples_are_never_trained_on_whatever_the_number_of_nodes() -> None:
    held_out = set(split(SAMPLES, 0, 1, seed=42).test)
    assert len(held_out) == 359
    for nodes in (2, 3, 7):
        partitions = [split(SAMPLES, number, nodes, seed=42) for number in range(nodes)]
        assert {sample for partition in partitions for sample in partition.test} == held_out
        assert not held_out.intersection(sample for partition in partitions for sample in partition.train)


def test_partitions_are_of_even_size() -> None:
    sizes = [len(split(SAMPLES, number, 10, seed=42).train) for number in range(10)]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_decides() -> None:
    assert split(SAMPLES, 0, 2, seed=42) == split(SAMPLES, 0, 2, seed=42)
    assert split(SAMPLES, 0, 2, seed=42) != split(SAMPLES, 0, 2, seed=43)


@pytest.mark.parametrize(("number", "nodes"), [(2, 2), (-1, 2), (0, 400)])
def test_an_impossible_partition_is_refused(number: int, nodes: int) -> None:
    with pytest.raises(ValueError, match="partition"):
        split(SAMPLES, number, nodes, seed=42)


LABELS = [sample % 10 for sample in range(SAMPLES)]


def skewed(nodes: int, alpha: float, seed: int = 42) -> list[Partition]:
    return [split(SAMPLES, number, nodes, seed, LABELS, alpha) for number in range(nodes)]


@pytest.mark.parametrize("alpha", [1e-9, 0.1, 1.0, 100.0])
def test_skewed_partitions_are_disjoint_cover_everything_and_leave_the_held_out_samples_alone(alpha: float) -> None:
    for nodes in (1, 3, 25):
        partitions = skewed(nodes, alpha)
        trained = [sample for partition in partitions for sample in partition.train]
        assert all(partition.train for partition in partitions)
        assert sorted(trained) == sorted(split(SAMPLES, 0, 1, seed=42).train)
        assert [partition.test for partition in partitions] == [split(SAMPLES, number, nodes, seed=42).test for number in range(nodes)]


def test_the_smaller_alpha_the_fewer_labels_on_a_node() -> None:
    def largest_share(alpha: float) -> float:
        """Of one label among the samples of a node, on average."""
        mixes = [Counter(LABELS[sample] for sample in partition.train) for partition in skewed(5, alpha)]
        return sum(max(mix.values()) / mix.total() for mix in mixes) / len(mixes)

    assert largest_share(1e-3) > largest_share(0.1) > largest_share(1.0) > largest_share(100.0)
    assert largest_share(1e-3) > 0.4
    assert largest_share(100.0) < 0.2


def test_the_seed_decides_about_the_skew_as_well() -> None:
    assert skewed(3, 0.5) == skewed(3, 0.5)
    assert skewed(3, 0.5) != skewed(3, 0.5, seed=43)


def test_nodes_get_distinct_partitions_in_the_order_of_their_ids() -> None:
    assert assign([2**63 + 5, 7, 12]) == {7: 0, 12: 1, 2**63 + 5: 2}
