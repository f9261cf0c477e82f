# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs the federation: settings, strategy, rounds, final model. Needs numpy, no ML library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from federation import queries, usecases
from federation.arrays import write_arrays
from federation.checkpoints import Checkpoint, CheckpointStore, read_model
from federation.events import LOGGER
from federation.grid import WatchedGrid
from federation.recorder import Recorder
from federation.settings import Settings, lasting
from federation.training import Training

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train as the run configuration says. Any failure is recorded and ends the run as failed."""
    recorder = Recorder(context.run_config["output-directory"])
    try:
        settings = Settings.from_run_config(context.run_config)
        _train(grid, settings, _checkpoints(settings, context.run_config), recorder)
    except Exception as error:
        recorder.training_failed(str(error) or type(error).__name__)
        raise
    finally:
        recorder.close()


def _checkpoints(settings: Settings, config: Mapping[str, object]) -> CheckpointStore | None:
    if not settings.checkpoint_enabled:
        return None
    return CheckpointStore(Path(settings.checkpoint_path), settings.run_name, lasting(config), settings.checkpoint_keep)


def _train(grid: Grid, settings: Settings, store: CheckpointStore | None, recorder: Recorder) -> None:
    watched = WatchedGrid(grid, settings, recorder)
    for note in settings.notes:
        LOGGER.warning("%s", note)
    if settings.promise:
        LOGGER.info("%s", settings.promise)
    recorder.training_started(settings)
    start = _start(watched, settings, store, recorder)
    arrays = Training(watched, settings, recorder, store).run(start)
    recorder.save_model(lambda stream: write_arrays(stream, arrays))
    try:
        suffix, content = queries.export_model(watched, arrays, settings.num_server_rounds, settings.round_timeout)
        recorder.save_model(lambda stream: stream.write(content), suffix)
    except queries.ExportFailed as failed:  # the model is there as npz
        recorder.export_failed(str(failed))
    recorder.training_ended()


def _start(grid: WatchedGrid, settings: Settings, store: CheckpointStore | None, recorder: Recorder) -> Checkpoint:
    """Return where the run starts: its own newest checkpoint, else the model it is given, else an untrained one."""
    shapes = usecases.shapes(settings.use_case, settings.seed, settings.of_use_case)
    found = store.newest(shapes, recorder.checkpoint_rejected) if store else None
    if found:
        recorder.training_resumed(*found)
        return found[0]
    if settings.initial_model:
        return Checkpoint(0, read_model(Path(settings.initial_model), shapes))
    return Checkpoint(0, queries.initial_arrays(grid, settings, recorder))
