# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What Flower writes for people, as objects for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.unit_log_schema import problem

PROGRAM = Path(__file__).resolve().parents[3] / "roles/_flower_runtime/files/flower-log"
EVENT = {"timestamp": "2026-11-21T21:58:51.551Z", "level": "INFO", "event": "client_trained", "data": {"seconds": 1.5}}


def started(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", PROGRAM, "flower-superlink", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def told(output: bytes) -> tuple[int, list[dict]]:
    """Return the status of a program that writes this, and the objects of its lines."""
    process = started(sys.executable, "-c", f"import os; os.write(1, {output!r})")
    lines, errors = process.communicate(timeout=60)
    assert errors == b""
    return process.returncode, [json.loads(line) for line in lines.splitlines()]


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        ("\x1b[92mINFO \x1b[0m:      Starting Flower SuperLink", "INFO", "Starting Flower SuperLink"),
        ("\x1b[93mWARNING \x1b[0m:   DEPRECATED: something", "WARNING", "DEPRECATED: something"),
        ("\x1b[91mERROR 2026-11-21 21:58:51,551\x1b[0m:     no: way", "ERROR", "no: way"),
        ("WARNING:  Invalid request", "WARNING", "Invalid request"),
        ("2026-11-21T21:58:51.551Z WARNING [uvicorn.error] slow", "WARNING", "[uvicorn.error] slow"),
        ("Traceback (most recent call last):", "INFO", "Traceback (most recent call last):"),
        ('{"no": "event"}', "INFO", '{"no": "event"}'),
        ('{"event": "run_completed", "unit": "flower-supervisor"}', "INFO", '{"event": "run_completed", "unit": "flower-supervisor"}'),
        ("[" * 20_000, "INFO", "[" * 20_000),
    ],
)
def test_a_line_is_an_object_with_its_level(line: str, level: str, message: str) -> None:
    _status, (found,) = told(f"{line}\n".encode())
    assert problem(found) == ""
    assert (found["unit"], found["level"], found["message"]) == ("flower-superlink", level, message)


def test_an_event_of_a_node_stays_one() -> None:
    assert told(json.dumps(EVENT).encode() + b"\n") == (0, [EVENT])


def test_what_is_no_text_and_what_never_ends_are_lines_too() -> None:
    _status, lines = told(b"\xff\x07\n\n" + b"a" * 100_000)
    assert [problem(line) for line in lines] == [""] * len(lines)
    assert lines[0]["message"] == "\N{REPLACEMENT CHARACTER}\x07"
    assert "".join(line["message"] for line in lines[1:]) == "a" * 100_000


def test_nothing_that_a_terminal_obeys_is_written() -> None:
    process = started("printf", r"\033]0;title\007\233\n" + r'{"event": "x\302\233"}\n')
    assert process.communicate(timeout=60)[0].replace(b"\n", b"").decode("ascii").isprintable()


def test_its_status_is_that_of_the_program() -> None:
    process = started("sh", "-c", "exit 7")
    process.communicate(timeout=60)
    assert process.returncode == 7
    process = started("sh", "-c", "kill -KILL $$")
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL


def test_a_program_that_is_not_there_is_said() -> None:
    process = started("/nonexistent")
    line = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, line["level"], line["message"]) == (1, "ERROR", "/nonexistent cannot be started: No such file or directory")


def test_the_last_words_after_a_signal_to_both_are_told() -> None:
    process = started("sh", "-c", "trap 'echo bye; exit 3' TERM; echo $$; while :; do sleep 0.1; done")
    first = json.loads(process.stdout.readline())
    for running in (process.pid, int(first["message"])):
        os.kill(running, signal.SIGTERM)
    assert json.loads(process.stdout.readline())["message"] == "bye"
    assert process.wait(60) == 3


def test_an_app_that_is_left_behind_does_not_keep_it() -> None:
    process = started("sh", "-c", "sleep 600 & echo $!")
    left = int(json.loads(process.stdout.readline())["message"])
    try:
        assert process.wait(60) == 0
    finally:
        os.kill(left, signal.SIGKILL)
