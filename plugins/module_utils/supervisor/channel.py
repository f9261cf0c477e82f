# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a supervisor tells how its runs go and finds requests: the attributes of its VM, through OneGate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..one.transport.errors import OneException
from ..onegate.client import OneGate
from ..onegate.context_files import read_token
from .protocol import Refusal, requested, run_attributes
from .runs import Run
from .untrusted import sentence

LOGGER = logging.getLogger("flower-supervisor")

_TIMEOUT = 5


class Channel(Protocol):
    """What a supervisor needs to talk to the world; neither call raises."""

    def request(self) -> str | None:
        """Return the text of the current request."""

    def publish(self, runs: Sequence[Run], refusal: Refusal | None = None) -> None:
        """Tell how the runs stand, and which request was refused."""


class NoChannel:
    """For a SuperLink outside OpenNebula: nobody listens, nobody asks."""

    def request(self) -> str | None:
        """Return nothing."""
        return None

    def publish(self, runs: Sequence[Run], refusal: Refusal | None = None) -> None:
        """Do nothing."""


class OneGateChannel:
    """Publishes what changed as attributes of the VM. Problems are logged, and the next call tries again."""

    def __init__(self, onegate: OneGate) -> None:
        self._onegate = onegate
        self._published: dict[str, str] = {}
        self._problem = ""

    def request(self) -> str | None:
        """Return the text of the request in the VM's attributes, as it is when it cannot be decoded."""
        try:
            attributes = _user_template(self._onegate.get_vm())
        except OneException as problem:
            self._report(problem.message)
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            self._report("OneGate answered with something else than a VM.")
            return None
        self._recovered()
        return requested(attributes)

    def publish(self, runs: Sequence[Run], refusal: Refusal | None = None) -> None:
        """Publish the attributes that differ from what was published before."""
        attributes = run_attributes(runs, refusal)
        changed = {name: value for name, value in attributes.items() if self._published.get(name) != value}
        if not changed:
            return
        try:
            self._onegate.put(changed)
        except OneException as problem:
            self._report(problem.message)
        else:
            self._published |= changed
            self._recovered()

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            LOGGER.warning("%s", sentence(problem))
        self._problem = problem

    def _recovered(self) -> None:
        if self._problem:
            LOGGER.info("OneGate answers again.")
        self._problem = ""


def open_channel(settings: dict[str, Any] | None) -> Channel:
    """Return the channel for the settings endpoint, vm_id and, where no guest agent leaves a token, token_file.

    Raises OSError or ContextMissing when there is no token.
    """
    if settings is None:
        return NoChannel()
    token_file = settings.get("token_file")
    token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else read_token()
    return OneGateChannel(OneGate(settings["endpoint"], settings["vm_id"], token, _TIMEOUT))


def _user_template(vm: object) -> dict[str, Any]:
    """Return the attributes in what OneGate says of a VM; a VM without any has an empty text there, or nothing."""
    if not isinstance(vm, dict):
        raise TypeError("not a VM")
    attributes = vm.get("USER_TEMPLATE") or {}
    if not isinstance(attributes, dict):
        raise TypeError("not attributes")
    return attributes
