# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The training supervisor, against a SuperLink that is a file and a small OneGate."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import decode
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifacts import Collection, published_collections
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import digest
from ansible_collections.opennebula.flower.tests.support.one_servers import ScriptedServer, running
from ansible_collections.opennebula.flower.tests.support.supervisor_scene import INITIAL, Scene


def test_submits_the_initial_run_with_its_configuration_and_its_directory(scene: Scene) -> None:
    scene.step()
    (run,) = scene.superlink.runs.values()
    assert run["app"] == "/app/federation"
    assert run["config"] == INITIAL | {
        "run-name": "initial",
        "output-directory": str(scene.runs_directory / "initial"),
    }
    assert scene.newest()["status"] == "running"
    assert scene.newest()["run_id"] == scene.superlink.run_ids[0]


def test_submits_nothing_without_an_initial_run(scene: Scene) -> None:
    scene.settings["initial_run"] = None
    scene.step()
    assert scene.superlink.runs == {}
    assert scene.published() == []
    assert scene.onegate.attributes["FL_RUN_STATUS"] == "idle"
    assert scene.onegate.attributes["FL_TRAINING_ACTIVE"] == "0"


def test_publishes_every_round(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.round_end(1, accuracy=0.9056)
    scene.step()
    assert scene.newest()["history"] == [{"round": 1, "seconds": 12.34, "nodes": 2, "metrics": {"accuracy": 0.9056, "loss": 0.4}}]
    assert scene.newest()["rounds"] == 3
    attributes = scene.onegate.attributes
    assert (attributes["FL_RUN_STATUS"], attributes["FL_ROUND_NUMBER"], attributes["FL_ACCURACY"]) == (
        "running",
        "1",
        "0.9056",
    )
    assert attributes["FL_NODES_CONNECTED"] == "2"
    assert attributes["FL_TRAINING_ACTIVE"] == "1"


def test_a_run_is_completed_when_the_app_says_so(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    assert scene.newest()["status"] == "completed"
    assert scene.newest()["round"] == 3
    assert scene.newest()["ended"] >= scene.newest()["started"]


def test_the_files_of_an_ended_run_are_offered_under_a_token_that_survives_a_restart(scene: Scene) -> None:
    scene.step()
    (scene.runs_directory / "initial/model.npz").write_bytes(b"weights")
    scene.train()
    scene.step()
    offered = published_collections(scene.onegate.attributes)
    assert [file.name for file in offered["initial"].files] == ["events.jsonl", "model.npz"]
    assert offered["initial"].token not in decode(scene.onegate.attributes["FL_RUNS"])
    scene.restart()
    assert scene.supervisor.collections == offered
    assert Path(scene.settings["state_file"]).stat().st_mode & 0o077 == 0


def test_an_ended_run_is_never_submitted_again(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    scene.restart()
    scene.step()
    assert scene.superlink.calls("run") == 1


def test_a_completed_status_without_a_trained_model_is_a_failure(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:completed")
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert "without reporting the end" in scene.newest()["message"]


def test_an_end_of_training_without_replies_is_a_failure(scene: Scene) -> None:
    scene.step()
    scene.round_end(1, accuracy=None, responded=0)
    scene.event("training_end", total_rounds=1)
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert "without any reply" in scene.newest()["message"]


def test_a_failed_run_carries_the_reason_of_the_app(scene: Scene) -> None:
    scene.step()
    scene.event("training_failed", message="training failed: only 1 of 2 nodes", reason="only 1 of 2 nodes")
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", "ServerApp failed with exception: x")
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert scene.newest()["message"] == "training failed: only 1 of 2 nodes"
    assert scene.superlink.calls("run") == 1


def test_an_app_that_cannot_start_fails_with_the_reason_of_flower(scene: Scene) -> None:
    scene.step()
    details = "ServerApp failed with exception: No module named 'x'"
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", details)
    scene.step()
    assert (scene.newest()["status"], scene.newest()["message"]) == ("failed", details)


def test_a_run_lost_with_its_superlink_is_submitted_again_and_keeps_name_and_history(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.round_end(1)
    scene.step()
    scene.event("training_failed", message="connection refused")
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", "Task failed with unknown error.")
    scene.step()
    scene.step()
    assert len(scene.superlink.run_ids) == 2
    assert scene.newest()["name"] == "initial"
    assert scene.newest()["attempts"] == 2
    assert scene.newest()["run_id"] == scene.superlink.run_ids[1]
    scene.round_end(1, accuracy=0.8)
    scene.round_end(2, accuracy=0.9)
    scene.step()
    assert [entry["round"] for entry in scene.newest()["history"]] == [1, 2]
    assert scene.newest()["status"] == "running"


def test_a_run_the_superlink_forgot_is_submitted_again(scene: Scene) -> None:
    scene.step()
    scene.superlink.forget_runs()
    scene.step()
    scene.step()
    assert scene.superlink.calls("run") == 2
    assert scene.newest()["status"] == "running"


def test_gives_up_when_attempt_after_attempt_brings_no_round(scene: Scene) -> None:
    for _attempt in range(3):
        scene.step()
        newest_id = scene.superlink.run_ids[-1]
        scene.superlink.set_status(newest_id, "finished:failed", "Task failed with unknown error.")
        scene.step()
    scene.step()
    assert scene.superlink.calls("run") == 3
    assert scene.newest()["status"] == "failed"
    assert "3 attempts" in scene.newest()["message"]


def test_attempts_that_bring_a_round_are_not_counted_against_a_run(scene: Scene) -> None:
    for number in range(1, 6):
        scene.step()
        scene.round_end(number)
        scene.step()
        scene.superlink.set_status(scene.superlink.run_ids[-1], "finished:failed", "Task failed with unknown error.")
        scene.step()
    scene.step()
    assert scene.newest()["status"] == "running"
    assert scene.newest()["attempts"] == 6


def test_going_through_the_same_rounds_again_is_no_progress(scene: Scene) -> None:
    for _attempt in range(4):
        scene.step()
        scene.round_end(1)
        scene.round_end(2)
        scene.step()
        scene.superlink.set_status(scene.superlink.run_ids[-1], "finished:failed", "Task failed with unknown error.")
        scene.step()
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert "gave up after 3 attempts" in scene.newest()["message"]


def test_tells_what_happens_between_rounds(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=5)
    scene.event("nodes_waiting", message="waiting for nodes: 1 of 2 connected after 5 s", connected=1, required=2)
    scene.step()
    assert (scene.newest()["nodes"], scene.newest()["message"]) == (1, "waiting for nodes: 1 of 2 connected after 5 s")
    scene.event("round_failed", message="round 1 of 5 failed (1 of at most 3 in a row): 1 of 2 nodes completed the training", round=1)
    scene.step()
    assert scene.newest()["failed_rounds"] == 1
    assert "round 1 of 5 failed" in scene.newest()["message"]
    scene.round_end(1)
    scene.event("checkpoint_saved", round=1, message="round 1: checkpoint of 9 bytes saved")
    scene.event("checkpoint_failed", round=2, message="round 2: no checkpoint: No space left on device")
    scene.step()
    assert scene.newest()["checkpoint"] == 1
    assert scene.newest()["message"] == "round 2: no checkpoint: No space left on device"


def test_a_run_that_goes_on_from_a_checkpoint_shows_where(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=5)
    for number in (1, 2, 3):
        scene.round_end(number)
    scene.step()
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", "No heartbeat received from the task.")
    scene.step()
    scene.step()
    scene.event("training_resumed", message="training goes on after round 2 of 5", round=2, num_rounds=5)
    scene.step()
    newest = scene.newest()
    assert (newest["round"], newest["resumed"], newest["attempts"]) == (2, 2, 2)
    assert [entry["round"] for entry in newest["history"]] == [1, 2]
    assert newest["message"] == "training goes on after round 2 of 5"


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_a_run_that_ended_early_goes_on_when_that_is_asked_for(scene: Scene, end: str) -> None:
    scene.step()
    if end == "failed":
        scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", "ServerApp failed with exception: disk full")
    else:
        scene.request("initial", state="stopped")
    scene.step()
    assert scene.newest()["status"] == end
    ended = scene.newest()["ended"]
    scene.request("initial", resume=ended)
    scene.step()
    assert (scene.newest()["status"], scene.newest()["ended"]) == ("running", None)
    assert scene.superlink.calls("run") == 2


def test_a_run_goes_on_once_for_one_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: scene.now)
    for _attempt in range(2):
        scene.step()
        scene.superlink.set_status(scene.superlink.run_ids[-1], "finished:failed", "ServerApp failed with exception: disk full")
        scene.step()
        scene.request("initial", resume=scene.newest()["ended"])
    scene.step()
    scene.superlink.set_status(scene.superlink.run_ids[-1], "finished:failed", "ServerApp failed with exception: disk full")
    scene.step()
    scene.restart()
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert scene.superlink.calls("run") == 3


def test_two_ends_of_a_run_in_one_second_are_told_apart(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.9)
    ends = []
    scene.step()
    for _attempt in range(3):
        scene.superlink.set_status(scene.superlink.run_ids[-1], "finished:failed", "ServerApp failed with exception: disk full")
        scene.step()
        ends.append(scene.newest()["ended"])
        scene.request("initial", resume=ends[-1])
        scene.step()
    assert ends == [1_800_000_000, 1_800_000_001, 1_800_000_002]
    assert scene.superlink.calls("run") == 4


def test_a_completed_run_does_not_go_on(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    scene.request("initial", resume=scene.newest()["ended"])
    scene.step()
    assert scene.newest()["status"] == "completed"
    assert scene.superlink.calls("run") == 1


def test_what_an_earlier_attempt_said_is_not_held_against_the_next(scene: Scene) -> None:
    scene.step()
    scene.event("training_failed", message="connection lost")
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", "Task failed with unknown error.")
    scene.step()
    scene.event("training_failed", message="connection still lost")
    scene.step()
    details = "ServerApp failed with exception: disk full"
    scene.superlink.set_status(scene.superlink.run_ids[1], "finished:failed", details)
    scene.step()
    assert scene.newest()["message"] == details


def test_a_supervisor_restarted_in_mid_run_goes_on_where_it_was(scene: Scene) -> None:
    scene.step()
    scene.event("training_start", num_rounds=3)
    scene.round_end(1)
    scene.step()
    scene.restart()
    scene.round_end(2)
    scene.step()
    assert scene.superlink.calls("run") == 1
    assert [entry["round"] for entry in scene.newest()["history"]] == [1, 2]


def test_a_run_that_ended_while_the_supervisor_was_down_is_completed(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:completed")
    scene.restart()
    scene.step()
    assert scene.newest()["status"] == "completed"


def test_a_submission_whose_answer_was_lost_is_taken_over_not_repeated(scene: Scene) -> None:
    scene.superlink.lose_answers("run")
    scene.step()
    assert len(scene.superlink.run_ids) == 1
    scene.superlink.lose_answers()
    scene.restart()
    scene.step()
    assert scene.superlink.calls("run") == 1
    assert scene.newest()["run_id"] == scene.superlink.run_ids[0]


def test_waits_for_the_superlink_before_submitting(scene: Scene) -> None:
    scene.superlink.healthy = False
    scene.step()
    assert scene.superlink.calls("run") == 0
    assert scene.newest()["status"] == "waiting"
    assert "waiting for the SuperLink" in scene.newest()["message"]
    scene.superlink.healthy = True
    scene.step()
    assert scene.newest()["status"] == "running"


def test_a_run_is_not_left_to_flowers_heartbeat_when_its_superlink_has_ended(scene: Scene) -> None:
    with running(ScriptedServer((200, b""))) as health:
        scene.settings["health_url"] = health.url
        scene.step()
        address = health.server_address
    scene.step()
    assert "Connection refused" in scene.newest()["message"]
    with running(ScriptedServer((200, b""), address=address)):
        scene.step()
        assert scene.superlink.runs[scene.superlink.run_ids[0]]["status"] == "finished:stopped"
        scene.step()
    assert (scene.newest()["status"], scene.newest()["attempts"]) == ("running", 2)


def test_a_superlink_that_is_slow_to_answer_keeps_its_run(scene: Scene) -> None:
    scene.step()
    scene.superlink.healthy = False
    scene.step()
    scene.superlink.healthy = True
    scene.step()
    scene.step()
    assert (scene.newest()["status"], scene.newest()["attempts"]) == ("running", 1)


def test_a_superlink_that_stays_silent_fails_the_run_at_the_deadline(scene: Scene) -> None:
    scene.superlink.healthy = False
    scene.step()
    scene.step(1799)
    assert scene.newest()["status"] == "waiting"
    scene.step(1)
    assert scene.newest()["status"] == "failed"
    assert "did not answer for 1800 s" in scene.newest()["message"]


def test_a_refused_submission_is_tried_again_and_then_fails_with_the_reason(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    scene.request("second")
    config_error = "[code: 15] Invalid run configuration."
    scene.superlink.refuse(run=config_error)
    for _try in range(4):
        scene.step()
    assert scene.newest()["status"] == "failed"
    assert config_error in scene.newest()["message"]


def test_asks_the_client_only_when_events_are_silent(scene: Scene) -> None:
    scene.settings |= {"client_seconds": 5, "quiet_seconds": 15}
    scene.step()
    for number in range(1, 4):
        scene.round_end(number)
        scene.step(10)
    assert scene.superlink.calls("list") == 1
    scene.step(15)
    assert scene.superlink.calls("list") == 2


def test_a_requested_run_overrides_the_configuration_of_the_superlink(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    scene.request("longer", **{"num-server-rounds": 5})
    scene.step()
    newest_run = list(scene.superlink.runs.values())[-1]
    assert newest_run["config"]["num-server-rounds"] == 5
    assert newest_run["config"]["use-case"] == "digits"
    assert newest_run["config"]["run-name"] == "longer"
    assert scene.newest()["digest"] == digest({"num-server-rounds": 5})


def test_only_the_newest_run_carries_its_history(scene: Scene) -> None:
    scene.step()
    scene.train()
    scene.step()
    assert scene.newest()["history"]
    scene.request("second")
    scene.step()
    assert [run["history"] for run in scene.published()] == [[], []]


def test_a_request_during_a_run_waits_for_its_end(scene: Scene) -> None:
    scene.step()
    scene.request("second")
    scene.step()
    assert scene.newest() | {"name": "second", "status": "waiting"} == scene.newest()
    assert scene.newest()["message"] == "waiting for run 'initial' to end"
    assert scene.onegate.attributes["FL_RUN_STATUS"] == "running"
    scene.train()
    scene.step()
    scene.step()
    assert scene.newest()["status"] == "running"


def test_a_request_that_stays_is_obeyed_once(scene: Scene) -> None:
    scene.settings["initial_run"] = None
    scene.request("mine")
    scene.step()
    scene.train("mine")
    scene.step()
    scene.restart()
    scene.step()
    assert scene.superlink.calls("run") == 1


def test_a_request_with_a_known_name_and_another_configuration_is_refused(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.settings["initial_run"] = None
    scene.request("mine", **{"num-server-rounds": 2})
    scene.step()
    scene.request("mine", **{"num-server-rounds": 4})
    scene.step()
    assert scene.superlink.calls("run") == 1
    assert scene.newest()["digest"] == digest({"num-server-rounds": 2})
    assert "there is a run 'mine' with another configuration" in caplog.text
    assert scene.refusal() == "there is a run 'mine' with another configuration"


def test_stops_a_run_on_request(scene: Scene) -> None:
    scene.step()
    scene.request("initial", state="stopped")
    scene.step()
    assert scene.newest()["status"] == "stopped"
    assert scene.superlink.runs[scene.superlink.run_ids[0]]["status"] == "finished:stopped"
    scene.restart()
    scene.step()
    assert scene.superlink.calls("run") == 1


def test_a_stop_that_fails_is_tried_again(scene: Scene) -> None:
    scene.step()
    scene.request("initial", state="stopped")
    scene.superlink.refuse(stop="[code: 1] busy")
    scene.step()
    assert scene.newest()["status"] == "running"
    scene.superlink.refuse()
    scene.step()
    assert scene.newest()["status"] == "stopped"


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        '{"name": "../../etc", "state": "started", "config": {}}',
        '{"name": "a", "state": "exploded", "config": {}}',
        '{"name": "a", "state": "started", "config": []}',
        '{"name": "a", "state": "started", "config": {"output-directory": "/etc"}}',
        '{"name": "a", "state": "started", "config": {"num-server-rounds": 0}}',
    ],
)
def test_a_request_that_is_not_valid_starts_nothing(scene: Scene, text: str) -> None:
    scene.settings["initial_run"] = None
    scene.request_text(text)
    scene.step()
    assert scene.superlink.calls("run") == 0
    assert scene.published() == []
    assert scene.refusal()


def test_an_attribute_that_cannot_be_decoded_harms_nothing(scene: Scene) -> None:
    scene.onegate.attributes["FL_RUN_REQUEST"] = "***"
    scene.step()
    assert scene.newest()["status"] == "running"


def test_publishes_only_what_changed(scene: Scene) -> None:
    scene.step()
    scene.step()
    before = len(scene.onegate.puts)
    scene.step()
    assert len(scene.onegate.puts) == before
    scene.event("nodes_waiting", message="waiting", connected=1, required=2)
    scene.step()
    assert scene.onegate.puts[-1] == ["FL_NODES_CONNECTED", "FL_RUNS"]


def test_goes_on_without_onegate_and_publishes_when_it_is_back(scene: Scene) -> None:
    scene.onegate.broken = True
    scene.step()
    assert len(scene.superlink.run_ids) == 1
    assert "FL_RUNS" not in scene.onegate.attributes
    scene.onegate.broken = False
    scene.step()
    assert scene.newest()["status"] == "running"


def test_works_without_opennebula(scene: Scene) -> None:
    scene.settings["onegate"] = None
    scene.step()
    scene.train()
    scene.step()
    assert [run.status for run in scene.supervisor.runs] == ["completed"]
    assert scene.onegate.puts == []


def test_odd_events_harm_nothing(scene: Scene) -> None:
    scene.step()
    events = scene.runs_directory / "initial" / "events.jsonl"
    events.write_bytes(b'\xff\xfe\n[]\n{"event": 5}\n{"event": "round_end"}\n{"event": "round_end", "data": 7}\n')
    scene.event("round_end", round="one")
    scene.event("round_end", round=1, aggregated_loss=float("nan"), aggregated_accuracy="high")
    with events.open("a") as stream:
        stream.write('{"event": "round_end", "data": {"round": 2')
    scene.step()
    assert scene.newest()["history"] == [{"round": 1, "seconds": None, "nodes": 0, "metrics": {"loss": "NaN"}}]
    with events.open("a") as stream:
        stream.write(', "aggregated_accuracy": 0.5}}\n')
    scene.step()
    assert scene.newest()["history"][-1]["metrics"] == {"accuracy": 0.5}


def test_the_program_trains_and_ends_cleanly_on_sigterm(scene: Scene, tmp_path: Path) -> None:
    config_file = tmp_path / "supervisor.json"
    config_file.write_text(json.dumps(scene.settings))
    module = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor"
    command = [sys.executable, "-m", module, "--config", str(config_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            for line in program.stdout:
                if "was submitted" in line:
                    scene.train()
                elif "training complete" in line and "completed" in line:
                    program.send_signal(signal.SIGTERM)
            assert program.wait(timeout=300) == 0
        finally:
            program.kill()
    assert scene.newest()["status"] == "completed"


def test_the_program_says_what_is_wrong_with_its_settings(tmp_path: Path) -> None:
    config_file = tmp_path / "supervisor.json"
    config_file.write_text('{"colour": "blue"}')
    module = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor"
    done = subprocess.run([sys.executable, "-m", module, "--config", str(config_file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "colour" in done.stdout


class OwnApp:
    """An app of the operator's own, beside the SuperLink of a scene."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.scene = scene
        self.directory = directory
        directory.mkdir()
        self.declare("learning-rate = 0.1", "run-name = ''", "[tool.flwr.app.config.data]", "path = ''")
        scene.settings["initial_run"] = {"name": "initial", "config": {}, "app": str(directory)}
        scene.settings["own_app"] = {"source": str(directory), "config": {"learning-rate": 0.5}}

    def declare(self, *lines: str) -> None:
        components = "[tool.flwr.app.components]\nserverapp = 'a'\nclientapp = 'b'\n"
        (self.directory / "pyproject.toml").write_text(components + "[tool.flwr.app.config]\n" + "\n".join(lines))

    def submitted(self) -> dict[str, Any]:
        return list(self.scene.superlink.runs.values())[-1]


@pytest.fixture
def own_app(scene: Scene, tmp_path: Path) -> OwnApp:
    return OwnApp(scene, tmp_path / "mine")


def test_an_own_app_is_submitted_with_its_configuration_and_what_it_wants_to_know_of_its_run(scene: Scene, own_app: OwnApp) -> None:
    scene.step()
    assert own_app.submitted()["app"] == "/app/apps/initial"
    assert own_app.submitted()["config"] == {"learning-rate": 0.5, "run-name": "initial"}
    assert (scene.newest()["app"], scene.newest()["app_version"]) == (str(own_app.directory), "directory")


def test_an_own_app_is_complete_when_flower_says_so(scene: Scene, own_app: OwnApp) -> None:
    scene.step()
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:completed")
    scene.step()
    assert (scene.newest()["status"], scene.newest()["message"]) == ("completed", "complete, as Flower says; the app reports no rounds")


def test_an_own_app_that_writes_events_shows_its_rounds(scene: Scene, own_app: OwnApp) -> None:
    scene.step()
    scene.train()
    scene.step()
    assert scene.newest()["status"] == "running"
    assert [entry["round"] for entry in scene.newest()["history"]] == [1, 2, 3]
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:completed")
    scene.step()
    assert (scene.newest()["status"], scene.newest()["message"]) == ("completed", "complete, as Flower says")


def test_every_attempt_of_a_run_trains_the_same_version_of_an_own_app(scene: Scene, own_app: OwnApp) -> None:
    scene.step()
    own_app.declare("something-else = 1")
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:failed", "Task failed with unknown error.")
    scene.step()
    scene.step()
    assert scene.superlink.calls("run") == 2
    assert own_app.submitted()["config"] == {"learning-rate": 0.5, "run-name": "initial"}


def test_keys_that_an_own_app_does_not_know_fail_its_run_before_it_is_submitted(scene: Scene, own_app: OwnApp) -> None:
    scene.settings["own_app"]["config"] = {"momentum": 0.9}
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert scene.newest()["message"].endswith("has no 'momentum' in its run configuration, only: learning-rate, run-name, data.path")
    assert scene.superlink.calls("run") == 0


def test_an_app_that_is_not_there_fails_its_run_with_the_reason(scene: Scene, own_app: OwnApp) -> None:
    scene.settings["initial_run"]["app"] = "/nowhere/app"
    scene.step()
    assert scene.newest()["status"] == "failed"
    assert scene.newest()["message"] == "app '/nowhere/app': there is no such directory on the SuperLink's VM"


def test_a_client_that_does_not_answer_has_more_time_than_one_that_says_no(scene: Scene) -> None:
    scene.settings |= {"flwr_command": [sys.executable, "-c", "import threading; threading.Event().wait(600)"], "client_timeout": 0.1}
    scene.step()
    scene.step(1000)
    assert (scene.newest()["status"], scene.newest()["message"]) == ("waiting", "flwr list did not answer within 0.1 s")
    scene.step(800)
    assert (scene.newest()["status"], scene.newest()["message"]) == ("failed", "no success for 1800 s: flwr list did not answer within 0.1 s")


def test_a_repository_that_cannot_be_reached_is_tried_again_until_the_deadline(scene: Scene, own_app: OwnApp) -> None:
    scene.settings["initial_run"]["app"] = "file:///nowhere/app.git"
    scene.step()
    assert scene.newest()["status"] == "waiting"
    assert "git could not fetch it" in scene.newest()["message"]
    scene.step(300)
    assert scene.newest()["status"] == "failed"
    assert "no success for 300 s" in scene.newest()["message"]


def test_a_requested_run_of_the_own_app_overrides_its_configuration(scene: Scene, own_app: OwnApp) -> None:
    scene.step()
    scene.superlink.set_status(scene.superlink.run_ids[0], "finished:completed")
    scene.step()
    odd = "quotes \" ' and \\ and \n and ünïcode"
    scene.request("second", app=str(own_app.directory), **{"data.path": odd})
    scene.step()
    assert own_app.submitted()["config"] == {"learning-rate": 0.5, "data": {"path": odd}, "run-name": "second"}


def test_an_app_by_request_is_code_and_needs_the_consent_of_the_context(scene: Scene, own_app: OwnApp, tmp_path: Path) -> None:
    scene.settings["initial_run"] = None
    other = OwnApp(scene, tmp_path / "other").directory
    scene.settings |= {"initial_run": None, "own_app": None}
    scene.request("theirs", app=str(other))
    scene.step()
    assert scene.superlink.calls("run") == 0
    assert "this SuperLink takes no apps by request; ONEAPP_FL_APP_REQUESTS in its context allows them" in scene.refusal()
    scene.settings["app_requests"] = True
    scene.restart()
    scene.step()
    assert scene.newest()["status"] == "running"


def offered(scene: Scene) -> dict[str, Collection]:
    return published_collections(scene.onegate.attributes)


@pytest.mark.parametrize(("days", "replaced"), [(30, True), (0, False)])
def test_the_token_of_files_is_replaced_when_it_expired(scene: Scene, monkeypatch: pytest.MonkeyPatch, days: int, replaced: bool) -> None:
    scene.settings["artifacts_days"] = days
    scene.step()
    scene.train()
    scene.step()
    first = offered(scene)["initial"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 29 * 86400)
    scene.restart()
    scene.step()
    assert offered(scene)["initial"] == first
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86400)
    scene.step()
    second = offered(scene)["initial"]
    assert (second.token != first.token, second.files) == (replaced, first.files)
    assert scene.supervisor.collections["initial"] == second
    scene.restart()
    scene.step()
    assert offered(scene)["initial"] == second


def test_files_of_runs_that_are_not_published_any_more_are_not_offered_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.step()
    scene.train()
    scene.step()
    scene.superlink.healthy = False
    for number in range(20):
        scene.request(f"run-{number}")
        scene.step()
    assert "initial" in scene.supervisor.collections
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86400)
    scene.step()
    assert scene.supervisor.collections == {}
    assert (scene.runs_directory / "initial/events.jsonl").exists()
