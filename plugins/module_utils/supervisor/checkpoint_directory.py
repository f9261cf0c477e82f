# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of a SuperLink's checkpoints, for programs that may do more than the app that writes into it.

The app may put anything there at any time. Runs are reached as RunDirectory does, and only files of the directory's owner count: a
hard link may lead to one of somebody else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import BinaryIO

from .checkpoint_bucket import Checkpoint
from .run_directory import RunDirectory

# A SuperLink remembers some hundred runs.
_MOST_RUNS = 10_000


class CheckpointDirectory:
    """The checkpoints of all runs beneath a directory, as RUN/checkpoint_round_N.npz. All methods raise OSError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def listed(self) -> dict[Checkpoint, tuple[int, int]]:
        """Return the checkpoints with size in bytes and time of change in nanoseconds; incomplete and rejected ones are none."""
        owner = os.stat(self.path).st_uid
        found = {}
        with os.scandir(self.path) as entries:
            runs = [entry.name for entry in islice(entries, _MOST_RUNS) if entry.is_dir(follow_symlinks=False)]
        for run in runs:
            # What cannot be read has no checkpoints, nor has what is no directory any more.
            with suppress(OSError):
                for name, status in RunDirectory(self.path, run).files().items():
                    checkpoint = Checkpoint.of(run, name)
                    if checkpoint and status.st_uid == owner:
                        found[checkpoint] = (status.st_size, status.st_mtime_ns)
        return found

    @contextmanager
    def reading(self, checkpoint: Checkpoint) -> Iterator[BinaryIO]:
        """Open a checkpoint; what is appended to it meanwhile is not read. FileNotFoundError if it is none any more."""
        with RunDirectory(self.path, checkpoint.run).open(checkpoint.name) as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.stat(self.path).st_uid:
                raise FileNotFoundError(f"{self.path}/{checkpoint.run}/{checkpoint.name} is not a checkpoint any more")
            yield io.BufferedReader(_Beginning(file, status.st_size))

    @contextmanager
    def writing(self, checkpoint: Checkpoint) -> Iterator[BinaryIO]:
        """Write a checkpoint beside its place, for ``place`` to move it there; it belongs to the directory's owner."""
        owner = os.stat(self.path)
        with self._opened(checkpoint, create=True) as directory:
            with suppress(FileNotFoundError):
                os.unlink(_partial(checkpoint), dir_fd=directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(_partial(checkpoint), flags, 0o640, dir_fd=directory), "wb") as file:
                yield file
                file.flush()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fsync(file.fileno())

    def place(self, checkpoint: Checkpoint) -> None:
        """Move what was written to its place."""
        with self._opened(checkpoint) as directory:
            os.replace(_partial(checkpoint), checkpoint.name, src_dir_fd=directory, dst_dir_fd=directory)

    def discard(self, checkpoint: Checkpoint) -> None:
        """Remove what was written and not moved, if there is something."""
        with suppress(OSError), self._opened(checkpoint) as directory:
            os.unlink(_partial(checkpoint), dir_fd=directory)

    @contextmanager
    def _opened(self, checkpoint: Checkpoint, create: bool = False) -> Iterator[int]:
        try:
            with RunDirectory(self.path, checkpoint.run).opened(create) as directory:
                yield directory
        except NotADirectoryError:
            raise NotADirectoryError(f"{self.path}/{checkpoint.run} is not a directory, so no checkpoint can be put there") from None


class _Beginning(io.RawIOBase):
    """The first bytes of a file, which may grow while it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file = file
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = self._file.read(min(len(buffer), max(0, self._size - self._file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = self._size + offset, os.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _partial(checkpoint: Checkpoint) -> str:
    return f".{checkpoint.name}.partial"
