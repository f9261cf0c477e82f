# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A service of a zone that boots nothing, whose SuperLink is a real supervisor over a file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import actions as service_actions
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import documents
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.facts import update_user_template, vm_info
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifacts import ArtifactServer
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.channel import open_channel
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor import Config, Supervisor
from ansible_collections.opennebula.flower.tests.support.one_zone import run_module
from ansible_collections.opennebula.flower.tests.support.superlink import SuperLink
from lab.zone import Zone

PASSWORD = "secret-of-the-zone"
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
        self._trained: set[str] = set()
        self._thread: threading.Thread | None = None
        # Called with the name of a run as soon as Flower has it.
        self.train: Callable[[str], None] = self.succeed

    def supervise(self, initial: bool = True) -> None:
        token = self.directory / "token.txt"
        token.write_text(self.zone.core.vm_token(self.vm_id))
        (self.directory / "runs").mkdir()
        (self.directory / "apps").mkdir()
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
            apps_directory=str(self.directory / "apps"),
            apps_directory_in_app="/app/apps",
        )
        supervisor = Supervisor(config, open_channel(config.onegate))
        self._files = ArtifactServer(0, config.runs_directory, supervisor.collections)
        self._files.start()
        self.publish(FL_ENDPOINT=f"127.0.0.1:{self._files.port}", FL_TLS="NO")
        self._thread = threading.Thread(target=self._work, args=(supervisor,))
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join()
            self._files.close()

    def remove(self) -> None:
        service = service_facts.get_service(self.client, "federation")
        service_actions.delete(self.client, service)

        def gone() -> bool | None:
            return service_facts.service_by_id(self.client, int(service["ID"])) is None or None

        wait_until(gone, lambda: "the service does not go", 600)
        template = documents.find_template(self.client, "federation")
        self.client.flow("DELETE", f"/service_template/{template['ID']}")
        template = lookup.find(self.client, "template", "superlink")
        self.client.call("one.template.delete", int(template["ID"]), False)

    def module(self, module: str, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "api_url": self.zone.xmlrpc_url,
            "oneflow_url": self.zone.oneflow_url,
            "api_username": "oneadmin",
            "api_password": PASSWORD,
            "service": "federation",
            **options,
        }
        with patch.dict(os.environ, OPENNEBULA_FLOWER_PROGRESS_FILE=str(self.progress_file)):
            return run_module(module, arguments, check, secret=PASSWORD)

    def run(self, **options: Any) -> dict[str, Any]:
        return self.module("flower_run", **{"wait_timeout": 600} | options)

    def runs(self) -> list[dict[str, Any]]:
        return self.module("flower_run_info")["runs"]

    def publish(self, **attributes: str) -> None:
        """Publish what the boot of a SuperLink does."""
        update_user_template(self.client, self.vm_id, attributes)

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

    def train_again(self) -> None:
        """Train runs that were asked to go on, too."""
        self._trained.clear()

    def _work(self, supervisor: Supervisor) -> None:
        while not self._stopping.wait(0.05):
            supervisor.step()
            for run in supervisor.runs:
                if run.status == "running" and run.name not in self._trained:
                    self._trained.add(run.name)
                    self.train(run.name)

    def _deploy(self) -> int:
        template = self.client.call(
            "one.template.allocate", 'NAME="superlink"\nCPU="0.1"\nMEMORY="64"\nCONTEXT=[TOKEN="YES"]'
        )
        role = {"name": "superlink", "type": "vm", "template_id": int(template), "cardinality": 1}
        body = {"name": "federation", "deployment": "straight", "roles": [role]}
        document = self.client.flow("POST", "/service_template", body)["DOCUMENT"]
        service = service_actions.instantiate(self.client, int(document["ID"]), {"name": "federation"})
        number = int(service["ID"])

        def running() -> int | None:
            found = service_facts.service_by_id(self.client, number)
            return service_facts.service_vms(found, "superlink")[0] if service_facts.state(found) == "RUNNING" else None

        return wait_until(running, lambda: "the service does not run", 600)
