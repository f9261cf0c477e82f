# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: how a zone is asked, from what an inventory says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils.module import API_OPTIONS

# A path is that of one machine, and tasks that ask a zone run on several.
_VARIABLES = {f"one_{option}": option for option in API_OPTIONS if option != "ca_path"}


def api(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the API options of which a host has the variable: ``one_api_url`` is ``api_url``, and so on.

    Variables of a host are evaluated as they are read, so only those are that count.
    """
    given = {option: variables[name] for name, option in _VARIABLES.items() if name in variables}
    return {option: value for option, value in given.items() if value is not None}


class FilterModule:
    """The filter of plays that ask a zone."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by name."""
        return {"one_api": api}
