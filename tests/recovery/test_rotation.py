# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A training while its operator replaces all that its machines know each other by."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path

import pytest
from lab_federation import LabFederation, run, when

PATIENCE = 900
NAME = "rotated"


class Rotation:
    """The playbook, what the federation is known by, and the training that goes on."""

    def __init__(self, federation: LabFederation, directory: Path) -> None:
        self.federation = federation
        self.trust = directory / "ca.crt"
        federation.start(NAME, num_server_rounds=1000)
        federation.wait_for_event(NAME, "round_end", PATIENCE, round=1)
        self.process = self._process()

    def rotate(self, what: str, *options: str) -> str:
        settings = ("-e", f"flower_rotate={what}", "-e", f"flower_trust_file={self.trust}")
        return run("ansible-playbook", "-i", "tests/recovery/inventory", "playbooks/rotate.yml", *settings, *options)

    def certificate(self) -> str:
        host, port = self.superlink["FL_ENDPOINT"].split(":")
        return ssl.get_server_certificate((host, int(port)))

    @property
    def superlink(self) -> dict[str, str]:
        return self.federation.attributes(self.federation.superlink)

    def nodes(self, attribute: str) -> list[str]:
        return [self.federation.attributes(vm)[attribute] for vm in self.federation.supernodes]

    def went_on(self) -> None:
        """Wait for two more rounds; no reply failed, no round was repeated, and Flower is the process of before."""
        federation = self.federation
        last = max(event["data"]["round"] for event in federation.events(NAME) if event["event"] == "round_end")
        federation.wait_for_event(NAME, "round_end", PATIENCE, round=last + 2)
        events = federation.events(NAME)
        ends = [event["data"] for event in events if event["event"] == "round_end"]
        assert [event["message"] for event in events if event["event"] in ("client_failure", "round_failed", "reply_late")] == []
        assert [(data["round"], data["num_clients_responded"]) for data in ends] == [(number, 2) for number in range(1, len(ends) + 1)]
        assert self._process() == self.process

    def taken_out(self) -> list[tuple[str, str]]:
        """Return whose keys the registrar took out because they were replaced, and which these were."""
        lines = self.federation.inside(self.federation.superlink, "cat", "/var/lib/flower-registrar/events.jsonl").splitlines()
        events = [json.loads(line) for line in lines]
        keys = {event["data"]["node_id"]: event["data"]["key"] for event in events if event["event"] == "node_registered"}
        gone = [event["data"] for event in events if event["event"] == "node_removed" and event["data"]["reason"] == "its VM has another key"]
        return [(data["name"], keys[data["node_id"]]) for data in gone]

    def _process(self) -> str:
        return self.federation.inside(self.federation.superlink, "docker", "inspect", "--format", "{{.State.Pid}} {{.State.StartedAt}}", "flower-superlink")


@pytest.fixture(scope="module")
def rotation(federation: LabFederation, tmp_path_factory: pytest.TempPathFactory) -> Rotation:
    return Rotation(federation, tmp_path_factory.mktemp("rotation"))


def test_the_server_certificate_is_replaced(rotation: Rotation) -> None:
    before = rotation.certificate()
    rotation.rotate("certificate")
    assert rotation.certificate() != before
    rotation.went_on()


def test_the_ca_is_replaced(rotation: Rotation) -> None:
    number, other = (int(part) for part in rotation.superlink["FL_CERT_STATE"].split("-")[1:])
    assert other == 0
    rotation.rotate("ca")
    assert rotation.superlink["FL_CERT_STATE"].split("-")[1:] == [str(number + 1), "0"]
    assert rotation.trust.read_text().count("BEGIN") == 1
    assert rotation.nodes("FL_CA_DIGEST") == [hashlib.sha256(rotation.trust.read_bytes()).hexdigest()] * 2
    rotation.went_on()


def test_the_keys_of_the_nodes_are_replaced(rotation: Rotation, figures: list[str]) -> None:
    before = rotation.nodes("FL_NODE_KEY")
    rotation.rotate("keys", "--check")
    assert rotation.nodes("FL_NODE_KEY") == before
    rotation.rotate("keys")
    after = rotation.nodes("FL_NODE_KEY")
    assert len({*before, *after}) == 4
    assert not any("FL_NODE_KEY_NEXT" in rotation.federation.attributes(vm) for vm in rotation.federation.supernodes)
    rotation.went_on()
    # Both were there to go on with until the other one was in use.
    names = {name for name, _key in rotation.taken_out()}
    assert {f"service/vm-{vm}" for vm in rotation.federation.supernodes} <= names
    events = [event for event in rotation.federation.events(NAME) if event["event"] == "round_end"]
    seconds = (when(events[-1]) - when(events[0])) / (len(events) - 1)
    figures.append(f"certificate, CA and keys replaced meanwhile: {len(events)} rounds of {seconds:.0f} s, none repeated")
    rotation.federation.stop(NAME)
