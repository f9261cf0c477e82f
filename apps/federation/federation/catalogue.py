# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The strategies: their parameters, what they ask of the number of nodes, and privacy around them. No Flower in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from federation.limits import CHOICES, DEFAULTS, FEWEST_NODES, OPTIONS, PLAIN_MEAN


class Option(NamedTuple):
    """A parameter: its key in the run configuration, the argument of Flower's constructor, its default (None: computed).

    Without an argument it only says what the others have to fit.
    """

    key: str
    argument: str
    default: float | None


@dataclass(frozen=True)
class Strategy:
    """What is known of a strategy, whose class in ``flwr.serverapp.strategy`` has the same name.

    ``fewest_nodes`` returns how many nodes have to train in a round when that many are malicious. ``plain_mean`` says
    that the model is the mean of the replies and nothing else, which is what differential privacy is calibrated to.
    """

    options: tuple[Option, ...] = ()
    fewest_nodes: Callable[[int], int] | None = None
    plain_mean: bool = False


def _option(key: str, argument: str) -> Option:
    return Option(key, argument, DEFAULTS[key])


_NUM_MALICIOUS = _option("num-malicious", "num_malicious_nodes")
_TOLERATED = _option("num-malicious", "")
_BETAS = (_option("beta-1", "beta_1"), _option("beta-2", "beta_2"))
_TAU = _option("tau", "tau")

_OPTIONS_OF: Mapping[str, tuple[Option, ...]] = {
    "FedAvg": (),
    "FedAvgM": (Option("server-lr", "server_learning_rate", 1.0), _option("server-momentum", "server_momentum")),
    "FedProx": (_option("proximal-mu", "proximal_mu"),),
    "FedAdam": (Option("server-lr", "eta", 0.1), Option("client-lr", "eta_l", 0.1), *_BETAS, _TAU),
    "FedYogi": (Option("server-lr", "eta", 0.01), Option("client-lr", "eta_l", 0.0316), *_BETAS, _TAU),
    "FedAdagrad": (Option("server-lr", "eta", 0.1), Option("client-lr", "eta_l", 0.1), _TAU),
    "FedMedian": (_TOLERATED,),
    "FedTrimmedAvg": (_option("trim-beta", "beta"), _TOLERATED),
    "Krum": (_NUM_MALICIOUS,),
    "MultiKrum": (_NUM_MALICIOUS, _option("nodes-to-select", "num_nodes_to_select")),
    "Bulyan": (_NUM_MALICIOUS,),
    "QFedAvg": (Option("client-lr", "client_learning_rate", 0.1), _option("qfed-q", "q")),
}


def _fewest_nodes(name: str) -> Callable[[int], int] | None:
    each, more = FEWEST_NODES.get(name, (0, 0))
    return (lambda malicious: each * malicious + more) if name in FEWEST_NODES else None


STRATEGIES: Mapping[str, Strategy] = {
    name: Strategy(_OPTIONS_OF[name], _fewest_nodes(name), plain_mean=name in PLAIN_MEAN) for name in CHOICES["strategy"]
}

_NOISE = _option("dp-noise-multiplier", "noise_multiplier")
PRIVACY: Mapping[str, tuple[Option, ...]] = {
    "none": (),
    "fixed": (_NOISE, Option("dp-clipping-norm", "clipping_norm", 1.0)),
    "adaptive": (
        _NOISE,
        Option("dp-clipping-norm", "initial_clipping_norm", 0.1),
        _option("dp-target-quantile", "target_clipped_quantile"),
        _option("dp-clip-lr", "clip_norm_lr"),
        Option("dp-count-stddev", "clipped_count_stddev", None),
    ),
}


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
    if config["dp-mode"] == "none":
        return {}
    nodes = config["min-fit-clients"]
    arguments = _arguments(PRIVACY[config["dp-mode"]], config) | {"num_sampled_clients": nodes}
    if config["dp-mode"] == "adaptive" and arguments["clipped_count_stddev"] is None:
        # As Flower has it, but enough for any noise multiplier.
        arguments["clipped_count_stddev"] = max(nodes / 20, arguments["noise_multiplier"])
    return arguments


def trimmed(share: float, nodes: int) -> int:
    """Return how many values FedTrimmedAvg cuts at each end, which is how many malicious nodes it tolerates."""
    return int(share * nodes)


