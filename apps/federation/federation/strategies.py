# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Flower's strategies by name, differential privacy around them, and what they remember between rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.fedopt import FedOpt

from federation.replies import EXAMPLES, TRAIN_LOSS
from federation.settings import Settings

_OPTIMIZER_STATE = ("m_t", "v_t")


def build(settings: Settings) -> Strategy:
    """Return the strategy of the settings."""
    strategy = _CLASSES.get(settings.strategy, getattr(flower, settings.strategy))(
        fraction_train=settings.fraction_fit,
        fraction_evaluate=settings.fraction_evaluate,
        min_train_nodes=settings.min_fit_clients,
        min_evaluate_nodes=settings.min_evaluate_clients,
        min_available_nodes=settings.min_available_clients,
        weighted_by_key=EXAMPLES,
        **settings.strategy_arguments,
    )
    if settings.dp_mode == "none":
        return strategy
    return _PRIVACY[settings.dp_mode](strategy, **settings.privacy_arguments)


def server_state(strategy: Strategy) -> dict[str, np.ndarray]:
    """Return what a strategy has to remember for the next round, empty for most; the number of the round is not part of it."""
    if isinstance(strategy, _EqualNodes):
        state = server_state(strategy.strategy)
        return state | {"clipping_norm": np.asarray(strategy.clipping_norm)} if isinstance(strategy, AdaptiveClipping) else state
    if isinstance(strategy, FedOpt):
        return {f"{kind}/{name}": array for kind in _OPTIMIZER_STATE for name, array in (getattr(strategy, kind) or {}).items()}
    if isinstance(strategy, flower.FedAvgM) and strategy.server_opt:
        current = strategy.current_arrays or {}
        momentum = zip(current, strategy.momentum_vector or ())  # noqa: B905 - momentum is made in the first round
        return {f"current/{name}": array.numpy() for name, array in current.items()} | {f"momentum/{name}": array for name, array in momentum}
    return {}


def restore_state(strategy: Strategy, state: Mapping[str, np.ndarray]) -> None:
    """Make a new strategy go on where the one that ``server_state`` described stood.

    Raises:
        ValueError: the state is that of another strategy.
    """
    left = dict(state)
    if isinstance(strategy, AdaptiveClipping) and "clipping_norm" in left:
        strategy.adopt_norm(left.pop("clipping_norm"))
    inner = strategy.strategy if isinstance(strategy, _EqualNodes) else strategy
    if isinstance(inner, FedOpt):
        for kind in _OPTIMIZER_STATE:
            setattr(inner, kind, _taken(left, kind) or None)
    elif isinstance(inner, flower.FedAvgM) and left:
        current = _taken(left, "current")
        inner.current_arrays = ArrayRecord({name: Array(array) for name, array in current.items()})
        inner.momentum_vector = list(_taken(left, "momentum").values()) or None
    if left:
        raise ValueError(f"this is not the state of a {type(inner).__name__} strategy: it holds {', '.join(sorted(left))}")


class QFedAvg(flower.QFedAvg):
    """Flower's QFedAvg, which weighs nodes by their loss and therefore asks them for it."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(train_loss_key=TRAIN_LOSS, **arguments)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask for the training loss."""
        config[TRAIN_LOSS] = True
        return super().configure_train(server_round, arrays, config, grid)


class _EqualNodes:
    """Counts every node once: one with most of the examples would move the mean by more than the noise is made for."""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate with equal weights."""
        replies = list(replies)
        for reply in replies:
            for metrics in reply.content.metric_records.values():
                metrics[EXAMPLES] = 1
        return super().aggregate_train(server_round, replies)


class FixedClipping(_EqualNodes, flower.DifferentialPrivacyServerSideFixedClipping):
    """Flower's central differential privacy with a fixed clipping norm."""

    def __init__(self, strategy: Strategy, noise_multiplier: float, clipping_norm: float, num_sampled_clients: int) -> None:
        # A number of numpy's, because Flower divides it by the norm of an update, which is 0 when a node changed nothing.
        super().__init__(strategy, noise_multiplier, np.float64(clipping_norm), num_sampled_clients)


class AdaptiveClipping(_EqualNodes, flower.DifferentialPrivacyServerSideAdaptiveClipping):
    """Flower's central differential privacy with a clipping norm that follows a quantile of the norms of the updates."""

    def __init__(self, strategy: Strategy, **arguments: float) -> None:
        super().__init__(strategy, **arguments)
        self.adopt_norm(self.clipping_norm)

    def adopt_norm(self, norm: float) -> None:
        """Clip by this norm in the next round."""
        self.clipping_norm = self._next_norm = np.float64(norm)  # see FixedClipping

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate, and adapt the norm at last: the noise has to be that of the norm by which the updates were clipped."""
        result = super().aggregate_train(server_round, replies)
        self.clipping_norm = self._next_norm
        return result

    def _geometric_update(self, clipped_fraction: float) -> None:
        # Flower takes the share of clipped updates where the law (Andrew et al., 2021) has that of the others: the norm
        # would run away from the quantile.
        norm = self.clipping_norm
        super()._geometric_update(1 - clipped_fraction)
        self._next_norm, self.clipping_norm = self.clipping_norm, norm


_CLASSES: Mapping[str, type[Strategy]] = {"QFedAvg": QFedAvg}
_PRIVACY: Mapping[str, type[Strategy]] = {"fixed": FixedClipping, "adaptive": AdaptiveClipping}


def _taken(state: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """Remove the arrays of a kind and return them by their name in the model."""
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}
