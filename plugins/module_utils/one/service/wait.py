# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a service stands, for people, and waiting for it to stand better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..core import states
from ..core.wait import wait_until
from ..transport.client import Client
from ..transport.errors import MISSING, WRONG_STATE, OneException
from ..vm import facts as vm_facts
from . import facts as service_facts
from .facts import COOLDOWN, FAILED, FAILED_LEAVING, HOLD, LEAVING, RUNNING, WARNING

# More VMs of a role than this in one message help nobody.
_NAMED = 5


class ServiceWait:
    """Waiting for one service.

    timeout: seconds for each of the waits. progress: called with how things stand. recovered: the failed service as it
    was when OneFlow was asked to recover it: it stays in its failed state until its VMs are as they should be, and only
    its log tells that it failed again. error_attribute: the attribute by which a VM says why it will not report READY.
    """

    def __init__(
        self, client: Client, service: dict, timeout: float, progress: Callable[[str], None],
        recovered: dict | None = None, error_attribute: str = "",
    ) -> None:
        self._client = client
        self._error_attribute = error_attribute
        self._id = int(service["ID"])
        self._name = service["NAME"]
        self._timeout = timeout
        self._progress = progress
        self._service: dict | None = service
        self._vms: dict[int, dict] = {}
        self._recovered_from = service_facts.state(recovered) if recovered else ""
        self._old_log = _log(recovered) if recovered else Counter()

    def running(
        self, cardinalities: dict[str, int], cooled_down: bool = True, resting: frozenset[str] = frozenset()
    ) -> dict:
        """Wait until the service runs with these numbers of VMs and return its document.

        cooled_down: also wait for the end of the cooldown after a scaling. resting: roles whose VMs need not run,
        which makes the service WARNING.
        Raises OneException: at once when the service or one of its VMs failed, of kind timeout at the deadline.
        """
        return self._wait(lambda: self._is_running(cardinalities, cooled_down, resting), "RUNNING")

    def held(self) -> None:
        """Wait until the service is on hold. Raises OneException as running does."""
        self._wait(self._is_held, HOLD)

    def gone(self) -> None:
        """Wait until the service is removed. Raises OneException as running does."""
        self._wait(self._is_gone, "removed")

    def _wait(self, done: Callable[[], bool], goal: str) -> dict:
        def probe() -> dict | None:
            self._look()
            # A removed service has no document, but the wait has to end with something.
            return (self._service or {}) if done() else None

        return wait_until(
            probe, self._description, self._timeout, progress=self._progress,
            what=f"Service {self._name!r} (id {self._id}) is not {goal}",
        )

    def _look(self) -> None:
        self._service = service_facts.service_by_id(self._client, self._id)
        self._vms = unfinished_vms(self._client, self._service) if self._service else {}

    def _is_running(self, cardinalities: dict[str, int], cooled_down: bool, resting: frozenset[str]) -> bool:
        if self._service is None:
            raise OneException(MISSING, f"Service {self._name!r} (id {self._id}) was removed while waiting for it.")
        state = service_facts.state(self._service)
        if state in FAILED | FAILED_LEAVING | LEAVING | {HOLD} and not self._is_recovering():
            raise self._stuck()
        if state == RUNNING or (state == COOLDOWN and not cooled_down):
            return all(_has_size(self._service, role, number) for role, number in cardinalities.items())
        others = [role for role in service_facts.roles(self._service).values() if role["name"] not in resting]
        if state == WARNING and all(_is_finished(role) for role in others):
            return bool(resting)
        at_rest = {number for role in resting for number in service_facts.service_vms(self._service, role)}
        expected = [vm for number, vm in self._vms.items() if number not in at_rest]
        if any(_is_stuck(vm, state) or vm_facts.reported_error(vm, self._error_attribute) for vm in expected):
            raise self._stuck()
        return False

    def _is_held(self) -> bool:
        if self._service is None or service_facts.state(self._service) in FAILED | FAILED_LEAVING | LEAVING:
            raise self._stuck()
        return service_facts.state(self._service) == HOLD

    def _is_gone(self) -> bool:
        if self._service and service_facts.state(self._service) in FAILED_LEAVING and not self._is_recovering():
            raise self._stuck()
        return self._service is None or service_facts.state(self._service) == "DONE"

    def _is_recovering(self) -> bool:
        """Tell whether the service is in the state it is being recovered from, and has not failed since."""
        if not self._service or service_facts.state(self._service) != self._recovered_from:
            return False
        return not any(
            severity == "E" or "FAILED" in message for _time, severity, message in _log(self._service) - self._old_log
        )

    def _description(self) -> str:
        return describe(self._service, self._vms, self._old_log, self._error_attribute)

    def _stuck(self) -> OneException:
        return OneException(WRONG_STATE, f"Service {self._name!r} (id {self._id}) is {self._description()}.")


def has_failed(client: Client, service: dict) -> bool:
    """Tell whether the service will not get on by itself: it failed, or one of its VMs and OneFlow is yet to notice."""
    state = service_facts.state(service)
    if state in ("DEPLOYING", "SCALING"):
        return any(_is_stuck(vm, state) for vm in unfinished_vms(client, service).values())
    return state in FAILED


