# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What looks after a node, against a small OneGate, with a systemd and a journal that are scripts."""

from __future__ import annotations

import base64
import importlib
import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.tests.support.one_servers import ScriptedServer, scripted
from ansible_collections.opennebula.flower.tests.support.ports import free_port

FLOWER_LOG = Path(__file__).parents[3] / "roles/_flower_runtime/files/flower-log"
WORKING = "INFO :      [RUN 1, ROUND 2]\nINFO :      Receiving: train message (ID: a)\nINFO :      Received successfully\n"
SENT = WORKING + "INFO :      Sending: train message (ID: b)\nINFO :      Sent successfully\n"
# Its point need not lie on the curve: no one signs with it.
KEY = "ecdsa-sha2-nistp384 " + base64.b64encode(
    b"".join(len(part).to_bytes(4, "big") + part for part in (b"ecdsa-sha2-nistp384", b"nistp384", b"\x04" + bytes(96)))
).decode()
# As journalctl does it with --reverse, --lines 1 and --grep: the last line that matches, of a journal that is given before or else of the journal.
JOURNALCTL = """
echo "$@" >>{root}/read
while [ "$1" != --grep ]; do shift; done
next=$(ls {root}/before-* 2>/dev/null | head -n 1)
grep -P -e "$2" "${{next:-{root}/journal}}" | tail -n 1
rm -f "$next"
"""
CHATTER = "an app says: Sent successfully?\n" * 2000


class Node:
    """A node that was configured for the SuperLink at an address, and what its OneGate and its programs were asked."""

    def __init__(self, node: ModuleType, root: Path) -> None:
        self.node = node
        self.root = root
        self.state = "active"
        self.put: list[dict[str, str]] = []
        self.deleted: list[str] = []

    def configure(self, address: str) -> None:
        (self.root / "unit").write_text(f'ExecStart=flower-supernode --superlink {address} --insecure "--port" 9094\n')

    def look(
        self, journal: str, mine: dict[str, str], published: dict[str, str] | None = None, in_service: bool = True,
        later: Sequence[dict[str, str]] = (), **parameters: str,
    ) -> None:
        """Look after the node once. published: attributes of the SuperLink in the service; later: those of the node at each further question."""
        (self.root / "journal").write_text(journal)
        (self.root / "state").write_text(f"InvocationID=1234\nActiveState={self.state}\n")
        superlink = {"ID": "2", "USER_TEMPLATE": published or {}}
        service = {"SERVICE": {"roles": [{"name": "superlink", "nodes": [{"vm_info": {"VM": superlink}}]}]}}
        self.attributes = [mine, *later]
        answers = {"/vms/2": {"VM": superlink}}
        if in_service:
            answers |= {"/service": service, "/service?extended=true": service}
        with scripted((200, "")) as gate:
            gate.next_answer = lambda: self._answer(gate, answers)
            context = {"VMID": "7", "ONEAPP_FL_TLS_ENABLED": "NO", **{f"ONEAPP_FL_{name}": value for name, value in parameters.items()}}
            self.node.look_after(context, OneGate(gate.url, 7, "secret"))

    def _answer(self, gate: ScriptedServer, answers: dict[str, dict]) -> tuple[int, str]:
        method, path, body, _headers = gate.requests[-1]
        if method == "PUT":
            if "type=2" in path:
                self.deleted.append(body.decode())
            else:
                self.put.append(dict(line.split("=", 1) for line in body.decode().splitlines()))
            return 200, ""
        if path == "/vm":
            return 200, json.dumps({"VM": {"ID": "7", "USER_TEMPLATE": self.attributes.pop(0)}})
        return (200, json.dumps(answers[path])) if path in answers else (400, "no service")

    @property
    def commands(self) -> list[str]:
        done = self.root / "done"
        return done.read_text().splitlines() if done.exists() else []


