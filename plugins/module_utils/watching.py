# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a federation through the APIs of its zones, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .one.core import states
from .one.service import facts as service_facts
from .one.transport import xml
from .one.transport.answers import misread
from .one.transport.client import Client
from .one.transport.errors import MISREADINGS, OneException
from .one.vm import facts as vm_facts
from .supervisor import view
from .supervisor.protocol import ENDED
from .supervisor.untrusted import sentence
from .trainings import SUPERLINK_ROLE, Trainings

_AT_A_TIME = 8
_REASON_CHARACTERS = 120
# What node.py of the appliance publishes of a SuperNode.
_CLIENT = {"1": view.CONNECTED, "2": view.TRAINING, "3": view.DISCONNECTED}


class Watch:
    """A service over zones. ``coordinator`` is the API that knows its runs, ``zones`` are those whose VMs are shown, by name."""

    def __init__(self, service: str, coordinator: Client, zones: Mapping[str, Client]) -> None:
        self._service = service
        self._coordinator = coordinator
        self._zones = zones
        self._runs: Sequence[Mapping[str, Any]] = ()

    def look(self, now: float) -> view.Federation:
        """Return what the zones tell now; what cannot be learned is a problem of the view. The runs are the last that were read."""
        problems = []
        with ThreadPoolExecutor(_AT_A_TIME) as workers:
            zones = workers.map(lambda item: _zone(item[0], item[1], self._service), self._zones.items())
            try:
                self._runs = Trainings(self._coordinator, self._service).all()
            except OneException as problem:
                problems.append(f"the runs cannot be read: {problem.message}")
            return view.Federation(self._service, now, self._runs, list(zones), problems)


def has_ended(federation: view.Federation) -> bool:
    """Say whether there are runs and none of them goes on."""
    return bool(federation.runs) and all(run["status"] in ENDED for run in federation.runs)


def follow(
    watch: Watch,
    show: Callable[[view.Federation], None],
    clock: Callable[[], float],
    pause: Callable[[float], None],
    interval: float,
    until: float,
) -> view.Federation:
    """Look and show until the newest run has ended or the time has come; return what was seen last. With ``until`` in the past that is once."""
    while True:
        federation = watch.look(clock())
        show(federation)
        if has_ended(federation) or clock() >= until:
            return federation
        pause(min(interval, max(0.0, until - clock())))


def _zone(name: str, client: Client, service: str) -> view.Zone:
    try:
        document = service_facts.find_service(client, service)
        if document is None:
            return view.Zone(name, service="MISSING")
        roles = {number: role for role in service_facts.roles(document) for number in service_facts.service_vms(document, role)}
        there = vm_facts.by_id(client, roles)
        return view.Zone(name, service_facts.state(document), [_vm(number, roles[number], there[number]) for number in sorted(there)])
    except OneException as problem:
        return view.Zone(name, problem=problem.message)
    except MISREADINGS as problem:
        return view.Zone(name, problem=misread(problem, client.place, client.asked).message)


def _vm(number: int, role: str, vm: dict) -> view.Vm:
    """Return how a VM stands. Any VM of the service may write its attributes: they choose among words, and the error of a boot is cut."""
    attributes, state = xml.section(vm, "USER_TEMPLATE"), states.vm_state(vm)
    name = vm.get("NAME") or ""
    if state != "RUNNING":
        standing = view.BROKEN if states.vm_failed(state) else view.STARTING if vm_facts.leads_to(state) == "RUNNING" else view.BROKEN
        return view.Vm(number, name, role, standing, sentence(f"{state} {vm_facts.reason(vm)}".strip(), _REASON_CHARACTERS))
    if attributes.get("READY") != "YES":
        for attribute, standing in (("FL_ERROR", view.BROKEN), ("FL_RETRYING", view.STARTING)):
            if isinstance(attributes.get(attribute), str):
                return view.Vm(number, name, role, standing, sentence(attributes[attribute], _REASON_CHARACTERS))
    ready = view.READY if attributes.get("READY") == "YES" else view.STARTING
    if role == SUPERLINK_ROLE:
        return view.Vm(number, name, role, ready)
    status = attributes.get("FL_CLIENT_STATUS")
    return view.Vm(number, name, role, _CLIENT.get(status, ready) if isinstance(status, str) else ready)
