# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""rotate.yml against two zones whose VMs do what their contexts say: a SuperLink with the real keeper of certificates, and nodes that trust."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.certificates import Config, Keeper
from ansible_collections.opennebula.flower.tests.support.one_servers import running
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, changes, module_zone

ROOT = Path(__file__).parents[2]
NAMES = ["IP:127.0.0.1"]


class Gateway(ThreadingHTTPServer):
    """Offers the CAs over TLS; every connection gets the certificate that lies there."""

    daemon_threads = True

    def __init__(self, certificates: Path) -> None:
        self.certificates = certificates
        super().__init__(("127.0.0.1", 0), _Answer)

    def get_request(self) -> tuple[socket.socket, object]:
        stream, address = super().get_request()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates / "server.pem")
        return context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_arguments: object) -> None:
        """Clients that do not trust go away."""


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = (self.server.certificates / "ca.crt").read_bytes()
        self.send_response(200 if self.path == "/ca.crt" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


class Machine(NamedTuple):
    """A VM in its zone."""

    zone: ModuleZone
    number: int

    @property
    def vm(self) -> dict:
        return self.zone.zone.core.store.get("vm", self.number)

    def given(self) -> dict[str, str]:
        return {name: value for name, value in self.vm["template"]["CONTEXT"].items() if "ONEAPP_FL" in name}

    def publish(self, **attributes: str) -> None:
        self.zone.call("one.vm.update", self.number, "\n".join(f'{name}="{value}"' for name, value in attributes.items()), 1)


class Federation:
    """A SuperLink and SuperNodes in one zone, one in another. A thread plays them: it reads their contexts and publishes what the appliances publish."""

    def __init__(self, zones: list[ModuleZone], directory: Path, gateway: Gateway) -> None:
        self._directory, self._gateway = directory, gateway
        self.superlink, *self.nodes = [Machine(zone, number) for zone in zones for number in sorted(vm["id"] for vm in zone.zone.core.store.all("vm"))]
        self.deaf: set[Machine] = set()
        self.trust = dict.fromkeys(self.nodes, (directory / "certs/ca.crt").read_text())
        self.refused: list[str] = []
        self._known: dict[Machine, dict] = {}
        self._over = threading.Event()

    def live(self) -> None:
        while not self._over.wait(0.05):
            for machine in (self.superlink, *self.nodes):
                context = machine.given()
                if machine not in self.deaf and self._known.get(machine) != context:
                    self._known[machine] = context
                    (self._do if machine == self.superlink else self._learn)(machine, context)
                    self._judge()

    def _do(self, machine: Machine, context: dict) -> None:
        signs, also, renewal = (int(context.get(f"ONEAPP_FL_{name}") or default) for name, default in STATE)
        keep(self._directory, signs=signs, trusted=sorted({signs, also} - {0}), renewal=renewal)
        bundle = base64.b64encode((self._directory / "certs/ca.crt").read_bytes()).decode()
        endpoint = f"127.0.0.1:{self._gateway.server_port}"
        machine.publish(FL_CERT_STATE=f"{renewal}-{signs}-{also}", FL_CA_CERT=bundle, FL_ENDPOINT=endpoint)

    def _learn(self, machine: Machine, context: dict) -> None:
        given = context.get("ONEAPP_FL_SSL_CA_CERTFILE")
        if given:
            self.trust[machine] = base64.b64decode(given).decode()
            machine.publish(FL_CA_DIGEST=hashlib.sha256(self.trust[machine].encode()).hexdigest())
        if number := context.get("ONEAPP_FL_NODE_KEY_RENEWAL"):
            machine.publish(FL_NODE_KEY_RENEWAL=number)

    def _judge(self) -> None:
        """Connect as each node does that starts now."""
        for machine, trusted in self.trust.items():
            try:
                self.connect(trusted)
            except ssl.SSLError as problem:
                self.refused.append(f"VM {machine.number}: {problem}")

    def connect(self, trusted: str) -> bytes:
        """Return the certificate of the gateway."""
        context = ssl.create_default_context(cadata=trusted)
        with socket.create_connection(self._gateway.server_address) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
            return stream.getpeercert(binary_form=True)

    def end(self) -> None:
        self._over.set()


STATE = (("CA_NUMBER", 1), ("CA_ALSO_TRUSTED", 0), ("CERT_RENEWAL", 0))


def keep(directory: Path, **settings: object) -> None:
    paths = {"directory": str(directory / "certs"), "authorities": str(directory / "ca")}
    Keeper(Config(**paths, host_name="superlink", names=NAMES, days=90, ca_days=900, **settings)).ensure()


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[list[ModuleZone]]:
    with module_zone(tmp_path / "zone0") as first, module_zone(tmp_path / "zone1") as second:
        for zone, roles in ((first, ("superlink", "supernode", "supernode")), (second, ("supernode",))):
            zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"TOKEN": True}})
            described = [{"name": role, "vm_template": "small", "cardinality": roles.count(role)} for role in dict.fromkeys(roles)]
            zone.changed("one_service_template", name="federation", template={"deployment": "none", "ready_status_gate": False, "roles": described})
            zone.changed("one_service", name="federation", service_template="federation", wait_timeout=300)
        yield [first, second]


