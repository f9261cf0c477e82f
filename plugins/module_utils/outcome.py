# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of every module of the collection: it ends with its result, or with one sentence, and takes text in OpenNebula's syntax for dictionaries.

Nothing that it says has a secret in it: neither its result, nor warnings, nor what Ansible logs of its options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

from .one.core.compare import difference
from .one.transport.errors import INVALID, MISREADINGS, OneException, TemplateSyntaxError, one_line
from .redaction import HIDDEN, hidden, hidden_diff

if TYPE_CHECKING:
    from .one.transport.client import Client
    from .onegate.client import OneGate

# A shorter secret would be replaced in the middle of words, which makes every text unreadable and shows the secret.
_LEAST_LENGTH = 4


class DictModule(AnsibleModule):
    """An Ansible module that understands text in the place of a dictionary, or refuses it in one sentence."""

    def __init__(self, argument_spec: dict, **kwargs: object) -> None:
        self._fault = ""
        super().__init__(argument_spec=argument_spec, **kwargs)
        if self._fault:
            self.fail_json(msg=f"{self._fault}.", error={"kind": INVALID})

    def _load_params(self) -> None:
        """Read the parameters, before Ansible checks their types."""
        super()._load_params()
        if _has_text(self.argument_spec, self.params):
            from .dict_texts import read

            self._fault = read(self.argument_spec, self.params)


class SafeModule(DictModule):
    """An Ansible module whose output is of one line where it is a sentence, and has no secrets.

    exact: results that are for tasks, not for people, and stay as they are. A secret in them is the task's to hide.
    """

    exact: frozenset[str] = frozenset()
    _command = ""

    def run(self, operation: Callable[[], dict]) -> None:
        """Exit with what the operation returns, or fail with one sentence where a file or what a program prints is not as it should be."""
        try:
            result = operation()
        except OneException as error:
            self.fail_json(msg=error.message, error={"kind": error.kind})
        except OSError as error:
            self.fail_json(msg=f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.")
        except MISREADINGS as error:
            if not self._command:
                raise
            self.fail_json(msg=f"What {self._command} prints cannot be understood: {type(error).__name__}: {error}.")
        else:
            self.exit_json(**result)

    def run_command(self, args: list[str], **options: object) -> tuple[int, str, str]:
        """Run a program as Ansible does."""
        self._command = " ".join(args[:3])
        return super().run_command(args, **options)

    def warn(self, warning: str, **options: object) -> None:
        """Show the user a warning, on one line and without secrets."""
        from .redaction_text import hidden_text

        super().warn(hidden_text(one_line(warning)), **options)

    def _log_invocation(self) -> None:
        """Log the options without the secrets in them; Ansible knows only of options that are secret as a whole."""
        given, self.params = self.params, self._shown_options()
        try:
            super()._log_invocation()
        finally:
            self.params = given

    def _return_formatted(self, kwargs: dict) -> None:
        """Print the result, which every way to end a module comes to."""
        self.no_log_values = {value for value in self.no_log_values if len(str(value)) >= _LEAST_LENGTH}
        shown = hidden({name: value for name, value in kwargs.items() if name != "diff" and name not in self.exact})
        shown.update((name, value) for name, value in kwargs.items() if name in self.exact)
        if kwargs.get("failed") and isinstance(kwargs.get("msg"), str):
            shown["msg"] = one_line(shown["msg"])
        diff = kwargs.get("diff")
        if isinstance(diff, dict) and "before" in diff and "after" in diff:
            before, after = hidden_diff(diff["before"], diff["after"])
            shown["diff"] = {**diff, "before": before, "after": after}
        elif diff is not None:
            shown["diff"] = hidden(diff)
        super()._return_formatted({"invocation": {"module_args": self._shown_options()}, **shown})

    def _shown_options(self) -> dict:
        """Return the task's options without the secrets in them."""
        return {
            name: HIDDEN if value and self.argument_spec.get(name, {}).get("no_log") else hidden(value)
            for name, value in self.params.items()
        }


class ServerModule(SafeModule):
    """An Ansible module whose work asks a server."""

    def finish(self, operation: Callable[[], dict], server: Callable[[], Client | OneGate | None]) -> None:
        """Exit with what the operation returns, or fail.

        server: returns who was asked, None before that. What reading its answers raises is its fault; anything else that is
        raised, and the same before it was asked, is a fault of the code, and is raised again.
        """
        try:
            result = operation()
        except OneException as error:
            self.fail_json(msg=error.message, error={"kind": error.kind})
        except TemplateSyntaxError as error:
            self.fail_json(msg=one_line(f"{error}."), error={"kind": INVALID})
        except MISREADINGS as error:
            asked = server()
            if asked is None or not asked.asked:
                raise
            from .one.transport.answers import misread

            found = misread(error, asked.place, asked.asked)
            self.fail_json(msg=found.message, error={"kind": found.kind})
        else:
            self.exit_json(**result)


def changed_result(before: dict, after: dict, **facts: object) -> dict:
    """Return a module's result: changed and diff follow from the two states, facts are returned as they are."""
    left, right = difference(before, after)
    return {"changed": before != after, "diff": {"before": left, "after": right}, **facts}


def _has_text(argument_spec: dict, params: dict) -> bool:
    """Tell whether a parameter that should be a dictionary, or several, is text or has text in it."""
    for name, option in argument_spec.items():
        if "dict" not in (option.get("type"), option.get("elements")):
            continue
        for value in (params.get(key) for key in (name, *option.get("aliases", ()))):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str) or (isinstance(item, dict) and _has_text(option.get("options") or {}, item)):
                    return True
    return False
