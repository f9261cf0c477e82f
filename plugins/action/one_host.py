# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of waiting for a host."""

from __future__ import annotations

from ansible_collections.opennebula.flower.plugins.plugin_utils.progress import ProgressActionBase


class ActionModule(ProgressActionBase):
    """Runs the module one_host."""
