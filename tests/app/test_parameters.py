# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The app and the contextualization agree on keys, limits, defaults and on who heeds what."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization, strategies
from federation import catalogue

from .shipped import DEFAULTS

PARAMETERS = {p.run_config: p for p in contextualization.PARAMETERS if p.run_config}
OF_THE_APP_ALONE = {"seed", "run-name", "output-directory"}
BOUNDS = ("minimum", "maximum", "above", "below")


def test_every_key_of_the_app_is_a_parameter() -> None:
    assert set(DEFAULTS) - OF_THE_APP_ALONE == set(PARAMETERS)


@pytest.mark.parametrize("key", sorted(set(PARAMETERS) - set(catalogue.OPTIONS) - {"use-case"}))
def test_defaults_are_the_same(key: str) -> None:
    assert PARAMETERS[key].typed_default == DEFAULTS[key]


@pytest.mark.parametrize("key", catalogue.OPTIONS)
def test_limits_are_the_same(key: str) -> None:
    limits, parameter = catalogue.OPTIONS[key], PARAMETERS[key]
    assert [getattr(limits, bound) for bound in BOUNDS] == [getattr(parameter.limits, bound) for bound in BOUNDS]
    assert limits.whole is (parameter.kind == "number")


@pytest.mark.parametrize("key", catalogue.OPTIONS)
def test_a_parameter_has_an_effect_with_the_same_strategies_and_the_same_default(key: str) -> None:
    other, names = PARAMETERS[key].only_with
    choices = {name: strategy.options for name, strategy in catalogue.STRATEGIES.items()} if other == "FL_STRATEGY" else catalogue.PRIVACY
    defaults = {name: option.default for name, options in choices.items() for option in options if option.key == key}
    assert set(names) == set(defaults)
    # One that differs by strategy, or is computed, is left to the app.
    common = defaults[names[0]] if len(set(defaults.values())) == 1 else None
    assert PARAMETERS[key].typed_default == common
    assert DEFAULTS[key] == ""


def test_both_know_the_same_strategies_and_how_many_nodes_they_need() -> None:
    assert tuple(catalogue.STRATEGIES) == strategies.STRATEGIES
    assert tuple(catalogue.PRIVACY) == strategies.PRIVACY
    for name, strategy in catalogue.STRATEGIES.items():
        each, more = strategies.FEWEST_NODES.get(name, (0, 0))
        for malicious in range(4):
            assert (strategy.fewest_nodes(malicious) if strategy.fewest_nodes else 0) == each * malicious + more
    assert tuple(name for name, strategy in catalogue.STRATEGIES.items() if strategy.plain_mean) == strategies.PLAIN_MEAN
