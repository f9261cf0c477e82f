# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: what playbooks register in a zone, and how marketplaces describe it. No VM needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.module_utils import appliances, elasticity, vm_templates
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import targets


def _as_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ImportError as problem:
            raise AnsibleFilterError(f"{problem.name} is missing on the control node; install it with pip") from problem
        except (ValueError, TypeError, KeyError) as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return call


class FilterModule:
    """The filters of playbooks that prepare a zone."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = {
            "flower_appliances": appliances.appliances,
            "flower_elasticity": elasticity.elasticity,
            "flower_monitored_machine": targets.machine,
            "flower_monitored_zone": targets.settings,
            "flower_security_rules": vm_templates.security_rules,
            "flower_vm_template": vm_templates.vm_template,
        }
        return {name: _as_filter(function) for name, function in functions.items()}
