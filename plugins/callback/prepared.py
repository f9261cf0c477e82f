# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: prepared
type: notification
short_description: Prepare once what an appliance's boot would prepare in every task
version_added: 0.2.0
description:
  - Loads the filters of this collection before the first task. Each task runs in a process of its own, which loads filters that it finds there no more.
  - Keeps what Ansible makes of a module before it runs it, so that the next boot finds it. It is what was made of the files of then. Who changes them names
    another directory.
author:
  - opennebula.flower contributors (@opennebula)
options:
  modules:
    description: The directory, which must belong to nobody else. Without it nothing is kept.
    type: path
    env:
      - name: FLOWER_BOOT_MODULES
"""

import gc
from contextlib import suppress
from pathlib import Path

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader, filter_loader, shell_loader

# One of each file of filters that the roles of an appliance use.
FILTERS = ("flower_setting_errors", "systemd_quote")


class CallbackModule(CallbackBase):
    """Works in the process from which those of the tasks are forked."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "opennebula.flower.prepared"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook) -> None:
        for name in FILTERS:
            filter_loader.get(f"opennebula.flower.{name}")
        connection_loader.get("opennebula.flower.module_runner", class_only=True)
        shell_loader.get("sh", class_only=True)
        kept = self.get_option("modules")
        if kept:
            # A release that has it elsewhere makes it anew each time.
            with suppress(OSError):
                Path(kept).mkdir(mode=0o700, parents=True, exist_ok=True)
                Path(C.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(kept)
        # What is there by now is not looked through for garbage in each of them.
        gc.collect()
        gc.freeze()
