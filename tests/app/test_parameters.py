# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the app has of the tables of parameters and strategies is current, and its defaults are those of the parameters."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization
from federation import limits
from scripts import parameters

from .shipped import DEFAULTS, REPOSITORY

PARAMETERS = {p.run_config: p for p in contextualization.PARAMETERS if p.run_config}
OF_THE_APP_ALONE = {"seed", "run-name", "output-directory"}


def test_every_key_of_the_app_is_a_parameter() -> None:
    assert set(DEFAULTS) - OF_THE_APP_ALONE == set(PARAMETERS)


@pytest.mark.parametrize("key", limits.OPTIONS)
def test_the_app_has_the_default_of_what_strategies_take(key: str) -> None:
    assert DEFAULTS[key] == ""


@pytest.mark.parametrize("path", [parameters.PAGE, parameters.LIMITS, parameters.STRATEGIES, parameters.PROJECT, parameters.VARIABLES, parameters.OPTIONS])
def test_what_follows_from_the_table_is_current(path: str) -> None:
    assert (REPOSITORY / path).read_text() == parameters.written(REPOSITORY)[path], "run: make docs"
