# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: what OpenNebula has to be told about devices that are passed through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.module_utils.vfio import opennebula


def gpu_vm_template(*args: Any, **kwargs: Any) -> dict:
    """See gpu_vm_template.yml."""
    try:
        return opennebula.vm_template(*args, **kwargs)
    except ValueError as problem:
        raise AnsibleFilterError(str(problem)) from problem


def pci_monitoring(text: str, devices: list[dict]) -> str:
    """See pci_monitoring.yml."""
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as problem:
        raise AnsibleFilterError(f"pci.conf is not YAML: {problem}") from problem
    if not isinstance(settings, dict):
        raise AnsibleFilterError(f"pci.conf holds {settings!r}, expected settings with names such as :filter")
    before = settings.get(":filter") or []
    try:
        after, shown = opennebula.monitored(before, devices), opennebula.monitored(before, [])
    except ValueError as problem:
        raise AnsibleFilterError(f"pci.conf: {problem}") from problem
    return text if after == shown else opennebula.with_filters(text, after)


class FilterModule:
    """The filters for devices that are passed through."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"gpu_vm_template": gpu_vm_template, "pci_monitoring": pci_monitoring}
