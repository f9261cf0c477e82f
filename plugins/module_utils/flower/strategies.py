# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of strategies and of differential privacy: the parameters they take, and what these have to fit together.

The collection checks by this table what it is told, and the Flower App, which has a copy of it, what it is run with.
Parameters are called by their keys in the run configuration; ``name`` says how whoever gives one calls it in messages. A value
that is empty or None stands for the default; what depends on a missing one is left to whoever knows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


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

    ``fewest`` says how many nodes have to train in a round: these per malicious one, and these on top. ``plain_mean`` says
    that the model is the mean of the replies and nothing else, which is what differential privacy is calibrated to.
    """

    options: tuple[Option, ...] = ()
    fewest: tuple[int, int] | None = None
    plain_mean: bool = False

    def fewest_nodes(self, malicious: int) -> int:
        """Return how many nodes have to train in a round when that many are malicious."""
        each, more = self.fewest or (0, 0)
        return each * malicious + more


_MALICIOUS = Option("num-malicious", "num_malicious_nodes", 0)
_TOLERATED = Option("num-malicious", "", 0)
_BETAS = (Option("beta-1", "beta_1", 0.9), Option("beta-2", "beta_2", 0.99))
_TAU = Option("tau", "tau", 0.001)

STRATEGIES: Mapping[str, Strategy] = {
    "FedAvg": Strategy(plain_mean=True),
    "FedAvgM": Strategy((Option("server-lr", "server_learning_rate", 1.0), Option("server-momentum", "server_momentum", 0.0))),
    "FedProx": Strategy((Option("proximal-mu", "proximal_mu", 1.0),), plain_mean=True),
    "FedAdam": Strategy((Option("server-lr", "eta", 0.1), Option("client-lr", "eta_l", 0.1), *_BETAS, _TAU)),
    "FedYogi": Strategy((Option("server-lr", "eta", 0.01), Option("client-lr", "eta_l", 0.0316), *_BETAS, _TAU)),
    "FedAdagrad": Strategy((Option("server-lr", "eta", 0.1), Option("client-lr", "eta_l", 0.1), _TAU)),
    "FedMedian": Strategy((_TOLERATED,), fewest=(2, 1)),
    "FedTrimmedAvg": Strategy((Option("trim-beta", "beta", 0.2), _TOLERATED)),
    "Krum": Strategy((_MALICIOUS,), fewest=(2, 3)),
    "MultiKrum": Strategy((_MALICIOUS, Option("nodes-to-select", "num_nodes_to_select", 1)), fewest=(2, 3)),
    "Bulyan": Strategy((_MALICIOUS,), fewest=(4, 3)),
    "QFedAvg": Strategy((Option("client-lr", "client_learning_rate", 0.1), Option("qfed-q", "q", 0.1))),
}
_PLAIN_MEAN = tuple(name for name, strategy in STRATEGIES.items() if strategy.plain_mean)

NO_PRIVACY = "none"
_NOISE = Option("dp-noise-multiplier", "noise_multiplier", 1.0)
PRIVACY: Mapping[str, tuple[Option, ...]] = {
    NO_PRIVACY: (),
    "fixed": (_NOISE, Option("dp-clipping-norm", "clipping_norm", 1.0)),
    "adaptive": (
        _NOISE,
        Option("dp-clipping-norm", "initial_clipping_norm", 0.1),
        Option("dp-target-quantile", "target_clipped_quantile", 0.5),
        Option("dp-clip-lr", "clip_norm_lr", 0.2),
        Option("dp-count-stddev", "clipped_count_stddev", None),
    ),
}


def taken_by(key: str) -> Mapping[str, float | None]:
    """Return the strategies, or kinds of privacy, that take a parameter, with its default there."""
    choices = {**{name: strategy.options for name, strategy in STRATEGIES.items()}, **PRIVACY}
    return {name: option.default for name, options in choices.items() for option in options if option.key == key}


def common_default(key: str) -> float | None:
    """Return the default of a parameter, None for one that differs by strategy or is computed."""
    defaults = set(taken_by(key).values())
    return defaults.pop() if len(defaults) == 1 else None


def errors(config: Mapping[str, Any], name: Callable[[str], str] = str) -> Iterator[str]:
    """Yield one sentence for each combination that cannot work, of values that are good one by one."""
    chosen, known = config.get("strategy"), _known(config)
    strategy, malicious = STRATEGIES.get(chosen, Strategy()), known.get("num-malicious", 0)
    nodes, available = config.get("min-fit-clients"), config.get("min-available-clients")
    for key in ("min-fit-clients", "min-evaluate-clients"):
        if available is not None and config.get(key, 0) > available:
            yield f"{name(key)}: {config[key]} is not valid, expected at most {name('min-available-clients')}, which is {available}"
    needed = strategy.fewest_nodes(malicious)
    for key in ("min-fit-clients", "min-available-clients"):
        if config.get(key, needed) < needed:
            yield f"{name(key)}: {config[key]} is not valid, expected at least {needed} for {chosen} with {name('num-malicious')} {malicious}"
    share = known.get("trim-beta")
    if None not in (share, nodes) and trimmed(share, nodes) < malicious:
        yield (
            f"{name('min-fit-clients')}: {nodes} is not valid, expected at least {fewest_for_trimming(share, malicious)} for {chosen} "
            f"with {name('num-malicious')} {malicious} and {name('trim-beta')} {share:g}, which cuts {trimmed(share, nodes)} of {nodes} "
            "values at each end"
        )
    selected = known.get("nodes-to-select")
    if None not in (selected, nodes) and selected > nodes - malicious:
        yield (
            f"{name('nodes-to-select')}: {selected} is not valid, expected at most {name('min-fit-clients')} "
            f"less {name('num-malicious')}, which is {nodes - malicious}"
        )
    noise, deviation = known.get("dp-noise-multiplier"), known.get("dp-count-stddev")
    if noise and deviation and noise >= 2 * deviation:
        yield f"{name('dp-noise-multiplier')}: {noise:g} is not valid, expected less than twice {name('dp-count-stddev')}, which is {deviation:g}"


def warnings(config: Mapping[str, Any], name: Callable[[str], str] = str) -> Iterator[str]:
    """Yield what works but is not what somebody who asks for it wants; needs all values."""
    chosen, mode, nodes, known = config["strategy"], config["dp-mode"], config["min-fit-clients"], _known(config)
    if known.get("proximal-mu") == 0:
        yield f"{name('proximal-mu')} is 0: FedProx is FedAvg then"
    if known.get("server-lr") == 1 and known.get("server-momentum") == 0:
        yield f"{name('server-lr')} is 1 and {name('server-momentum')} is 0: FedAvgM is FedAvg then"
    if known.get("nodes-to-select") == 1:
        yield f"{name('nodes-to-select')} is 1: MultiKrum is Krum then"
    if "trim-beta" in known and trimmed(known["trim-beta"], nodes) < 1:
        yield f"{name('trim-beta')} is {known['trim-beta']:g}: with {nodes} nodes FedTrimmedAvg cuts nothing"
    if chosen == "FedMedian" and nodes < 3:
        yield f"{name('min-fit-clients')} is below 3: the median of 2 nodes is their mean"
    if mode != NO_PRIVACY and chosen not in _PLAIN_MEAN:
        yield (
            f"{name('dp-mode')} is {mode}: {chosen} is clipped and noised, but what differential privacy promises holds for "
            f"{' and '.join(_PLAIN_MEAN)}"
        )
    if known.get("dp-noise-multiplier") == 0:
        yield f"{name('dp-noise-multiplier')} is 0: updates are clipped, but nothing is private"


def trimmed(share: float, nodes: int) -> int:
    """Return how many values FedTrimmedAvg cuts at each end, which is how many malicious nodes it tolerates."""
    return int(share * nodes)


def fewest_for_trimming(share: float, malicious: int) -> int:
    """Return how many nodes have to train for FedTrimmedAvg to tolerate that many malicious ones."""
    # The product may be rounded down; beyond what a float tells apart one more node changes nothing.
    nodes = max(1, math.floor(malicious / share))
    return next((more for more in (nodes, nodes + 1, nodes + 2) if trimmed(share, more) >= malicious), nodes)


def _known(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of what the chosen strategy and privacy take, defaults for what is empty, without what is missing."""
    taken = (*STRATEGIES.get(config.get("strategy"), Strategy()).options, *PRIVACY.get(config.get("dp-mode"), ()))
    return {option.key: option.default if config[option.key] in ("", None) else config[option.key] for option in taken if option.key in config}
