# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Arguments of modules that tests run in their own process, on every release of ansible-core."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from unittest.mock import patch

from ansible.module_utils import basic

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # before ansible-core 2.17

    def patch_module_args(module_args: dict) -> AbstractContextManager:
        """Let the next module read these arguments."""
        return patch.object(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": module_args}).encode())


__all__ = ["patch_module_args"]
