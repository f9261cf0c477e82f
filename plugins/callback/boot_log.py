# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: boot_log
type: notification
short_description: Write how long each stage of an appliance's boot took
version_added: 0.1.0
description:
  - Appends a line with name and seconds for each stage, and for the total, to a log that a person can read. A stage is
    a run of tasks out of the same task file. The last line says why a boot failed.
author:
  - opennebula.flower contributors (@opennebula)
options:
  path:
    description: The log file. Without it nothing is written.
    type: path
    env:
      - name: FLOWER_BOOT_LOG
"""

import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase

# Tasks of other files, for instance of the playbook itself, count for the stage they follow.
STAGES = {"context", "discovery", "tls", "gateway", "container", "health", "publish"}


class CallbackModule(CallbackBase):
    """Measures stages by the names of the task files."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "opennebula.flower.boot_log"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begin = self._stage_begin = time.monotonic()
        self._stage = "context"
        self._failure = ""

    def v2_playbook_on_start(self, playbook) -> None:
        self._write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} started")

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        self._enter(Path(task.get_path().rpartition(":")[0]).stem)

    def v2_playbook_on_handler_task_start(self, task) -> None:
        self._enter("container")

    def v2_runner_on_failed(self, result, ignore_errors=False) -> None:
        if not ignore_errors and not self._failure:
            reasons = (result._result.get(key) for key in ("msg", "stderr"))
            self._failure = ": ".join(str(reason) for reason in reasons if reason) or "no reason given"

    def v2_playbook_on_stats(self, stats) -> None:
        self._finish_stage()
        self._write(f"total {time.monotonic() - self._begin:.1f}")
        self._write(f"failed in stage {self._stage}: {' '.join(self._failure.split())}" if self._failure else "succeeded")

    def _enter(self, stage: str) -> None:
        if stage in STAGES and stage != self._stage and not self._failure:
            self._finish_stage()
            self._stage = stage

    def _finish_stage(self) -> None:
        now = time.monotonic()
        self._write(f"{self._stage} {now - self._stage_begin:.1f}")
        self._stage_begin = now

    def _write(self, line: str) -> None:
        path = self.get_option("path")
        if path:
            with open(path, "a", encoding="utf-8") as log:
                log.write(line + "\n")
