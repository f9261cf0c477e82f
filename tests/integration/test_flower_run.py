# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""flower_run and flower_run_info against a zone that boots nothing, with a real supervisor and a SuperLink that is a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.board import open_board
from ansible_collections.opennebula.flower.plugins.module_utils.flower.supervisor import Config, Supervisor
from ansible_collections.opennebula.flower.plugins.module_utils.one import resources, services
from ansible_collections.opennebula.flower.plugins.module_utils.one.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.vms import update_user_template, vm_info
from ansible_collections.opennebula.flower.plugins.module_utils.one.wait import wait_until
from ansible_collections.opennebula.flower.tests.support.superlink import OneGateServer, SuperLink, serve
from lab.zone import Zone, ZoneConfig

PASSWORD = "secret-of-the-zone"
MODULES = "ansible_collections.opennebula.flower.plugins.modules"
ROUNDS = 3


class Federation:
    """A service whose only VM has the role superlink, with the supervisor that would run on it."""

    def __init__(self, zone: Zone, directory: Path, superlink: SuperLink, health_url: str) -> None:
        self.zone = zone
        self.superlink = superlink
        self.directory = directory
        self.health_url = health_url
        self.progress_file = directory / "progress"
        self.client = Client(zone.xmlrpc_url, "oneadmin", PASSWORD, 10, True, None, zone.oneflow_url)
        self.vm_id = self._deploy()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Called with the name of a run as soon as Flower has it.
        self.train: Callable[[str], None] = self.succeed

    def supervise(self, initial: bool = True) -> None:
        token = self.directory / "token.txt"
        token.write_text(self.zone.core.vm_token(self.vm_id))
        (self.directory / "runs").mkdir()
        config = Config(
            flwr_command=self.superlink.command,
            superlink_connection="local",
            app_directory="/app",
            runs_directory=str(self.directory / "runs"),
            runs_directory_in_app=str(self.directory / "runs"),
            state_file=str(self.directory / "supervisor.json"),
            onegate={"endpoint": self.zone.onegate_url, "vm_id": self.vm_id, "token_file": str(token)},
            initial_run={"name": "initial", "config": {"use-case": "digits"}} if initial else None,
            health_url=self.health_url,
            client_seconds=0,
        )
        supervisor = Supervisor(config, open_board(config.onegate))
        self._thread = threading.Thread(target=self._work, args=(supervisor,))
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def remove(self) -> None:
        service = services.get_service(self.client, "federation")
        services.delete(self.client, service)

        def gone() -> bool | None:
            return services.service_by_id(self.client, int(service["ID"])) is None or None

        wait_until(gone, lambda: "the service does not go", 30)
        template = services.find_template(self.client, "federation")
        self.client.flow("DELETE", f"/service_template/{template['ID']}")
        template = resources.find(self.client, "template", "superlink")
        self.client.call("one.template.delete", int(template["ID"]), False)

    def module(self, module: str, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "api_url": self.zone.xmlrpc_url,
            "oneflow_url": self.zone.oneflow_url,
            "api_username": "oneadmin",
            "api_password": PASSWORD,
            "service": "federation",
            "_ansible_check_mode": check,
            **options,
        }
        done = subprocess.run(
            [sys.executable, "-m", f"{MODULES}.{module}"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env=os.environ | {"OPENNEBULA_FLOWER_PROGRESS_FILE": str(self.progress_file)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert PASSWORD not in done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, **options: Any) -> dict[str, Any]:
        return self.module("flower_run", **{"wait_timeout": 30} | options)

    def runs(self) -> list[dict[str, Any]]:
        return self.module("flower_run_info")["runs"]

    def request(self) -> str | None:
        return vm_info(self.client, self.vm_id)["USER_TEMPLATE"].get("FL_RUN_REQUEST")

    def succeed(self, name: str) -> None:
        self._event(name, "training_start", num_rounds=ROUNDS)
        for number in range(1, ROUNDS + 1):
            self._event(
                name,
                "round_end",
                round=number,
                num_clients_responded=2,
                aggregated_loss=1 / number,
                aggregated_accuracy=0.8 + number / 20,
                round_duration_seconds=2.5,
            )
        self._event(name, "training_end")

    def fail(self, name: str) -> None:
        self._event(name, "training_failed", message="only 1 of 2 nodes came")
        run_id = self.superlink.run_ids[-1]
        self.superlink.set_status(run_id, "finished:failed", "ServerApp failed with exception: only 1 of 2 nodes came")

    def linger(self, name: str) -> None:
        self._event(name, "training_start", num_rounds=ROUNDS)

    def _event(self, run: str, event: str, message: str = "", **data: Any) -> None:
        line = json.dumps({"event": event, "message": message, "data": data})
        with (self.directory / "runs" / run / "events.jsonl").open("a") as stream:
            stream.write(line + "\n")

    def _work(self, supervisor: Supervisor) -> None:
        trained: set[str] = set()
        while not self._stopping.wait(0.05):
            supervisor.step()
            for run in supervisor.runs:
                if run.status == "running" and run.name not in trained:
                    trained.add(run.name)
                    self.train(run.name)

    def _deploy(self) -> int:
        template = self.client.call(
            "one.template.allocate", 'NAME="superlink"\nCPU="0.1"\nMEMORY="64"\nCONTEXT=[TOKEN="YES"]'
        )
        role = {"name": "superlink", "type": "vm", "template_id": int(template), "cardinality": 1}
        body = {"name": "federation", "deployment": "straight", "roles": [role]}
        document = self.client.flow("POST", "/service_template", body)["DOCUMENT"]
        service = services.instantiate(self.client, int(document["ID"]), {"name": "federation"})
        number = int(service["ID"])

        def running() -> int | None:
            found = services.service_by_id(self.client, number)
            return services.service_vms(found, "superlink")[0] if services.state(found) == "RUNNING" else None

        return wait_until(running, lambda: "the service does not run", 30)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zone]:
    directory = tmp_path_factory.mktemp("zone")
    ports = {"port": 0, "oneflow_port": 0, "onegate_port": 0}
    zone = Zone(ZoneConfig(name="runs", state_dir=directory, password=PASSWORD, interval=0.1, **ports))
    zone.start()
    yield zone
    zone.stop()


@pytest.fixture
def federation(zone: Zone, tmp_path: Path) -> Iterator[Federation]:
    superlink = SuperLink(tmp_path / "superlink.json")
    with serve(superlink, OneGateServer()) as url:
        federation = Federation(zone, tmp_path, superlink, f"{url}/health")
        yield federation
        federation.close()
    federation.remove()


def test_follows_the_initial_run_and_shows_its_rounds(federation: Federation) -> None:
    federation.supervise()
    result = federation.run()
    assert result["run"]["status"] == "completed"
    assert result["run"]["accuracy"] == pytest.approx(0.95)
    assert [entry[0] for entry in result["run"]["history"]] == [1, 2, 3]
    shown = [line.partition(": ")[2] for line in federation.progress_file.read_text().splitlines()]
    assert shown[-3:] == [
        "round 1/3 accuracy 0.8500 loss 1.0000 nodes 2 2.5 s",
        "round 2/3 accuracy 0.9000 loss 0.5000 nodes 2 2.5 s",
        "round 3/3 accuracy 0.9500 loss 0.3333 nodes 2 2.5 s",
    ]


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
    result = federation.run(wait_timeout=3)
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
        ({"name": "../../etc"}, "'../../etc' is not a name for a run"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_asked_for(federation: Federation, options: dict, words: str) -> None:
    result = federation.run(**options)
    assert words in result["msg"]
    assert result["error"]["kind"] == "invalid"
    assert federation.request() is None


def test_runs_that_somebody_else_wrote_are_no_traceback(federation: Federation) -> None:
    update_user_template(federation.client, federation.vm_id, {"FL_RUNS": "e30"})
    result = federation.module("flower_run_info")
    assert result["error"]["kind"] == "protocol"
    assert "holds something else than runs" in result["msg"]