@pytest.fixture
def federation(zones: list[ModuleZone], tmp_path: Path) -> Iterator[Federation]:
    for name in ("ca", "certs"):
        (tmp_path / name).mkdir()
    keep(tmp_path)
    for zone in zones:
        # As site.yml leaves it.
        given = base64.b64encode((tmp_path / "certs/ca.crt").read_bytes()).decode()
        zone.changed("one_template", name="federation-supernode", template={"CONTEXT": {"ONEAPP_FL_SSL_CA_CERTFILE": given}})
    with running(Gateway(tmp_path / "certs")) as gateway:
        federation = Federation(zones, tmp_path, gateway)
        thread = threading.Thread(target=federation.live)
        thread.start()
        zones[0].wait(lambda: state(federation), "the SuperLink")
        yield federation
        federation.end()
        thread.join()


@pytest.fixture
def rotate(zones: list[ModuleZone], tmp_path: Path):
    def run(edge_sites: Sequence[str] = (), check: bool = False, **settings: object) -> tuple[int, str, int]:
        variables = [{f"one_{name}": value for name, value in zone.options.items()} for zone in zones]
        hosts = {f"zone{number}": its for number, its in enumerate(variables)}
        groups = {"coordinator": {"hosts": {"zone0": {}}}, "training_sites": {"hosts": hosts}, "edge_sites": {"hosts": dict.fromkeys(edge_sites, {})}}
        inventory = {"all": {"children": groups, "vars": {"flower_service_name": "federation", **settings}}}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), str(ROOT / "playbooks/rotate.yml"), *["--check"] * check]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
        output = done.stdout + done.stderr
        assert PASSWORD not in output
        return done.returncode, re.sub(r"\s+", " ", output), changes(output)

    return run


def state(federation: Federation) -> str:
    return federation.superlink.vm["user_template"].get("FL_CERT_STATE", "")


def test_another_server_certificate(federation: Federation, rotate) -> None:
    before = federation.connect(federation.trust[federation.nodes[0]])
    status, output, changed = rotate()
    assert (status, changed) == (0, 1), output
    assert federation.connect(federation.trust[federation.nodes[0]]) != before
    assert federation.refused == []


@pytest.mark.long
def test_a_ca_is_replaced_in_all_zones_and_a_run_that_was_interrupted_at_any_step_goes_on(
    zones: list[ModuleZone], federation: Federation, rotate, tmp_path: Path
) -> None:
    old = (tmp_path / "certs/ca.crt").read_text()
    off, _other, elsewhere = federation.nodes
    off.zone.changed("one_vm", name=str(off.number), state="poweroff", wait_timeout=300)
    del federation.trust[off]
    for deaf, wanted in ((federation.superlink, "0-1-0"), (elsewhere, "0-1-2")):
        federation.deaf = {deaf, off}
        status, output, _changed = rotate(flower_rotate="ca", flower_rotate_timeout=15)
        assert status != 0
        assert f"VM {deaf.number} " in output and "within 15 s" in output and "the next run goes on here" in output
        assert state(federation) == wanted
    federation.deaf = {off}
    status, output, _changed = rotate(flower_rotate="ca")
    assert status == 0, output
    assert state(federation) == "0-2-0"
    assert federation.refused == [], "at each step each node has to trust the gateway"
    new = (tmp_path / "certs/ca.crt").read_text()
    assert set(federation.trust.values()) == {new} and new.count("BEGIN") == 1 and new != old
    assert (tmp_path / "federation-ca.crt").read_text() == new
    assert base64.b64decode(off.given()["ONEAPP_FL_SSL_CA_CERTFILE"]).decode() == new, "a node that is off reads it when it starts"
    for zone in zones:
        template = zone.run("one_template", check=True, name="federation-supernode")["vm_template"]["template"]
        assert base64.b64decode(template["CONTEXT"]["ONEAPP_FL_SSL_CA_CERTFILE"]).decode() == new, "those to come"
    with pytest.raises(ssl.SSLCertVerificationError):
        federation.connect(old)


