# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs the federation: settings, strategy, rounds, final model. Needs numpy, no ML library."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from federation import queries
from federation.events import LOGGER
from federation.grid import WatchedGrid
from federation.recorder import Recorder
from federation.settings import Settings
from federation.training import Training

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
    watched = WatchedGrid(grid, settings, recorder)
    for note in settings.notes:
        LOGGER.warning("%s", note)
    recorder.training_started(settings)
    initial = queries.initial_arrays(watched, settings, recorder)
    model = Training(watched, settings, recorder).run(ArrayRecord({name: Array(array) for name, array in initial.items()}))
    arrays = {name: array.numpy() for name, array in model.items()}
    recorder.save_model(lambda stream: np.savez(stream, **arrays))
    try:
        suffix, content = queries.export_model(watched, arrays, settings.num_server_rounds, settings.round_timeout)
        recorder.save_model(lambda stream: stream.write(content), suffix)
    except queries.ExportFailed as failed:  # the model is there as npz
        recorder.export_failed(str(failed))
    recorder.training_ended()
