# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The training supervisor of a SuperLink.

Flower starts no training by itself and loses a run when the SuperLink goes down. The supervisor submits the run that the
contextualization asks for and the runs operators ask for, one after the other, follows them by their events, submits a
run again after the SuperLink came back, and publishes how all of them stand.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor --config FILE``
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import logging
import shutil
import signal
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contextualization import ContextError, run_overrides
from ..flower.run_config import flat, toml_document
from ..onegate.context_files import ContextMissing
from . import unit_log
from .apps import AppError, read_config, stage
from .artifact_server import offer
from .artifacts import Collection, collect
from .channel import Channel, open_channel
from .control import Control, ControlError, ControlTimeout, RunStatus
from .events import end_of_events, read_events
from .exposition import render, write
from .metrics import supervisor_metrics
from .protocol import (
    COMPLETED,
    ENDED,
    FAILED,
    MESSAGE_CHARACTERS,
    PUBLISHED_RUNS,
    RUNNING,
    STARTED_REQUEST,
    STOPPED,
    STOPPED_REQUEST,
    WAITING,
    Refusal,
    Request,
    digest,
    progress_line,
    read_request,
    request_digest,
)
from .rebuild import CONFIG_FILE, LOST, find_runs
from .run_directory import RunDirectory, remove_discarded
from .runs import Run
from .settings_file import read_settings
from .state import State
from .untrusted import sentence

LOGGER = logging.getLogger("flower-supervisor")

