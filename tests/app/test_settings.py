# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from federation.settings import STRATEGIES, USE_CASES, Settings, SettingsError

from .shipped import DEFAULTS


def test_the_defaults_are_usable() -> None:
    settings = Settings.from_run_config(DEFAULTS)
    assert (settings.num_server_rounds, settings.strategy, settings.use_case) == (3, "FedAvg", "digits")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num-server-rounds", 0),
        ("num-server-rounds", "3"),
        ("num-server-rounds", 2.5),
        ("min-fit-clients", True),
        ("min-evaluate-clients", -1),
        ("min-available-clients", 0),
        ("round-timeout", 0),
        ("nodes-timeout", "soon"),
        ("nodes-timeout", float("nan")),
        ("seed", -1),
        ("strategy", "fedavg"),
        ("use-case", ""),
    ],
)
def test_a_bad_value_is_named(key: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({**DEFAULTS, key: value})
    assert key in str(caught.value)
    assert repr(value) in str(caught.value)


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match="num-server-rounds.*; .*strategy"):
        Settings.from_run_config({**DEFAULTS, "num-server-rounds": 0, "strategy": "FedMagic"})


@pytest.mark.parametrize("key", ["min-fit-clients", "min-evaluate-clients"])
def test_a_minimum_above_the_available_nodes_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match=rf"{key} \(3\).*min-available-clients \(2\)"):
        Settings.from_run_config({**DEFAULTS, key: 3})


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=", ".join(STRATEGIES)):
        Settings.from_run_config({**DEFAULTS, "strategy": "FedMagic"})
    with pytest.raises(SettingsError, match=", ".join(USE_CASES)):
        Settings.from_run_config({**DEFAULTS, "use-case": "crystal-ball"})
