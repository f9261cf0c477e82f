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
    description: File with nothing but this VM's token, for machines without OpenNebula's guest agent.
    type: path
  context_file:
    description:
      - File with the VM's context, in either form of the guest agent. O(endpoint) and O(vm_id) come from it when they are not given.
      - Without it, the files that OpenNebula's guest agent leaves in C(/run/one-context), the newest first.
    type: path
  timeout:
    description: Seconds after which a request ends with an error.
    type: float
    default: 10
requirements:
  - urllib3 >= 1.26
notes:
  - Endpoint, VM and token come from what OpenNebula's guest agent leaves in C(/run/one-context) unless they are given. The token is
    C(ONEGATE_TOKEN) of the context, else C(TOKENTXT) in C(one_env). Only root may read these files.
  - Every error is one sentence, and RV(ignore:error.kind) says its kind for programs, one of C(authentication),
    C(authorization), C(missing), C(invalid), C(network), C(timeout) and C(protocol).
"""
