# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What strategies and differential privacy ask of the parameters together. The Flower App checks the same by itself.

``values`` are typed values by role variable, perhaps not all of them: what depends on a missing one is left to whoever
knows it. ``name`` gives the name of a parameter in messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

FEDAVG = "FedAvg"
STRATEGIES = (
    FEDAVG,
    "FedAvgM",
    "FedProx",
    "FedAdam",
    "FedYogi",
    "FedAdagrad",
    "FedMedian",
    "FedTrimmedAvg",
    "Krum",
    "MultiKrum",
    "Bulyan",
    "QFedAvg",
)
NO_PRIVACY = "none"
PRIVACY = (NO_PRIVACY, "fixed", "adaptive")

# Strategy -> how many nodes have to train in a round: these per malicious one, and these on top.
FEWEST_NODES = {"FedMedian": (2, 1), "Krum": (2, 3), "MultiKrum": (2, 3), "Bulyan": (4, 3)}
TRIMMED = "FedTrimmedAvg"
TOLERATING_MALICIOUS = (*FEWEST_NODES, TRIMMED)
# The model is the mean of the replies and nothing else, which is what differential privacy is calibrated to.
PLAIN_MEAN = (FEDAVG, "FedProx")


def errors(values: Mapping[str, Any], name: Callable[[str], str]) -> Iterator[str]:
    """Yield one sentence for each combination that cannot work."""
    strategy = values.get("flower_strategy")
    malicious, fewest = values.get("flower_num_malicious", 0), values.get("flower_min_fit_clients")
    if strategy in FEWEST_NODES:
        each, more = FEWEST_NODES[strategy]
        needed = each * malicious + more
        for parameter in ("FL_MIN_FIT_CLIENTS", "FL_MIN_AVAILABLE_CLIENTS"):
            nodes = values.get(f"flower_{parameter[3:].lower()}")
            if nodes is not None and nodes < needed:
                yield (
                    f"{name(parameter)}: {nodes} is not valid, expected at least {needed} for {strategy} with "
                    f"{name('FL_NUM_MALICIOUS')} {malicious}"
                )
    share = values.get("flower_trim_beta")
    if strategy == TRIMMED and None not in (share, fewest) and int(share * fewest) < malicious:
        yield (
            f"{name('FL_MIN_FIT_CLIENTS')}: {fewest} is not valid, expected at least {_fewest_for_trimming(share, malicious)} for {TRIMMED} "
            f"with {name('FL_NUM_MALICIOUS')} {malicious} and {name('FL_TRIM_BETA')} {share:g}, which cuts {int(share * fewest)} of {fewest} "
            "values at each end"
        )
    selected = values.get("flower_nodes_to_select")
    if strategy == "MultiKrum" and None not in (selected, fewest) and selected > fewest - malicious:
        yield (
            f"{name('FL_NODES_TO_SELECT')}: {selected} is not valid, expected at most {name('FL_MIN_FIT_CLIENTS')} "
            f"less {name('FL_NUM_MALICIOUS')}, which is {fewest - malicious}"
        )
    noise, deviation = values.get("flower_dp_noise_multiplier"), values.get("flower_dp_count_stddev")
    if values.get("flower_dp_mode") == "adaptive" and noise and deviation and noise >= 2 * deviation:
        yield (
            f"{name('FL_DP_NOISE_MULTIPLIER')}: {noise:g} is not valid, expected less than twice "
            f"{name('FL_DP_COUNT_STDDEV')}, which is {deviation:g}"
        )


def warnings(values: Mapping[str, Any], name: Callable[[str], str]) -> Iterator[str]:
    """Yield what works but is not what somebody who asks for it wants; needs all values."""
    strategy, fewest = values["flower_strategy"], values["flower_min_fit_clients"]
    if strategy == "FedProx" and values["flower_proximal_mu"] == 0:
        yield f"{name('FL_PROXIMAL_MU')} is 0: FedProx is FedAvg then"
    if strategy == "FedAvgM" and values["flower_server_lr"] in (None, 1) and values["flower_server_momentum"] == 0:
        yield f"{name('FL_SERVER_LR')} is 1 and {name('FL_SERVER_MOMENTUM')} is 0: FedAvgM is FedAvg then"
    if strategy == "MultiKrum" and values["flower_nodes_to_select"] == 1:
        yield f"{name('FL_NODES_TO_SELECT')} is 1: MultiKrum is Krum then"
    if strategy == TRIMMED and int(values["flower_trim_beta"] * fewest) < 1:
        yield f"{name('FL_TRIM_BETA')} is {values['flower_trim_beta']:g}: with {fewest} nodes FedTrimmedAvg cuts nothing"
    if strategy == "FedMedian" and fewest < 3:
        yield f"{name('FL_MIN_FIT_CLIENTS')} is below 3: the median of 2 nodes is their mean"
    if values["flower_dp_mode"] == NO_PRIVACY:
        return
    if strategy not in PLAIN_MEAN:
        yield (
            f"{name('FL_DP_MODE')} is {values['flower_dp_mode']}: {strategy} is clipped and noised, but what differential "
            f"privacy promises holds for {' and '.join(PLAIN_MEAN)}"
        )
    if values["flower_dp_noise_multiplier"] == 0:
        yield f"{name('FL_DP_NOISE_MULTIPLIER')} is 0: updates are clipped, but nothing is private"


def _fewest_for_trimming(share: float, malicious: int) -> int:
    """Return how many nodes have to train until as many values are cut at each end."""
    # The product may be rounded down; beyond what a float tells apart one more node changes nothing.
    nodes = max(1, math.floor(malicious / share))
    return next((more for more in (nodes, nodes + 1, nodes + 2) if int(share * more) >= malicious), nodes)
