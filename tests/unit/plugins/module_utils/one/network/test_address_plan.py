# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which address ranges a virtual network gets, changes and loses."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.network.address_plan import HoldPlan, RangePlan, lease_of, new_range, read_lease
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException

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


@pytest.mark.parametrize(
    "desired",
    [
        {"IP": "010.000.000.010", "SIZE": "5.0", "MAC": "02:00:0A:00:00:0A"}, {"IP": "10.0.0.10/32", "MAC": "2:0:a:0:0:a"},
        {"MAC": "02-00-00-00-00-01", "SIZE": 2}, {"MAC": "0200.0000.0001"},
    ],
)
def test_a_range_is_known_by_its_address_however_it_is_written(desired: dict):
    plan = RangePlan(THERE, [desired], replace=False)
    assert (plan.added, plan.changed, plan.removed) == ([], [], [])


def test_the_words_of_the_server_stay_where_they_mean_the_same():
    there = [{"AR_ID": "0", "TYPE": "IP6", "GLOBAL_PREFIX": "2001:0DB8::", "MAC": "02:00:00:00:00:01", "SIZE": "4"}]
    assert RangePlan(there, [{"GLOBAL_PREFIX": "2001:db8:0::", "SIZE": 4}], replace=False).changed == []
    changed = RangePlan(there, [{"GLOBAL_PREFIX": "2001:db8:0::", "SIZE": 5}], replace=False).changed
    assert [(item["GLOBAL_PREFIX"], item["SIZE"]) for item in changed] == [("2001:0DB8::", "5")]


@pytest.mark.parametrize("desired", [{"IP": "10.0.0.256"}, {"MAC": "02:00:00:00:00"}, {"IP": "10.0.0.10", "SIZE": "many"}, {"IP": 10.5}])
def test_a_range_with_something_else_than_an_address_is_refused(desired: dict):
    with pytest.raises(OneException, match="of an address range: "):
        RangePlan(THERE, [desired], replace=False)


@pytest.mark.parametrize(("desired", "said"), [
    ({"IP": "10.0.0.5", "TYPE": "IP9"}, "TYPE of an address range: 'IP9' is none, expected one of IP4, IP6, IP6_STATIC, IP4_6, IP4_6_STATIC, ETHER."),
    ({"IP": "10.0.0.5", "TYPE": ["IP4"]}, "TYPE of an address range: ['IP4'] is none"),
    ({"IP6": "fd00::5"}, "of type IP4 cannot have IP6, which takes the TYPE IP6_STATIC or IP4_6_STATIC."),
    ({"IP": "10.0.0.5", "GLOBAL_PREFIX": "fd00::"}, "of type IP4 cannot have GLOBAL_PREFIX, which takes the TYPE IP6 or IP4_6."),
    ({"IP": "10.0.0.5", "TYPE": "ether"}, "of type ETHER cannot have IP, which takes the TYPE IP4 or"),
    ({"TYPE": "IP6_STATIC", "IP6": "fd00::5", "PREFIX_LENGTH": 129}, "PREFIX_LENGTH of an address range: 129 is out of range"),
    ({"TYPE": "ETHER", "SHARED": True}, "cannot have SHARED, which takes the TYPE IP4 or IP6_STATIC."),
    ({"TYPE": "ip4"}, "of type IP4 needs IP or the TYPE ETHER."),
])
def test_a_range_that_the_server_cannot_make_is_refused(desired: dict, said: str):
    with pytest.raises(OneException) as caught:
        new_range({"SIZE": 5, **desired})
    assert (caught.value.kind, said in caught.value.message) == ("invalid", True), caught.value.message


@pytest.mark.parametrize("desired", [{"IP": "10.0.0.10", "TYPE": "ip4"}, {"MAC": "02:00:00:00:00:01", "TYPE": "ether"}, {"TYPE": "Ip4"}])
def test_a_type_is_the_same_in_small_letters(desired: dict):
    plan = RangePlan(THERE, [desired], replace=False)
    assert (plan.added, plan.changed, plan.removed) == ([], [], [])
    assert new_range({"TYPE": "ether", "SIZE": 1})["TYPE"] == "ETHER"


@pytest.mark.parametrize(("desired", "said"), [
    ({"MAC": "02:00:0a:00:00:0a", "TYPE": "ETHER"}, "Address range 0 has TYPE IP4, which cannot become ETHER"),
    ({"IP": "10.0.0.10", "MAC": "02:00:0a:00:00:0b"}, "Address range 0 has MAC 02:00:0a:00:00:0a, which cannot become 02:00:0a:00:00:0b"),
    ({"IP": "10.0.0.10", "SHARED": True}, "Address range 0 has SHARED NO, which cannot become YES"),
    ({"IP": "10.0.0.10", "ULA_PREFIX": "fd00::"}, "of type IP4 cannot have ULA_PREFIX"),
])
def test_what_the_server_decides_once_is_no_change_of_every_run(desired: dict, said: str):
    with pytest.raises(OneException) as caught:
        RangePlan(THERE, [desired], replace=False)
    assert said in caught.value.message


def test_an_address_on_hold_is_held_however_it_is_written():
    lease = {"IP": "10.0.0.11", "IP6": "fd00::b", "MAC": "02:00:0a:00:00:0b", "VM": "-1"}
    network = {"NAME": "private", "AR_POOL": {"AR": {"AR_ID": "0", "IP": "10.0.0.10", "SIZE": "5", "LEASES": {"LEASE": lease}}}}
    for written in ("10.0.0.11/32", "010.0.0.011", "FD00:0::B", "02-00-0A-00-00-0B"):
        plan = HoldPlan(network, [written], replace=True)
        assert (plan.held, plan.released, plan.after) == ([], [], plan.before)
    assert HoldPlan(network, ["10.0.0.12", "010.0.0.12"], replace=False).held == [{"IP": "10.0.0.12"}]


@pytest.mark.parametrize(
    ("written", "lease"),
    [
        ("10.0.0.5", {"IP": "10.0.0.5"}), ("FD00::0:5", {"IP6": "fd00::5"}), ("1:2:3::4:5:6", {"IP6": "1:2:3::4:5:6"}),
        ("2:0:0:0:0:A", {"MAC": "02:00:00:00:00:0a"}),
    ],
)
def test_an_address_has_the_name_of_its_kind(written: str, lease: dict):
    assert lease_of(read_lease(written, "held")) == lease
