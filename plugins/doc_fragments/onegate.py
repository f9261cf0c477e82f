# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options every module that talks to OneGate has."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment opennebula.flower.onegate."""

    DOCUMENTATION = r"""
options:
  endpoint:
    description: OneGate's URL.
    type: str
  vm_id:
    description: Id of this VM.
    type: int
  token_file:
    description: File with this VM's token.
    type: path
    default: /run/one-context/token.txt
  context_file:
    description: File with the VM's context, where O(endpoint) and O(vm_id) come from when they are not given.
    type: path
    default: /run/one-context/one_env
  timeout:
    description: Seconds after which a request ends with an error.
    type: float
    default: 10
requirements:
  - urllib3 >= 1.26
notes:
  - Endpoint, VM and token come from the VM's context unless they are given.
  - Every error is one sentence, and RV(ignore:error.kind) says its kind for programs, one of C(authentication),
    C(authorization), C(missing), C(invalid), C(network), C(timeout) and C(protocol).
"""
