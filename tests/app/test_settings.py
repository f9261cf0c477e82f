# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from federation.catalogue import client_rate
from federation.settings import USE_CASES, Settings, SettingsError, lasting
from federation.strategy_table import PRIVACY, STRATEGIES

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
        ("fraction-fit", 0),
        ("fraction-evaluate", 1.1),
        ("partition-alpha", -0.1),
        ("proximal-mu", -1),
        ("server-lr", 0),
        ("client-lr", "0.1"),
        ("server-momentum", 1),
        ("beta-1", 1.0),
        ("beta-2", -0.1),
        ("tau", float("inf")),
        ("num-malicious", 1.0),
        ("nodes-to-select", 0),
        ("trim-beta", 0),
        ("trim-beta", 0.5),
        ("qfed-q", True),
        ("dp-mode", "local"),
        ("dp-noise-multiplier", -1),
        ("dp-clipping-norm", 0),
        ("dp-target-quantile", 1.5),
        ("dp-clip-lr", float("nan")),
        ("dp-count-stddev", 0.0),
        ("max-failed-rounds", 0),
        ("checkpoint-enabled", "true"),
        ("checkpoint-interval", 0),
        ("checkpoint-keep", 0),
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
    with pytest.raises(SettingsError, match=f"{key}: 3 is not valid, expected at most min-available-clients, which is 2"):
        Settings.from_run_config({**DEFAULTS, key: 3})


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=", ".join(STRATEGIES)):
        Settings.from_run_config({**DEFAULTS, "strategy": "FedMagic"})
    with pytest.raises(SettingsError, match=", ".join(USE_CASES)):
        Settings.from_run_config({**DEFAULTS, "use-case": "crystal-ball"})


def settings(**config: object) -> Settings:
    return Settings.from_run_config({**DEFAULTS, **{key.replace("_", "-"): value for key, value in config.items()}})


def nodes(count: int) -> dict[str, int]:
    return {"min_available_clients": count, "min_fit_clients": count}


@pytest.mark.parametrize(
    ("strategy", "malicious", "fewest"),
    [
        ("FedMedian", 1, 3), ("FedMedian", 3, 7), ("Krum", 0, 3), ("Krum", 1, 5), ("Krum", 2, 7), ("MultiKrum", 0, 3), ("MultiKrum", 2, 7),
        ("Bulyan", 0, 3), ("Bulyan", 1, 7), ("Bulyan", 2, 11),
    ],
)
def test_a_strategy_that_tolerates_malicious_nodes_needs_enough_others_in_every_round(strategy: str, malicious: int, fewest: int) -> None:
    settings(strategy=strategy, num_malicious=malicious, **nodes(fewest))
    for too_few in ({**nodes(fewest), "min_fit_clients": fewest - 1}, nodes(fewest - 1)):
        with pytest.raises(SettingsError, match=f"expected at least {fewest} for {strategy} with num-malicious {malicious}"):
            settings(strategy=strategy, num_malicious=malicious, **too_few)


def test_an_empty_number_of_malicious_nodes_is_checked_as_well() -> None:
    with pytest.raises(SettingsError, match="min-fit-clients: 2 is not valid, expected at least 3 for Krum with num-malicious 0"):
        settings(strategy="Krum")


@pytest.mark.parametrize(
    ("share", "malicious", "fewest", "cut"),
    [("", 2, 10, 1), (0.2, 1, 5, 0), (0.25, 2, 8, 1), (0.1, 3, 30, 2), (0.29, 29, 101, 28), (0.49, 1, 3, 0)],
)
def test_fedtrimmedavg_has_to_cut_as_many_values_as_there_are_malicious_nodes(share: float | str, malicious: int, fewest: int, cut: int) -> None:
    settings(strategy="FedTrimmedAvg", num_malicious=malicious, trim_beta=share, **nodes(fewest))
    with pytest.raises(SettingsError, match=f"expected at least {fewest} for FedTrimmedAvg with num-malicious {malicious} .* cuts {cut} of {fewest - 1} "):
        settings(strategy="FedTrimmedAvg", num_malicious=malicious, trim_beta=share, **{**nodes(fewest), "min_fit_clients": fewest - 1})


def test_fedtrimmedavg_passes_the_number_of_malicious_nodes_to_nobody() -> None:
    checked = settings(strategy="FedTrimmedAvg", num_malicious=1, **nodes(5))
    assert checked.strategy_arguments == {"beta": 0.2}
    assert checked.notes == ()


def test_multikrum_selects_no_more_nodes_than_are_honest() -> None:
    settings(strategy="MultiKrum", num_malicious=1, nodes_to_select=4, **nodes(5))
    with pytest.raises(SettingsError, match="nodes-to-select: 5 is not valid, expected at most min-fit-clients less num-malicious, which is 4"):
        settings(strategy="MultiKrum", num_malicious=1, nodes_to_select=5, **nodes(5))


def test_too_little_noise_on_the_count_is_refused_before_flower_does() -> None:
    settings(dp_mode="adaptive", dp_noise_multiplier=1.0, dp_count_stddev=0.6)
    with pytest.raises(SettingsError, match=r"dp-noise-multiplier: 1 is not valid, expected less than twice dp-count-stddev, which is 0\.5"):
        settings(dp_mode="adaptive", dp_noise_multiplier=1.0, dp_count_stddev=0.5)


