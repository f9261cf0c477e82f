# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run configuration means for Flower's constructors, and what it promises. No Flower in here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from federation.limits import OPTIONS
from federation.strategy_table import NO_PRIVACY, PRIVACY, STRATEGIES, Option, warnings

DELTA = 1e-5  # what epsilon is reported for


def strategy_arguments(config: Mapping[str, object]) -> dict[str, float]:
    """Return the selected strategy's own arguments of the constructor in Flower, defaults for what is empty."""
    return _arguments(STRATEGIES[config["strategy"]].options, config)


def client_rate(config: Mapping[str, object]) -> float:
    """Return the learning rate that was given for the nodes of an adaptive strategy, 0 if none was.

    Flower keeps it but tells nobody. QFedAvg's is no such rate: it scales the aggregation.
    """
    arguments = {option.argument for option in STRATEGIES[config["strategy"]].options}
    return (config["client-lr"] or 0.0) if "eta_l" in arguments else 0.0


def privacy_arguments(config: Mapping[str, object]) -> dict[str, float]:
    """Return the arguments of the constructor of differential privacy in Flower, defaults for what is empty.

    Noise is calibrated to the fewest nodes that may train: with more of them there is more of it than is needed.
    """
    if config["dp-mode"] == NO_PRIVACY:
        return {}
    nodes = config["min-fit-clients"]
    arguments = _arguments(PRIVACY[config["dp-mode"]], config) | {"num_sampled_clients": nodes}
    if config["dp-mode"] == "adaptive" and arguments["clipped_count_stddev"] is None:
        # As Flower has it, but enough for any noise multiplier.
        arguments["clipped_count_stddev"] = max(nodes / 20, arguments["noise_multiplier"])
    return arguments


def epsilon(noise_multiplier: float, rounds: int, delta: float) -> float:
    """Return what so many rounds of the Gaussian mechanism spend at most, without any gain from sampling nodes.

    By zero-concentrated differential privacy (Bun and Steinke, 2016): one round spends 1/(2 z^2), rounds add up.
    """
    rho = rounds / (2 * noise_multiplier**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def promise(config: Mapping[str, object]) -> str:
    """Return what a run promises about its nodes' updates, empty when that is nothing."""
    noise = privacy_arguments(config).get("noise_multiplier", 0)
    if not noise or not STRATEGIES[config["strategy"]].plain_mean:
        return ""
    rounds = config["num-server-rounds"]
    return f"differential privacy: epsilon is at most {epsilon(noise, rounds, DELTA):.1f} at delta {DELTA:g} after round {rounds}"


def notes(config: Mapping[str, object]) -> Iterator[str]:
    """Yield which given parameters have no effect, and what looks unwise."""
    name, mode = config["strategy"], config["dp-mode"]
    strategy = STRATEGIES[name]
    heeded = {option.key for option in (*strategy.options, *PRIVACY[mode])}
    for key in OPTIONS:
        if key not in heeded and config[key] != "":
            yield f"{key} is ignored: " + (f"dp-mode is {mode}" if key.startswith("dp-") else f"the strategy is {name}")
    yield from warnings(config)


def _arguments(options: tuple[Option, ...], config: Mapping[str, object]) -> dict[str, float]:
    given = {option: config[option.key] for option in options if option.argument}
    return {option.argument: option.default if value == "" else value for option, value in given.items()}
