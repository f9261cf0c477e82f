# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that a module writes while it works, shown while it works.

A module's output arrives when it has ended, which is late for work of minutes. So the module appends lines to a
file that the action plugin of the same name watches. That works where the module runs on the control node.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.opennebula.flower.plugins.module_utils.module import PROGRESS_FILE_VARIABLE

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
        with followed_file(Display().display) as path:
            self._task.environment = [*(self._task.environment or []), {PROGRESS_FILE_VARIABLE: path}]
            return {**result, **self._execute_module(task_vars=task_vars)}


@contextmanager
def followed_file(show: Callable[[str], None]) -> Iterator[str]:
    """Make an empty file and call show with every line that is appended to it, until the context ends."""
    descriptor, path = tempfile.mkstemp(prefix="opennebula-flower-progress-")
    ended = threading.Event()
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        thread = threading.Thread(target=_follow, args=(stream, ended, show), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            thread.join()
            os.unlink(path)


def _follow(stream, ended: threading.Event, show: Callable[[str], None]) -> None:
    pending = ""
    while True:
        # Asked before reading, so that what was written before the end is still read.
        last_time = ended.wait(_POLL_SECONDS)
        *lines, pending = (pending + stream.read()).split("\n")
        for line in lines:
            show(line)
        if last_time:
            return
