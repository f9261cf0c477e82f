# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create VMs from a VM template."""

from __future__ import annotations

from collections.abc import Callable

from ..core import lookup
from ..core.patterns import matcher
from ..transport.client import Client
from ..transport.errors import CONFLICT, INVALID, OneException
from . import facts as vm_facts
from .apply import VmChanger
from .desired import DesiredVm
from .diff import GOALS

# States that a new VM is brought to once it runs, and the action for it.
_AFTER_START = {"poweroff": "poweroff", "suspended": "suspend"}


class VmCreation:
    """The new VMs of a task.

    params: the task's options. unresolved: called with the exception for a reference that means nothing yet; it may
    raise it. Raises OneException for what stands against making them.

    attributes: what they have besides what their VM template says.
    """

    def __init__(
        self, client: Client, params: dict, desired: DesiredVm, unresolved: Callable[[OneException], None]
    ) -> None:
        self._client = client
        self._params = params
        self._desired = desired
        name, pattern = params["name"], params["vm_template"]
        if pattern is None:
            raise OneException(INVALID, f"VM {name!r} does not exist: vm_template is needed to make it.")
        if params["state"] in _AFTER_START and not params["wait"]:
            action = _AFTER_START[params["state"]]
            raise OneException(INVALID, f"VM {name!r} does not exist: it takes wait to {action} it once it runs.")
        self._template = _find_template(client, pattern)
        if self._template is None:
            unresolved(lookup.missing(client, "VM template", pattern))
        desired.ownership.check({}, desired.ownership.given(), unresolved)
        self.attributes = desired.instantiation(self._template or {})

    def create(self, names: list[str], changer: VmChanger) -> list[dict]:
        """Create VMs with these names and return their documents. Raises OneException."""
        on_hold = self._params["state"] == "hold"
        template = int(self._template["ID"])
        numbers = [
            self._client.call("one.template.instantiate", template, name, on_hold, self.attributes, False) for name in names
        ]
        made = sorted(vm_facts.by_id(self._client, numbers).values(), key=lambda vm: int(vm["ID"]))
        for vm in made:
            changer.describe_new(self._desired.plan(vm))
        if self._params["wait"] and not on_hold:
            running = changer.wait(made).reach("RUNNING")
            if self._params["state"] in _AFTER_START:
                changer.act(_AFTER_START[self._params["state"]], running)
                changer.wait(running, acted=True).reach(GOALS[self._params["state"]])
        return made


def _find_template(client: Client, pattern: str) -> dict | None:
    """Return the VM template with this id or name, or the only one that the pattern means; None if there is none.

    A name means what it means everywhere, see ``lookup.named``. Raises OneException of kind conflict when several are
    meant.
    """
    if lookup.is_id(pattern):
        return lookup.get(client, "template", int(pattern))
    there = lookup.pool(client, "template")
    means = matcher(pattern)
    exact = lookup.named(client, "VM template", there, pattern)
    if exact:
        return exact
    found = [template for template in there if means(template["NAME"])]
    if len(found) > 1:
        listed = ", ".join(f"{template['NAME']!r} (id {template['ID']})" for template in reversed(found))
        raise OneException(CONFLICT, f"Several VM templates are meant by {pattern!r}: {listed}; use an id.")
    return found[0] if found else None
