# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Aggregation strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from flwr.serverapp.strategy import FedAvg, Strategy

from federation.settings import Settings


def build(settings: Settings) -> Strategy:
    """Return the strategy of the settings."""
    common = {
        "min_train_nodes": settings.min_fit_clients,
        "min_evaluate_nodes": settings.min_evaluate_clients,
        "min_available_nodes": settings.min_available_clients,
    }
    return _BUILDERS[settings.strategy](**common)


_BUILDERS: dict[str, Callable[..., Strategy]] = {"FedAvg": FedAvg}
