# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the modules that talk to OneGate from inside a VM."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from .one.errors import INVALID, OneException
from .one.http import URLLIB3_IMPORT_ERROR
from .one.onegate import OneGate

GATE_OPTIONS = {
    "endpoint": {"type": "str"},
    "vm_id": {"type": "int"},
    "token_file": {"type": "path", "default": "/run/one-context/token.txt"},
    "context_file": {"type": "path", "default": "/run/one-context/one_env"},
    "timeout": {"type": "float", "default": 10},
}


class OneGateModule(AnsibleModule):
    """An Ansible module with the options that lead to OneGate and a client for them."""

    def __init__(self, argument_spec: dict, **kwargs: object) -> None:
        super().__init__(argument_spec={**argument_spec, **GATE_OPTIONS}, **kwargs)
        if URLLIB3_IMPORT_ERROR:
            self.fail_json(msg=missing_required_lib("urllib3"), exception=URLLIB3_IMPORT_ERROR)

    @cached_property
    def gate(self) -> OneGate:
        """OneGate with the identity of this VM. Raises OneException."""
        endpoint, vm_id = self.params["endpoint"], self.params["vm_id"]
        if endpoint is None or vm_id is None:
            context = _context(Path(self.params["context_file"]))
            endpoint = context.get("ONEGATE_ENDPOINT") if endpoint is None else endpoint
            vm_id = context.get("VMID") if vm_id is None else vm_id
        if not endpoint or vm_id is None:
            lacking = "ONEGATE_ENDPOINT" if not endpoint else "VMID"
            raise OneException(INVALID, f"The context in {self.params['context_file']} has no {lacking}.")
        token = _text(Path(self.params["token_file"])).strip()
        self.no_log_values.add(token)
        return OneGate(endpoint, vm_id, token, self.params["timeout"])

    def run(self, work: Callable[[], dict]) -> None:
        """Exit with what work returns, or fail with one sentence and the kind of error."""
        try:
            result = work()
        except OneException as error:
            self.fail_json(msg=error.message, error={"kind": error.kind})
        else:
            self.exit_json(**result)


def _context(path: Path) -> dict[str, str]:
    """Return the variables of a context as OpenNebula's guest agent writes it: export NAME="value"."""
    pattern = re.compile(r"""^(?:export )?([A-Za-z_][A-Za-z0-9_]*)=(["']?)(.*)\2$""", re.MULTILINE)
    return {name: value for name, _quote, value in pattern.findall(_text(path))}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OneException(INVALID, f"{path} cannot be read: {error.strerror}.") from None
