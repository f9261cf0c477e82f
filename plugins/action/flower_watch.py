# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a federation while flower_watch looks at it."""

from __future__ import annotations

from typing import Any

from ansible.utils.color import ANSIBLE_COLOR
from ansible.utils.display import Display

from ansible_collections.opennebula.flower.plugins.plugin_utils.progress import ProgressActionBase

# To the upper left corner, and everything away that stands there.
CLEAR = "\033[H\033[2J"


class ActionModule(ProgressActionBase):
    """Runs the module flower_watch; a view takes the place of the last one where escape sequences are understood."""

    _shown: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Ansible asks how wide the terminal is before it starts its workers, which have none."""
        return {"COLUMNS": str(Display().columns)}

    def show(self, document: dict[str, Any]) -> None:
        """Show a view. Its first line is the time, which alone is nothing new."""
        first, *lines = document["view"]
        if ANSIBLE_COLOR:
            Display().display(CLEAR + "\n".join([first, *lines]))
        elif tuple(lines) != self._shown:
            Display().display("\n".join([first, *lines, ""]))
        self._shown = tuple(lines)
