# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Rules of security groups: which mean the same, and which cannot be."""

from __future__ import annotations

import ipaddress
import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.one.security.rules import by_meaning, check
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException

# How long it takes says more about the machine than about the rules.
LEAN = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PORTS = st.lists(
    st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda pair: tuple(sorted(pair))), min_size=1, max_size=5
)
ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address), st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
)
TARGETS = st.one_of(
    st.just({}), st.integers(0, 99).map(lambda number: {"NETWORK_ID": number}),
    st.tuples(ADDRESSES, st.integers(1, 9999)).map(lambda pair: {"IP": pair[0], "SIZE": pair[1]}),
)
KINDS = st.one_of(
    st.sampled_from([{"PROTOCOL": name} for name in ("ALL", "IPSEC", "TCP", "UDP", "ICMP", "ICMPV6")]),
    st.tuples(st.sampled_from(["TCP", "UDP"]), PORTS).map(lambda pair: {"PROTOCOL": pair[0], "RANGE": pair[1]}),
    st.integers(0, 255).map(lambda number: {"PROTOCOL": "ICMP", "ICMP_TYPE": number}),
)
RULES = st.builds(
    lambda direction, kind, target: {"RULE_TYPE": direction, **kind, **target},
    st.sampled_from(["INBOUND", "OUTBOUND"]), KINDS, TARGETS,
)


def plain(rule: dict) -> dict:
    """A rule as the server would write it."""
    ports = [f"{first}:{last}" if last > first else str(first) for first, last in rule.get("RANGE", ())]
    texts = {name: str(value) for name, value in rule.items() if name != "RANGE"}
    return texts | ({"RANGE": ",".join(ports)} if ports else {})


def otherwise(rule: dict, chance: random.Random) -> dict:
    """The same rule, written in another way."""
    written = dict(rule)
    if "RANGE" in rule:
        ports = [f" {first}:{last} " if last > first else chance.choice([first, f"{first}:{first}"]) for first, last in rule["RANGE"]]
        chance.shuffle(ports)
        written["RANGE"] = ", ".join(map(str, [*ports, ports[0]]))
    if "IP" in rule:
        written["IP"] = rule["IP"].exploded.upper()
    for name in ("RULE_TYPE", "PROTOCOL"):
        written[name] = chance.choice([str.lower, str.upper, str.title])(written[name])
    items = [(chance.choice([str.lower, str.upper])(name), value) for name, value in written.items()]
    chance.shuffle(items)
    return dict(items) | {"icmp_type" if rule["PROTOCOL"] != "ICMP" else "range": ""}


@settings(LEAN)
@given(st.lists(RULES, max_size=6), st.randoms())
def test_rules_written_in_another_way_and_order_mean_the_same(rules, chance):
    others = [otherwise(rule, chance) for rule in (*rules, *rules[:2])]
    chance.shuffle(others)
    assert by_meaning(others) == by_meaning([plain(rule) for rule in rules])


@settings(LEAN)
@given(RULES, RULES)
@example({"RULE_TYPE": "INBOUND", "PROTOCOL": "ICMP", "NETWORK_ID": 0}, {"RULE_TYPE": "INBOUND", "PROTOCOL": "ICMP", "ICMP_TYPE": 0})
def test_rules_that_differ_do_not_mean_the_same(first, second):
    one, other = plain(first), plain(second)
    same = {**first, "RANGE": set(first.get("RANGE", ()))} == {**second, "RANGE": set(second.get("RANGE", ()))}
    assert (len(by_meaning([one, other])) == 1) == same


@settings(LEAN)
@given(RULES)
def test_every_rule_that_can_be_is_taken_as_it_is_and_as_it_is_compared(rule):
    check(plain(rule))
    for normal in by_meaning([plain(rule)]).values():
        check(normal)


def test_a_rule_that_cannot_be_is_named_with_what_is_wrong():
    with pytest.raises(OneException) as caught:
        check({"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "22-80"})
    assert caught.value.message == (
        "Security rule [RULE_TYPE=INBOUND, PROTOCOL=TCP, RANGE=22-80] has RANGE '22-80'; "
        "it takes ports and ranges such as 22,80:90."
    )