@pytest.fixture
def node(service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    module = importlib.import_module("node")
    commands = tmp_path / "commands"
    commands.mkdir()
    scripts = {
        "systemctl": f'case $1 in show) cat {tmp_path}/state;; *) echo "$@" >>{tmp_path}/done;; esac',
        "journalctl": JOURNALCTL.format(root=tmp_path),
        "flower-healthy": f"[ ! -e {tmp_path}/refused ]",
        "bootstrap": f'echo bootstrap >>{tmp_path}/done',
    }
    for name, text in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(module, "BOOTSTRAP", ("bootstrap",))
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0)
    monkeypatch.setattr(module, "LEAVING_SECONDS", 0)
    monkeypatch.setattr(module, "RENEWED", tmp_path / "renewed")
    monkeypatch.setattr(service.unchanged, "HEALTHY", str(commands / "flower-healthy"))
    monkeypatch.setattr(service.unchanged, "CERTIFICATES", tmp_path)
    monkeypatch.setattr(service.unchanged, "NODE_UNIT", tmp_path / "unit")
    (tmp_path / "node-vm-7.key.pub").write_text(f"{KEY} vm-7\n")
    made = Node(module, tmp_path)
    made.configure(f"127.0.0.1:{free_port()}")
    return made


@pytest.fixture
def connected(node: Node) -> Callable:
    with scripted((200, "")) as superlink:
        node.configure(f"127.0.0.1:{superlink.server_port}")
        yield node


@pytest.mark.parametrize(("journal", "status"), [
    ("", "1"), (SENT, "1"), (WORKING, "2"), (SENT + WORKING, "2"), (WORKING + "ERROR :     Failed to send message b: gone\n", "1"),
    (WORKING + "INFO :      Run ID 1 is not in `RUNNING` status. Ignoring reply message b.\n", "1"),
    (WORKING + "ERROR :     Failed to create task for run ID 1. The message will not be processed.\n", "1"),
    (WORKING.replace("INFO :", "\x1b[92mINFO \x1b[0m:"), "2"), (SENT.replace("INFO :", "\x1b[92mINFO \x1b[0m:"), "1"),
    (WORKING.replace("INFO :", "\x1b[92mINFO 2026-11-30 22:45:29,524\x1b[0m:"), "2"),
    (SENT.replace("INFO :", "\x1b[92mINFO 2026-11-30 22:45:29,524\x1b[0m:"), "1"),
    (WORKING + CHATTER, "2"), (SENT + CHATTER.replace("Sent successfully", "Receiving: "), "1"),
])
def test_what_the_node_does_is_a_number(connected: Node, journal: str, status: str) -> None:
    connected.look(journal, {}, in_service=False)
    assert connected.put == [{"FL_CLIENT_STATUS": status, "FL_TRAINING_ACTIVE": str(int(status == "2"))}]


@pytest.mark.parametrize(("journal", "status"), [
    (WORKING, "2"), (SENT, "1"), (SENT + WORKING, "2"), (WORKING + "ERROR :     Failed to send message b: gone\n", "1"),
    (WORKING + "INFO :      Run ID 1 is not in `RUNNING` status. Ignoring reply message b.\n", "1"),
    (WORKING + CHATTER, "2"), (SENT + CHATTER.replace("Sent successfully", "Receiving: "), "1"),
])  # fmt: skip
def test_what_the_node_does_is_the_same_number_with_a_log_for_programs(connected: Node, journal: str, status: str) -> None:
    object_of = runpy.run_path(str(FLOWER_LOG))["line_of"]
    connected.look("".join(f"{json.dumps(object_of('flower-supernode', line))}\n" for line in journal.splitlines()), {}, in_service=False)
    assert connected.put[0]["FL_CLIENT_STATUS"] == status


def test_a_node_that_does_not_run_works_on_nothing(connected: Node) -> None:
    connected.state = "activating"
    connected.look(WORKING, {}, in_service=False)
    assert connected.put[0]["FL_TRAINING_ACTIVE"] == "0"


def test_what_did_not_change_is_not_published_again(connected: Node) -> None:
    connected.look(SENT, {"FL_CLIENT_STATUS": "1", "FL_TRAINING_ACTIVE": "1", "FL_ROUND_NUMBER": "3"}, {"FL_TRAINING_ACTIVE": "1", "FL_ROUND_NUMBER": "3"})
    assert connected.put == []


