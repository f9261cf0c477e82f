# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The supervisor goes on, whatever other VMs, apps and the disk do to it."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import state
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import PUBLISHED_ROUNDS
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.run_directory import RunDirectory, remove_discarded
from ansible_collections.opennebula.flower.tests.support.supervisor_scene import Scene

MODULE = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor"
HOSTILE = {
    "deep": "[" * 1000,
    "deeper": '{"a":' * 20_000,
    "settings of a node": '{"name":"x","state":"started","config":{"flower_node_config":[1]}}',
    "a truth value for a list": '{"name":"x","state":"started","config":{"flower_cert_extra_san":true}}',
    "a table for a truth value": '{"name":"x","state":"started","config":{"checkpoint-enabled":{"a":1}}}',
    "a long number": '{"name":"x","state":"started","resume":' + "1" * 4000 + "}",
    "an infinite number": '{"name":"x","state":"started","config":{"num-server-rounds":1e999}}',
    "no number": '{"name":"x","state":"started","config":{"fraction-fit":NaN}}',
    "half a surrogate pair": '{"name":"x","state":"started","config":{"image-classes":"\\ud800"}}',
    "many settings": json.dumps({"name": "x", "state": "started", "config": {f"setting-{number}": number for number in range(3000)}}),
    "a long name": json.dumps({"name": "x" * 60_000, "state": "started"}),
    "a long text": json.dumps({"name": "x", "state": "y" * 60_000}),
    "much": "x" * 10_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_request_is_refused_in_a_short_sentence_and_the_runs_go_on(scene: Scene, caplog: pytest.LogCaptureFixture, text: str) -> None:
    scene.step()
    scene.request_text(text)
    for _look in range(3):
        scene.step()
    if len(text) < 1_000_000:
        assert 0 < len(scene.refusal()) < 450
    (line,) = [record.getMessage() for record in caplog.records if "is refused" in record.getMessage()]
    assert len(line) < 500
    assert line.isprintable()
    scene.train()
    scene.step()
    assert [run["status"] for run in scene.published()] == ["completed"]


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 1000,
        b"{}",
        b"[]",
        b"",
        b'{"VM": []}',
        b'{"VM": null}',
        b'{"VM": {"USER_TEMPLATE": []}}',
        b'{"VM": {"USER_TEMPLATE": "text"}}',
        b'{"VM": {"USER_TEMPLATE": {"FL_RUN_REQUEST": ["a", "b"]}}}',
        b'{"VM": {"USER_TEMPLATE": {"FL_RUN_REQUEST": {"A": "b"}}}}',
        b'{"VM": {"USER_TEMPLATE": {"FL_RUN_REQUEST": "\\ud800"}}}',
        b'{"VM": {"USER_TEMPLATE": {"FL_RUN_REQUEST": ' + b"1" * 5000 + b"}}}",
        b"\xff\xfe",
    ],
)
def test_a_strange_document_from_onegate_harms_nothing(scene: Scene, answer: bytes) -> None:
    scene.onegate.document = answer
    scene.step()
    scene.train()
    scene.step()
    assert [run.status for run in scene.supervisor.runs] == ["completed"]


