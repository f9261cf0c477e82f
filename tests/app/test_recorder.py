# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Events and files of a run, without Flower."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from federation.events import tell
from federation.recorder import Recorder
from federation.settings import Settings

from .event_schema import SCHEMA, checked
from .shipped import APP, DEFAULTS

SETTINGS = Settings.from_run_config(DEFAULTS)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(tmp_path: Path, clock: Clock) -> Recorder:
    made = Recorder(str(tmp_path / "runs" / "initial"), clock)
    yield made
    made.close()


@pytest.fixture
def events(tmp_path: Path) -> Callable[[], list[dict]]:
    path = tmp_path / "runs" / "initial" / "events.jsonl"
    return lambda: checked([json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()])


@pytest.fixture
def full_disk(small_disk: Path) -> tuple[Path, Path]:
    """A directory on a disk with room for few events, and the file that takes the rest."""
    (small_disk / "runs").mkdir()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**20 - 2**15))
    return small_disk, ballast


def one_round(recorder: Recorder, clock: Clock, loss: float = 0.25, accuracy: float = 0.9) -> None:
    recorder.round_started(1, 3)
    recorder.clients_trained(2)
    clock.now += 12.5
    recorder.evaluated(loss, accuracy)
    recorder.round_ended()


def test_every_event_is_one_json_line_with_the_common_fields(recorder: Recorder, events) -> None:
    recorder.training_started(SETTINGS)
    recorder.client_failed(1, 2**63, 'said "no"\nand left')
    start, failure = events()
    assert set(start) == {"timestamp", "level", "logger", "role", "message", "source", "event", "data"}
    assert (start["logger"], start["role"], start["level"]) == ("flwr", "superlink", "INFO")
    assert start["source"].startswith("recorder.py:")
    assert start["timestamp"].endswith("Z")
    assert datetime.fromisoformat(start["timestamp"]).utcoffset().total_seconds() == 0
    assert start["data"] | {"strategy": "FedAvg", "num_rounds": 3, "min_clients": 2} == start["data"]
    assert failure["level"] == "WARNING"
    assert failure["data"] == {"round": 1, "node_id": str(2**63), "error_type": 'said "no"\nand left'}


def test_a_round_is_there_for_a_reader_as_soon_as_it_ended(recorder: Recorder, clock: Clock, events) -> None:
    recorder.training_started(SETTINGS)
    one_round(recorder, clock)
    last = events()[-1]
    assert last["event"] == "round_end"
    assert last["message"] == "round 1 of 3: accuracy 0.9000, loss 0.2500, 2 of 3 nodes, 12.5 s"
    assert last["data"] == {
        "round": 1,
        "num_clients_selected": 3,
        "num_clients_responded": 2,
        "aggregated_loss": 0.25,
        "aggregated_accuracy": 0.9,
        "round_duration_seconds": 12.5,
        "overhead_seconds": {"checkpoint": 0.0, "events": 0.0},
    }


def test_time_for_a_checkpoint_is_told_apart_and_counted_once(recorder: Recorder, clock: Clock, events) -> None:
    recorder.training_started(SETTINGS)
    with recorder.timed("checkpoint"):
        clock.now += 0.75
    one_round(recorder, clock)
    one_round(recorder, clock)
    spent = [event["data"]["overhead_seconds"]["checkpoint"] for event in events() if event["event"] == "round_end"]
    assert spent == [0.75, 0.0]


def test_the_end_reports_totals(recorder: Recorder, clock: Clock, events) -> None:
    recorder.training_started(SETTINGS)
    one_round(recorder, clock)
    recorder.training_ended()
    assert events()[-1]["data"] == {
        "total_rounds": 3,
        "final_loss": 0.25,
        "final_accuracy": 0.9,
        "total_duration_seconds": 12.5,
    }


def test_a_value_json_does_not_know_becomes_text(recorder: Recorder, clock: Clock, events) -> None:
    recorder.training_started(SETTINGS)
    one_round(recorder, clock, loss=float("nan"))
    assert events()[-1]["data"]["aggregated_loss"] == "NaN"


def test_nodes_that_come_and_go_are_told_once(recorder: Recorder, events) -> None:
    recorder.nodes_seen([1, 2**63])
    recorder.nodes_seen([2**63, 1])
    recorder.nodes_seen([1])
    assert [(event["event"], event["level"], event["data"]["node_id"], event["data"]["connected"]) for event in events()] == [
        ("client_join", "INFO", "1", 2),
        ("client_join", "INFO", str(2**63), 2),
        ("client_leave", "WARNING", str(2**63), 1),
    ]


def test_what_a_node_tells_is_one_line_that_a_terminal_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    tell("client_failure", "the training failed: \x1b[2J\n\N{SNOWMAN}", logging.WARNING, round=1, error_type="\x1b[2J\n")
    written = capsys.readouterr().out
    assert written.isascii() and written[:-1].isprintable()
    (event,) = checked([json.loads(written)])
    assert (event["role"], event["data"]) == ("supernode", {"round": 1, "error_type": "\x1b[2J\n"})


def test_a_failure_before_the_start_is_recorded(recorder: Recorder, events) -> None:
    recorder.training_failed("strategy must be one of FedAvg, not 'x'")
    (event,) = events()
    assert (event["event"], event["level"]) == ("training_failed", "ERROR")
    assert event["data"] == {"reason": "strategy must be one of FedAvg, not 'x'"}


