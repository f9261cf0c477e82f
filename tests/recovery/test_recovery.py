# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a training when nodes, the SuperLink and whole VMs are really broken.

The tests that compare models come first: they need the nodes as they were deployed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_federation import Event, LabFederation, when

ROUNDS = 5
INTERVAL = 2
# A SuperNode that vanishes is missed after 60 s: Flower's heartbeat, which no setting changes.
HEARTBEAT_SECONDS = 60
# Deadline of everything that is waited for, on a machine that is busy otherwise.
PATIENCE = 900


@dataclass(frozen=True)
class Break:
    """How a training went on after something was broken."""

    seconds: float
    completed: int
    resumed: int

    @property
    def repeated(self) -> int:
        """Complete rounds that had to be trained again."""
        return self.completed - self.resumed


@dataclass(frozen=True)
class Recovered:
    """A training in which everything of the SuperLink was broken once."""

    run: dict[str, Any]
    breaks: dict[str, Break]


def now() -> float:
    return datetime.now(UTC).timestamp()


def broken(federation: LabFederation, name: str, in_round: int, breakage: Callable[[], None]) -> Break:
    """Break something while a round is trained, and wait until the training goes on."""
    federation.wait_for_event(name, "round_start", PATIENCE, round=in_round)
    at = now()
    breakage()
    resumed = federation.wait_for_event(name, "training_resumed", PATIENCE, after=at)
    started = federation.wait_for_event(name, "round_start", PATIENCE, after=at)
    return Break(when(started) - at, in_round - 1, resumed["data"]["round"])


@pytest.fixture(scope="module")
def reference(federation: LabFederation) -> dict[str, Any]:
    """A training that nothing disturbs."""
    federation.start("reference", num_server_rounds=ROUNDS)
    return federation.finish("reference", PATIENCE)


@pytest.fixture(scope="module")
def recovered(federation: LabFederation, reference: dict[str, Any], figures: list[str]) -> Recovered:
    """The same training, with the SuperLink's process, its container and its VM killed one after the other."""
    federation.start("recovered", num_server_rounds=ROUNDS)

    def cut_power() -> None:
        federation.kill_vm(federation.superlink)
        federation.boot_vm(federation.superlink)

    breaks = {
        "process": broken(federation, "recovered", 3, federation.kill_superlink_process),
        "container": broken(federation, "recovered", 4, federation.kill_superlink_container),
        "VM": broken(federation, "recovered", 5, cut_power),
    }
    for what, taken in breaks.items():
        figures.append(f"SuperLink {what} killed: next round after {taken.seconds:.0f} s, complete rounds repeated: {taken.repeated}")
    return Recovered(federation.finish("recovered", PATIENCE), breaks)


def model(federation: LabFederation, name: str, directory: Path) -> dict[str, str]:
    """Bring the model of a run here, and return the checksums of its arrays."""
    federation.fetch(name, directory / name)
    with np.load(directory / name / "model.npz", allow_pickle=False) as arrays:
        return {key: hashlib.sha256(arrays[key].tobytes()).hexdigest() for key in arrays.files}


@pytest.mark.parametrize("what", ["process", "container", "VM"])
def test_a_training_goes_on_by_itself_from_the_newest_checkpoint(recovered: Recovered, what: str) -> None:
    taken = recovered.breaks[what]
    assert taken.resumed == taken.completed // INTERVAL * INTERVAL
    assert taken.repeated < INTERVAL


def test_a_training_that_was_broken_is_completed_under_its_name(recovered: Recovered) -> None:
    run = recovered.run
    assert (run["status"], run["round"], run["attempts"]) == ("completed", ROUNDS, 4)
    assert [entry["round"] for entry in run["history"]] == list(range(1, ROUNDS + 1))


def test_its_model_is_that_of_the_training_that_nothing_disturbed(
    federation: LabFederation, reference: dict[str, Any], recovered: Recovered, tmp_path: Path
) -> None:
    assert model(federation, "recovered", tmp_path) == model(federation, "reference", tmp_path)
    assert recovered.run["metrics"] == reference["metrics"]


def test_too_few_nodes_are_counted_and_the_deadline_ends_the_run(federation: LabFederation) -> None:
    federation.start("lonely", min_available_clients=3, nodes_timeout=20)
    waiting = federation.wait_for_run("lonely", lambda run: "waiting for nodes" in run["message"], "waited", PATIENCE)
    assert "2 of 3 connected" in waiting["message"]
    failed = federation.finish("lonely", PATIENCE)
    assert failed["status"] == "failed"
    assert "2 connected, 3 needed" in failed["message"]


