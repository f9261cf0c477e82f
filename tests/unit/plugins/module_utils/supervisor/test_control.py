# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The client of Flower's control, against a stand-in for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import control
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.control import Control, ControlError


def python(program: str) -> list[str]:
    """Return a command prefix that runs a program instead of the client."""
    return [sys.executable, "-c", program]


def test_submits_and_finds_a_run_whose_id_is_a_very_big_number(superlink: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('use-case = "digits"\n')
    client = Control(superlink.command, "local", 60)
    run_id = client.run("/app", str(config))
    assert run_id == "18158515033870114575"
    assert client.runs()[run_id].status == "running"
    client.stop(run_id)
    status = client.runs()[run_id]
    assert (status.finished, status.result) == (True, "stopped")


def test_a_number_as_id_keeps_all_its_digits() -> None:
    client = Control(python('print(\'{"success": true, "run-id": 18158515033870114575}\')'), "local", 60)
    assert client.run("/app", "config.toml") == "18158515033870114575"


def test_a_refusal_with_status_0_is_an_error(superlink: Any) -> None:
    superlink.refuse(list="[code: 1]\n  connection refused")
    with pytest.raises(ControlError, match=r"flwr list failed: \[code: 1\] connection refused"):
        Control(superlink.command, "local", 60).runs()


def test_notices_before_the_answer_are_skipped() -> None:
    program = 'print(\'Update available\\n{"success": true, "runs": []}\')'
    assert Control(python(program), "local", 60).runs() == {}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no such container')", "ended with status 1: no such container"),
        ("print('[]')", "ended with status 0"),
        ("pass", "no output"),
        ('print(\'{"success": "yes"}\')', "no reason given"),
    ],
)
def test_anything_else_than_an_answer_is_an_error(program: str, words: str) -> None:
    with pytest.raises(ControlError, match=words):
        Control(python(program), "local", 60).runs()


def test_a_client_that_hangs_is_ended() -> None:
    with pytest.raises(ControlError, match=r"did not answer within 0\.2 s"):
        Control(python("import threading; threading.Event().wait(60)"), "local", timeout=0.2).runs()


def test_a_client_that_is_not_there() -> None:
    with pytest.raises(ControlError, match="cannot be run: No such file"):
        Control(["/nonexistent/flwr"], "local", 60).runs()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_client_that_writes_without_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: str) -> None:
    monkeypatch.setattr(control, "_ANSWER_BYTES", 3 << 20)
    number = tmp_path / "number"
    program = f"import os, pathlib, sys\npathlib.Path({str(number)!r}).write_text(str(os.getpid()))\nwhile True: sys.{stream}.write('x' * 65536)"
    with pytest.raises(ControlError, match=r"^flwr list wrote more than 3 MiB and was ended$"):
        Control(python(program), "local", 600).runs()
    assert not Path("/proc", number.read_text()).exists()


def test_much_on_both_streams_is_read_to_its_end() -> None:
    program = "import sys; sys.stderr.write('e' * 1_000_000); print(' ' * 1_000_000 + '{\"success\": true, \"runs\": []}')"
    assert Control(python(program), "local", 600).runs() == {}


def test_a_client_that_closes_its_output_and_hangs_is_ended() -> None:
    program = "import os, threading; os.close(1); os.close(2); threading.Event().wait(60)"
    with pytest.raises(ControlError, match=r"did not answer within 0\.5 s"):
        Control(python(program), "local", 0.5).runs()
