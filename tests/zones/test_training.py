# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One training over the nodes of three zones, in real Flower and with the real supervisor: who takes part when zones join, vanish, leave and come back.

The tests build on each other. What becomes of services, keys and tunnels is in test_changes.py and tests/integration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.channel import NoChannel
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor import Config, Supervisor
from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.app.flower import Federation, Node
from ansible_collections.opennebula.flower.tests.support.waiting import repeating, wait_until
from bench.checkpoints import app_with_model

SETTINGS = {
    "use-case": "digits", "num-server-rounds": 500, "min-available-clients": 2, "min-fit-clients": 2, "min-evaluate-clients": 2,
    "checkpoint-enabled": True, "checkpoint-interval": 1,
}  # fmt: skip
RUN = "initial"
MODEL_MB = 0.04


class Training:
    """A federation that trains as long as this is there, and its nodes by zone."""

    def __init__(self, federation: Federation, supervisor: Supervisor, events: Path) -> None:
        self._federation, self._supervisor, self._file = federation, supervisor, events
        self.nodes: dict[str, list[Node]] = {}

    def join(self, zone: str, count: int = 1) -> None:
        self.nodes[zone] = [self._federation.add_node(zone=zone) for _ in range(count)]

    def restart_coordinator(self, zone: str) -> None:
        """Let the coordinator's zone lose its power, with the SuperLink and its own nodes, and come back."""
        for node in self.nodes[zone]:
            node.kill()
        self._federation.crash()
        self.join(zone, len(self.nodes[zone]))

    @property
    def events(self) -> list[dict]:
        lines = self._file.read_text().splitlines(keepends=True) if self._file.exists() else []
        events = []
        for line in lines:
            # The last line may be half written, and one that a killed attempt began has no end.
            if line.endswith("}\n"):
                with suppress(ValueError):
                    events.append(json.loads(line))
        return events

    def next(self, event: str, after: int | None = None, **data: object) -> int:
        """Wait for an event with this data after another one, or after now, and return its place."""
        begin = len(self.events) if after is None else after + 1
        found: list[int] = []

        def there() -> bool:
            found[:] = [place for place, entry in enumerate(self.events) if place >= begin and is_one(entry, event, data)]
            return bool(found)

        wait_until(there, f"{event} with {data}, last:", 900, lambda: str([entry["message"] for entry in self.events[-5:]]))
        return found[0]

    def between(self, event: str, first: int, last: int) -> list[dict]:
        """The data of the events of a kind from one place to another."""
        return [entry["data"] for entry in self.events[first : last + 1] if entry["event"] == event]

    @property
    def connected(self) -> set[str]:
        """The nodes that the app last saw."""
        nodes: set[str] = set()
        for entry in self.events:
            if entry["event"] == "training_start":
                nodes = set()
            elif entry["event"] == "client_join":
                nodes.add(entry["data"]["node_id"])
            elif entry["event"] == "client_leave":
                nodes.discard(entry["data"]["node_id"])
        return nodes

    @property
    def run(self) -> dict:
        """The run as the supervisor knows it."""
        return vars(self._supervisor.runs[0])


def is_one(entry: dict, event: str, data: dict) -> bool:
    return entry["event"] == event and data.items() <= entry["data"].items()


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """A training over munich, which coordinates, and lyon, with one node each; it goes on while the tests run."""
    directory = tmp_path_factory.mktemp("federation")
    flower = make_flower_venv()
    app = app_with_model(directory, MODEL_MB)
    with Federation(flower, app, directory) as federation:
        for name in ("runs", "apps"):
            (directory / name).mkdir()
        supervisor = Supervisor(Config(
            flwr_command=["env", f"FLWR_HOME={directory}/home", "FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1", "PYTHONPATH=", f"{flower}/flwr"],
            superlink_connection="local", app_directory=str(app), runs_directory=f"{directory}/runs", runs_directory_in_app=f"{directory}/runs",
            apps_directory=f"{directory}/apps", state_file=f"{directory}/supervisor.json", health_url=f"http://{federation.address}/health",
            initial_run={"name": RUN, "config": {**SETTINGS, "checkpoint-path": f"{directory}/checkpoints"}},
        ), NoChannel())  # fmt: skip
        made = Training(federation, supervisor, directory / f"runs/{RUN}/events.jsonl")
        made.join("munich")
        made.join("lyon")
        with repeating(supervisor.step):
            made.next("round_end", -1)
            yield made


