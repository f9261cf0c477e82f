# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which address ranges a virtual network gets, changes and loses."""

from __future__ import annotations

from ansible_collections.opennebula.flower.plugins.module_utils.one.address_plans import RangePlan

THERE = [
    {"AR_ID": "0", "TYPE": "IP4", "IP": "10.0.0.10", "MAC": "02:00:0a:00:00:0a", "SIZE": "5", "USED_LEASES": "2", "LEASES": ""},
    {"AR_ID": "3", "TYPE": "ETHER", "MAC": "02:00:00:00:00:01", "SIZE": "2", "USED_LEASES": "0"},
]


def test_the_ranges_that_are_there_need_nothing_in_any_order():
    plan = RangePlan(THERE, [{"mac": "02:00:00:00:00:01", "size": 2}, {"IP": "10.0.0.10", "SIZE": "5"}], replace=True)
    assert (plan.added, plan.changed, plan.removed) == ([], [], [])
    assert [item["SIZE"] for item in plan.result] == ["5", "2"]


def test_another_size_changes_the_range_with_the_same_first_address():
    plan = RangePlan(THERE, [{"IP": "10.0.0.10", "SIZE": 8}], replace=False)
    assert plan.changed == [{"AR_ID": "0", "TYPE": "IP4", "IP": "10.0.0.10", "MAC": "02:00:0a:00:00:0a", "SIZE": "8"}]
    assert (plan.added, plan.removed) == ([], [])


def test_another_first_address_is_another_range():
    plan = RangePlan(THERE, [{"IP": "10.0.0.100", "SIZE": 8}], replace=False)
    assert plan.added == [{"TYPE": "IP4", "IP": "10.0.0.100", "SIZE": "8"}]
    assert (plan.changed, plan.removed) == ([], [])


def test_a_range_without_any_address_is_recognized_by_its_place():
    plan = RangePlan(THERE, [{"SIZE": 5}, {"SIZE": 3}], replace=False)
    assert plan.changed == [{"AR_ID": "3", "TYPE": "ETHER", "MAC": "02:00:00:00:00:01", "SIZE": "3"}]
    assert plan.added == []


def test_what_is_not_named_goes_only_when_asked():
    assert RangePlan(THERE, [{"IP": "10.0.0.10"}], replace=False).removed == []
    assert RangePlan(THERE, [{"IP": "10.0.0.10"}], replace=True).removed == [3]
    assert RangePlan(THERE, None, replace=True).removed == []
