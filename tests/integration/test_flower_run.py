# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""flower_run and flower_run_info against a zone that boots nothing, with a real supervisor and a SuperLink that is a file."""

from __future__ import annotations

import json

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.facts import update_user_template
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import encode
from ansible_collections.opennebula.flower.tests.support.federation import Federation
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

MEASURED = {"aggregated_loss": 0.25, "aggregated_accuracy": 0.5, "aggregated_auc": 0.75, "aggregated_perplexity": "Infinity", "aggregated_<b>": 1}


def test_follows_the_initial_run_and_shows_its_rounds(federation: Federation) -> None:
    federation.supervise()
    result = federation.run()
    assert result["run"]["status"] == "completed"
    assert result["run"]["metrics"]== pytest.approx({"accuracy": 0.95, "loss": 1 / 3})
    assert [entry["round"] for entry in result["run"]["history"]] == [1, 2, 3]
    shown = [line.partition(": ")[2] for line in federation.progress_file.read_text().splitlines()]
    assert shown[-3:] == [
        "round 1/3 accuracy 0.8500 loss 1.0000 nodes 2 2.5 s",
        "round 2/3 accuracy 0.9000 loss 0.5000 nodes 2 2.5 s",
        "round 3/3 accuracy 0.9500 loss 0.3333 nodes 2 2.5 s",
    ]


def test_every_metric_of_the_app_is_in_the_history_and_in_what_is_known_of_older_runs(federation: Federation) -> None:
    def measure(name: str) -> None:
        events = [{"event": "round_end", "data": {"round": number, "num_clients_responded": 2, **MEASURED}} for number in (1, 2)]
        with (federation.directory / "runs" / name / "events.jsonl").open("a") as stream:
            stream.writelines(json.dumps(event) + "\n" for event in [*events, {"event": "training_end"}])

    federation.train = measure
    federation.supervise()
    metrics = {"accuracy": 0.5, "loss": 0.25, "auc": 0.75, "perplexity": "Infinity"}
    assert federation.run()["run"]["history"] == [{"round": number, "seconds": None, "nodes": 2, "metrics": metrics} for number in (1, 2)]
    assert "round 2/0 accuracy 0.5000 loss 0.2500 auc 0.7500 perplexity Infinity nodes 2" in federation.progress_file.read_text()
    federation.run(name="second")
    first, second = federation.runs()
    assert first["history"] == []
    assert first["metrics"] == second["metrics"] == second["history"][-1]["metrics"]


def test_second_time_nothing_changes(federation: Federation) -> None:
    federation.supervise()
    federation.run(config={})
    again = federation.run(config={})
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"]
    assert federation.superlink.calls("run") == 1


def test_trains_again_under_another_name(federation: Federation) -> None:
    federation.supervise(initial=False)
    result = federation.run(name="more", config={"flower_num_rounds": 5})
    assert result["changed"] is True
    assert result["run"]["status"] == "completed"
    (run,) = federation.superlink.runs.values()
    assert run["config"]["num-server-rounds"] == 5
    assert federation.run(name="more", config={"num-server-rounds": "5"})["changed"] is False
    assert [run["name"] for run in federation.runs()] == ["more"]


def test_same_name_with_another_configuration_is_an_error(federation: Federation) -> None:
    federation.supervise(initial=False)
    federation.run(name="more", config={"num-server-rounds": 5})
    result = federation.run(name="more", config={"num-server-rounds": 6})
    assert result["failed"] is True
    assert result["error"]["kind"] == "conflict"
    assert "Run 'more' of service 'federation' exists with another configuration" in result["msg"]
    assert federation.superlink.calls("run") == 1


def test_a_failed_run_fails_with_the_message_of_the_supervisor(federation: Federation) -> None:
    federation.train = federation.fail
    federation.supervise()
    result = federation.run()
    assert result["msg"] == "Run 'initial' of service 'federation' failed: only 1 of 2 nodes came."


def test_the_deadline_says_how_the_run_stands(federation: Federation) -> None:
    federation.train = federation.linger
    federation.supervise()
    wait_until(lambda: federation.run(state="started")["run"]["status"] == "running", "the run to begin")
    result = federation.run(wait_timeout=1)
    assert result["error"]["kind"] == "timeout"
    assert "Run 'initial' of service 'federation' has not ended: it is running" in result["msg"]
    assert "0 of 3 rounds complete" in result["msg"]