class TestKeys:
    @pytest.fixture
    def nodes(self, federation: Federation) -> list[Machine]:
        """Two in the zone of the SuperLink, one in another."""
        for node in federation.nodes:
            node.publish(FL_NODE_KEY_RENEWAL="0")
        return federation.nodes

    def numbers(self, nodes: list[Machine]) -> list[str]:
        return [node.vm["user_template"]["FL_NODE_KEY_RENEWAL"] for node in nodes]

    def test_a_dry_run_asks_for_none(self, zones: list[ModuleZone], nodes: list[Machine], rotate) -> None:
        zones[0].calls.clear()
        status, output, _changed = rotate(flower_rotate="keys", check=True)
        assert status == 0, output
        assert zones[0].writes == []

    @pytest.mark.long
    def test_each_node_gets_one_after_the_other_and_a_run_that_was_interrupted_goes_on(self, federation: Federation, nodes: list[Machine], rotate) -> None:
        first, second, elsewhere = nodes
        federation.deaf = {first}
        status, output, _changed = rotate(flower_rotate="keys", flower_rotate_timeout=5)
        assert status != 0
        assert f"VM {first.number} " in output and "did not connect with another key within 5 s" in output and "the next run goes on here" in output
        assert "ONEAPP_FL_NODE_KEY_RENEWAL" not in second.given(), "no node before the one before it is back"
        federation.deaf = set()
        first.zone.wait(lambda: self.numbers(nodes) == ["1", "0", "0"], "the first node")
        status, output, changed = rotate(flower_rotate="keys")
        assert (status, changed) == (0, 1), output
        assert self.numbers(nodes) == ["1", "1", "0"]
        assert "The keys of the SuperNodes in zone1 stay" in output
        assert "ONEAPP_FL_NODE_KEY_RENEWAL" not in elsewhere.given()
        status, output, changed = rotate(flower_rotate="keys")
        assert (status, changed, self.numbers(nodes)) == (0, 2, ["2", "2", "0"]), output

    def test_a_node_that_does_not_say_which_key_it_uses_is_named_before_anything_is_changed(
        self, zones: list[ModuleZone], federation: Federation, rotate
    ) -> None:
        zones[0].calls.clear()
        status, output, _changed = rotate(flower_rotate="keys")
        assert status != 0
        assert f"VM {federation.nodes[0].number}, {federation.nodes[1].number} of role supernode in service federation publishes no number of its key" in output
        assert zones[0].writes == []


def test_a_zone_that_does_not_answer_is_named_before_anything_is_changed(zones: list[ModuleZone], federation: Federation, rotate) -> None:
    for zone in zones:
        zone.calls.clear()
    zones[1].options["api_url"] = "http://127.0.0.1:9/RPC2"
    status, output, _changed = rotate(flower_rotate="ca")
    assert status != 0 and "127.0.0.1:9" in output
    assert [zone.writes for zone in zones] == [[], []]


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Gateway]:
    """The gateway of another VM, with a CA of its own."""
    for name in ("foreign", "foreign/ca", "foreign/certs"):
        (tmp_path / name).mkdir()
    keep(tmp_path / "foreign")
    with running(Gateway(tmp_path / "foreign/certs")) as gateway:
        yield gateway


@pytest.mark.parametrize("seen_before", [True, False])
def test_cas_that_another_vm_published_are_not_handed_to_the_nodes(
    federation: Federation, foreign: Gateway, rotate, tmp_path: Path, seen_before: bool
) -> None:
    if seen_before:
        (tmp_path / "federation-ca.crt").write_text((tmp_path / "certs/ca.crt").read_text())
    trusted = dict(federation.trust)
    status, output, _changed = rotate(flower_rotate="ca", flower_fleet_address=f"127.0.0.1:{foreign.server_port}")
    assert status != 0
    assert "cannot be asked for its CAs, is not trusted by" in output
    assert federation.trust == trusted


def test_a_ca_that_shares_nothing_with_the_one_in_the_vm_template_is_refused_before_anything_is_changed(
    zones: list[ModuleZone], federation: Federation, foreign: Gateway, rotate, tmp_path: Path
) -> None:
    published = base64.b64encode((foreign.certificates / "ca.crt").read_bytes()).decode()
    federation.superlink.publish(FL_CA_CERT=published, FL_ENDPOINT=f"127.0.0.1:{foreign.server_port}")
    for zone in zones:
        zone.calls.clear()
    status, output, _changed = rotate(flower_rotate="ca")
    assert status != 0
    assert f"VM {federation.superlink.number} says that it has another CA (FL_CA_CERT) than the one that the VM template federation-supernode gives" in output
    assert [zone.writes for zone in zones] == [[], []]
    assert not (tmp_path / "federation-ca.crt").exists()


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"flower_rotate": "key"}, "flower_rotate is 'key', expected one of: certificate, ca, keys, tunnels"),
    ({"flower_service_name": "other"}, "other"),
    ({"flower_rotate": "tunnels"}, "zone zone1: flower_superlink_address is not set"),
    ({"flower_rotate": "ca", "edge_sites": ["faro"]}, "faro in the group edge_sites would not trust another CA"),
])
def test_what_cannot_be_replaced_is_named_before_anything_is_changed(zones: list[ModuleZone], federation: Federation, rotate, settings, sentence) -> None:
    zones[0].calls.clear()
    status, output, _changed = rotate(**settings)
    assert status != 0 and sentence in output.replace("''", "'")
    assert zones[0].writes == []