def is_recovering(client: Client, service: dict) -> bool:
    """Tell whether somebody had a failed service try again: OneFlow leaves its state as it is until its VMs are as they should be.

    Its VMs tell: none has failed or is at rest elsewhere, and some are on their way.
    """
    state = service_facts.state(service)
    if state in FAILED_LEAVING:
        numbers = [number for role in service_facts.roles(service) for number in service_facts.service_vms(service, role)]
        there = vm_facts.by_id(client, numbers).values()
        return bool(there) and all(vm_facts.leads_to(states.vm_state(vm)) == "DONE" for vm in there)
    if state not in FAILED:
        return False
    gated = bool(service_facts.body(service).get("ready_status_gate"))
    unfinished = unfinished_vms(client, service).values()
    return (
        bool(unfinished)
        and all(vm_facts.leads_to(states.vm_state(vm)) in (RUNNING, "PENDING") for vm in unfinished)
        and not all(_is_up(vm, gated) for vm in unfinished)
    )


def unfinished_vms(client: Client, service: dict) -> dict[int, dict]:
    """Return the VMs of the roles that are not running, by id."""
    numbers = [
        number
        for role in service_facts.roles(service).values()
        if not _is_finished(role)
        for number in service_facts.service_vms(service, role["name"])
    ]
    return vm_facts.by_id(client, numbers, vm_facts.ANY_STATE)


def describe(service: dict | None, vm_documents: dict[int, dict], old_log: Counter | None = None, error_attribute: str = "") -> str:
    """Return how a service stands: its state, and for each unfinished role which VM is in which state and why.

    old_log: entries that say nothing of how it stands now. error_attribute: where a VM that is not ready says why.
    """
    if not service:
        return "gone"
    parts = [
        _describe_role(service, role, vm_documents, error_attribute)
        for role in service_facts.roles(service).values()
        if not _is_finished(role)
    ]
    state = service_facts.state(service)
    if state in FAILED | FAILED_LEAVING:
        new = _log(service) - (old_log or Counter())
        parts += [message for _time, severity, message in new if severity == "E"][-1:]
    return f"{state}: {'; '.join(parts)}" if parts else state


def _describe_role(service: dict, role: dict, vm_documents: dict[int, dict], error_attribute: str) -> str:
    start = f"role {role['name']} "
    cardinality = int(role.get("cardinality") or 0)
    if not role.get("nodes"):
        waiting = _state(role) == "PENDING" and role.get("parents")
        return f"{start}0/{cardinality} VMs" + (f", waits for {', '.join(role['parents'])}" if waiting else "")
    gated = bool(service_facts.body(service).get("ready_status_gate"))
    there = [vm_documents[vm] for vm in service_facts.service_vms(service, role["name"]) if vm in vm_documents]
    # Those that say why not come first.
    unready = sorted((vm for vm in there if not _is_up(vm, gated)), key=lambda vm: not vm_facts.reported_error(vm, error_attribute))
    named = [_describe_vm(vm, gated, error_attribute) for vm in unready[:_NAMED]]
    more = [f"and {len(unready) - _NAMED} more"] if len(unready) > _NAMED else []
    return ", ".join([f"{start}{len(there) - len(unready)}/{cardinality} ready", *named, *more])


def _describe_vm(vm: dict, gated: bool, error_attribute: str) -> str:
    text = f"VM {vm['ID']} {states.vm_state(vm)}"
    reason = vm_facts.reason(vm).strip().rstrip(".")
    if reason:
        text += f" ({reason})"
    if gated and not vm_facts.is_ready(vm):
        text += ", READY missing"
    error = vm_facts.reported_error(vm, error_attribute)
    return f"{text}, {error_attribute} is {error}" if error else text


def _state(role: dict) -> str:
    return states.name(states.ROLE, role.get("state"))


def _is_finished(role: dict) -> bool:
    return _state(role) in (RUNNING, COOLDOWN)


def _is_up(vm: dict, gated: bool) -> bool:
    return states.vm_state(vm) == RUNNING and (vm_facts.is_ready(vm) or not gated)


def _is_stuck(vm: dict, service_state: str) -> bool:
    state = states.vm_state(vm)
    if service_state == WARNING:
        # Monitoring may lose a VM and find it again; any other reason for a warning stays until somebody acts.
        return state not in (RUNNING, "UNKNOWN")
    return states.vm_failed(state)


def _has_size(service: dict, role: str, cardinality: int) -> bool:
    there = service_facts.require_role(service, role)
    return int(there["cardinality"]) == cardinality == len(there.get("nodes") or [])


def _log(service: dict) -> Counter:
    """Return the entries of the service's log as (time, severity, message), the oldest first."""
    return Counter(
        (str(entry.get("timestamp")), str(entry.get("severity")), str(entry.get("message", "")).strip().rstrip("."))
        for entry in service_facts.body(service).get("log") or []
    )