def test_what_nobody_thought_of_is_said_once_and_ends_nothing(scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.read_request", lambda _text: {}["odd"])
    scene.request("second")
    for _look in range(3):
        scene.step()
    assert scene.refusal() == "it cannot be understood (KeyError)"
    assert scene.newest()["status"] == "running"
    assert sum("Something is wrong with a request: KeyError" in record.getMessage() for record in caplog.records) == 1


def test_requests_without_end_are_refused_when_too_many_runs_wait(scene: Scene) -> None:
    scene.superlink.healthy = False
    for number in range(60):
        scene.request(f"run-{number}")
        scene.step()
    assert len(scene.supervisor.runs) == 50
    assert scene.refusal() == "50 runs wait already; stop some of them, or ask for 'run-59' later"


def test_runs_that_ended_long_ago_are_forgotten_but_never_the_initial_one(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    for number in range(210):
        scene.superlink.healthy = False
        scene.request(f"run-{number}")
        scene.step()
        scene.request(f"run-{number}", state="stopped")
        scene.step()
    names = [run.name for run in scene.supervisor.runs]
    assert len(names) == 200
    assert names[:2] == ["initial", "run-11"]
    scene.restart()
    scene.step()
    assert scene.superlink.calls("run") == 1


# What forgotten runs left


def forget(scene: Scene, *names: str) -> None:
    """Let these runs end, and as many after them as are remembered."""
    scene.superlink.healthy = False
    for name in (*names, "later-1", "later-2"):
        scene.request(name)
        scene.step()
        scene.request(name, state="stopped")
        scene.step()
    assert not {run.name for run in scene.supervisor.runs} & {*names}


def leave_files(directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in ("events.jsonl", "model.npz", ".hidden"):
        (directory / name).write_text("{}")


@pytest.fixture
def checkpoints(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "_MOST_RUNS", 2)
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    scene.settings |= {"checkpoints_directory": str(directory), "initial_run": None, "run_config": {}}
    return directory


def test_a_forgotten_run_leaves_neither_files_nor_checkpoints_and_the_others_keep_theirs(scene: Scene, checkpoints: Path, tmp_path: Path) -> None:
    for name in ("old", "later-1"):
        for directory in (scene.runs_directory, checkpoints, tmp_path / "apps"):
            leave_files(directory / name)
    forget(scene, "old")
    for directory in (scene.runs_directory, checkpoints, tmp_path / "apps"):
        assert [path.name for path in directory.iterdir()] == ["later-1"], directory
        assert len(list((directory / "later-1").iterdir())) == 3


def test_what_an_app_left_in_the_place_of_a_forgotten_run_leads_nowhere_else(scene: Scene, checkpoints: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    leave_files(elsewhere)
    leave_files(scene.runs_directory / "old")
    (scene.runs_directory / "old/link").symlink_to(elsewhere)
    (scene.runs_directory / "old/inner").mkdir(mode=0)
    (scene.runs_directory / "link").symlink_to(elsewhere)
    os.mkfifo(scene.runs_directory / "pipe")
    (checkpoints / "old").symlink_to(elsewhere)
    forget(scene, "old", "link", "pipe")
    assert [*scene.runs_directory.iterdir(), *checkpoints.iterdir()] == []
    assert len(list(elsewhere.iterdir())) == 3


def test_directories_of_any_depth_are_removed_bit_by_bit_also_after_a_restart(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    leave_files(runs / "deep")
    handle = os.open(runs / "deep", os.O_RDONLY)
    for _level in range(3000):
        os.mkdir("d" * 100, dir_fd=handle)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    RunDirectory(str(runs), "deep").discard()
    leave_files(runs / "deep")
    looks = 1
    while not remove_discarded(str(runs), 500):
        looks += 1
    assert 6 < looks < 30
    assert [path.name for path in runs.iterdir()] == ["deep"]
    assert len(list((runs / "deep").iterdir())) == 3


def test_what_cannot_be_removed_is_said_once_and_ends_nothing(
    scene: Scene, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave_files(scene.runs_directory / "old")

    def refused(_directory: str, _most: int) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(f"{MODULE}.remove_discarded", refused)
        forget(scene, "old")
    assert sum("Something is wrong with what forgotten runs left: PermissionError" in record.getMessage() for record in caplog.records) == 1
    scene.restart()
    scene.step()
    scene.step()
    assert list(scene.runs_directory.iterdir()) == []


def test_odd_lines_among_the_events_are_skipped(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    with (scene.runs_directory / "initial/events.jsonl").open("a") as stream:
        stream.write("[" * 5000 + "\n")
        stream.write('{"event": "round_end", "data": {"round": ' + "1" * 4000 + "}}\n")
        stream.write('{"event": "round_end", "data": {"round": 1e300}}\n')
        stream.write('{"event": "round_end", "message": "' + "x" * 3_000_000 + '", "data": {"round": 1}}\n')
    scene.round_end(2)
    scene.event("nodes_waiting", message="\x1b[2J" + "y" * 50_000, connected=1)
    scene.step()
    newest = scene.newest()
    assert [entry["round"] for entry in newest["history"]] == [2]
    assert newest["message"].startswith("\\x1b[2Jyyy")
    assert len(newest["message"]) < 1100


def test_20_000_events_at_once_leave_a_bounded_state_and_few_lines_in_the_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.step()
    line = json.dumps({"event": "round_end", "message": "m" * 200, "data": {"aggregated_accuracy": 0.5, "round": 0}})
    with (scene.runs_directory / "initial/events.jsonl").open("a") as stream:
        stream.writelines(line.replace('"round": 0', f'"round": {number}') + "\n" for number in range(1, 20_001))
    scene.step()
    (run,) = scene.supervisor.runs
    assert (run.round, len(run.history)) == (20_000, 2 * PUBLISHED_ROUNDS)
    assert len(scene.newest()["history"]) == PUBLISHED_ROUNDS
    assert len(caplog.records) < 600
    assert Path(scene.settings["state_file"]).stat().st_size < 200_000


# A full disk


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


def test_a_full_disk_at_the_start_submits_nothing_and_later_everything(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk(monkeypatch):
        for _look in range(5):
            scene.step()
        assert scene.superlink.calls("run") == 0
        assert (scene.newest()["status"], scene.newest()["attempts"]) == ("waiting", 0)
        assert "No space left on device" in scene.newest()["message"]
    scene.step()
    assert (scene.newest()["status"], scene.newest()["attempts"]) == ("running", 1)


def test_a_full_disk_at_the_end_of_a_run_loses_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    scene.step()
    scene.train()
    with full_disk(monkeypatch):
        for _look in range(3):
            scene.step()
        assert scene.newest()["status"] == "completed"
    assert sum("The state cannot be written" in record.getMessage() for record in caplog.records) == 1
    scene.step()
    scene.restart()
    scene.step()
    assert (scene.newest()["status"], scene.superlink.calls("run")) == ("completed", 1)


def test_a_crash_while_the_disk_is_full_goes_on_where_the_state_was(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.step()
    with full_disk(monkeypatch):
        scene.round_end(1)
        scene.request("second")
        scene.step()
        scene.restart()
        scene.step()
    assert [(run["name"], run["status"], run["round"]) for run in scene.published()] == [("initial", "running", 1), ("second", "waiting", 0)]
    assert sorted(path.name for path in Path(scene.settings["state_file"]).parent.iterdir()) == ["supervisor.json"]


# A state file that cannot be read


def damage(scene: Scene, change: Callable[[dict[str, Any]], Any] | bytes) -> bytes:
    path = Path(scene.settings["state_file"])
    content = change if isinstance(change, bytes) else json.dumps(change(json.loads(path.read_text()))).encode()
    path.write_bytes(content)
    scene.restart()
    return content


def kept_aside(scene: Scene) -> list[Path]:
    return list(Path(scene.settings["state_file"]).parent.glob("*.unreadable-*"))


@pytest.mark.parametrize(
    "damaged",
    [b"", b'{"runs": [{"na', b"\x00" * 100, b"[]", b'{"runs": 1}', b'{"format": 1, "runs": []}', b'{"runs": [[]]}', b"[" * 10_000],
)
def test_a_damaged_state_file_is_put_aside_with_its_name_in_the_log_and_the_run_followed_on(
    scene: Scene, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.round_end(1)
    scene.step()
    damage(scene, damaged)
    scene.step()
    (aside,) = kept_aside(scene)
    assert aside.read_bytes() == damaged
    assert f"The state file {scene.settings['state_file']} cannot be read" in caplog.text
    assert str(aside) in caplog.text
    newest = scene.newest()
    assert (newest["name"], newest["status"], newest["round"], newest["run_id"]) == ("initial", "running", 1, scene.superlink.run_ids[0])
    assert scene.superlink.calls("run") == 1
    scene.restart()
    scene.step()
    assert len(kept_aside(scene)) == 1


def test_runs_are_found_again_as_they_ended(scene: Scene) -> None:
    (scene.runs_directory / "initial").mkdir()
    (scene.runs_directory / "initial/model.npz").write_bytes(b"weights")
    scene.step()
    scene.train()
    scene.step()
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:completed")
    for name in ("failing", "stopped"):
        scene.request(name, **{"num-server-rounds": 7})
        scene.step()
        if name == "failing":
            scene.event("training_failed", name, message="training failed: disk full")
        scene.superlink.set_status(scene.superlink.run_ids[-1], f"finished:{name.replace('ing', 'ed')}", "ServerApp failed")
        scene.step()
    before = {run["name"]: run for run in scene.published()}
    assert [run["status"] for run in before.values()] == ["completed", "failed", "stopped"]
    damage(scene, b"damaged")
    scene.step()
    found = {run["name"]: run for run in scene.published()}
    assert {name: (run["status"], run["round"], run["digest"]) for name, run in found.items()} == {
        name: (run["status"], run["round"], run["digest"]) for name, run in before.items()
    }
    assert found["failing"]["message"] == "training failed: disk full"
    assert found["stopped"]["message"].endswith("ask for it to go on with resume")
    assert [file.name for file in scene.supervisor.collections["initial"].files] == ["events.jsonl", "model.npz"]
    assert scene.superlink.calls("run") == 3


def test_an_initial_run_that_flower_lost_too_is_submitted_again(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.step()
    scene.superlink.forget_runs()
    damage(scene, b"damaged")
    scene.step()
    scene.step()
    assert (scene.newest()["status"], scene.superlink.calls("run")) == ("running", 2)


def test_one_record_that_is_none_costs_the_others_nothing(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    digest = scene.newest()["digest"]
    scene.request("second")
    scene.step()
    state = damage(scene, lambda content: {**content, "runs": [content["runs"][0], {"name": "../../x", "status": "running"}, 5, content["runs"][1]]})
    scene.step()
    assert [(run["name"], run["status"]) for run in scene.published()] == [("initial", "completed"), ("second", "running")]
    assert scene.published()[0]["digest"] == digest
    assert kept_aside(scene)[0].read_bytes() == state
    assert not (scene.runs_directory / "../../x").exists()


def test_a_state_of_a_newer_version_is_kept_beside_what_could_be_read(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.step()
    state = damage(scene, lambda content: {**content, "runs": [{**run, "colour": "blue"} for run in content["runs"]]})
    scene.step()
    assert (scene.newest()["status"], scene.superlink.calls("run")) == ("running", 1)
    assert "run 'initial' has 'colour', which this version does not know" in caplog.text
    assert kept_aside(scene)[0].read_bytes() == state


@pytest.mark.parametrize("artifacts", [{"token": 5}, {"token": "a\r\nb", "files": []}, {"files": [["../x", 1, "0"]]}])
def test_files_that_are_none_are_not_taken_from_the_state(scene: Scene, artifacts: dict[str, Any]) -> None:
    scene.step()
    scene.train()
    scene.step()
    damage(scene, lambda content: {**content, "runs": [{**content["runs"][0], "artifacts": artifacts}]})
    scene.step()
    assert scene.newest()["status"] == "completed"
    assert [file.name for file in scene.supervisor.collections["initial"].files] == ["events.jsonl"]


# The whole process


@contextmanager
def program(scene: Scene, tmp_path: Path) -> Iterator[subprocess.Popen]:
    config = tmp_path / "supervisor.json"
    config.write_text(json.dumps(scene.settings))
    command = [sys.executable, "-m", MODULE, "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen, words: str) -> str:
    """Read the log to the line with these words."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError("".join(lines[-20:]))


def test_the_process_lives_through_all_of_it_and_still_trains_and_serves(scene: Scene, tmp_path: Path) -> None:
    offered = tmp_path / "offered.json"
    scene.settings["artifacts_file"] = str(offered)
    state = Path(scene.settings["state_file"])
    state.parent.mkdir()
    state.write_text('{"runs": [{"name": "../../x", "status": "running"}]}')
    with program(scene, tmp_path) as process:
        assert str(state) in until(process, "cannot be read")
        until(process, "was submitted")
        for text in HOSTILE.values():
            scene.request_text(text)
            assert len(until(process, "The request is refused")) < 500
        scene.request("good")
        until(process, "'good' was asked for")
        scene.train()
        until(process, "completed: training complete")
        until(process, "Run 'good' was submitted")
        assert list(json.loads(offered.read_text())) == ["initial"]
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.stdout.read()
        assert process.wait() == 0


def test_sigterm_does_not_wait_for_a_client_that_hangs(scene: Scene, tmp_path: Path) -> None:
    scene.settings["flwr_command"] = [sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w'); import threading; threading.Event().wait()"]
    with program(scene, tmp_path) as process:
        until(process, "was asked for")
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=50) == 0  # the client itself has 60 s
