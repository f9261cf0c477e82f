# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the modules that talk to OpenNebula's API.

Ansible sends a module as source, so every run compiles what is imported. What only a change, an error or a rare option
needs is imported by the function that needs it: a run that changes nothing is most of all runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import env_fallback, missing_required_lib

from .one.transport.client import Client
from .one.transport.errors import INVALID, OneException, one_line
from .one.transport.http import URLLIB3_IMPORT_ERROR, check_timeout
from .outcome import ServerModule, changed_result

if TYPE_CHECKING:
    from .one.core.compare import Transition

# The action plugin of the same name shows what a module appends to the file named here.
PROGRESS_FILE_VARIABLE = "OPENNEBULA_FLOWER_PROGRESS_FILE"
DOCUMENT_SUFFIX = ".json"

API_OPTIONS = {
    "api_url": {"type": "str", "default": "http://localhost:2633/RPC2", "fallback": (env_fallback, ["ONE_XMLRPC"])},
    "api_username": {"type": "str", "fallback": (env_fallback, ["ONE_USERNAME"])},
    "api_password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["ONE_PASSWORD"])},
    "api_timeout": {"type": "float", "default": 30.0},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "oneflow_url": {"type": "str", "fallback": (env_fallback, ["ONEFLOW_URL"])},
}

# Documented in the fragments object and attributes.wait.
STATE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "template": {"type": "dict", "default": {}},
    "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
WAIT_OPTIONS = {"wait": {"type": "bool", "default": True}, "wait_timeout": {"type": "float", "default": 600}}
# Every wait ends.
LONGEST_WAIT = 31_536_000


class OneModule(ServerModule):
    """An Ansible module with the API options and a client for them."""

    def __init__(self, argument_spec: dict, **kwargs: object) -> None:
        super().__init__(argument_spec={**argument_spec, **API_OPTIONS}, **kwargs)
        if URLLIB3_IMPORT_ERROR:
            self.fail_json(msg=missing_required_lib("urllib3"), exception=URLLIB3_IMPORT_ERROR)
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client for the endpoint and identity of the options. Raises OneException."""
        if self._client is None:
            self._client = self.client_of({})
        return self._client

    def client_of(self, options: Mapping[str, Any]) -> Client:
        """Return a client for API options of their own; those that are missing or None are the module's. Raises OneException."""
        api = {name: self.params[name] if options.get(name) is None else options[name] for name in API_OPTIONS}
        username, password = self._credentials(api["api_username"], api["api_password"])
        # Nothing the module returns or logs may contain it, wherever it came from.
        self.no_log_values.add(password)
        check_timeout(api["api_timeout"])
        self._check_wait()
        return Client(
            api["api_url"], username, password, api["api_timeout"], api["validate_certs"], api["ca_path"], api["oneflow_url"], self.warn
        )

    def _check_wait(self) -> None:
        timeout = self.params.get("wait_timeout") or 0
        if not timeout <= LONGEST_WAIT:
            raise OneException(INVALID, f"wait_timeout is {timeout:.10g}, it must be at most {LONGEST_WAIT} seconds, a year.")

    def _credentials(self, username: str | None, password: str | None) -> tuple[str, str]:
        if username and password:
            return username, password
        from .one.transport.credentials import DEFAULT_AUTH_FILE, credentials

        return credentials(username, password, os.environ.get("ONE_AUTH") or DEFAULT_AUTH_FILE)

    def run(self, operation: Callable[[], dict]) -> None:
        """Exit with what the operation returns, or fail with one sentence and the kind of error."""
        self.finish(operation, lambda: self._client)

    def reconcile(self, transition: Callable[[], Transition]) -> None:
        """Bring something to its desired state and exit with the result, or fail as run does; see one/core/reconcile.py."""
        self.run(lambda: self._carried_out(transition()))

    def _carried_out(self, transition: Transition) -> dict:
        facts = transition.predicted if self.check_mode or transition.apply is None else transition.apply
        return changed_result(transition.before, transition.after, **facts())

    def unresolved(self, error: OneException) -> None:
        """Take note of something that is missing: an error, unless check mode merely comes before its creation."""
        if not self.check_mode:
            raise error
        self.warn(f"{error.message} In a real run that would be an error unless an earlier task makes it.")

    def progress(self, text: str) -> None:
        """Show the user a line while the module runs. Without a listener nothing happens."""
        if not self.is_followed:
            return
        from .redaction_text import hidden_text

        subject = " ".join(part for part in (self._name.rpartition(".")[2], self.params.get("name")) if part)
        try:
            with open(os.environ[PROGRESS_FILE_VARIABLE], "a", encoding="utf-8") as stream:
                stream.write(hidden_text(one_line(f"{subject}: {text}")) + "\n")
        except OSError:
            # The listener sits on another machine or belongs to another user.
            return

    def tell(self, document: Mapping[str, Any]) -> None:
        """Give the action plugin of the same name what it shows in its own way; only the newest counts. Without a listener nothing happens."""
        if not self.is_followed:
            return
        path = os.environ[PROGRESS_FILE_VARIABLE] + DOCUMENT_SUFFIX
        try:
            with open(f"{path}.partial", "w", encoding="utf-8") as stream:
                json.dump(document, stream)
            os.replace(f"{path}.partial", path)
        except OSError:
            return

    @property
    def is_followed(self) -> bool:
        """Whether an action plugin shows what the module does."""
        return bool(os.environ.get(PROGRESS_FILE_VARIABLE))
