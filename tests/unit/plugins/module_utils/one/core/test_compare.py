# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What counts as a difference between a wanted template and the one that is there."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.compare import difference, update, wanted_template

THERE = {"CPU": "0.50", "MEMORY": "128", "CONTEXT": {"A": "1", "TOKEN": "YES"}, "NIC": {"NETWORK": "private"}, "NOTE": "one\ntwo\nthree"}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"memory": 128, "cpu": 0.5},
        {"CONTEXT": {"token": True}},
        {"CONTEXT": {"TOKEN": "YES ", "A": 1}},
        {"NIC": [{"NETWORK": "private"}]},
        {"DISK": []},
        {"NOTE": "one\r\ntwo\rthree"},
    ],
)
def test_the_same_meaning_is_no_change(wanted):
    assert wanted_template(THERE, wanted) == THERE


def test_a_text_that_looks_like_a_number_is_not_rounded():
    assert wanted_template({"FLOWER_VERSION": "1.1"}, {"FLOWER_VERSION": "1.10"}) == {"FLOWER_VERSION": "1.10"}


def test_merging_keeps_what_is_not_named_at_every_level():
    assert wanted_template(THERE, {"CONTEXT": {"B": 2}, "VCPU": 1}) == {
        **THERE, "CONTEXT": {"A": "1", "TOKEN": "YES", "B": "2"}, "VCPU": "1",
    }


def test_replacing_keeps_only_what_is_named_or_belongs_to_the_server():
    assert wanted_template(THERE, {"CONTEXT": {"A": 1}}, replace=True, keep={"NIC"}) == {
        "CONTEXT": {"A": "1"}, "NIC": {"NETWORK": "private"},
    }


def test_repeated_attributes_are_taken_as_a_whole():
    there = {"DISK": [{"IMAGE": "a", "SIZE": "1"}, {"IMAGE": "b"}]}
    assert wanted_template(there, {"DISK": [{"IMAGE": "a"}]}) == {"DISK": {"IMAGE": "a"}}
    assert there == {"DISK": [{"IMAGE": "a", "SIZE": "1"}, {"IMAGE": "b"}]}


def test_an_update_merges_what_changed_unless_something_has_to_go():
    assert update({"A": "1", "B": "2"}, {"A": "1", "B": "3"}) == ({"B": "3"}, 1)
    assert update({"A": "1", "B": "2"}, {"A": "1"}) == ({"A": "1"}, 0)


def test_the_difference_shows_exactly_what_changes():
    before = {"name": "x", "template": {"A": "1", "V": {"K": "1", "L": "2"}}}
    after = {"name": "x", "template": {"A": "1", "V": {"K": "1", "L": "3"}, "N": "4"}}
    assert difference(before, after) == ({"template": {"V": {"L": "2"}}}, {"template": {"V": {"L": "3"}, "N": "4"}})
