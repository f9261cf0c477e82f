# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Training runs of a Flower service, seen and asked for from outside through the attributes of the SuperLink's VM."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from .one.core.wait import wait_until
from .one.service import facts as service_facts
from .one.transport import xml
from .one.transport.client import Client
from .one.transport.errors import CONFLICT, INVALID, PROTOCOL, WRONG_STATE, OneException
from .one.vm import facts as vm_facts
from .supervisor import protocol
from .supervisor.artifacts import Collection, published_collections

T = TypeVar("T")

SUPERLINK_ROLE = "superlink"
# Documented in the fragment training.
SERVICE_OPTIONS = {"service": {"type": "str", "required": True}}

_POLL_SECONDS = 2
_DIGEST_LENGTH = 12
# How often a run that shows no new round is reported although only its message changed, in seconds.
_REPORT_SECONDS = 10


class Trainings:
    """The runs of one service. All methods raise OneException."""

    def __init__(self, client: Client, service: str) -> None:
        document = service_facts.get_service(client, service)
        self._client = client
        self.service = document["NAME"]
        ids = service_facts.service_vms(document, SUPERLINK_ROLE)
        if len(ids) != 1:
            state = service_facts.state(document)
            raise OneException(
                WRONG_STATE,
                f"Service '{self.service}' is {state} and has {len(ids)} VMs in role '{SUPERLINK_ROLE}', expected one.",
            )
        self.vm_id = ids[0]
        self._requested = ""

    def all(self) -> list[dict[str, Any]]:
        """Return all runs, newest last, with the metrics of the last round; empty before any is published."""
        return self._runs(self.attributes())

    def attributes(self) -> dict[str, Any]:
        """Return what the SuperLink's VM publishes."""
        return xml.section(vm_facts.vm_info(self._client, self.vm_id), "USER_TEMPLATE")

    def files(self, attributes: dict[str, Any], name: str) -> Collection | None:
        """Return the files that a run left behind, by the attributes of the VM; None when nothing is offered."""
        return self._judged(protocol.ARTIFACTS_ATTRIBUTE, lambda: published_collections(attributes).get(name))

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the run of that name, None without one."""
        return next((run for run in self.all() if run["name"] == name), None)

    def request(self, request: protocol.Request) -> None:
        """Ask the supervisor to start or stop a run."""
        self._requested = protocol.request_digest(request)
        vm_facts.update_user_template(self._client, self.vm_id, protocol.request_attributes(request))

    def wait(
        self,
        name: str,
        until: Callable[[dict[str, Any]], bool],
        goal: str,
        timeout: float,
        progress: Callable[[str], None],
    ) -> dict[str, Any]:
        """Wait until a run fulfils a condition and return it; ``goal`` says in the error what it did not do.

        A request that the supervisor refuses ends the wait with its reason.
        """
        last: list[dict[str, Any] | None] = [None]
        reporter = Reporter(progress)

        def probe() -> dict[str, Any] | None:
            attributes = self.attributes()
            self._check_not_refused(name, attributes)
            last[0] = run = next((run for run in self._runs(attributes) if run["name"] == name), None)
            if run is None:
                return None
            reporter.show(run)
            return run if until(run) else None

        def describe() -> str:
            return f"Run '{name}' of service '{self.service}' {goal}: {_standing(last[0], self.vm_id)}"

        return wait_until(probe, describe, timeout, max_interval=_POLL_SECONDS)

    def _runs(self, attributes: dict[str, Any]) -> list[dict[str, Any]]:
        return self._judged(protocol.RUNS_ATTRIBUTE, lambda: protocol.published_runs(attributes))

    def _check_not_refused(self, name: str, attributes: dict[str, Any]) -> None:
        refusal = self._judged(protocol.REFUSAL_ATTRIBUTE, lambda: protocol.published_refusal(attributes))
        if refusal and refusal.request == self._requested:
            raise OneException(INVALID, f"The supervisor refuses run '{name}' of service '{self.service}': {refusal.reason}.")

    def _judged(self, name: str, read: Callable[[], T]) -> T:
        """Return what an attribute says, or say that it holds something else: whoever may update the VM can write it."""
        try:
            return read()
        except ValueError:
            raise OneException(
                PROTOCOL, f"{name} of VM {self.vm_id} in service '{self.service}' holds something else than runs."
            ) from None


class Reporter:
    """Shows a run to people while it goes on: a line per round, and its message when nothing else happens."""

    def __init__(self, progress: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._shown: list[protocol.Round] = []
        self._last = ("", "", float("-inf"))

    def show(self, run: dict[str, Any]) -> None:
        """Show what is new."""
        now = self._clock()
        status, message, shown_at = self._last
        new = [entry for entry in run["history"] if entry not in self._shown]
        for entry in new:
            self._progress(protocol.progress_line(run["rounds"], entry))
        self._shown += new
        changed = run["status"] != status or (run["message"] != message and now - shown_at >= _REPORT_SECONDS)
        if changed and not new:
            self._progress(f"{run['status']}: {run['message']}" if run["message"] else run["status"])
        if changed or new:
            self._last = (run["status"], run["message"], now)


def check_name(name: str) -> None:
    """Raise OneException unless a text can be the name of a run."""
    if not protocol.RUN_NAME.fullmatch(name):
        raise OneException(INVALID, f"'{name}' is not a name for a run, expected {protocol.RUN_NAME_FORM}.")


def check_same_config(run: dict[str, Any], config: dict[str, Any], app: str, service: str) -> None:
    """Raise OneException when a run was asked for with another configuration or app."""
    wanted = protocol.digest(config, app)
    if run["digest"] != wanted:
        raise OneException(
            CONFLICT,
            f"Run '{run['name']}' of service '{service}' exists with another configuration (digest "
            f"{run['digest'][:_DIGEST_LENGTH]}, asked for is {wanted[:_DIGEST_LENGTH]}); give the new run another name.",
        )


def check_not_failed(run: dict[str, Any], service: str) -> None:
    """Raise OneException with the supervisor's message when a run failed or was stopped."""
    if run["status"] in (protocol.FAILED, protocol.STOPPED):
        what = "failed" if run["status"] == protocol.FAILED else "was stopped"
        where = f" after {run['round']} of {run['rounds']} rounds" if run["rounds"] else ""
        message = run["message"].rstrip(".")
        raise OneException(WRONG_STATE, f"Run '{run['name']}' of service '{service}' {what}{where}: {message}.")


def _standing(run: dict[str, Any] | None, vm_id: int) -> str:
    if run is None:
        return f"the supervisor on VM {vm_id} has not taken it over"
    where = f", {run['round']} of {run['rounds']} rounds complete" if run["rounds"] else ""
    return f"it is {run['status']}{where}" + (f" ({run['message']})" if run["message"] else "")
