# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Aggregation strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Strategy

from federation.settings import Settings

EvaluationHook = Callable[[list[RecordDict], str], MetricRecord]


def build(settings: Settings, on_evaluation: EvaluationHook) -> Strategy:
    """Return the strategy of the settings; on_evaluation aggregates what the nodes measured."""
    common = {
        "min_train_nodes": settings.min_fit_clients,
        "min_evaluate_nodes": settings.min_evaluate_clients,
        "min_available_nodes": settings.min_available_clients,
        "evaluate_metrics_aggr_fn": on_evaluation,
    }
    return _BUILDERS[settings.strategy](**common)


_BUILDERS: dict[str, Callable[..., Strategy]] = {"FedAvg": FedAvg}