def test_a_second_attempt_appends_to_the_events_of_the_first(tmp_path: Path, events) -> None:
    for _ in range(2):
        recorder = Recorder(str(tmp_path / "runs" / "initial"))
        recorder.training_started(SETTINGS)
        recorder.close()
    assert [event["event"] for event in events()] == ["training_start", "training_start"]


def test_a_failed_write_keeps_the_older_model(recorder: Recorder, tmp_path: Path) -> None:
    recorder.save_model(lambda stream: stream.write(b"old"))

    def interrupted(stream) -> None:
        stream.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        recorder.save_model(interrupted)
    assert (tmp_path / "runs" / "initial" / "model.npz").read_bytes() == b"old"


def test_events_wait_while_the_disk_is_full(full_disk: tuple[Path, Path]) -> None:
    directory, ballast = full_disk
    recorder = Recorder(str(directory / "runs"))
    for number in range(1, 200):
        recorder.client_failed(number, 1, "crashed")
    ballast.unlink()
    recorder.client_failed(200, 1, "crashed")
    recorder.close()
    written = [json.loads(line) for line in (directory / "runs" / "events.jsonl").read_text().splitlines()]
    assert [event["data"]["round"] for event in written] == list(range(1, 201))


@pytest.mark.parametrize("torn", [b'{"event": "round_start", "da', b"\xff"])
def test_a_line_that_a_killed_attempt_left_without_its_end_costs_no_other(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    for content in (b"", b"{}\n"):
        path.write_bytes(content + torn)
        recorder = Recorder(str(tmp_path))
        recorder.training_started(SETTINGS)
        recorder.client_failed(1, 1, "crashed")
        recorder.close()
        *before, start, failure = path.read_bytes().splitlines()
        assert b"".join(before) == content.strip() + torn
        assert [event["event"] for event in checked([json.loads(start), json.loads(failure)])] == ["training_start", "client_failure"]


def test_a_file_that_is_too_large_takes_the_course_and_then_the_end_alone(
    recorder: Recorder, clock: Clock, events: Callable[[], list[dict]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.events._MOST_BYTES", 20_000)
    recorder.training_started(SETTINGS)
    for _round in range(100):
        recorder.client_failed(1, 1, "crashed")
        one_round(recorder, clock)
    recorder.training_ended()
    written = events()
    assert sum(len(json.dumps(event)) + 1 for event in written) < 42_000
    kinds = [event["event"] for event in written]
    (told,) = (position for position, kind in enumerate(kinds) if kind == "events_dropped")
    assert 20_000 <= written[told]["data"]["size_bytes"] < 21_000
    assert "client_failure" in kinds[:told]
    assert {*kinds[told + 1 : -1]} == {"round_end"}
    assert kinds[-1] == "training_end"


def test_a_training_that_waits_for_nodes_for_a_minute_stands_still(recorder: Recorder, clock: Clock, events: Callable[[], list[dict]]) -> None:
    for seconds in (0, 59.9, 60.04):
        recorder.nodes_waiting(1, 2, seconds)
    one_round(recorder, clock)
    recorder.nodes_waiting(1, 3, 3600)
    stalled = [event for event in events() if event["event"] == "training_stalled"]
    assert [event["level"] for event in stalled] == ["WARNING", "WARNING"]
    assert [tuple(event["data"].values()) for event in stalled] == [(0, 60.0, 1, 2), (1, 3600, 1, 3)]


def test_an_evaluation_is_told_with_its_examples(recorder: Recorder, events: Callable[[], list[dict]]) -> None:
    recorder.evaluated(float("inf"), 0.5, f1=0.25)
    recorder.evaluation_ended(2, 300)
    assert events()[-1]["data"] == {"round": 2, "loss": "Infinity", "accuracy": 0.5, "num_examples": 300}


def test_the_schema_has_every_event_and_no_other() -> None:
    registrar = APP.parents[1] / "plugins/module_utils/supervisor/registrar.py"
    app = (APP / "federation" / name for name in ("recorder.py", "client_app.py", "gpu.py", "events.py"))
    source = "".join(path.read_text() for path in (*app, registrar))
    assert set(SCHEMA["properties"]["event"]["enum"]) == set(re.findall(r'(?:(?:_emit|_record|tell|@_told)\(\s*|_DROPPED = )"([a-z_]+)"', source))


def test_an_event_with_another_field_level_or_writer_is_not_as_the_schema_has_it(recorder: Recorder, events: Callable[[], list[dict]]) -> None:
    recorder.training_failed("no nodes")
    (event,) = events()
    data = ({}, {"reason": "x", "round": 1})
    others = ({"colour": "red"}, {"event": "party"}, {"level": "INFO"}, {"role": "supernode"}, {"logger": "flower-registrar"}, *({"data": one} for one in data))
    for odd in ({**event, **other} for other in others):
        with pytest.raises(AssertionError):
            checked([odd])


def test_without_an_output_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = Recorder("")
    recorder.training_started(SETTINGS)
    recorder.save_model(lambda stream: stream.write(b"model"))
    recorder.close()
    assert list(tmp_path.iterdir()) == []
