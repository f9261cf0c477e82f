# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Who is registered and who is taken out, whatever OneGate tells and VMs write. With the real Flower: tests/app/test_node_auth.py."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jsonschema import Draft202012Validator

from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import NETWORK, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import registrar as subject
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.nodes import KEY_IN_USE, UNREGISTERED, Node, Nodes, NodesError, field, fields
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.registrar import Config, Registrar
from ansible_collections.opennebula.flower.tests.support.one_servers import scripted


def new_key() -> str:
    return ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


KEYS = [new_key() for _i in range(6)]


class Flower:
    """Keeps nodes as Flower does: a key once and for ever."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.down = False

    def listed(self) -> list[Node]:
        if self.down:
            raise NodesError("127.0.0.1 cannot be reached")
        return list(self.nodes)

    def register(self, pem: str, name: str) -> int:
        if any(node.pem == pem for node in self.nodes):
            raise NodesError("Public key already in use.", KEY_IN_USE)
        self.nodes.append(Node(len(self.nodes) + 1, "registered", pem, name))
        return len(self.nodes)

    def unregister(self, node_id: int) -> None:
        self.nodes = [Node(n.node_id, UNREGISTERED, n.pem, n.name) if n.node_id == node_id else n for n in self.nodes]

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.nodes if node.status != UNREGISTERED]


class Gate:
    """OneGate with a service whose VMs publish these values."""

    def __init__(self) -> None:
        self.published: dict[int, Any] = {}
        self.following: dict[int, Any] = {}
        self.state: dict[int, str] = {}
        self.document: Any = None
        self.puts: list[dict[str, str]] = []
        self.down = False

    def get_service(self) -> dict:
        if self.down:
            raise OneException(NETWORK, "OneGate cannot be reached.")
        if self.document is not None:
            return self.document
        nodes = [
            {"deploy_id": number, "vm_info": {"VM": {"STATE": self.state.get(number, "3"), "USER_TEMPLATE": {} if key is None else {"FL_NODE_KEY": key}}}}
            for number, key in self.published.items()
        ]
        for node in nodes:
            if node["deploy_id"] in self.following:
                node["vm_info"]["VM"]["USER_TEMPLATE"]["FL_NODE_KEY_NEXT"] = self.following[node["deploy_id"]]
        return {"roles": [{"name": "superlink"}, {"name": "supernode", "nodes": nodes}]}

    def put(self, attributes: dict[str, str]) -> None:
        self.puts.append(attributes)


class Scene:
    def __init__(self) -> None:
        self.flower, self.gate, self.now = Flower(), Gate(), 1000.0
        self._registrar: Registrar | None = None

    def registrar(self, **settings: Any) -> Registrar:
        return Registrar(Config("https://127.0.0.1:1", "ca.crt", **settings), self.flower, self.gate, clock=lambda: self.now)

    def look(self, seconds: float = 0, **settings: Any) -> float:
        """Turn the clock, look once; return the pause."""
        self.now += seconds
        if self._registrar is None or settings:
            self._registrar = self.registrar(**settings)
        return self._registrar.step()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_each_vm_is_registered_once_under_its_number(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0], 4: KEYS[1], 5: None}
    for _i in range(3):
        scene.look()
    scene.registrar().step()
    assert scene.flower.names == ["service/vm-3", "service/vm-4"]


def test_a_key_of_a_vm_of_another_role_registers_nobody_and_says_so(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def role(name: object, number: int, key: str) -> dict:
        return {"name": name, "nodes": [{"deploy_id": number, "vm_info": {"VM": {"STATE": "3", "USER_TEMPLATE": {"FL_NODE_KEY": key}}}}]}

    scene.gate.document = {"roles": [role("superlink", 2, KEYS[0]), role("supernode", 3, KEYS[1]), role("x\n" * 999, 4, KEYS[2]), role(None, 5, KEYS[3])]}
    for _i in range(3):
        scene.look()
    assert scene.flower.names == ["service/vm-3"]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines[0] == "VM 2: it publishes FL_NODE_KEY and is of role 'superlink', expected 'supernode'."
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 200 for line in lines)


def test_a_lost_database_is_filled_again(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    scene.flower.nodes = []
    scene.look()
    assert scene.flower.names == ["service/vm-3"]


def test_a_vm_that_is_gone_is_taken_out_within_a_minute_and_not_at_the_first_look(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0], 4: KEYS[1]}
    scene.look()
    del scene.gate.published[3]
    scene.gate.state[4] = "6"
    scene.look(5)
    assert scene.flower.names == ["service/vm-3", "service/vm-4"]
    scene.look(25)
    assert scene.flower.names == []


@pytest.mark.parametrize("what", ["off", "without its attribute", "with a broken key", "without attributes", "back in time"])
def test_a_vm_that_is_still_there_stays(scene: Scene, what: str) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    if what == "off":
        scene.gate.state[3] = "8"
    elif what == "back in time":
        scene.gate.published = {}
        scene.look(15)
    scene.gate.published = {3: {"without its attribute": None, "with a broken key": "ecdsa", "without attributes": {}}.get(what, KEYS[0])}
    for _i in range(4):
        scene.look(15)
    assert scene.flower.names == ["service/vm-3"]


@pytest.mark.parametrize("document", [
    {"roles": [{"nodes": None}]}, {"roles": [{"nodes": [None]}]}, {"roles": [{"nodes": [{"deploy_id": "x"}]}]}, {"roles": [7]}, {},
    {"roles": [{"nodes": [{"deploy_id": number} for number in range(3000)]}]},
])  # fmt: skip
def test_an_odd_answer_of_onegate_takes_nobody_out(scene: Scene, document: Any) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    scene.gate.document = document
    for _i in range(3):
        scene.look(60)
    assert scene.flower.names == ["service/vm-3"]


def test_silence_of_onegate_or_flower_takes_nobody_out_and_the_list_still_counts(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    scene.gate.down = True
    scene.look(60, keys=[f"{KEYS[1]} berlin"])
    scene.look(60)
    scene.flower.down = True
    scene.look(60)
    assert scene.flower.names == ["service/vm-3", "operator/berlin"]


def test_a_vm_with_another_key_gives_up_the_old_one(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    scene.gate.published = {3: KEYS[1]}
    scene.look()
    assert scene.flower.names == ["service/vm-3", "service/vm-3"]
    scene.look(30)
    assert [node.pem for node in scene.flower.nodes if node.status != UNREGISTERED] == [read_key(KEYS[1]).pem]


class TestNextKey:
    """A VM that replaces its key."""

    def in_use(self, scene: Scene) -> list[str]:
        return [node.pem for node in scene.flower.nodes if node.status != UNREGISTERED]

    def test_it_is_registered_beside_the_old_one_for_as_long_as_it_takes_and_the_vm_is_told(self, scene: Scene) -> None:
        scene.gate.published, scene.gate.following = {3: KEYS[0], 4: KEYS[2]}, {3: KEYS[1]}
        scene.look()
        assert scene.look(600) == 5
        assert self.in_use(scene) == [read_key(KEYS[number]).pem for number in (0, 1, 2)]
        assert scene.gate.puts[-1] == {"FL_NODE_KEYS_REGISTERED": read_key(KEYS[1]).fingerprint}

    def test_once_it_is_used_the_old_one_goes(self, scene: Scene) -> None:
        scene.gate.published, scene.gate.following = {3: KEYS[0]}, {3: KEYS[1]}
        scene.look()
        # The moment in which it is published as both.
        scene.gate.published = {3: KEYS[1]}
        scene.look()
        scene.gate.following = {}
        scene.look(30)
        assert self.in_use(scene) == [read_key(KEYS[1]).pem]
        assert scene.gate.puts[-1] == {"FL_NODE_KEYS_REGISTERED": "none"}

    def test_one_that_was_not_used_goes_and_the_old_one_stays(self, scene: Scene) -> None:
        scene.gate.published, scene.gate.following = {3: KEYS[0]}, {3: KEYS[1]}
        scene.look()
        scene.gate.following = {}
        scene.look()
        scene.look(30)
        assert self.in_use(scene) == [read_key(KEYS[0]).pem]

    def test_one_that_comes_back_has_as_long_as_before(self, scene: Scene) -> None:
        scene.gate.published, scene.gate.following = {3: KEYS[0]}, {3: KEYS[1]}
        scene.look()
        scene.gate.following = {}
        scene.look(10)
        scene.gate.following = {3: KEYS[1]}
        scene.look(10)
        scene.gate.following = {}
        scene.look(10)
        assert len(self.in_use(scene)) == 2

    @pytest.mark.parametrize("odd", ["ecdsa", ["a"], "x" * 100_000])
    def test_an_odd_one_costs_the_vm_nothing(self, scene: Scene, caplog: pytest.LogCaptureFixture, odd: Any) -> None:
        scene.gate.published, scene.gate.following = {3: KEYS[0], 4: KEYS[1]}, {3: odd}
        scene.look()
        scene.look(60)
        assert scene.flower.names == ["service/vm-3", "service/vm-4"]
        (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert line.startswith("VM 3: FL_NODE_KEY_NEXT is not a ") and len(line) < 600

    def test_it_counts_among_those_of_its_vm(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subject, "MOST_KEYS_OF_A_VM", 3)
        scene.gate.published = {3: KEYS[0]}
        for _i in range(10):
            scene.gate.following = {3: new_key()}
            scene.look(30)
        assert len(scene.flower.nodes) == 3


def test_a_revoked_key_is_not_tried_again_and_its_vm_is_told(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    scene.gate.published = {}
    scene.look()
    scene.look(30)
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    scene.look()
    assert scene.flower.names == []
    assert scene.gate.puts == [{"FL_NODE_KEYS_REVOKED": "none"}, {"FL_NODE_KEYS_REVOKED": read_key(KEYS[0]).fingerprint}]


def test_the_list_counts_alone_if_wanted_and_what_leaves_it_goes_at_once(scene: Scene) -> None:
    scene.gate.published = {3: KEYS[0]}
    scene.look(keys=[KEYS[1]])
    assert scene.flower.names[0].startswith("operator/") and scene.flower.names[1] == "service/vm-3"
    scene.look(keys=[f"{KEYS[2]} munich"], keys_only=True)
    assert scene.flower.names == ["operator/munich"]


def test_nodes_that_somebody_registered_by_hand_are_left_alone(scene: Scene) -> None:
    scene.flower.register("pem", "")
    scene.flower.register("pem 2", "my node")
    scene.flower.register("pem 3", "service/other")
    scene.look()
    scene.look(60)
    assert scene.flower.names == ["", "my node", "service/other"]


def test_one_vm_cannot_fill_the_database_nor_the_log(scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MOST_KEYS_OF_A_VM", 4)
    for number in range(60):
        # A good key, then a bad one, and so on.
        scene.gate.published = {3: new_key() if number % 2 else "x" * number, 4: KEYS[0], 5: "\x1b[2Jevil\n" * 100, 6: ["a"], 7: {"FL": "x"}}
        scene.look(30)
    assert len([node for node in scene.flower.nodes if node.name == "service/vm-3"]) == 4
    assert "service/vm-4" in scene.flower.names
    assert len(caplog.records) < 60
    assert all(record.getMessage().isprintable() and len(record.getMessage()) < 600 for record in caplog.records)


def test_a_key_that_two_vms_publish_is_one_node_and_is_told(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.gate.published = {3: KEYS[0], 4: KEYS[0]}
    scene.look()
    scene.look()
    assert scene.flower.names == ["service/vm-3"]
    assert [record.getMessage() for record in caplog.records if "same key" in record.getMessage()] == ["VM 4: it publishes the same key as service/vm-3."]


def test_it_looks_often_only_while_a_key_is_expected(scene: Scene) -> None:
    scene.gate.published = {3: None}
    assert scene.look() == 1
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    assert scene.look() == 5
    scene.gate.published = {3: KEYS[0], 4: None}
    assert scene.look() == 1
    assert scene.look(700) == 5


def test_events_say_who_came_and_went(scene: Scene, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    scene.gate.published = {3: KEYS[0]}
    scene.look(events_file=str(events))
    scene.gate.published = {}
    scene.look()
    scene.look(30)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    schema = json.loads((Path(__file__).parents[5] / "docs/events.schema.json").read_text())
    assert [error.message for event in told for error in Draft202012Validator(schema).iter_errors(event)] == []
    assert [(event["event"], event["data"]) for event in told] == [
        ("node_registered", {"node_id": "1", "name": "service/vm-3", "key": read_key(KEYS[0]).fingerprint}),
        ("node_removed", {"node_id": "1", "name": "service/vm-3", "reason": "its VM is gone"}),
    ]


def test_a_line_that_a_killed_registrar_left_without_its_end_costs_no_other(scene: Scene, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"event": "node_re')
    scene.gate.published = {3: KEYS[0], 4: KEYS[1]}
    scene.look(events_file=str(events))
    torn, *whole = events.read_text().splitlines()
    assert torn == '{"event": "node_re'
    assert [json.loads(line)["data"]["name"] for line in whole] == ["service/vm-3", "service/vm-4"]


def test_whatever_happens_it_goes_on(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.flower.nodes = [None]
    scene.look()
    scene.look()
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    scene.flower.nodes = []
    scene.gate.published = {3: KEYS[0]}
    scene.look()
    assert scene.flower.names == ["service/vm-3"]


@pytest.mark.parametrize(("environment", "token"), [
    ('export TOKENTXT="abc"\nexport VMID="7"\n', "abc"), ('export TOKENTXT="abc"\nexport ONEGATE_TOKEN="other"\n', "other"),
])  # fmt: skip
def test_the_token_comes_out_of_what_systemd_hands_over(environment: str, token: str, tmp_path: Path) -> None:
    file = tmp_path / "onegate"
    file.write_text(environment)
    with scripted((200, json.dumps({"SERVICE": {"roles": []}}))) as server:
        gate = subject.open_gate({"endpoint": server.url, "vm_id": "7", "token_file": "", "environment_file": str(file)})
        assert gate.get_service() == {"roles": []}
        assert {name.upper(): value for name, value in server.requests[0][3].items()}["X-ONEGATE-TOKEN"] == token


def test_without_a_token_it_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "onegate"
    file.write_text('export VMID="7"\n')
    with pytest.raises(ContextMissing, match="no OneGate token"):
        subject.open_gate({"endpoint": "http://127.0.0.1:1", "vm_id": "7", "token_file": "", "environment_file": str(file)})


def test_messages_of_flower_are_read_within_bounds() -> None:
    message = field(1, 2**64 - 1) + field(13, b"name") + b"\x49" + bytes(8) + b"\x55" + bytes(4)
    assert list(fields(message)) == [(1, 2**64 - 1), (13, b"name"), (9, bytes(8)), (10, bytes(4))]
    for damaged in (b"\x0a\x05abc", b"\xff" * 11, b"\x0b", b"\x08", b"\x49abc", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"):
        with pytest.raises(NodesError):
            list(fields(damaged))


def test_success_without_a_number_is_none_and_a_refusal_has_its_reason() -> None:
    refusal = json.dumps({"code": KEY_IN_USE, "detail": "Public key already in use."})
    with scripted((200, ""), (412, refusal), (500, "<html>"), (200, field(1, 7).decode())) as server:
        nodes = Nodes(server.url, "")
        with pytest.raises(NodesError, match="did not say which node"):
            nodes.register("pem", "x")
        with pytest.raises(NodesError, match="status 412: Public key already in use") as problem:
            nodes.register("pem", "x")
        assert problem.value.code == KEY_IN_USE
        with pytest.raises(NodesError, match="status 500: no reason given"):
            nodes.listed()
        assert nodes.register("pem", "x") == 7