def test_a_zone_that_joins_is_used_from_the_next_round_on(training: Training) -> None:
    begun = training.next("round_start", num_clients_selected=2)
    training.join("madrid", 2)
    here = training.next("client_join", begun, connected=4)
    used = training.next("round_start", here)
    assert training.events[used]["data"]["num_clients_selected"] == 4
    ended = training.next("round_end", used)
    assert training.events[ended]["data"]["num_clients_responded"] == 4
    for event in ("client_failure", "client_leave", "round_failed"):
        assert training.between(event, begun, ended) == [], "the round in which they came is that of the others"


def test_a_zone_that_vanishes_in_a_round_leaves_the_round_to_the_others(training: Training) -> None:
    before = training.connected
    begun = training.next("round_start", num_clients_selected=4)
    for node in training.nodes["madrid"]:
        node.freeze()
    others = training.next("round_end", training.next("round_start", begun, num_clients_selected=2))
    gone = before - training.connected
    assert len(gone) == 2
    assert {failure["node_id"] for failure in training.between("client_failure", begun, others)} == gone, "the others' replies count"
    assert training.between("round_failed", begun, others) == []
    rounds = [data["round"] for data in training.between("round_end", begun, others)]
    assert rounds == list(range(rounds[0], rounds[0] + len(rounds)))
    assert training.run["attempts"] == 1
    wait_until(lambda: training.run["zones"]["madrid"]["failures"] >= 2, "the report to say which zone it was")
    assert [training.run["zones"][name]["failures"] for name in ("munich", "lyon")] == [0, 0]


def test_a_zone_that_is_back_takes_part_again_and_one_that_leaves_interrupts_nobody(training: Training) -> None:
    for node in training.nodes["madrid"]:
        node.kill()
    begun = training.next("round_start", num_clients_selected=2)
    training.join("madrid", 2)
    training.next("round_end", training.next("round_start", begun, num_clients_selected=4))
    before = training.connected
    begun = training.next("round_start", num_clients_selected=4)
    for node in training.nodes.pop("madrid"):
        node.stop()
    others = training.next("round_end", training.next("round_start", begun, num_clients_selected=2))
    gone = before - training.connected
    assert len(gone) == 2
    assert {failure["node_id"] for failure in training.between("client_failure", begun, others)} <= gone
    assert training.between("round_failed", begun, others) == []
    assert training.run["attempts"] == 1
    assert all(node.process.poll() is None for nodes in training.nodes.values() for node in nodes)


def test_the_training_goes_on_from_its_checkpoint_and_the_sites_are_back_when_the_coordinators_zone_was_restarted(training: Training) -> None:
    begun = training.next("round_start")
    (site,) = training.nodes["lyon"]
    training.restart_coordinator("munich")
    resumed = training.next("training_resumed", begun)
    saved = [data["round"] for data in training.between("checkpoint_saved", 0, resumed)][-1]
    assert training.events[resumed]["data"]["round"] == saved
    ended = training.next("round_end", training.next("round_start", resumed, num_clients_selected=2))
    assert training.events[ended]["data"] | {"round": saved + 1, "num_clients_responded": 2} == training.events[ended]["data"]
    assert site.process.poll() is None, "nobody touched the nodes of the other zone"
    assert training.run["attempts"] == 2
    wait_until(lambda: training.run["zones"].keys() == {"munich", "lyon"}, "the report to have both zones again")
