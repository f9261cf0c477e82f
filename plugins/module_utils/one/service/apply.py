# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a service to what is wanted, step by step, waiting in between where OneFlow or the task asks for it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..core.ownership import Ownership
from ..transport.client import Client
from ..transport.errors import OneException
from . import actions as service_actions
from . import facts as service_facts
from . import settings as service_settings
from .facts import COOLDOWN, FAILED, FAILED_LEAVING, HOLD, LEAVING, RUNNING, WARNING
from .role_states import GOALS, RoleState
from .wait import ServiceWait, has_failed, is_recovering

# States in which the VMs of a service are acted on.
_AT_REST = (RUNNING, WARNING, COOLDOWN)


class ServiceChanger:
    """What is done to a service.

    params: the options of the task. progress: called with how things stand. Everything raises OneException.
    """

    def __init__(self, client: Client, params: dict, ownership: Ownership, progress: Callable[[str], None]) -> None:
        self._client = client
        self._params = params
        self._ownership = ownership
        self._progress = progress
        self._role_states = {name: role["state"] for name, role in params["roles"].items() if role.get("state")}
        self._resting = frozenset(name for name, state in self._role_states.items() if state != "running")

    def is_leaving(self, current: dict) -> bool:
        """Tell whether a service is on its way out already, and needs nobody's help."""
        return service_facts.state(current) in LEAVING or (
            service_facts.state(current) in FAILED_LEAVING and self._is_recovering(current)
        )

    def _is_recovering(self, current: dict) -> bool:
        """Tell whether a failed service may be left to itself for now.

        Its VMs may get on without OneFlow's knowledge, so a task that waits had better ask once more than wait in vain.
        """
        return not self._params["wait"] and is_recovering(self._client, current)

    def remove(self, current: dict, action: str | None) -> None:
        """Remove a service, and wait until it is gone if the task says so.

        action: delete, recover for one that failed to leave, None for one that is leaving.
        """
        if action == "recover":
            service_actions.recover(self._client, int(current["ID"]))
        elif action == "delete":
            service_actions.delete(self._client, current)
        self._leave(current, current if service_facts.state(current) in FAILED_LEAVING else None)

    def start(self, template_id: int, merge: dict, leaving: dict | None) -> dict:
        """Start a service from a template and return its document. leaving: one of its name that goes first."""
        if leaving:
            self._waiting(leaving).gone()
        service = service_actions.instantiate(self._client, template_id, merge)
        if service_facts.body(service).get("on_hold") and self._params["wait"]:
            self._waiting(service).held()
            service_actions.release(self._client, int(service["ID"]))
        service = self._running(service, {})
        # What cannot be merged, and what only VMs that exist can be.
        if self._params["wait"]:
            service = self._shaped(service, {})
        return self._given(service)

    def mending(self, current: dict) -> Callable | None:
        """Return what makes a service go on that does not by itself."""
        if service_facts.state(current) == HOLD:
            return service_actions.release
        return service_actions.recover if has_failed(self._client, current) and not self._is_recovering(current) else None

    def apply(self, current: dict, wanted: dict[str, int], mend: Callable | None, give: bool) -> dict:
        """Change a service and return its document. wanted: numbers of VMs by role. give: whether to its owner as well."""
        if mend:
            current = self._mended(current, mend)
        current = self._shaped(current, wanted)
        return self._given(current) if give else current

    def predicted_states(self, current: dict) -> tuple[dict, dict]:
        """Return the states of the VMs of the roles that have one wanted, as they are and as they should be."""
        if service_facts.state(current) in _AT_REST:
            role_states = self._states(current)
            return {name: role.before for name, role in role_states.items()}, {name: role.after for name, role in role_states.items()}
        # Its VMs are on their way to run.
        return {}, {name: [GOALS[self._role_states[name]]] for name in self._resting}

    def _mended(self, current: dict, mend: Callable) -> dict:
        try:
            mend(self._client, int(current["ID"]))
        except OneException:
            # It may have got on by itself since it was read.
            now = self._read(current)
            if self.mending(now):
                raise
            return now
        # OneFlow may have noticed only just now what had failed before.
        failed = current if service_facts.state(current) in FAILED else self._read(current)
        return self._running(current, {}, recovered=failed if mend is service_actions.recover else None)

    def _shaped(self, current: dict, wanted: dict[str, int]) -> dict:
        if service_facts.state(current) in _AT_REST:
            self._set_states(current, {name for name in self._role_states if name not in self._resting})
        current = self._running(self._updated(current, wanted), {})
        # What was wanted is compared with what is there after the waiting: VMs may have gone meanwhile.
        for name, cardinality in wanted.items():
            current = self._scaled(current, name, cardinality)
        current = self._updated(current, {})
        if not self._params["wait"]:
            current = self._read(current)
        return self._read(current) if self._set_states(current, self._resting) else current

    def _scaled(self, current: dict, name: str, cardinality: int) -> dict:
        """Give a role its number of VMs. OneFlow scales one role at a time, and only a service that has come to rest."""
        if _size(current, name) != cardinality:
            current = self._running(current, {}, cooled_down=True)
        if _size(current, name) == cardinality:
            return current
        if self._params["drain"] and cardinality < _size(current, name):
            from .drain import drain

            drain(self._client, current, name, cardinality, self._params["wait_timeout"], self._progress)
        service_actions.scale(self._client, int(current["ID"]), name, cardinality)
        return self._running(current, {name: cardinality})

    def _updated(self, current: dict, wanted: dict[str, int]) -> dict:
        """Give the service its settings, which takes one that has come to rest; return it as it is then.

        wanted: numbers of VMs by role that it will get: until then its bounds have room for those it has.
        """
        def new_body() -> dict:
            body = service_settings.updated(service_facts.body(current), self._params["template"], self._params["roles"])
            return service_settings.with_room(body, wanted) if wanted else body

        if new_body() != service_facts.body(current):
            current = self._running(current, {}, cooled_down=True)
            service_actions.update(self._client, int(current["ID"]), new_body())
            current = self._read(current)
        return current

    def _states(self, current: dict, names: Collection[str] | None = None) -> dict[str, RoleState]:
        return {
            name: RoleState(self._client, current, name, wanted) for name, wanted in self._role_states.items()
            if names is None or name in names
        }

    def _set_states(self, current: dict, names: Collection[str]) -> bool:
        """Bring the VMs of roles to their states; return whether there was something to do."""
        role_states = self._states(current, names).values()
        for role_state in role_states:
            role_state.apply(self._params["wait"], self._params["wait_timeout"], self._progress)
        return any(role_state.before != role_state.after for role_state in role_states)

    def _given(self, service: dict) -> dict:
        service_actions.give(self._client, "service", service, self._ownership)
        return self._read(service)

    def _read(self, service: dict) -> dict:
        return service_facts.service_by_id(self._client, int(service["ID"])) or service

    def _running(
        self, service: dict, cardinalities: dict[str, int], cooled_down: bool = False, recovered: dict | None = None
    ) -> dict:
        """Return the service as it is now, waiting until it runs if the task says so."""
        if not self._params["wait"]:
            return self._read(service)
        cooled_down = cooled_down or self._params["wait_for_cooldown"]
        return self._waiting(service, recovered).running(cardinalities, cooled_down, self._resting)

    def _leave(self, service: dict, recovered: dict | None = None) -> None:
        if self._params["wait"]:
            self._waiting(service, recovered).gone()

    def _waiting(self, service: dict, recovered: dict | None = None) -> ServiceWait:
        return ServiceWait(self._client, service, self._params["wait_timeout"], self._progress, recovered, self._params["error_attribute"])


def _size(service: dict, role: str) -> int:
    return service_facts.sizes(service)["roles"][role]
