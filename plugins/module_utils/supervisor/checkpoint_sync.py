# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies the checkpoints of a SuperLink to object storage after they were written, and back onto an empty disk.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.checkpoint_sync {upload,restore} --config FILE``
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from . import unit_log
from .checkpoint_bucket import LARGEST_OBJECT, Bucket, BucketError, Checkpoint, Content
from .checkpoint_directory import CheckpointDirectory
from .exposition import render, write
from .metric_table import metric
from .settings_file import read_settings

LOGGER = logging.getLogger("flower-checkpoint-sync")

_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Config:
    """The settings, as in the JSON file. Times are in seconds; ``restore_seconds`` is how long an empty disk waits for the storage."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    directory: str
    metrics_file: str
    prefix: str = ""
    region: str = "us-east-1"
    ca_file: str = ""
    keep: int = 3
    poll_seconds: float = 2
    restore_seconds: float = 120

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a settings file; ValueError names unknown and missing keys."""
        return read_settings(cls, path)

    def open_bucket(self) -> Bucket:
        """Return the bucket."""
        return Bucket(self.endpoint, self.bucket, self.access_key, self.secret_key, self.prefix, self.region, self.ca_file)


class Uploader:
    """Uploads what is new in the directory. Call ``step`` again and again."""

    def __init__(self, config: Config, bucket: Bucket) -> None:
        self._config = config
        self._bucket = bucket
        self._directory = CheckpointDirectory(config.directory)
        # What is in the bucket, by the size and time of the file it was made from.
        self._uploaded: dict[Checkpoint, tuple[int, int]] = {}
        self._failures_in_a_row = 0
        self._problem = ""
        self._values = {"uploaded_total": 0, "upload_failed_total": 0, "upload_pending": 0, "upload_last_timestamp_seconds": 0}

    def step(self) -> float:
        """Upload what is not in the bucket yet, newest first; return the seconds until the next call."""
        try:
            for checkpoint, state in self._pending():
                self._upload(checkpoint, state)
        except (BucketError, OSError) as problem:
            self._failed(str(problem))
        else:
            self._recovered()
        self._write_metrics()
        return min(_LONGEST_PAUSE, self._config.poll_seconds * 2**self._failures_in_a_row)

    def _pending(self) -> list[tuple[Checkpoint, tuple[int, int]]]:
        local = self._directory.listed()
        self._uploaded = {checkpoint: state for checkpoint, state in self._uploaded.items() if checkpoint in local}
        pending = [(checkpoint, state) for checkpoint, state in local.items() if self._uploaded.get(checkpoint) != state]
        self._values["upload_pending"] = len(pending)
        return sorted(pending, key=lambda entry: entry[1][1], reverse=True)

    def _upload(self, checkpoint: Checkpoint, state: tuple[int, int]) -> None:
        if state[0] > LARGEST_OBJECT:
            LOGGER.warning(
                "Checkpoint %s/%s has %d bytes, more than the %d of one object: it is not uploaded.", checkpoint.run, checkpoint.name, state[0], LARGEST_OBJECT
            )
        else:
            try:
                with self._directory.reading(checkpoint) as stream:
                    self._upload_content(checkpoint, stream)
            except FileNotFoundError:
                return  # the app removed it meanwhile: there are newer ones
            except PermissionError as problem:
                LOGGER.warning("Checkpoint %s/%s cannot be read: %s.", checkpoint.run, checkpoint.name, problem.strerror)
        self._uploaded[checkpoint] = state
        self._values["upload_pending"] -= 1
        self._retain(checkpoint)

    def _upload_content(self, checkpoint: Checkpoint, stream: BinaryIO) -> None:
        content = Content.of(stream)
        if self._bucket.digest(checkpoint) == content.sha256:
            return
        self._bucket.upload(checkpoint, content)
        self._values["uploaded_total"] += 1
        self._values["upload_last_timestamp_seconds"] = int(time.time())
        LOGGER.info("Checkpoint %s/%s was uploaded.", checkpoint.run, checkpoint.name, extra=_told("checkpoint_uploaded", checkpoint))

    def _retain(self, newest: Checkpoint) -> None:
        """Remove what was uploaded before the newest checkpoints of a run, whatever its round: a run may start anew."""
        local = self._directory.listed()
        others = [other for other in self._bucket.checkpoints() if other.run == newest.run and other != newest]
        for other in others[self._config.keep - 1 :]:
            if other not in local:
                self._bucket.remove(other)

    def _failed(self, problem: str) -> None:
        self._values["upload_failed_total"] += 1
        self._failures_in_a_row += 1
        if problem != self._problem:
            LOGGER.warning("%s; the upload is tried again.", problem)
        self._problem = problem

    def _recovered(self) -> None:
        if self._problem:
            LOGGER.info("The object storage works again.")
        self._problem = ""
        self._failures_in_a_row = 0

    def _write_metrics(self) -> None:
        text = render(metric(f"fl_checkpoint_{name}", ({}, value)) for name, value in self._values.items())
        try:
            write(self._config.metrics_file, text)
        except OSError as problem:
            LOGGER.warning("The metrics cannot be written: %s.", problem)


def restore(config: Config, bucket: Bucket, sleep: Callable[[float], None] = time.sleep) -> int:
    """Bring all checkpoints of the bucket into the directory if it has none; return how many.

    Raises:
        BucketError: the storage refused, or was not reached in time. The directory is empty then.
    """
    directory = CheckpointDirectory(config.directory)
    if directory.listed():
        LOGGER.info("There are checkpoints in %s; nothing is restored.", config.directory)
        return 0
    deadline = time.monotonic() + config.restore_seconds
    while True:
        try:
            return _restore(directory, bucket)
        except BucketError as problem:
            if problem.lasting or time.monotonic() >= deadline:
                raise
            LOGGER.warning("%s; the restoration is tried again.", problem)
            sleep(config.poll_seconds)


def _restore(directory: CheckpointDirectory, bucket: Bucket) -> int:
    fetched = []
    try:
        for checkpoint in bucket.checkpoints():
            fetched.append(checkpoint)
            with directory.writing(checkpoint) as stream:
                bucket.download(checkpoint, stream)
    except BaseException:
        for checkpoint in fetched:
            directory.discard(checkpoint)
        raise
    # All or nothing: a directory with some checkpoints counts as restored.
    for checkpoint in fetched:
        directory.place(checkpoint)
        LOGGER.info("Checkpoint %s/%s was restored.", checkpoint.run, checkpoint.name, extra=_told("checkpoint_restored", checkpoint))
    return len(fetched)


def _told(kind: str, checkpoint: Checkpoint) -> dict[str, Any]:
    return unit_log.event(kind, run=checkpoint.run, checkpoint=checkpoint.name)


def main() -> int:
    """Restore once, or upload until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(description="Copies checkpoints to object storage and back.")
    parser.add_argument("action", choices=["upload", "restore"])
    parser.add_argument("--config", required=True, help="JSON file with the settings")
    arguments = parser.parse_args()
    unit_log.set_up(f"flower-checkpoint-{arguments.action}")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        config = Config.read(arguments.config)
        bucket = config.open_bucket()
        if arguments.action == "restore":
            restore(config, bucket)
            return 0
    except (BucketError, OSError, ValueError) as problem:
        LOGGER.error("%s", problem)
        return 1
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    uploader = Uploader(config, bucket)
    while not stopping.wait(uploader.step()):
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
