# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the modules that talk to OneGate from inside a VM."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ansible.module_utils.basic import missing_required_lib

from ..one.transport.errors import INVALID, OneException
from ..one.transport.http import URLLIB3_IMPORT_ERROR, check_timeout
from ..outcome import ServerModule
from .client import OneGate
from .context_files import ContextMissing, parse, read_context, read_token

GATE_OPTIONS = {
    "endpoint": {"type": "str"},
    "vm_id": {"type": "int"},
    "token_file": {"type": "path"},
    "context_file": {"type": "path"},
    "timeout": {"type": "float", "default": 10},
}


class OneGateModule(ServerModule):
    """An Ansible module with the options that lead to OneGate and a client for them."""

    def __init__(self, argument_spec: dict, **kwargs: object) -> None:
        super().__init__(argument_spec={**argument_spec, **GATE_OPTIONS}, **kwargs)
        if URLLIB3_IMPORT_ERROR:
            self.fail_json(msg=missing_required_lib("urllib3"), exception=URLLIB3_IMPORT_ERROR)

    @cached_property
    def gate(self) -> OneGate:
        """OneGate with the identity of this VM. Raises OneException."""
        endpoint, vm_id = self.params["endpoint"], self.params["vm_id"]
        check_timeout(self.params["timeout"], "timeout")
        try:
            context = None
            if endpoint is None or vm_id is None:
                context, source = self._context()
                endpoint = context.get("ONEGATE_ENDPOINT") if endpoint is None else endpoint
                vm_id = context.get("VMID") if vm_id is None else vm_id
                if not endpoint or not vm_id and vm_id != 0:
                    lacking = "VMID" if endpoint else "ONEGATE_ENDPOINT"
                    raise OneException(INVALID, f"The context in {source} has no {lacking}.")
            token = _text(self.params["token_file"]).strip() if self.params["token_file"] else read_token(context)
        except ContextMissing as problem:
            text = str(problem)
            raise OneException(INVALID, f"{text[:1].upper()}{text[1:]}.") from None
        self.no_log_values.add(token)
        return OneGate(endpoint, vm_id, token, self.params["timeout"])

    def _context(self) -> tuple[dict[str, str], str]:
        file = self.params["context_file"]
        return (parse(_text(file)), file) if file else read_context()

    def run(self, operation: Callable[[], dict]) -> None:
        """Exit with what the operation returns, or fail with one sentence and the kind of error."""
        self.finish(operation, lambda: self.__dict__.get("gate"))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise OneException(INVALID, f"{path} cannot be read: {error.strerror}.") from None