def test_between_two_messages_a_node_trains_as_its_superlink_does(connected: Node) -> None:
    connected.look(SENT, {}, {"FL_TRAINING_ACTIVE": "1", "FL_ROUND_NUMBER": "3"})
    assert connected.put == [{"FL_CLIENT_STATUS": "1", "FL_TRAINING_ACTIVE": "1", "FL_ROUND_NUMBER": "3"}]


@pytest.mark.parametrize("odd", ["many", "", "1" * 10, "1\n2", "\u0663"])
def test_what_is_no_number_is_not_passed_on(connected: Node, odd: str) -> None:
    connected.look(SENT, {}, {"FL_TRAINING_ACTIVE": odd, "FL_ROUND_NUMBER": odd})
    assert connected.put == [{"FL_CLIENT_STATUS": "1", "FL_TRAINING_ACTIVE": "0"}]


class TestLeaving:
    def test_a_node_that_works_stays_until_it_has_sent_what_it_trained(self, connected: Node) -> None:
        connected.look(WORKING, {"DRAIN": "YES", "DRAINED": "NO"}, in_service=False)
        assert connected.commands == []
        assert "DRAINED" not in connected.put[0]
        connected.look(SENT, {"DRAIN": "YES", "DRAINED": "NO"}, in_service=False)
        assert connected.commands == ["stop flower-supernode.service"]
        assert connected.put[1] == {"DRAINED": "YES", "FL_CLIENT_STATUS": "3", "FL_TRAINING_ACTIVE": "0"}

    def test_it_leaves_in_the_moment_in_which_it_works_on_nothing(self, connected: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connected.node, "WATCH_SECONDS", 3600)
        for number, journal in enumerate([WORKING, SENT + WORKING, WORKING + CHATTER, SENT]):
            (connected.root / f"before-{number}").write_text(journal)
        connected.look(SENT, {"DRAIN": "YES"}, in_service=False)
        assert connected.commands == ["stop flower-supernode.service"]
        assert len((connected.root / "read").read_text().splitlines()) == 4
        assert connected.put == [{"DRAINED": "YES", "FL_CLIENT_STATUS": "3", "FL_TRAINING_ACTIVE": "0"}]

    def test_while_it_works_it_is_asked_again_whether_it_is_to_leave(self, connected: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connected.node, "LEAVING_SECONDS", 3600)
        connected.look(WORKING, {"DRAIN": "YES"}, in_service=False, later=[{"DRAIN": "YES"}, {"DRAIN": "NO"}])
        assert connected.commands == []
        assert connected.attributes == []

    def test_a_node_that_may_stay_comes_back(self, connected: Node) -> None:
        connected.look(SENT, {"DRAIN": "NO", "DRAINED": "YES"}, in_service=False)
        assert connected.commands == ["start flower-supernode.service"]
        assert connected.deleted == ["DRAINED"]


