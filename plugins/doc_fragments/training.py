# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of modules that are about the runs of a service; their specification is SERVICE_OPTIONS of module_utils/trainings.py."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment opennebula.flower.training."""

    DOCUMENTATION = r"""
options:
  service:
    description: Name or id of the service. Its role C(superlink) has exactly one VM.
    type: str
    required: true
"""