def test_rounds_without_replies_fail_and_end_the_run_as_failed(federation: LabFederation) -> None:
    federation.start("silent", round_timeout=1, max_failed_rounds=2)
    failed = federation.finish("silent", PATIENCE)
    assert (failed["status"], failed["failed_rounds"], failed["round"]) == ("failed", 2, 0)
    assert "0 of 2 nodes" in failed["message"]


@pytest.fixture(scope="module")
def lively(federation: LabFederation) -> str:
    """A long training that goes on with one node."""
    federation.start("lively", num_server_rounds=100, min_fit_clients=1, min_evaluate_clients=1, min_available_clients=1)
    federation.wait_for_event("lively", "round_end", PATIENCE, round=1)
    return "lively"


def next_rounds(federation: LabFederation, name: str, after: float, nodes: int) -> Event:
    """Wait for the end of the first round that began after a moment and in which so many nodes were selected."""
    begun = federation.wait_for_event(name, "round_start", PATIENCE, after=after, num_clients_selected=nodes)
    return federation.wait_for_event(name, "round_end", PATIENCE, round=begun["data"]["round"])


def test_a_node_that_stops_cleanly_is_not_waited_for_and_is_used_again_when_it_is_back(
    federation: LabFederation, lively: str, figures: list[str]
) -> None:
    node = federation.supernodes[1]
    federation.wait_for_event(lively, "round_start", PATIENCE, after=now())
    stopped = now()
    federation.inside(node, "systemctl", "stop", "flower-supernode")
    alone = next_rounds(federation, lively, stopped, 1)
    figures.append(f"SuperNode stopped: first round without it complete after {when(alone) - stopped:.0f} s")
    started = now()
    federation.inside(node, "systemctl", "start", "flower-supernode")
    together = next_rounds(federation, lively, started, 2)
    figures.append(f"SuperNode started: first round with it complete after {when(together) - started:.0f} s")
    # The round in which it stopped ended with a failure told at once, not with one that was found out.
    (failure,) = [event for event in federation.events(lively) if event["event"] == "client_failure" and when(event) > stopped]
    assert when(failure) - stopped < HEARTBEAT_SECONDS / 2
    assert together["data"]["num_clients_responded"] == 2


def test_nodes_come_and_go_without_a_failure(federation: LabFederation, lively: str, figures: list[str]) -> None:
    asked, leaving = now(), federation.supernodes
    federation.scale(4)
    four = next_rounds(federation, lively, asked, 4)
    figures.append(f"two SuperNodes more: first round with them complete after {when(four) - asked:.0f} s")
    grown = now()
    federation.scale(2)
    two = next_rounds(federation, lively, now(), 2)
    figures.append(f"two SuperNodes less: first round without them complete after {when(two) - grown:.0f} s")
    assert (four["data"]["num_clients_responded"], two["data"]["num_clients_responded"]) == (4, 2)
    assert [event for event in federation.events(lively) if event["event"] == "client_failure" and when(event) > asked] == []
    assert {federation.attributes(vm)["DRAINED"] for vm in leaving} == {"YES"}
    assert not set(leaving) & set(federation.supernodes)


def test_a_node_whose_vm_is_killed_costs_no_round_and_is_back_after_its_boot(
    federation: LabFederation, lively: str, figures: list[str]
) -> None:
    node = federation.supernodes[1]
    begun = federation.wait_for_event(lively, "round_start", PATIENCE, after=now(), num_clients_selected=2)
    killed = now()
    federation.kill_vm(node)
    hit = federation.wait_for_event(lively, "round_end", PATIENCE, round=begun["data"]["round"])
    figures.append(f"SuperNode VM killed: its round complete after {when(hit) - killed:.0f} s")
    assert (hit["data"]["num_clients_selected"], hit["data"]["num_clients_responded"]) == (2, 1)
    booted = now()
    federation.boot_vm(node)
    together = next_rounds(federation, lively, booted, 2)
    figures.append(f"SuperNode VM booted: first round with it complete after {when(together) - booted:.0f} s")
    assert together["data"]["num_clients_responded"] == 2
    run = federation.stop(lively)
    assert (run["failed_rounds"], run["attempts"]) == (0, 1)
