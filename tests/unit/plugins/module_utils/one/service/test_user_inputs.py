# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""User inputs: every declared one gets a value, every bad one is named."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.service.user_inputs import secrets, values
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException

DECLARED = {"ROUNDS": "O|number|Rounds of a run||3", "STRATEGY": "M|list|How to combine|FedAvg,FedProx|FedAvg"}


def test_defaults_are_filled_in_for_what_is_not_given():
    assert values(DECLARED, {"ROUNDS": 10}, "service") == {"ROUNDS": "10", "STRATEGY": "FedAvg"}


def test_a_default_may_contain_bars_and_a_declaration_may_be_short():
    assert values({"A": "O|text|x| |a|b", "B": "O|text|x"}, {}, "service") == {"A": "a|b", "B": ""}


@pytest.mark.parametrize(
    ("declaration", "good", "bad", "expected"),
    [
        ("O|number|x||", "-7", "1.5", "a whole number"),
        ("O|number-float|x||", "1e-3", "one", "a number"),
        ("O|range|x|1..10|", "10", "11", "between 1 and 10"),
        ("O|range|x|1..10|", "1", "1.5", "between 1 and 10"),
        ("O|range-float|x|0..1|", "0.5", "nan", "between 0 and 1"),
        ("O|boolean|x||", True, "maybe", "YES or NO"),
        ("O|list|x|FedAvg, FedProx|", "FedProx", "7", "one of FedAvg, FedProx"),
        ("O|list-multiple|x|a,b,c|", "a,c", "a,d", "some of a, b, c"),
        ("O|fixed|x||only", "only", "other", "the fixed value 'only'"),
        ("O|text|x||", "anything, at [all]", None, ""),
    ],
)
def test_a_value_must_be_of_the_declared_type(declaration, good, bad, expected):
    values({"A": declaration}, {"A": good}, "service")
    if bad is not None:
        with pytest.raises(OneException) as caught:
            values({"A": declaration}, {"A": bad}, "service 'x'")
        assert caught.value.message == f"User inputs of service 'x': A is {bad!r}, it must be {expected}."


@pytest.mark.parametrize(("given", "kept"), [(True, "YES"), ("yes", "YES"), ("True", "YES"), ("on", "YES"), (0, "NO"), ("no", "NO"), ("", "")])
def test_a_boolean_is_kept_in_the_only_words_there_are(given, kept):
    assert values({"A": "O|boolean|x||"}, {"A": given}, "service") == {"A": kept}


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(OneException) as caught:
        values({**DECLARED, "PLACE": "M|text|Where||"}, {"ROUNDS": "x", "GHOST": 1}, "role 'a'")
    assert caught.value.kind == "invalid"
    for part in ("GHOST is not declared", "ROUNDS is 'x'", "PLACE is mandatory and has no value"):
        assert part in caught.value.message


@pytest.mark.parametrize(("value", "kind"), [({"x": 1}, "dictionary"), (["x"], "list")])
def test_a_value_is_a_single_one(value, kind):
    with pytest.raises(OneException) as caught:
        values({"A": "M|password|x"}, {"A": value}, "service 'x'")
    assert caught.value.message == f"User inputs of service 'x': A is a {kind}, it must be a single value."


@pytest.mark.parametrize("first", ["0", "O", "o", "", " O "])
def test_what_is_not_mandatory_is_optional_as_in_opennebulas_own_tools(first):
    assert values({"A": f"{first}|boolean|x||"}, {}, "service") == {"A": ""}
    with pytest.raises(OneException):
        values({"A": f"{first}|boolean|x||"}, {"A": "maybe"}, "service")


def test_what_a_template_has_already_goes_before_the_default_and_is_looked_at_as_well():
    assert values(DECLARED, {}, "service", {"ROUNDS": "5"})["ROUNDS"] == "5"
    assert values(DECLARED, {"ROUNDS": 7}, "service", {"ROUNDS": "5"})["ROUNDS"] == "7"
    with pytest.raises(OneException) as caught:
        values(DECLARED, {}, "service", {"STRATEGY": "Magic"})
    assert "STRATEGY is 'Magic', it must be one of FedAvg, FedProx" in caught.value.message


@pytest.mark.parametrize("value", ["a]]>b", "bell\x07", "half \ud800"])
def test_a_value_that_opennebula_cannot_store_is_refused(value):
    with pytest.raises(OneException) as caught:
        values({"A": "O|text|x||"}, {"A": value}, "service")
    assert "which OpenNebula cannot store" in caught.value.message


@pytest.mark.parametrize("options", ["1-9", "a..b", "1..", ""])
def test_a_range_that_is_none_bounds_nothing(options):
    assert values({"A": f"O|range|x|{options}|"}, {"A": "77"}, "service") == {"A": "77"}


def test_a_declaration_of_another_form_is_named():
    with pytest.raises(OneException) as caught:
        values({"A": "text"}, {}, "service")
    assert "User input A is declared as 'text'" in caught.value.message


def test_only_the_values_of_passwords_are_secrets():
    assert secrets({"A": "O|password|x||", "B": "O|text|x||"}, {"A": "hidden", "B": "seen"}) == ["hidden"]
    assert secrets({"A": "O| password |x||", "B": "O|text|the |password| to show||"}, {"A": "hidden", "B": "seen"}) == ["hidden"]
