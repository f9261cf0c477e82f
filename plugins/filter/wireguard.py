# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: the address plan of a WireGuard overlay, and what an interface takes from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.plan import interface_peers, make_plan


def _as_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyError as problem:
            raise AnsibleFilterError(f"site {problem} has no public key") from problem
        except ValueError as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return call


class FilterModule:
    """The filters for WireGuard."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"wireguard_plan": _as_filter(make_plan), "wireguard_peers": _as_filter(interface_peers)}