def fewest_for_trimming(share: float, malicious: int) -> int:
    """Return how many nodes have to train for FedTrimmedAvg to tolerate that many malicious ones."""
    # The product may be rounded down; beyond what a float tells apart one more node changes nothing.
    nodes = max(1, math.floor(malicious / share))
    return next((more for more in (nodes, nodes + 1, nodes + 2) if trimmed(share, more) >= malicious), nodes)


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


def errors(config: Mapping[str, object]) -> Iterator[str]:
    """Yield what does not fit together in a run configuration whose values are good one by one."""
    strategy = STRATEGIES[config["strategy"]]
    chosen = strategy_arguments(config)
    heeded = any(option.key == "num-malicious" for option in strategy.options)
    malicious = (config["num-malicious"] or 0) if heeded else 0
    if strategy.fewest_nodes:
        needed = strategy.fewest_nodes(malicious)
        for key in ("min-fit-clients", "min-available-clients"):
            if config[key] < needed:
                yield f"{key} ({config[key]}) must be at least {needed} for {config['strategy']} with num-malicious {malicious}"
    if chosen.get("num_nodes_to_select", 1) > config["min-fit-clients"] - malicious:
        yield (
            f"nodes-to-select ({chosen['num_nodes_to_select']}) must not be above min-fit-clients ({config['min-fit-clients']}) "
            f"less num-malicious ({malicious})"
        )
    if "beta" in chosen:
        share, nodes = chosen["beta"], config["min-fit-clients"]
        if trimmed(share, nodes) < malicious:
            yield (
                f"min-fit-clients ({nodes}) must be at least {fewest_for_trimming(share, malicious)} for {config['strategy']} with num-malicious "
                f"{malicious} and trim-beta {share:g}, which cuts {trimmed(share, nodes)} of {nodes} values at each end"
            )
    if config["dp-mode"] == "adaptive":
        privacy = privacy_arguments(config)
        noise, stddev = privacy["noise_multiplier"], privacy["clipped_count_stddev"]
        if noise > 0 and noise >= 2 * stddev:
            yield f"dp-noise-multiplier ({noise:g}) must be below twice dp-count-stddev ({stddev:g})"


def notes(config: Mapping[str, object]) -> Iterator[str]:
    """Yield which given parameters have no effect, and what looks unwise."""
    name, mode = config["strategy"], config["dp-mode"]
    strategy = STRATEGIES[name]
    heeded = {option.key for option in (*strategy.options, *PRIVACY[mode])}
    for key in OPTIONS:
        if key not in heeded and config[key] != "":
            yield f"{key} is ignored: " + (f"dp-mode is {mode}" if key.startswith("dp-") else f"the strategy is {name}")
    chosen = strategy_arguments(config)
    if chosen.get("proximal_mu") == 0:
        yield "proximal-mu is 0: FedProx is FedAvg then"
    if name == "FedAvgM" and chosen["server_learning_rate"] == 1 and chosen["server_momentum"] == 0:
        yield "server-lr is 1 and server-momentum is 0: FedAvgM is FedAvg then"
    if name == "MultiKrum" and chosen["num_nodes_to_select"] == 1:
        yield "nodes-to-select is 1: MultiKrum is Krum then"
    if name == "FedTrimmedAvg" and trimmed(chosen["beta"], config["min-fit-clients"]) < 1:
        yield f"trim-beta is {chosen['beta']:g}: with {config['min-fit-clients']} nodes FedTrimmedAvg cuts nothing"
    if name == "FedMedian" and config["min-fit-clients"] < 3:
        yield "min-fit-clients is below 3: the median of 2 nodes is their mean"
    if mode != "none" and not strategy.plain_mean:
        yield f"dp-mode is {mode}: {name} is clipped and noised, but what differential privacy promises holds for FedAvg and FedProx"
    if privacy_arguments(config).get("noise_multiplier") == 0:
        yield "dp-noise-multiplier is 0: updates are clipped, but nothing is private"


def _arguments(options: tuple[Option, ...], config: Mapping[str, object]) -> dict[str, float]:
    given = {option: config[option.key] for option in options if option.argument}
    return {option.argument: option.default if value == "" else value for option, value in given.items()}
