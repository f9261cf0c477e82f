# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs the federation: settings, strategy, rounds, final model. Needs numpy, no ML library."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from federation import strategies, usecases
from federation.grid import WatchedGrid
from federation.recorder import Recorder
from federation.settings import Settings

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train as the run configuration says. Any failure is recorded and ends the run as failed."""
    recorder = Recorder(context.run_config["output-directory"])
    try:
        _train(grid, Settings.from_run_config(context.run_config), recorder)
    except Exception as error:
        recorder.training_failed(str(error) or type(error).__name__)
        raise
    finally:
        recorder.close()


def _train(grid: Grid, settings: Settings, recorder: Recorder) -> None:
    def aggregate_evaluation(replies: list[RecordDict], weighted_by: str) -> MetricRecord:
        metrics = aggregate_metricrecords(replies, weighted_by)
        recorder.evaluated(metrics["loss"], metrics["accuracy"])
        return metrics

    def after_round(round_number: int, _arrays: ArrayRecord) -> None:
        if round_number > 0:  # Flower calls once before the first round
            recorder.round_ended()

    initial = usecases.load(settings.use_case).initial_arrays(settings.seed)
    recorder.training_started(settings)
    result = strategies.build(settings, aggregate_evaluation).start(
        grid=WatchedGrid(grid, settings, recorder),
        initial_arrays=ArrayRecord({name: Array(array) for name, array in initial.items()}),
        num_rounds=settings.num_server_rounds,
        timeout=settings.round_timeout,
        evaluate_fn=after_round,
    )
    arrays = {name: array.numpy() for name, array in result.arrays.items()}
    recorder.save_model(lambda stream: np.savez(stream, **arrays))
    recorder.training_ended()
