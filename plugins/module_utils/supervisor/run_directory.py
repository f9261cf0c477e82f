# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that the app writes and a program with more rights reads: of a run, or of a run's checkpoints.

No link, pipe or device that an app leaves there may lead that program to another file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import BinaryIO

_MOST_ENTRIES = 100_000


class RunDirectory:
    """The directory ``name`` below ``runs_directory``. All methods raise OSError."""

    def __init__(self, runs_directory: str, name: str) -> None:
        self._parent = runs_directory
        self._name = name

    def names(self) -> list[str]:
        """Return the names of the regular files, sorted, of so many at most; none when there is no directory."""
        return sorted(self.files())

    def files(self) -> dict[str, os.stat_result]:
        """Return what is known of the regular files, of so many at most, by name; none when there is no directory."""
        found = {}
        with suppress(FileNotFoundError), self.opened() as directory, os.scandir(directory) as entries:
            for entry in islice(entries, _MOST_ENTRIES):
                # It may be gone already.
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        found[entry.name] = entry.stat(follow_symlinks=False)
        return found

    def open(self, name: str) -> BinaryIO:
        """Open a regular file for reading."""
        with self.opened() as directory:
            # Without O_NONBLOCK, opening a pipe waits for somebody who writes into it.
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        stream = os.fdopen(handle, "rb")
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            stream.close()
            raise OSError(f"{self._name}/{name} is not a regular file")
        return stream

    def write(self, name: str, content: str) -> None:
        """Put a file in place in one step, owned by the owner of all runs; make the directory when it is missing."""
        new = f".{name}.new"
        with self.opened(create=True) as directory:
            owner = os.stat(self._parent)
            with _removed(new, directory):
                handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640, dir_fd=directory)
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                    stream.write(content)
                os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)

    @contextmanager
    def opened(self, create: bool = False) -> Iterator[int]:
        """Open the directory itself and give its descriptor. create: make it when it is missing, for the owner of all runs."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        parent = os.open(self._parent, flags)
        try:
            if create:
                self._create(parent)
            directory = os.open(self._name, flags, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            yield directory
        finally:
            os.close(directory)

    def _create(self, parent: int) -> None:
        try:
            os.mkdir(self._name, 0o750, dir_fd=parent)
        except FileExistsError:
            return
        owner = os.fstat(parent)
        os.chown(self._name, owner.st_uid, owner.st_gid, dir_fd=parent, follow_symlinks=False)


@contextmanager
def _removed(name: str, directory: int) -> Iterator[None]:
    """Remove a file that an interrupted write left, before and after."""
    _unlink(name, directory)
    try:
        yield
    finally:
        _unlink(name, directory)


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