def test_a_supervisor_that_does_not_answer_is_named(federation: Federation) -> None:
    result = federation.run(wait_timeout=0.2)
    assert f"the supervisor on VM {federation.vm_id} has not taken it over" in result["msg"]


def test_starts_and_stops(federation: Federation) -> None:
    federation.train = federation.linger
    federation.supervise()
    assert federation.run(state="started")["run"]["status"] in ("waiting", "running")
    stopped = federation.run(state="stopped")
    assert (stopped["changed"], stopped["run"]["status"]) == (True, "stopped")
    assert federation.run(state="stopped")["changed"] is False
    assert "was stopped" in federation.run()["msg"]


def test_a_run_that_was_stopped_goes_on_when_asked_to(federation: Federation) -> None:
    federation.train = federation.linger
    federation.supervise()
    federation.run(state="started")
    federation.run(state="stopped")
    predicted = federation.run(resume=True, check=True)
    assert predicted["diff"] == {"before": {"run": "initial", "state": "stopped"}, "after": {"run": "initial", "state": "started"}}
    assert federation.runs()[0]["status"] == "stopped"
    federation.train = federation.succeed
    federation.train_again()
    result = federation.run(resume=True)
    assert (result["changed"], result["run"]["status"], result["run"]["attempts"]) == (True, "completed", 2)
    assert federation.run(resume=True)["changed"] is False


def test_a_refused_request_ends_the_wait_with_the_reason(federation: Federation) -> None:
    federation.supervise(initial=False)
    result = federation.run(name="mine", app="/srv/apps/mine", wait_timeout=600)
    assert result["error"]["kind"] == "invalid"
    assert result["msg"] == (
        "The supervisor refuses run 'mine' of service 'federation': run 'mine' asks for the app '/srv/apps/mine', but this SuperLink "
        "takes no apps by request; ONEAPP_FL_APP_REQUESTS in its context allows them."
    )
    assert federation.run(name="other")["run"]["status"] == "completed"


def test_another_app_under_the_same_name_is_an_error(federation: Federation) -> None:
    federation.supervise()
    federation.run()
    assert federation.run(app="/srv/apps/mine")["error"]["kind"] == "conflict"


def test_stopping_what_does_not_exist_changes_nothing(federation: Federation) -> None:
    assert federation.run(name="never", state="stopped")["changed"] is False
    assert federation.request() is None


def test_check_mode_predicts_and_asks_for_nothing(federation: Federation) -> None:
    result = federation.run(name="more", check=True)
    assert result["changed"] is True
    assert (result["diff"]["before"]["state"], result["diff"]["after"]["state"]) == ("absent", "started")
    assert federation.request() is None


def test_check_mode_before_the_service_exists(federation: Federation) -> None:
    assert federation.run(service="not-there-yet", check=True)["changed"] is True
    result = federation.run(service="not-there-yet")
    assert "'not-there-yet'" in result["msg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"config": {"num-server-rounds": 0}},
            "num-server-rounds: '0' is not valid, expected a whole number of at least 1",
        ),
        ({"config": {"strategy": 7}}, "strategy: '7' is not valid, expected one of: FedAvg"),
        ({"config": {"run-name": "x"}}, "'run-name' is not part of the run configuration"),
        ({"app": "apps/mine"}, "'apps/mine' is not the source of an app: it is neither an absolute path nor a git URL"),
        ({"app": "/srv/mine", "config": {"rate": [1]}}, "cannot be configured like this: a list is not a text, number or truth value"),
        ({"app": "/srv/mine", "config": {"a b": 1}}, "'a b' is not a configuration key"),
        ({"name": "../../etc"}, "'../../etc' is not a name for a run"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_asked_for(federation: Federation, options: dict, words: str) -> None:
    result = federation.run(**options)
    assert words in result["msg"]
    assert result["error"]["kind"] == "invalid"
    assert federation.request() is None


@pytest.mark.parametrize(
    "published",
    [encode("{}"), encode("[" * 1000), encode('[{"name": "a", "metrics": {"loss": {}}}]'), encode("[" + "1" * 4000 + "]"), "***", {"A": "b"}],
    ids=["no list", "deep", "a figure of another type", "a long number", "no base64", "a vector"],
)
def test_runs_that_somebody_else_wrote_are_no_traceback(federation: Federation, published: str | dict) -> None:
    update_user_template(federation.client, federation.vm_id, {"FL_RUNS": published})
    result = federation.module("flower_run_info")
    assert result["error"]["kind"] == "protocol"
    assert "holds something else than runs" in result["msg"]
