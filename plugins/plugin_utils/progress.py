# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module says while it works, shown while it works.

A module's output arrives when it has ended, which is late for work of minutes. So the module appends lines to a
file that the action plugin of the same name watches, and puts how everything stands into another, which it replaces each time.
That works where the module runs on the control node.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.opennebula.flower.plugins.module_utils.module import DOCUMENT_SUFFIX, PROGRESS_FILE_VARIABLE

_POLL_SECONDS = 0.3


class ProgressActionBase(ActionBase):
    """Runs the module of the task's name and shows its progress."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict:
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        if self._task.async_val or self._connection.transport != "local":
            return {**result, **self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)}
        with followed_file(Display().display, self.show) as path:
            self._task.environment = [*(self._task.environment or []), {PROGRESS_FILE_VARIABLE: path, **self.environment}]
            return {**result, **self._execute_module(task_vars=task_vars)}

    @property
    def environment(self) -> dict[str, str]:
        """What else the module is to know."""
        return {}

    def show(self, document: dict[str, Any]) -> None:
        """Show how everything stands, as the module told it last."""


@contextmanager
def followed_file(show_line: Callable[[str], None], show_document: Callable[[dict[str, Any]], None] = lambda document: None) -> Iterator[str]:
    """Make an empty file and show every line that is appended to it, and each document put beside it, until the context ends."""
    directory = Path(tempfile.mkdtemp(prefix="opennebula-flower-progress-"))
    path = directory / "progress"
    path.touch()
    ended = threading.Event()
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            lines = _Lines(stream, show_line)
            document = _Document(Path(f"{path}{DOCUMENT_SUFFIX}"), show_document)
            thread = threading.Thread(target=_follow, args=(ended, lines.look, document.look), daemon=True)
            thread.start()
            try:
                yield str(path)
            finally:
                ended.set()
                thread.join()
    finally:
        shutil.rmtree(directory)


def _follow(ended: threading.Event, *looks: Callable[[], None]) -> None:
    while True:
        # Asked before reading, so that what was written before the end is still read.
        last_time = ended.wait(_POLL_SECONDS)
        for look in looks:
            look()
        if last_time:
            return


class _Lines:
    def __init__(self, stream: Any, show: Callable[[str], None]) -> None:
        self._stream = stream
        self._show = show
        self._pending = ""

    def look(self) -> None:
        *lines, self._pending = (self._pending + self._stream.read()).split("\n")
        for line in lines:
            self._show(line)


class _Document:
    def __init__(self, path: Path, show: Callable[[dict[str, Any]], None]) -> None:
        self._path = path
        self._show = show
        self._seen = 0

    def look(self) -> None:
        try:
            # It is replaced, never written to, so that what is read is whole.
            number = self._path.stat().st_mtime_ns
            if number == self._seen:
                return
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        self._seen = number
        self._show(json.loads(text))
