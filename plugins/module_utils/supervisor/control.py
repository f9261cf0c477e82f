# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control of a SuperLink through Flower's own command line client."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from .untrusted import decode_json, sentence

_FINISHED = "finished:"
# Flower's client lists all runs of its SuperLink, each with its details.
_ANSWER_BYTES = 64 << 20
_BLOCK = 1 << 16


class ControlError(Exception):
    """The client refused, failed or did not answer; the message says why."""


class ControlTimeout(ControlError):
    """The client did not answer in time, which a slow or busy machine explains as well as a fault."""


@dataclass(frozen=True)
class RunStatus:
    """How Flower sees a run: pending, starting, running or finished:{completed,failed,stopped}, and details."""

    status: str
    details: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.status.startswith(_FINISHED)

    @property
    def result(self) -> str:
        """completed, failed or stopped once the run is over."""
        return self.status.removeprefix(_FINISHED)


class Control:
    """Runs the client with a command prefix (a list) against one of its configured connections.

    ``timeout`` bounds each call, in seconds. All calls raise ControlError, of the kind ControlTimeout when the time is over.
    """

    def __init__(self, command: list[str], connection: str, timeout: float) -> None:
        self._command = list(command)
        self._connection = connection
        self._timeout = timeout

    def run(self, app: str, config_file: str) -> str:
        """Submit an app with a run configuration file (paths as the client sees them); return the id of the run."""
        answer = self._call("run", app, self._connection, "--run-config", config_file)
        if not answer.get("run-id"):
            raise ControlError("flwr run did not say which run it started")
        return str(answer["run-id"])

    def runs(self) -> dict[str, RunStatus]:
        """Return all runs the SuperLink knows, by id."""
        answer = self._call("list", self._connection)
        return {
            str(run["run-id"]): RunStatus(sentence(run.get("status", "")), _one_line(run.get("status-details") or ""))
            for run in _objects(answer, "runs")
            if "run-id" in run
        }

    def stop(self, run_id: str) -> None:
        """Stop a run."""
        self._call("stop", run_id, self._connection)

    def _call(self, *arguments: str) -> dict[str, Any]:
        what = f"flwr {arguments[0]}"
        try:
            status, output, errors = _run([*self._command, *arguments, "--format", "json"], self._timeout)
        except subprocess.TimeoutExpired:
            raise ControlTimeout(f"{what} did not answer within {self._timeout:g} s") from None
        except OSError as problem:
            raise ControlError(f"{what} cannot be run: {problem.strerror}") from None
        except _EndlessError:
            raise ControlError(f"{what} wrote more than {_ANSWER_BYTES >> 20} MiB and was ended") from None
        answer = _json_object(output)
        if answer is None:
            raise ControlError(f"{what} ended with status {status}: {_last_line(errors or output)}")
        # The status of the process is 0 for failures too.
        if answer.get("success") is not True:
            raise ControlError(f"{what} failed: {_one_line(answer.get('error-message') or 'no reason given')}")
        return answer


class _EndlessError(Exception):
    """A program writes more than anybody wants to keep."""


def _run(command: list[str], timeout: float) -> tuple[int, str, str]:
    """Run a program; return its status and what it wrote, and end it when it takes too long or writes too much."""
    deadline = time.monotonic() + timeout
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            output, errors = bytearray(), bytearray()
            written = {process.stdout.fileno(): output, process.stderr.fileno(): errors}
            with selectors.DefaultSelector() as selector:
                for stream in (process.stdout, process.stderr):
                    selector.register(stream, selectors.EVENT_READ)
                while selector.get_map():
                    for key, _events in _ready(selector, command, timeout, deadline):
                        block = os.read(key.fd, _BLOCK)
                        written[key.fd] += block
                        if not block:
                            selector.unregister(key.fileobj)
                    if len(output) + len(errors) > _ANSWER_BYTES:
                        raise _EndlessError
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException:
            process.kill()
            raise
    return status, output.decode(errors="replace"), errors.decode(errors="replace")


def _ready(selector: selectors.BaseSelector, command: list[str], timeout: float, deadline: float) -> list[tuple[selectors.SelectorKey, int]]:
    left = deadline - time.monotonic()
    ready = selector.select(left) if left > 0 else []
    if not ready:
        raise subprocess.TimeoutExpired(command, timeout)
    return ready


def _json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in an output that may have notices before it."""
    try:
        answer = decode_json(text[text.index("{") :], _ANSWER_BYTES)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _objects(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = answer.get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _one_line(text: object) -> str:
    return sentence(" ".join(str(text).split()))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return _one_line(lines[-1]) if lines else "no output"