class TestRevokedKey:
    """A SuperLink that can be reached and does not accept the node."""

    REVOKED = {"FL_READY": "YES", "FL_NODE_KEYS_REVOKED": f"SHA256:another {read_key(KEY).fingerprint}"}

    @pytest.fixture
    def refused(self, connected: Node) -> Node:
        (connected.root / "refused").touch()
        return connected

    def test_a_node_that_is_refused_is_not_connected(self, refused: Node) -> None:
        refused.look(SENT, {})
        assert refused.put[0]["FL_CLIENT_STATUS"] == "3"
        assert refused.commands == []

    def test_the_node_gets_a_new_one_once_in_a_while(self, refused: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        refused.look(SENT, {}, self.REVOKED)
        refused.look(SENT, {}, self.REVOKED)
        assert refused.commands == ["bootstrap"]
        monkeypatch.setattr(refused.node, "RENEWAL_SECONDS", 0)
        refused.look(SENT, {}, self.REVOKED)
        assert refused.commands == ["bootstrap"] * 2

    def test_of_a_node_that_is_connected_nobody_says_that_its_key_is_revoked(self, connected: Node) -> None:
        connected.look(SENT, {}, self.REVOKED)
        assert connected.commands == []

    @pytest.mark.parametrize("said", ["none", "", "SHA256:another", read_key(KEY).fingerprint[:-1], "x" * 100_000])
    def test_another_key_is_not_its_own(self, refused: Node, said: str) -> None:
        refused.look(SENT, {}, {"FL_READY": "YES", "FL_NODE_KEYS_REVOKED": said})
        assert refused.commands == []

    @pytest.mark.parametrize("more", [{"SUPERLINK_ADDRESS": ""}, {"NODE_AUTH_ENABLED": "NO"}])
    def test_a_given_address_or_none_to_authenticate_keeps_the_key(self, refused: Node, more: dict[str, str]) -> None:
        address = (refused.root / "unit").read_text().split()[2]
        refused.look(SENT, {}, self.REVOKED, **{name: text or address for name, text in more.items()})
        assert refused.commands == []

    def test_a_node_without_a_key_asks_for_none(self, refused: Node) -> None:
        (refused.root / "node-vm-7.key.pub").write_text("")
        refused.look(SENT, {}, self.REVOKED)
        assert refused.commands == []


class TestNextKey:
    """A node whose SuperLink did not know its next key when it was configured."""

    MINE = {"FL_NODE_KEY": KEY, "FL_NODE_KEY_NEXT": KEY}

    def test_it_tries_again_once_in_a_while(self, connected: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        connected.look(SENT, self.MINE)
        connected.look(SENT, self.MINE)
        assert connected.commands == ["bootstrap"]
        monkeypatch.setattr(connected.node, "RENEWAL_SECONDS", 0)
        connected.look(SENT, self.MINE)
        assert connected.commands == ["bootstrap"] * 2

    def test_one_that_leaves_or_has_no_key_does_not(self, connected: Node) -> None:
        connected.look(SENT, {**self.MINE, "DRAIN": "YES"})
        connected.look(SENT, self.MINE, NODE_AUTH_ENABLED="NO")
        assert connected.commands == ["stop flower-supernode.service"]


def test_a_unit_that_systemd_does_not_start_is_said_in_one_line(
    node: Node, service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "status").write_text("bootstrap_success")
    (tmp_path / "state").write_text("ActiveState=inactive\n")
    (tmp_path / "commands/systemctl").write_text(f"#!/bin/sh\n[ $1 = show ] && exec cat {tmp_path}/state\nexit 1\n")
    monkeypatch.setattr(service, "APPLIANCE", tmp_path)
    monkeypatch.setattr(service, "machine_context", lambda: {"VMID": "7", "ONEAPP_FL_TLS_ENABLED": "NO"})
    monkeypatch.setattr(node.node.unit_log, "set_up", lambda *_arguments: None)
    with scripted((200, json.dumps({"VM": {"ID": "7", "USER_TEMPLATE": {"DRAINED": "YES"}}}))) as gate:
        monkeypatch.setattr(service, "open_gate", lambda _context: OneGate(gate.url, 7, "secret"))
        assert node.node.main() == 1
    assert [record.getMessage() for record in caplog.records if "systemctl" in record.getMessage() and not record.exc_info]


class TestSuperLinkThatMoved:
    NEW = {"FL_READY": "YES", "FL_ENDPOINT": "10.0.0.9:9092"}

    def test_it_is_found_again(self, node: Node) -> None:
        node.look(SENT, {}, self.NEW)
        assert node.commands == ["bootstrap"]
        assert node.put[0]["FL_CLIENT_STATUS"] == "3"

    def test_while_the_old_one_answers_nobody_leads_the_node_elsewhere(self, connected: Node) -> None:
        connected.look(SENT, {}, self.NEW)
        assert connected.commands == []

    @pytest.mark.parametrize("published", [{}, {**NEW, "FL_READY": "NO"}, {"FL_READY": "YES"}])
    def test_one_that_is_not_ready_is_waited_for(self, node: Node, published: dict[str, str]) -> None:
        node.look(SENT, {}, published)
        assert node.commands == []

    def test_a_given_address_stays(self, node: Node) -> None:
        node.look(SENT, {}, self.NEW, SUPERLINK_ADDRESS="10.0.0.5:9092")
        assert node.commands == []
