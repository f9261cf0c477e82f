# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the app has of the table of parameters is current, and both agree on who heeds what."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization
from ansible_collections.opennebula.flower.plugins.module_utils.flower import strategies
from federation import catalogue, limits
from scripts import parameters

from .shipped import DEFAULTS, REPOSITORY

PARAMETERS = {p.run_config: p for p in contextualization.PARAMETERS if p.run_config}
OF_THE_APP_ALONE = {"seed", "run-name", "output-directory"}


def test_every_key_of_the_app_is_a_parameter() -> None:
    assert set(DEFAULTS) - OF_THE_APP_ALONE == set(PARAMETERS)


@pytest.mark.parametrize("key", limits.OPTIONS)
def test_a_parameter_has_an_effect_with_the_same_strategies_and_the_same_default(key: str) -> None:
    other, names = PARAMETERS[key].only_with
    choices = {name: strategy.options for name, strategy in catalogue.STRATEGIES.items()} if other == "FL_STRATEGY" else catalogue.PRIVACY
    defaults = {name: option.default for name, options in choices.items() for option in options if option.key == key}
    assert set(names) == set(defaults)
    # One that differs by strategy, or is computed, is left to the app.
    common = defaults[names[0]] if len(set(defaults.values())) == 1 else None
    assert PARAMETERS[key].typed_default == common
    assert DEFAULTS[key] == ""


@pytest.mark.parametrize("path", [parameters.PAGE, parameters.LIMITS, parameters.PROJECT, parameters.VARIABLES, parameters.OPTIONS])
def test_what_follows_from_the_table_is_current(path: str) -> None:
    assert (REPOSITORY / path).read_text() == parameters.written(REPOSITORY)[path], "run: make docs"


def test_both_know_the_same_strategies() -> None:
    assert tuple(catalogue.STRATEGIES) == strategies.STRATEGIES
    assert tuple(catalogue.PRIVACY) == strategies.PRIVACY
    assert set(strategies.FEWEST_NODES) == {name for name, strategy in catalogue.STRATEGIES.items() if strategy.fewest_nodes}
