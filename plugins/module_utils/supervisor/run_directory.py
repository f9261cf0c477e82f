# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that the app writes and a program with more rights reads: of a run, or of a run's checkpoints.

No link, pipe or device that an app leaves there may lead that program to another file.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import BinaryIO

_MOST_ENTRIES = 100_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# No run has a name with a point at its beginning.
_DISCARDED = ".discarded-"


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

    def discard(self) -> None:
        """Put aside whatever is in the place of the directory, if anything, for ``remove_discarded`` to remove it; the name is free at once."""
        with suppress(FileNotFoundError):
            parent = os.open(self._parent, _DIRECTORY)
            try:
                os.rename(self._name, f"{_DISCARDED}{self._name}-{secrets.token_hex(8)}", src_dir_fd=parent, dst_dir_fd=parent)
            finally:
                os.close(parent)

    @contextmanager
    def opened(self, create: bool = False) -> Iterator[int]:
        """Open the directory itself and give its descriptor. create: make it when it is missing, for the owner of all runs."""
        parent = os.open(self._parent, _DIRECTORY)
        try:
            if create:
                self._create(parent)
            directory = os.open(self._name, _DIRECTORY, dir_fd=parent)
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


def remove_discarded(runs_directory: str, most: int) -> bool:
    """Remove what was discarded there, about so many files and directories at most; say whether all of it is gone. Raises OSError.

    However deep an app nested its directories, two of them are open at a time: what is in one moves to the top before it is removed.
    """
    parent = os.open(runs_directory, _DIRECTORY)
    try:
        for name in [name for name in _entries(parent, _MOST_ENTRIES) if name.startswith(_DISCARDED)]:
            if most > 0 and not _unlinked(name, parent):
                most = _emptied(name, parent, most)
                if most > 0:
                    os.rmdir(name, dir_fd=parent)
            most -= 1
    finally:
        os.close(parent)
    return most > 0


def _emptied(name: str, parent: int, most: int) -> int:
    """Empty a directory; return how many more entries may be removed, 0 when it is not empty yet."""
    top = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        while most > 0 and (entries := _entries(top, most)):
            for entry in entries:
                most -= 1
                if not _unlinked(entry, top):
                    most -= _flattened(entry, top, most)
    finally:
        os.close(top)
    return max(0, most)


def _flattened(name: str, top: int, most: int) -> int:
    """Remove a directory, and move the directories in it beside it; return how many entries it had, as far as was looked."""
    inner = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        entries = _entries(inner, most)
        for entry in entries:
            if not _unlinked(entry, inner):
                os.rename(entry, secrets.token_hex(16), src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    # One with more entries is left for the next time.
    with suppress(OSError):
        os.rmdir(name, dir_fd=top)
    return len(entries)


def _entries(directory: int, most: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in islice(entries, max(0, most))]


def _unlinked(name: str, directory: int) -> bool:
    """Remove what is no directory, and say whether it was none."""
    try:
        _unlink(name, directory)
    except IsADirectoryError:
        return False
    return True


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