# An app that fails the same way again and again will not get better.
FRUITLESS_ATTEMPTS = 3
_HEALTH_TIMEOUT = 3
_APP_FAILURE = "ServerApp failed"
# Whoever may write an attribute of the VM may ask again and again.
_MOST_WAITING = 50
# An app that writes faster is read on at the next look; people get to see the last events of each block.
_BLOCKS_AT_ONCE = 8
_SHOWN_EVENTS = 50
_KIND_CHARACTERS = 40
# Of what forgotten runs left, so many files are removed at a look.
_REMOVED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Config:
    """The settings of a supervisor, as in its JSON file.

    ``flwr_command`` is the client's command prefix; ``app_directory`` and ``runs_directory_in_app`` are paths as the client
    and the app see them, ``runs_directory`` is the same place as this process sees it. ``initial_run`` has a name and the
    run configuration to start with. ``run_config`` is what requested runs are based on, by default that of the initial
    run. ``own_app`` is the operator's own app, with its source and its run configuration, and ``app_requests`` says whether
    requests may name another one; apps are kept in ``apps_directory``, which the client sees as
    ``apps_directory_in_app``. What a forgotten run left goes with it, its checkpoints in ``checkpoints_directory``, too, if that is not empty.
    ``artifacts_file`` is where the files of ended runs are offered to who serves them, empty for nowhere, with tokens that expire after
    ``artifacts_days``, 0 for never, and
    ``metrics_file`` has the metrics, empty for none. ``health_ca`` is the certificate that the SuperLink shows at ``health_url``. Times
    are in seconds: between two looks at everything, between two uses of the client at least (each costs more than one second of
    a core), until a client that does not answer is ended, without events until the client is asked, and until a silent SuperLink fails a run.
    """

    flwr_command: list[str]
    superlink_connection: str
    app_directory: str
    runs_directory: str
    runs_directory_in_app: str
    state_file: str
    onegate: dict[str, Any] | None = None
    initial_run: dict[str, Any] | None = None
    run_config: dict[str, Any] | None = None
    artifacts_file: str = ""
    artifacts_days: float = 30
    metrics_file: str = ""
    own_app: dict[str, Any] | None = None
    app_requests: bool = False
    apps_directory: str = "/nonexistent"
    apps_directory_in_app: str = "/nonexistent"
    checkpoints_directory: str = ""
    health_url: str = "http://127.0.0.1:18000/health"
    health_ca: str = ""
    poll_seconds: float = 2
    client_seconds: float = 5
    # Its start alone takes a second of a core, and a minute of one that is emulated.
    client_timeout: float = 300
    quiet_seconds: float = 15
    # For a SuperLink that says no, or an app that cannot be had.
    failing_seconds: float = 300
    # For one that says nothing, or a client that does not answer: a slow machine takes minutes to start them.
    silent_seconds: float = 1800

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a settings file; ValueError names unknown and missing keys."""
        return read_settings(cls, path)

    @property
    def artifacts_seconds(self) -> float:
        """How long a token for the files of a run is good, 0 for ever."""
        return self.artifacts_days * 86400

    @property
    def base(self) -> dict[str, Any]:
        """The run configuration that requests override."""
        if self.run_config is not None:
            return self.run_config
        return self.initial_run["config"] if self.initial_run else {}


class Stopped(BaseException):
    """The process is to end; nothing but ``main`` catches it."""


class _RefusedError(Exception):
    """A request is well-formed and still not obeyed; the message says why."""


@dataclass
class _Watch:
    """What this process remembers about the run it follows; lost on a restart without harm."""

    silent_since: float | None = None
    gone: bool = False
    failing_since: float | None = None
    last_client_call: float | None = None
    last_event: float = 0.0
    check_now: bool = True


class Supervisor:
    """Takes the runs of one SuperLink from waiting to ended. Call ``step`` again and again."""

    def __init__(self, config: Config, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._channel = channel
        self._clock = clock
        self._control = Control(config.flwr_command, config.superlink_connection, config.client_timeout)
        self._state = State(config.state_file)
        self._watch = _Watch()
        self._last_request: str | None = None
        self._refusal: Refusal | None = None
        self._stopping = threading.Event()
        self._unsaved = False
        self._problems: dict[str, str] = {}
        self._lost: set[str] = set()
        self._offered: dict[str, Collection] | None = None
        # Where there may be something that forgotten runs left, also when this process has just started.
        self._left = self._directories_of_runs()
        if self._state.put_aside:
            self._find_again()
        self.collections = {run.name: Collection.from_record(run.artifacts) for run in self._state.runs if run.artifacts}
        initial = config.initial_run
        self._initial = initial["name"] if initial else None
        if initial and not self._state.find(initial["name"]):
            self._add(Run(initial["name"], app=initial.get("app") or ""))

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return self._state.runs

    def run_forever(self) -> None:
        """Work until ``stop`` is called."""
        while not self.stopping:
            self.step()
            self._stopping.wait(self._config.poll_seconds)

    def stop(self) -> None:
        """Make ``run_forever`` return soon; the state file says how to go on."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping.is_set()

    def step(self) -> None:
        """Look at requests, SuperLink and events once, act on them and publish.

        Whatever goes wrong with one of these, the others are done.
        """
        self._survive("a request", lambda: self._obey(self._channel.request()))
        run = self._state.current()
        if run:
            self._survive("a run", lambda: self._advance(run))
        self._survive("the tokens of files", self._renew_tokens)
        # Before their tokens are published.
        self._survive("the files that are offered", self._offer)
        if self._left:
            self._survive("what forgotten runs left", self._remove_left)
        if self._unsaved:
            self._save()
        self.publish()

    def publish(self) -> None:
        """Tell how all runs stand."""
        self._survive("what is published", lambda: self._channel.publish(self._state.runs, self._refusal))
        if self._config.metrics_file:
            self._survive("the metrics", self._write_metrics)

    def _write_metrics(self) -> None:
        run = self._state.current() or (self._state.runs[-1] if self._state.runs else None)
        config = self._config.base | run.config if run and not run.app else {}
        interval = config.get("checkpoint-interval") if config.get("checkpoint-enabled") else None
        # Also when nothing changed: the age of the file says whether this process is at work.
        write(self._config.metrics_file, render(supervisor_metrics(self._state.runs, self._state.totals, interval)))

    def _offer(self) -> None:
        """Tell who serves the files of ended runs which these are, when that changed."""
        if self._config.artifacts_file and self.collections != self._offered:
            offer(self._config.artifacts_file, self.collections)
            self._offered = dict(self.collections)

    def _survive(self, what: str, step: Callable[[], None]) -> None:
        """Do something; an error that nobody thought of is logged once and does not end the supervisor."""
        problem = ""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the runs go on, whatever it is
            problem = sentence(f"{type(error).__name__}: {error}")
        if problem and problem != self._problems.get(what):
            LOGGER.error("Something is wrong with %s: %s.", what, problem)
        self._problems[what] = problem

    # Memory

    def _save(self) -> None:
        """Write the state, at the next look if not now; whoever must not go on without saves it itself."""
        try:
            self._state.save()
        except OSError as problem:
            if not self._unsaved:
                LOGGER.error("The state cannot be written to %s: %s; it is tried again.", self._config.state_file, sentence(problem))
            self._unsaved = True
        else:
            if self._unsaved:
                LOGGER.info("The state is written again.")
            self._unsaved = False

    def _find_again(self) -> None:
        """Add the runs that have a directory and no record.

        Of those without an end only the newest can be one that Flower still trains.
        """
        try:
            found = find_runs(self._config.runs_directory, {run.name for run in self._state.runs})
        except OSError as problem:
            LOGGER.error("The directories of the runs cannot be read: %s.", sentence(problem))
            found = []
        for run in found:
            self._restore_config(run)
        if found and found[-1].status == STOPPED and not self._state.current():
            found[-1].status, found[-1].ended = WAITING, None
            self._lost.add(found[-1].name)
        self._state.runs = found + self._state.runs
        for run in found:
            LOGGER.warning("Run '%s' was found again by its directory: %s after round %d.", run.name, run.status, run.round)
        self._save()

    def _restore_config(self, run: Run) -> None:
        """Make what was asked for out of what was submitted; what an app made of its file is judged as a request is."""
        initial, own = self._config.initial_run or {}, self._config.own_app or {}
        submitted, run.config = run.config, {}
        if run.name == initial.get("name"):
            run.app = initial.get("app") or ""
            return
        run.app = own.get("source", "") if Path(self._config.apps_directory, run.name).is_dir() else ""
        base = own.get("config", {}) if run.app else self._config.base
        given = self._given(run)
        config = {key: value for key, value in submitted.items() if key not in given and base.get(key) != value}
        try:
            run.config = self._checked_config(Request(run.name, config, STARTED_REQUEST, run.app))
        except (ValueError, ContextError, _RefusedError) as problem:
            LOGGER.warning("The configuration of run '%s' is lost: %s.", run.name, sentence(problem))

    # Requests

    def _obey(self, text: str | None) -> None:
        if text is None or text == self._last_request:
            return
        self._last_request = text
        self._refusal = None
        try:
            self._obey_request(read_request(text))
        except (ValueError, ContextError, _RefusedError) as problem:
            self._refuse(text, sentence(problem))
        except Exception as error:
            self._refuse(text, f"it cannot be understood ({type(error).__name__})")
            raise

    def _refuse(self, text: str, reason: str) -> None:
        LOGGER.warning("The request is refused: %s.", reason)
        self._refusal = Refusal(request_digest(text), reason)

    def _obey_request(self, request: Request) -> None:
        run = self._state.find(request.name)
        if request.state == STOPPED_REQUEST:
            if run and run.status not in ENDED:
                self._stop_run(run)
            return
        config = self._checked_config(request)
        as_it_is = request.resume is not None and not request.config and not request.app
        if run is None:
            waiting = sum(run.status not in ENDED for run in self._state.runs)
            if waiting >= _MOST_WAITING:
                raise _RefusedError(f"{waiting} runs wait already; stop some of them, or ask for '{request.name}' later")
            self._add(Run(request.name, config, app=request.app))
        elif not as_it_is and run.digest != digest(config, request.app):
            raise _RefusedError(f"there is a run '{run.name}' with another configuration")
        elif request.resume is not None:
            self._go_on(run, request.resume)

    def _checked_config(self, request: Request) -> dict[str, Any]:
        if not request.app:
            return run_overrides(request.config)
        own = self._config.own_app or {}
        if request.app != own.get("source") and not self._config.app_requests:
            raise _RefusedError(
                f"run '{request.name}' asks for the app '{request.app}', but this SuperLink takes no apps by request; "
                "ONEAPP_FL_APP_REQUESTS in its context allows them"
            )
        toml_document(request.config)
        return request.config

    def _go_on(self, run: Run, ended: int) -> None:
        """Continue a run that failed or was stopped, unless it has ended once more since that was asked for."""
        if run.status not in (FAILED, STOPPED) or run.ended != ended:
            return
        run.status, run.ended, run.gone_on, run.fruitless = WAITING, None, ended, 0
        run.message = "asked to go on"
        self._save()
        LOGGER.info("Run '%s' was asked to go on after round %d.", run.name, run.round)

    def _add(self, run: Run) -> None:
        ahead = self._state.current()
        run.message = f"waiting for run '{ahead.name}' to end" if ahead else "waiting for the SuperLink"
        for forgotten in self._state.add(run, self._initial):
            self.collections.pop(forgotten.name, None)  # the server has this very dictionary
            self._discard(forgotten.name)
        self._save()
        LOGGER.info("Run '%s' was asked for, %s.", run.name, run.message)

    def _directories_of_runs(self) -> list[str]:
        return [directory for directory in (self._config.runs_directory, self._config.checkpoints_directory) if directory]

    def _discard(self, name: str) -> None:
        """Put aside what a forgotten run left, and let it be removed bit by bit: an app may have left any number of files."""
        shutil.rmtree(Path(self._config.apps_directory, name), ignore_errors=True)
        self._left = self._directories_of_runs()
        for directory in self._left:
            self._survive(f"what run '{name}' left in {directory}", RunDirectory(directory, name).discard)

    def _remove_left(self) -> None:
        """Remove some of it. What cannot be removed, as on a server that does not let root, stays there until more is left."""
        directory = self._left.pop()
        with suppress(FileNotFoundError):
            if not remove_discarded(directory, _REMOVED_AT_ONCE):
                self._left.append(directory)

    def _stop_run(self, run: Run) -> None:
        try:
            if run.status == RUNNING:
                self._control.stop(run.run_id)
        except ControlError as problem:
            self._say(run, f"it cannot be stopped: {problem}")
            self._last_request = None
            return
        self._end(run, STOPPED, "stopped on request")

    # From waiting to running

    def _advance(self, run: Run) -> None:
        problem = self._superlink_problem()
        if problem:
            self._wait_for_superlink(run, problem)
            return
        if self._watch.silent_since is not None:
            self._watch.silent_since = None
            self._watch.check_now = True
        try:
            if run.status == WAITING:
                self._submit_when_due(run)
            else:
                self._follow(run)
        except (ControlError, OSError) as error:
            self._failed_step(run, error)
        except AppError as error:
            if error.temporary:
                self._failed_step(run, error)
            else:
                self._end(run, FAILED, str(error))
        except Exception as error:
            self._failed_step(run, error)
            raise

    def _superlink_problem(self) -> Exception | None:
        try:
            # Whatever proxy the environment names, the SuperLink is on this machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *self._trust())
            with opener.open(self._config.health_url, timeout=_HEALTH_TIMEOUT):
                return None
        except (OSError, http.client.HTTPException) as problem:
            reason = getattr(problem, "reason", problem)
            return reason if isinstance(reason, Exception) else problem

    def _trust(self) -> list[urllib.request.BaseHandler]:
        ca = self._config.health_ca
        return [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))] if ca else []

    def _wait_for_superlink(self, run: Run, problem: Exception) -> None:
        now = self._clock()
        # Slow or busy is not gone: only a port that nobody listens on means that the process has ended.
        self._watch.gone |= isinstance(problem, ConnectionRefusedError)
        if self._watch.silent_since is None:
            self._watch.silent_since = now
            run.message = f"waiting for the SuperLink ({sentence(problem)})"
            LOGGER.info("Run '%s' is %s.", run.name, run.message)
        if now - self._watch.silent_since >= self._config.silent_seconds:
            self._end(run, FAILED, f"the SuperLink did not answer for {self._config.silent_seconds:g} s: {problem}")

    def _submit_when_due(self, run: Run) -> None:
        if not self._client_due():
            return
        if run.fruitless >= FRUITLESS_ATTEMPTS:
            self._end(run, FAILED, f"gave up after {run.fruitless} attempts without a round: {run.message}")
            return
        app, config = self._client(lambda: self._own_app(run)) if run.app else self._shipped_app(run)
        known = self._client(self._control.runs)
        if run.name in self._lost:
            self._take_back(run, known)
            return
        accepted = [run_id for run_id in known if run_id not in run.known_ids] if run.submitting else []
        if accepted:
            # The last submission was cut off after Flower had taken it.
            self._started(run, accepted[0])
            return
        self._directory(run).write(CONFIG_FILE, toml_document(config))
        self._announce(run, known)
        config_file = f"{self._config.runs_directory_in_app}/{run.name}/{CONFIG_FILE}"
        self._started(run, self._client(lambda: self._control.run(app, config_file)))

    def _announce(self, run: Run, known: Iterable[str]) -> None:
        """Write down that a run is about to be submitted; without that it is not: OSError, and nothing has changed."""
        before = dataclasses.replace(run)
        run.attempts += 1
        self._state.totals.counts["attempts"] += 1
        run.fruitless += 1
        run.submitting = True
        run.trained, run.failure = False, ""
        run.known_ids = list(known)
        run.offset = end_of_events(self._directory(run))
        run.started = run.started or int(time.time())
        try:
            self._state.save()
        except OSError:
            vars(run).update(vars(before))
            self._state.totals.counts["attempts"] -= 1
            raise

    def _take_back(self, run: Run, known: Mapping[str, RunStatus]) -> None:
        """Follow a run that was found again, if it is the one that Flower trains; else only the initial run is submitted."""
        self._lost.discard(run.name)
        active = [run_id for run_id, status in known.items() if not status.finished]
        if len(active) == 1:
            self._started(run, active[0])
        elif run.name != self._initial:
            self._end(run, STOPPED, LOST)

    def _started(self, run: Run, run_id: str) -> None:
        run.run_id = run_id
        run.submitting = False
        run.status = RUNNING
        run.message = "submitted" if run.attempts == 1 else f"submitted again, attempt {run.attempts}"
        now = self._clock()
        self._watch = _Watch(last_client_call=now, last_event=now, check_now=False)
        self._save()
        LOGGER.info("Run '%s' was submitted as %s, attempt %d.", run.name, run_id, run.attempts)

    def _shipped_app(self, run: Run) -> tuple[str, dict[str, Any]]:
        return self._config.app_directory, self._config.base | run.config | self._given(run)

    def _own_app(self, run: Run) -> tuple[str, dict[str, Any]]:
        """Return the directory of an operator's own app, as the client sees it, and its run configuration.

        All attempts of a run take the same version, whatever happened to the source in the meantime.
        """
        directory = Path(self._config.apps_directory, run.name)
        if run.app_version and directory.is_dir():
            known = flat(read_config(directory))
        else:
            staged = stage(run.app, directory)
            run.app_version, known = staged.version, flat(staged.config)
            LOGGER.info("Run '%s' trains the app %s, %s.", run.name, run.app, run.app_version)
        own = self._config.own_app or {}
        config = (own.get("config", {}) if run.app == own.get("source") else {}) | run.config
        unknown = [key for key in config if key not in known]
        if unknown:
            raise AppError(f"app '{run.app}' has no '{unknown[0]}' in its run configuration, only: {', '.join(known) or 'nothing'}")
        given = {key: value for key, value in self._given(run).items() if key in known}
        return f"{self._config.apps_directory_in_app}/{run.name}", config | given

    def _given(self, run: Run) -> dict[str, str]:
        return {"run-name": run.name, "output-directory": f"{self._config.runs_directory_in_app}/{run.name}"}

    # From running to ended

    def _follow(self, run: Run) -> None:
        self._read_events(run)
        if run.trained and not run.app:
            self._conclude(run)
        elif self._check_due(run):
            self._check(run)

    def _read_events(self, run: Run) -> None:
        begin = run.offset
        for _block in range(_BLOCKS_AT_ONCE):
            events, offset = read_events(self._directory(run), run.offset)
            if offset == run.offset:
                break
            run.offset = offset
            self._take_over(run, events)
        if run.offset != begin:
            self._watch.last_event = self._clock()
            self._save()

    def _take_over(self, run: Run, events: list[dict[str, Any]]) -> None:
        unseen = len(events) - _SHOWN_EVENTS
        if unseen > 0:
            LOGGER.info("Run '%s': %d events that are not shown.", run.name, unseen)
        for number, event in enumerate(events):
            run.apply(event)
            self._state.totals.add(event, run.strategy)
            if number >= unseen:
                self._note(run, event)

    def _note(self, run: Run, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "round_end" and run.history:
            record = run.history[-1]
            LOGGER.info("Run '%s': %s.", run.name, progress_line(run.rounds, record), extra=unit_log.event(kind, run=run.name, **record))
        else:
            kind = sentence(kind, _KIND_CHARACTERS)
            told = unit_log.event("run_event", run=run.name, round=run.round, name=kind)
            LOGGER.info("Run '%s': %s: %s", run.name, kind, run.message, extra=told)

    def _conclude(self, run: Run) -> None:
        if run.has_model:
            self._end(run, COMPLETED, run.message)
        else:
            self._end(run, FAILED, "the training ended without any reply from a node")

    def _check_due(self, run: Run) -> bool:
        if not self._client_due():
            return False
        # Only Flower knows whether an app that failed did so by itself or because it lost its SuperLink.
        quiet_since = max(self._watch.last_event, self._watch.last_client_call or 0)
        return self._watch.check_now or bool(run.failure) or self._clock() - quiet_since >= self._config.quiet_seconds

    def _check(self, run: Run) -> None:
        status = self._client(self._control.runs).get(run.run_id)
        self._watch.check_now = False
        self._read_events(run)
        if run.trained and not run.app:
            self._conclude(run)
        elif status is None:
            self._interrupted(run, "the SuperLink does not know the run any more")
        elif not status.finished and self._watch.gone:
            # Its app ended with the SuperLink. Flower itself would wait a minute for heartbeats before it says so.
            self._client(lambda: self._control.stop(run.run_id))
            self._interrupted(run, "the SuperLink was down")
        elif not status.finished:
            if not run.rounds:
                run.message = f"{status.status} {status.details}".strip()
        elif status.result == STOPPED:
            self._end(run, STOPPED, "stopped through Flower's own control")
        elif status.result == COMPLETED and run.app:
            self._end(run, COMPLETED, "complete, as Flower says" + ("" if run.history else "; the app reports no rounds"))
        elif status.result == COMPLETED:
            self._end(run, FAILED, "the run finished without reporting the end of a training")
        elif status.details.startswith(_APP_FAILURE):
            self._end(run, FAILED, run.failure or status.details)
        else:
            self._interrupted(run, status.details or "the run failed")

    def _interrupted(self, run: Run, reason: str) -> None:
        run.status = WAITING
        run.message = f"interrupted after round {run.round}: {reason}"
        self._watch = _Watch()
        self._save()
        LOGGER.warning("Run '%s' was %s; it is submitted again.", run.name, run.message)

    def _end(self, run: Run, status: str, message: str) -> None:
        run.status = status
        run.message = sentence(message, MESSAGE_CHARACTERS)
        run.ended = max(int(time.time()), run.gone_on + 1)
        self._offer_files(run)
        if run.app and status == COMPLETED:
            shutil.rmtree(Path(self._config.apps_directory, run.name), ignore_errors=True)
        self._watch = _Watch()
        self._save()
        level = logging.ERROR if status == FAILED else logging.INFO
        LOGGER.log(level, "Run '%s' %s: %s", run.name, status, run.message, extra=unit_log.event(f"run_{status}", run=run.name, round=run.round))

    def _offer_files(self, run: Run) -> None:
        found = collect(self._directory(run))
        if found.files:
            run.artifacts = found.to_record()
            self.collections[run.name] = found

    def _renew_tokens(self) -> None:
        """Give the files of runs that are published new tokens when theirs have expired; those of older runs are not offered any more."""
        now = time.time()
        expired = [run for run in self._state.runs if run.name in self.collections and self.collections[run.name].expired(now, self._config.artifacts_seconds)]
        published = {run.name for run in self._state.runs[-PUBLISHED_RUNS:]}
        for run in expired:
            if run.name in published:
                self.collections[run.name] = self.collections[run.name].renewed(now)
                run.artifacts = self.collections[run.name].to_record()
            else:
                del self.collections[run.name]
                run.artifacts = {}
        if expired:
            self._save()
            LOGGER.info("Tokens of files that expired: %d.", len(expired))

    # Helpers

    def _client(self, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        finally:
            self._watch.last_client_call = self._clock()
        self._watch.failing_since = None
        return answer

    def _client_due(self) -> bool:
        last = self._watch.last_client_call
        return last is None or self._clock() - last >= self._config.client_seconds

    def _failed_step(self, run: Run, error: Exception) -> None:
        if self.stopping:
            return
        now = self._clock()
        if self._watch.failing_since is None:
            self._watch.failing_since = now
        self._say(run, str(error))
        # Slow is not no.
        patience = self._config.silent_seconds if isinstance(error, ControlTimeout) else self._config.failing_seconds
        if now - max(self._watch.failing_since, self._watch.last_event) >= patience:
            self._end(run, FAILED, f"no success for {patience:g} s: {error}")

    def _say(self, run: Run, problem: str) -> None:
        """Show a problem of a run, in the log once and not at every look."""
        message = sentence(problem, MESSAGE_CHARACTERS)
        if message != run.message:
            LOGGER.warning("Run '%s': %s.", run.name, message)
        run.message = message

    def _directory(self, run: Run) -> RunDirectory:
        return RunDirectory(self._config.runs_directory, run.name)


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(description="Submits and follows the training runs of a Flower SuperLink.")
    parser.add_argument("--config", required=True, help="JSON file with the settings")
    path = parser.parse_args().config
    unit_log.set_up("flower-supervisor")
    try:
        config = Config.read(path)
        supervisor = Supervisor(config, open_channel(config.onegate))
    except (OSError, ValueError, KeyError, TypeError, ContextMissing) as problem:
        LOGGER.error("The supervisor cannot start: %s", sentence(problem))
        return 1

    def stop(_number: int, _frame: object) -> None:
        if not supervisor.stopping:
            supervisor.stop()
            # Whatever it is at, a restart goes on from the state file, as after a loss of power.
            raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with suppress(Stopped):
        supervisor.run_forever()
    supervisor.publish()
    LOGGER.info("The supervisor stops.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