@pytest.mark.parametrize("mode", PRIVACY)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_defaults_are_usable_for_every_strategy_and_privacy(strategy: str, mode: str) -> None:
    settings(strategy=strategy, dp_mode=mode, **nodes(3))


@pytest.mark.parametrize(("strategy", "rate"), [("FedAdam", 0.1), ("FedYogi", 0.01), ("FedAdagrad", 0.1)])
def test_an_empty_value_is_the_default_of_the_strategy(strategy: str, rate: float) -> None:
    assert settings(strategy=strategy).strategy_arguments["eta"] == rate
    assert settings(strategy=strategy, server_lr=0.5).strategy_arguments["eta"] == 0.5


def test_parameters_of_other_strategies_are_named_and_ignored() -> None:
    checked = settings(strategy="FedProx", proximal_mu=0.5, trim_beta=0.1, dp_clip_lr=1)
    assert checked.notes == ("trim-beta is ignored: the strategy is FedProx", "dp-clip-lr is ignored: dp-mode is none")
    assert checked.strategy_arguments == {"proximal_mu": 0.5}
    assert checked.privacy_arguments == {}


def test_parameters_of_other_strategies_are_checked_all_the_same() -> None:
    with pytest.raises(SettingsError, match="trim-beta must be a number of at least 0.001 and below 0.5"):
        settings(strategy="FedAvg", trim_beta=0.7)


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"strategy": "FedProx", "proximal_mu": 0}, "proximal-mu is 0: FedProx is FedAvg then"),
        ({"strategy": "FedAvgM"}, "FedAvgM is FedAvg then"),
        ({"strategy": "MultiKrum", **nodes(3)}, "MultiKrum is Krum then"),
        ({"strategy": "FedTrimmedAvg", **nodes(4)}, "with 4 nodes FedTrimmedAvg cuts nothing"),
        ({"strategy": "FedMedian"}, "the median of 2 nodes is their mean"),
        ({"strategy": "FedAdam", "dp_mode": "fixed"}, "holds for FedAvg and FedProx"),
        ({"dp_mode": "fixed", "dp_noise_multiplier": 0}, "nothing is private"),
    ],
)
def test_what_looks_unwise_is_noted(config: dict[str, object], note: str) -> None:
    (found,) = settings(**config).notes
    assert found.endswith(note)


@pytest.mark.parametrize(
    "config", [{"strategy": "FedTrimmedAvg", **nodes(5)}, {"strategy": "FedAvgM", "server_momentum": 0.9}, {"dp_mode": "adaptive"}, {"strategy": "FedProx"}]
)
def test_what_is_all_right_is_not_noted(config: dict[str, object]) -> None:
    assert settings(**config).notes == ()


@pytest.mark.parametrize("name", ["", "../other", "a/b", ".hidden", "x" * 65])
def test_checkpoints_need_a_name_for_the_run_that_is_a_directory(name: str) -> None:
    with pytest.raises(SettingsError, match="run-name must be"):
        Settings.from_run_config({**DEFAULTS, "checkpoint-enabled": True, "run-name": name})
    Settings.from_run_config({**DEFAULTS, "run-name": name})


def test_checkpoints_need_a_directory() -> None:
    with pytest.raises(SettingsError, match="checkpoint-path must name a directory"):
        Settings.from_run_config({**DEFAULTS, "checkpoint-enabled": True, "run-name": "first", "checkpoint-path": ""})


def test_a_run_may_go_on_with_more_rounds_but_not_with_another_seed() -> None:
    kept = lasting(DEFAULTS)
    assert kept == lasting({**DEFAULTS, "num-server-rounds": 50, "min-fit-clients": 1, "output-directory": "/elsewhere"})
    assert kept != lasting({**DEFAULTS, "seed": 1})
    assert {"strategy", "use-case", "initial-model"} <= set(kept)


def test_the_promise_of_differential_privacy_is_told_where_there_is_one() -> None:
    # One round at a multiplier of 1: rho is 1/2, and epsilon 1/2 + 2 sqrt(ln(100000) / 2).
    assert settings(dp_mode="fixed", num_server_rounds=1).promise == "differential privacy: epsilon is at most 5.3 at delta 1e-05 after round 1"
    for without in ({}, {"dp_mode": "fixed", "dp_noise_multiplier": 0}, {"dp_mode": "adaptive", "strategy": "FedAdam"}):
        assert settings(**without).promise == ""


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        ({"strategy": "FedAdam", "client-lr": 0.02}, 0.02),
        ({"strategy": "FedAdam"}, 0.0),
        ({"strategy": "FedAvg", "client-lr": 0.02}, 0.0),
        ({"strategy": "QFedAvg", "client-lr": 0.02}, 0.0),
    ],
)
def test_nodes_train_with_the_rate_of_an_adaptive_strategy_if_one_was_given(config: dict[str, object], rate: float) -> None:
    assert client_rate({**DEFAULTS, **config}) == rate
