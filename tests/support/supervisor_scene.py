# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A training supervisor with everything around it: a SuperLink that is a file, a small OneGate, and a clock that tests turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import decode, encode
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.channel import open_channel
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import (
    Request,
    published_refusal,
    published_runs,
    request_attributes,
    request_digest,
)
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor import Config, Supervisor

INITIAL = {"num-server-rounds": 3, "strategy": "FedAvg", "use-case": "digits"}


class Scene:
    """A supervisor with everything around it. Time passes only when a test says so."""

    def __init__(self, tmp_path: Path, superlink: Any, onegate: Any, url: str) -> None:
        self.superlink = superlink
        self.onegate = onegate
        self.runs_directory = tmp_path / "runs"
        self.runs_directory.mkdir()
        token = tmp_path / "token.txt"
        token.write_text("token-of-vm-7\n")
        self.settings: dict[str, Any] = {
            "flwr_command": superlink.command,
            "superlink_connection": "local",
            "app_directory": "/app/federation",
            "runs_directory": str(self.runs_directory),
            "runs_directory_in_app": str(self.runs_directory),
            "state_file": str(tmp_path / "state" / "supervisor.json"),
            "onegate": {"endpoint": url, "vm_id": 7, "token_file": str(token)},
            "initial_run": {"name": "initial", "config": INITIAL},
            "apps_directory": str(tmp_path / "apps"),
            "apps_directory_in_app": "/app/apps",
            "health_url": f"{url}/health",
            "client_seconds": 0,
            "quiet_seconds": 0,
            "poll_seconds": 0.05,
        }
        (tmp_path / "apps").mkdir()
        self.now = 1000.0
        self._supervisor: Supervisor | None = None

    @property
    def supervisor(self) -> Supervisor:
        if self._supervisor is None:
            config = Config(**self.settings)
            self._supervisor = Supervisor(config, open_channel(config.onegate), clock=lambda: self.now)
        return self._supervisor

    def restart(self) -> None:
        self._supervisor = None

    def step(self, seconds: float = 1) -> None:
        self.now += seconds
        self.supervisor.step()

    def published(self) -> list[dict[str, Any]]:
        return published_runs(self.onegate.attributes)

    def newest(self) -> dict[str, Any]:
        return self.published()[-1]

    def request(self, name: str, state: str = "started", app: str = "", resume: int | None = None, **config: Any) -> None:
        self.onegate.attributes |= request_attributes(Request(name, config, state, app, resume))

    def refusal(self) -> str:
        refusal = published_refusal(self.onegate.attributes)
        assert refusal
        assert refusal.request == request_digest(decode(self.onegate.attributes["FL_RUN_REQUEST"]))
        return refusal.reason

    def request_text(self, text: str) -> None:
        self.onegate.attributes["FL_RUN_REQUEST"] = encode(text)

    def event(self, event: str, run: str = "initial", message: str = "", **data: Any) -> None:
        directory = self.runs_directory / run
        directory.mkdir(exist_ok=True)
        line = json.dumps({"event": event, "message": message, "data": data})
        with (directory / "events.jsonl").open("a") as stream:
            stream.write(line + "\n")

    def round_end(self, number: int, run: str = "initial", accuracy: float | None = 0.9, responded: int = 2, **metrics: Any) -> None:
        self.event(
            "round_end",
            run,
            round=number,
            num_clients_selected=2,
            num_clients_responded=responded,
            aggregated_loss=0.4,
            aggregated_accuracy=accuracy,
            round_duration_seconds=12.34,
            **{f"aggregated_{name}": value for name, value in metrics.items()},
        )

    def train(self, run: str = "initial") -> None:
        self.event("training_start", run, num_rounds=3)
        for number in (1, 2, 3):
            self.round_end(number, run)
        self.event("training_end", run, message="training complete", total_rounds=3)
