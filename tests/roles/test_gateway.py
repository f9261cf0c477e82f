# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The gateway of a SuperLink, the real one: its certificates are replaced while requests are under way, and it is attacked."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from checkpoint_machine import MACHINE, Outcome, machine, machine_log
from conftest import REPOSITORY, player

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab.engine import host_address

COLLECTION = "/usr/share/ansible/collections/ansible_collections/opennebula/flower"
PROGRAM = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.certificates"
DEADLINE = 300
MOST_EXPOSURE = 3.0
MIB = 2**20
NODES = itertools.count()
# Two texts that are the same bytes.
KEY_SPELLINGS = ("YWJjZA==", "YWJjZB==")
# What lies before the gateway's tasks in the role, without Flower itself: a stand-in answers in its place.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars: {flower_runtime: native, flower_superlink_host_name: superlink}
  tasks:
    - ansible.builtin.user: {name: app, uid: 49999, shell: /usr/sbin/nologin, create_home: false}
    - ansible.builtin.user: {name: flower-supervisor, uid: 49998, system: true, shell: /usr/sbin/nologin, create_home: false}
    - ansible.builtin.file: {path: "/opt/flower/{{ item }}", state: directory, mode: "0755"}
      loop: [config, flwr, certs, ca]
    - ansible.builtin.file: {path: /etc/systemd/system/flower-.service.d, state: directory, mode: "0755"}
    - ansible.builtin.copy: {src: SANDBOX, dest: /etc/systemd/system/flower-.service.d/sandbox.conf, mode: "0644"}
    - ansible.builtin.include_role: {name: opennebula.flower._os_packages}
      vars: {os_packages_names: [haproxy, openssl, python3-cryptography, python3-urllib3]}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: tls}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: loopback}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: gateway}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: container}
    - ansible.builtin.meta: flush_handlers
    - ansible.builtin.systemd_service: {name: haproxy.service, state: started}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: publish}
      when: flower_onegate_endpoint | default('') != ''
    # The same file is what a node trusts.
    - ansible.builtin.include_role: {name: opennebula.flower.flower_supernode, tasks_from: publish}
      vars: {flower_supernode_gpu: false}
      when: flower_onegate_endpoint | default('') != ''
"""
# Answers as Flower's port does; /v1/fleet/hold goes on until the file /run/release is there, /v1/fleet/fail fails. It takes the key of every node but of
# the stranger's.
STAND_IN = """
import http.server, pathlib, ssl, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.send_response(401 if self.headers.get("flwr-public-key") == "c3RyYW5nZXI=" else 500 if self.path.endswith("/fail") else 200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while self.path.endswith("/hold") and not pathlib.Path("/run/release").exists():
            self.wfile.write(b"1\\r\\n.\\r\\n")
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b"4\\r\\ndone\\r\\n0\\r\\n\\r\\n")

    do_POST = do_GET

    def log_message(self, *_):
        pass

# And as the exporter of the metrics does.
threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 8406), Handler).serve_forever, daemon=True).start()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 18000), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/opt/flower/loopback/flower.crt", "/opt/flower/loopback/flower.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# Keeps what is published, as OneGate does, in a file.
ONEGATE = """
import http.server, json

attributes = {}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(json.dumps({"VM": {"ID": "7", "USER_TEMPLATE": attributes}}).encode())

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        attributes.update(line.split("=", 1) for line in body.splitlines())
        open("/run/published.json", "w").write(json.dumps(attributes))
        self.answer(b"")

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

open("/run/token", "w").write("token")
http.server.HTTPServer(("127.0.0.1", 5030), Handler).serve_forever()
"""


eventually = partial(wait_until, shown=machine_log)


class Gateway:
    """The gateway as its clients see it."""

    def __init__(self, authority: str, address: str) -> None:
        self.authority, self.address = authority, address

    def connect(
        self, trust: str | None = None, name: str = "", port: int = 9092, certificate: str = "", **versions: ssl.TLSVersion
    ) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=trust or self.authority)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for version, value in versions.items():
            setattr(context, version, value)
        if certificate:
            context.load_cert_chain(certificate)
        return context.wrap_socket(socket.create_connection((self.address, port), DEADLINE), server_hostname=name or self.address)

    def ask(self, path: str = "/health", connection: ssl.SSLSocket | None = None) -> bytes:
        """Return all of an answer."""
        with connection or self.connect() as stream:
            stream.sendall(f"POST {path} HTTP/1.1\r\nHost: superlink\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: stream.recv(65536), b""))

    def refusal(self) -> str:
        """Return why a client does not take the certificate, nothing when it does."""
        try:
            self.connect().close()
        except ssl.SSLCertVerificationError as problem:
            return str(problem)
        return ""

    def certificate(self) -> bytes | None:
        with self.connect() as stream:
            return stream.getpeercert(binary_form=True)


@pytest.fixture(scope="module")
def gateway_play(booted: None, tmp_path_factory: pytest.TempPathFactory):
    machine("mkdir", "-p", COLLECTION)
    subprocess.run(["docker", "cp", REPOSITORY / "plugins", f"{MACHINE}:{COLLECTION}/plugins"], check=True, capture_output=True)
    playbook = tmp_path_factory.mktemp("play") / "gateway.yml"
    playbook.write_text(PLAYBOOK.replace("SANDBOX", str(REPOSITORY / "roles/_flower_runtime/files/sandbox.conf")))
    run, address = player(playbook), own_address()
    return lambda *arguments, **variables: run(*arguments, flower_superlink_addresses=[address], **variables)


def own_address() -> str:
    return machine("hostname", "-I").stdout.split()[0]


@pytest.fixture(scope="module")
def gateway(gateway_play) -> Iterator[Gateway]:
    done = gateway_play()
    assert not done.failed, done.output
    subprocess.run(["docker", "exec", "--detach", MACHINE, "python3", "-c", STAND_IN], check=True)
    served = Gateway(machine("cat", "/opt/flower/certs/ca.crt").stdout, own_address())
    eventually(lambda: b"done" in served.ask(), "the gateway")
    return served


def test_a_second_run_changes_nothing_and_a_dry_run_writes_nothing(gateway: Gateway, gateway_play) -> None:
    # What the timer does after the role, it has done.
    machine("systemctl", "start", "flower-certificates.service")
    before = machine("sh", "-c", "find /opt/flower /etc/systemd/system /etc/haproxy -type f | xargs sha256sum").stdout
    dry = gateway_play("--check", flower_cert_renewal=9)
    assert not dry.failed and dry.changed > 0, dry.output
    assert machine("sh", "-c", "find /opt/flower /etc/systemd/system /etc/haproxy -type f | xargs sha256sum").stdout == before
    again = gateway_play()
    assert (again.failed, again.changed) == (False, 0), again.output


def test_a_silent_connection_is_probed_and_not_forgotten_on_the_way(gateway: Gateway) -> None:
    with gateway.connect() as stream:
        port = stream.getsockname()[1]
        timers = machine("ss", "--tcp", "--numeric", "--options", "--no-header", "dport", "=", f":{port}").stdout
    assert re.search(r"timer:\(keepalive,(1min,|\d{1,2}sec,|[\d.]+ms,)", timers), timers


class Held:
    """A request that goes on until ``release``, and others that come one after the other meanwhile."""

    def __init__(self, gateway: Gateway) -> None:
        machine("rm", "-f", "/run/release")
        self._gateway = gateway
        self.answer, self.others, self._over = b"", [], threading.Event()
        self._threads = [threading.Thread(target=self._hold), threading.Thread(target=self._ask)]
        self._stream = gateway.connect()
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.others) > 3, "answers")

    def _hold(self) -> None:
        self.answer = self._gateway.ask("/v1/fleet/hold", self._stream)

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.others.append(b"done" in self._gateway.ask())
            except OSError as problem:
                self.others.append(problem)

    def release(self) -> None:
        seen = len(self.others)
        eventually(lambda: len(self.others) > seen + 3, "answers")
        self._over.set()
        machine("touch", "/run/release")
        for thread in self._threads:
            thread.join(DEADLINE)


def serve_certificate(days_ago: int) -> bytes:
    """Have the gateway serve a certificate that was made some days ago and is valid for 90; return it."""
    code = f"""
import datetime, json
from {PROGRAM} import Config, Keeper
config = Config.read("/opt/flower/config/certificates.json")
then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days={days_ago})
for path in ("/opt/flower/certs/server.pem",):
    open(path, "w").close()
keeper = Keeper(Config(**{{**config.__dict__, "days": 90}}), now=then)
keeper._check_clock = lambda authority: None
keeper.ensure()
"""
    machine("env", "PYTHONPATH=/usr/share/ansible/collections", "python3", "-c", code)
    served = ssl.PEM_cert_to_DER_cert(machine("openssl", "x509", "-in", "/opt/flower/certs/server.pem").stdout)
    machine("systemctl", "reload", "haproxy")
    return served


@pytest.mark.parametrize("days_ago", [89, 91], ids=["in-its-last-day", "expired-while-off"])
def test_the_certificate_renews_by_itself_while_requests_are_under_way(gateway: Gateway, days_ago: int) -> None:
    # Otherwise it may be renewed before anybody sees it.
    machine("systemctl", "stop", "flower-certificates.timer")
    before = serve_certificate(days_ago)
    if days_ago > 90:
        eventually(lambda: "expired" in gateway.refusal(), "a certificate that expired")
        machine("systemctl", "start", "flower-certificates.service")
        eventually(lambda: gateway.refusal() == "", "a certificate that is valid")
        return
    eventually(lambda: gateway.certificate() == before, "the gateway's reload")
    held = Held(gateway)
    machine("systemctl", "start", "flower-certificates.service")
    eventually(lambda: gateway.certificate() != before, "another certificate")
    held.release()
    assert held.answer.endswith(b"4\r\ndone\r\n0\r\n\r\n")
    assert set(held.others) == {True}, held.others
    metrics = machine("cat", "/run/flower-certificates/metrics.prom").stdout
    end = int(re.search(r'certificate="server"} (\d+)', metrics)[1])
    assert time.time() + 364 * 86400 < end < time.time() + 366 * 86400


def test_the_certificate_is_renewed_on_demand_once_while_requests_are_under_way(gateway: Gateway, gateway_play) -> None:
    before = gateway.certificate()
    held = Held(gateway)
    done = gateway_play(flower_cert_renewal=1)
    assert not done.failed, done.output
    eventually(lambda: gateway.certificate() != before, "another certificate")
    held.release()
    assert held.answer.endswith(b"4\r\ndone\r\n0\r\n\r\n")
    assert set(held.others) == {True}, held.others
    assert gateway_play(flower_cert_renewal=1).changed == 0


def test_the_end_of_the_certificate_is_published_and_kept_up_to_date(gateway: Gateway, gateway_play) -> None:
    subprocess.run(["docker", "exec", "--detach", MACHINE, "python3", "-c", ONEGATE], check=True)
    eventually(lambda: machine("test", "-e", "/run/token", check=False).returncode == 0, "OneGate")
    gate = {"flower_onegate_endpoint": "http://127.0.0.1:5030", "flower_onegate_vm_id": 7, "flower_onegate_token_file": "/run/token"}
    done = gateway_play(**gate)
    assert not done.failed, done.output

    def published() -> dict[str, str]:
        return json.loads(machine("cat", "/run/published.json").stdout)

    first = published()
    assert base64.b64decode(first["FL_CA_CERT"]).decode() == gateway.authority
    assert first["FL_CA_DIGEST"] == hashlib.sha256(gateway.authority.encode()).hexdigest()
    assert (first["FL_CERT_STATE"], first["FL_ENDPOINT"]) == ("0-1-0", f"{gateway.address}:9092")
    serve_certificate(89)
    machine("systemctl", "start", "flower-certificates.service")
    eventually(lambda: published()["FL_CERT_NOT_AFTER"] > first["FL_CERT_NOT_AFTER"], "another end")


def test_the_gateway_offers_what_nodes_trust(gateway: Gateway) -> None:
    with gateway.connect() as stream:
        stream.sendall(b"GET /ca.crt HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: stream.recv(65536), b""))
    assert answer.endswith(gateway.authority.encode())


def test_a_timer_keeps_the_certificates(gateway: Gateway) -> None:
    machine("systemctl", "start", "flower-certificates.timer")
    eventually(lambda: "flower-certificates.service" in machine("systemctl", "list-timers", "--all").stdout, "the timer")


def test_the_unit_may_do_little_else_than_its_work(gateway: Gateway) -> None:
    judged = machine("systemd-analyze", "security", "--no-pager", "flower-certificates.service").stdout
    assert float(re.search(r"Overall exposure level for .*: ([0-9.]+)", judged)[1]) <= MOST_EXPOSURE, judged


def test_nobody_but_root_reads_the_keys_and_the_app_replaces_no_certificate(gateway: Gateway) -> None:
    for command in (["cat", "/opt/flower/ca/1.key"], ["cat", "/opt/flower/certs/server.pem"], ["rm", "-f", "/opt/flower/certs/ca.crt"]):
        assert machine("runuser", "-u", "app", "--", *command, check=False).returncode != 0, command


def test_a_foreign_ca_and_a_wrong_name_are_refused_by_whoever_connects(gateway: Gateway, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x", "-keyout", tmp_path / "k",
         "-out", tmp_path / "c"], check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(ssl.SSLCertVerificationError):
        gateway.connect(trust=(tmp_path / "c").read_text())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        gateway.connect(name="other.example.org")


def test_old_versions_of_tls_are_refused(gateway: Gateway) -> None:
    with pytest.warns(DeprecationWarning), pytest.raises(ssl.SSLError):
        gateway.connect(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_a_connection_without_tls_gets_no_answer(gateway: Gateway) -> None:
    with socket.create_connection((gateway.address, 9092), DEADLINE) as stream:
        stream.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"done" not in stream.recv(65536)


class Operator:
    """Who signs and has certificates of operators."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self._openssl("req", "-x509", *self._key("ca"), "-subj", "/CN=operators", "-addext", "keyUsage=critical,keyCertSign")
        self.ca = (directory / "ca.crt").read_text()

    def certificate(self, purpose: str = "clientAuth") -> str:
        """Return a file with a certificate and its key."""
        self._openssl("req", *self._key("operator")[:-1], "operator.csr", "-subj", "/CN=operator")
        (self._directory / "extensions").write_text(f"extendedKeyUsage={purpose}\nkeyUsage=digitalSignature\n")
        sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "1", "-out", "operator.crt")
        self._openssl("x509", "-req", "-in", "operator.csr", *sign)
        file = self._directory / "operator.pem"
        file.write_text("".join((self._directory / f"operator.{suffix}").read_text() for suffix in ("crt", "key")))
        return str(file)

    def _key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt"]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def operator(gateway: Gateway, gateway_play, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """The operators whose certificates the Control API takes, which listens on all addresses."""
    operator = Operator(tmp_path_factory.mktemp("operators") / "own")
    done = gateway_play(flower_control_api_address="0.0.0.0:9093", flower_control_client_ca=operator.ca)
    assert not done.failed, done.output
    return operator


def control(gateway: Gateway, certificate: str = "") -> bytes:
    """Ask the Control API from outside, with a certificate or without one."""
    with gateway.connect(port=9093, certificate=certificate) as stream:
        stream.sendall(b"POST /v1/control/list-runs HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: stream.recv(65536), b""))


def test_operators_with_a_certificate_control_from_outside_and_nobody_else(gateway: Gateway, operator: Operator, tmp_path: Path) -> None:
    eventually(lambda: b"done" in control(gateway, operator.certificate()), "the Control API")
    before = passed_on()
    for other in ("", Operator(tmp_path / "foreign").certificate(), operator.certificate("serverAuth")):
        with pytest.raises(OSError, match="(?i)alert|reset|certificate"):
            control(gateway, other)
    assert passed_on() == before
    assert b"done" in gateway.ask()  # nodes need none


def test_http2_with_pseudo_headers_does_not_reach_flower(gateway: Gateway) -> None:
    """The gateway offers HTTP/1.1 alone; who speaks HTTP/2 all the same is refused."""
    path = b"/v1/control/list-runs"
    block = b"\x83\x87\x04" + bytes([len(path)]) + path + b"\x01\x09superlink"
    frames = b"\0\0\0\x04\0\0\0\0\0" + len(block).to_bytes(3, "big") + b"\x01\x05\0\0\0\1" + block
    before = passed_on()
    with gateway.connect() as stream:
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
        assert b"done" not in b"".join(iter(lambda: stream.recv(65536), b""))
    assert passed_on() == before


def passed_on() -> int:
    """Return how many requests the gateway gave to Flower, without its own questions."""
    text = machine("python3", "-c", 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8405/metrics").read().decode())').stdout
    return int(re.search(r'^haproxy_backend_http_requests_total{proxy="superlink"} (\d+)', text, re.MULTILINE)[1])


def memory() -> int:
    """Return the memory of the gateway in KiB."""
    return sum(map(int, machine("ps", "-C", "haproxy", "-o", "rss=").stdout.split()))


@pytest.mark.parametrize("begin", [b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: s\r\nX: ", b"GET /artifacts/initial/model.npz HTTP/1.1\r\nHost: s\r\nX: "])
def test_slow_connections_keep_nobody_else_waiting_and_cost_little_memory(gateway: Gateway, begin: bytes) -> None:
    before = memory()
    slow = [gateway.connect() for _connection in range(200)]
    try:
        for stream in slow:
            stream.sendall(begin)
        assert b"done" in gateway.ask()
        for _byte in range(3):
            for stream in slow:
                stream.sendall(b"x")
        assert b"done" in gateway.ask()
        assert memory() - before < 64 * 1024
    finally:
        for stream in slow:
            stream.close()


# Asks from the machine itself, with a name and password or without one.
ASK = """
import ssl, sys, urllib.error, urllib.request

request = urllib.request.Request(sys.argv[1], headers=dict(header.split(": ") for header in sys.argv[2:]))
try:
    with urllib.request.urlopen(request, context=ssl._create_unverified_context()) as answer:
        print(answer.status, answer.read().decode(), end="")
except urllib.error.HTTPError as answer:
    print(answer.code, end="")
"""


class Node:
    """What sends requests as a SuperNode does, with a key and the time that it signs."""

    def __init__(self, gateway: Gateway, key: str = "node") -> None:
        self._gateway, self._key, self._times = gateway, base64.b64encode(key.encode()).decode(), itertools.count()

    def headers(self) -> str:
        return f"flwr-public-key: {self._key}\r\nflwr-timestamp: {self._key}-{next(self._times)}\r\nflwr-signature: x\r\n"

    def post(self, body: bytes = b"", length: str = "", headers: str | None = None, path: str = "/v1/fleet/push-object") -> int:
        """Send a request, as much of it as is taken, and return the status of the answer."""
        length = length or f"Content-Length: {len(body)}"
        head = f"POST {path} HTTP/1.1\r\nHost: s\r\n{length}\r\nConnection: close\r\n{self.headers() if headers is None else headers}\r\n"
        with self._gateway.connect() as stream:
            stream.sendall(head.encode())
            with contextlib.suppress(OSError):
                stream.sendall(body)
            return int(stream.recv(65536).split()[1])


@pytest.fixture
def node(gateway: Gateway) -> Node:
    """A node of its own for each test, which the gateway has not seen."""
    return Node(gateway, f"node-{next(NODES)}")


def test_a_node_that_flower_knows_uploads_a_model(gateway: Gateway, node: Node) -> None:
    assert node.post() == 200
    assert node.post(bytes(6 * MIB)) == 200


@pytest.mark.parametrize(
    ("status", "length"),
    [(413, f"Content-Length: {64 * MIB + 1}"), (413, f"Content-Length: {2**32 + 1}"), (411, "Transfer-Encoding: chunked")],
    ids=["too-long", "longer-than-32-bits", "without-a-length"],
)
def test_a_body_without_bounds_does_not_reach_flower(gateway: Gateway, node: Node, status: int, length: str) -> None:
    assert node.post() == 200
    before = passed_on()
    assert node.post(length=length) == status
    assert passed_on() == before
    assert b"done" in gateway.ask()


def test_who_flower_does_not_know_sends_it_what_fits_into_the_gateway_alone(gateway: Gateway) -> None:
    stranger = Node(gateway, "stranger")
    assert stranger.post(b"x" * 1000) == 401
    before = passed_on()
    for headers in (None, ""):
        assert stranger.post(bytes(MIB), headers=headers) == 503
    # An answer to everybody makes nobody known.
    assert stranger.post(path="/health", headers="flwr-public-key: aGVhbHRo\r\n") == 200
    assert stranger.post(bytes(MIB), headers="flwr-public-key: aGVhbHRo\r\n") == 503
    assert passed_on() == before + 1


def test_a_body_that_trickles_takes_no_place_at_flower(gateway: Gateway, node: Node) -> None:
    before = passed_on()
    slow = [gateway.connect() for _connection in range(50)]
    try:
        for stream in slow:
            stream.sendall(f"POST /v1/fleet/activate-node HTTP/1.1\r\nHost: s\r\nContent-Length: 1000\r\n{node.headers()}\r\nx".encode())
        assert node.post() == 200
        assert passed_on() == before + 1
        for stream in slow:
            assert stream.recv(65536).split()[1] == b"408"
        assert passed_on() == before + 1
    finally:
        for stream in slow:
            stream.close()


def test_a_node_comes_back_when_flower_fails(node: Node) -> None:
    assert node.post(path="/v1/fleet/fail") == 503
    assert node.post() == 200


def test_the_headers_of_a_node_are_good_for_one_request(node: Node) -> None:
    used = node.headers()
    assert node.post(headers=used) == 200
    before = passed_on()
    assert node.post(b"other content", headers=used) == 503
    # The same key in another spelling of BASE64, the same time with another signature.
    key, spelled = KEY_SPELLINGS
    other = "flwr-public-key: {}\r\nflwr-timestamp: 1\r\nflwr-signature: {}\r\n"
    assert [node.post(headers=other.format(*which)) for which in ((key, "a"), (spelled, "b"), (key, "c"))] == [200, 503, 503]
    # Flower takes the first of two.
    assert node.post(headers=f"{used}{node.headers()}") == 400
    assert passed_on() == before + 1
    assert node.post() == 200
    # Not the gateway but Flower says what it takes without a signature.
    assert [node.post(headers=""), node.post(headers="")] == [200, 200]


def test_two_nodes_may_sign_the_same_time(gateway: Gateway, node: Node) -> None:
    signed = node.headers()
    other = re.sub("flwr-public-key: .*?\r", "flwr-public-key: b3RoZXI=\r", signed)
    assert [node.post(headers=signed), node.post(headers=other), node.post(headers=other)] == [200, 200, 503]


def test_one_address_does_not_take_all_connections(gateway: Gateway, gateway_play) -> None:
    done = gateway_play(flower_gateway_max_connections=10)
    assert not done.failed, done.output
    streams: list[ssl.SSLSocket] = []

    def refused() -> bool:
        try:
            streams.append(gateway.connect())
        except OSError:
            return True
        return False

    try:
        eventually(refused, "the new limit")
        assert len(streams) >= 10
        # From another address: this machine's own.
        assert machine("python3", "-c", ASK, "https://127.0.0.1:9092/health").stdout == "200 done"
    finally:
        for stream in streams:
            stream.close()
        assert not gateway_play().failed


METRICS = ("/metrics", "/metrics/gateway")
# htpasswd -bnB -C 5 prometheus scrape
METRICS_AUTH = "prometheus:$2y$05$abcdefghijklmnopqrstuuoMt/3RSWy9nt1XJ.fOvAVtRBAZkrjKK"


def scrape(gateway: Gateway, path: str, scheme: str = "http", password: str = "") -> int:
    """Return the status of an answer of the metrics to this machine, 0 without an answer."""
    kinds = {"http": http.client.HTTPConnection, "https": partial(http.client.HTTPSConnection, context=ssl._create_unverified_context())}
    connection = kinds[scheme](gateway.address, 9101, timeout=DEADLINE)
    headers = {"Authorization": "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()} if password else {}
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def machine_scrapes(address: str, path: str) -> str:
    """Return the status of an answer of the metrics to the machine itself, by one of its addresses, nothing without an answer."""
    return machine("python3", "-c", ASK, f"http://{address}:9101{path}", check=False).stdout[:3]


@pytest.fixture
def metrics_play(gateway: Gateway, gateway_play) -> Iterator[Callable[..., Outcome]]:
    """Run the role with metrics that this machine may read."""
    with gateway.connect() as stream:
        source = stream.getsockname()[0]

    def run(*arguments: str, **variables: object) -> Outcome:
        done = gateway_play(*arguments, flower_metrics_enabled=True, **{"flower_metrics_from": [source], **variables})
        assert not done.failed, done.output
        return done

    yield run
    assert not gateway_play().failed


def test_metrics_are_for_the_networks_that_are_named_and_nobody_else(gateway: Gateway, metrics_play) -> None:
    metrics_play()
    eventually(lambda: scrape(gateway, "/metrics") == 200, "the metrics")
    machine("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6; ip address add fd00:1::1/128 dev lo; ip address add fd00:2::1/128 dev lo")
    for path in METRICS:
        assert (scrape(gateway, path), machine_scrapes("127.0.0.1", path), machine_scrapes(gateway.address, path)) == (200, "200", "")
    assert scrape(gateway, "/other") == 404
    metrics_play(flower_metrics_from=["fd00:1::/64"])
    eventually(lambda: scrape(gateway, "/metrics") == 0, "the end of the metrics for this machine")
    for path in METRICS:
        assert [machine_scrapes(f"[{address}]", path) for address in ("::1", "fd00:1::1", "fd00:2::1")] == ["200", "200", ""]


def test_metrics_with_a_password_are_for_who_has_it_and_its_hash_is_shown_to_nobody(gateway: Gateway, metrics_play) -> None:
    done = metrics_play("--diff", flower_metrics_auth=METRICS_AUTH)
    assert done.changed > 0
    assert METRICS_AUTH.split(":")[1] not in done.output
    assert machine("stat", "--format", "%U %G %a", "/etc/haproxy/haproxy.cfg").stdout == "root root 600\n"
    eventually(lambda: scrape(gateway, "/metrics") == 401, "the password")
    for path in METRICS:
        assert [scrape(gateway, path, password=password) for password in ("", "wrong", "scrape")] == [401, 401, 200]


def test_metrics_with_a_certificate_are_served_by_https_alone(gateway: Gateway, metrics_play) -> None:
    files = {"certfile": "/opt/flower/config/metrics/server.crt", "keyfile": "/opt/flower/config/metrics/server.key"}
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=metrics"
    machine("sh", "-c", f"mkdir -p /opt/flower/config/metrics && {request} -out {files['certfile']} -keyout {files['keyfile']}")
    metrics_play(**{f"flower_metrics_{name}": machine("cat", path).stdout for name, path in files.items()})
    eventually(lambda: scrape(gateway, "/metrics", "https") == 200, "the metrics")
    for path in METRICS:
        assert (scrape(gateway, path, "https"), scrape(gateway, path)) in ((200, 0), (200, 400))


RELAY = """
import socket, sys, threading

def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)

def connect(near):
    try:
        far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    except OSError:
        near.close()
        return
    for pair in ((near, far), (far, near)):
        threading.Thread(target=copy, args=pair, daemon=True).start()

# The SuperLink may listen later than this.
server = socket.create_server(("127.0.0.1", 18000))
while True:
    connect(server.accept()[0])
"""


def example(language: str, beginning: str) -> str:
    """Return the block of docs/operation.md that begins so."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (REPOSITORY / "docs/operation.md").read_text(), re.DOTALL | re.MULTILINE)
    return next(block for tongue, block in blocks if tongue == language and block.startswith(beginning))


def test_flwr_controls_from_outside_as_the_documentation_shows(gateway: Gateway, operator: Operator, tmp_path: Path) -> None:
    flower, host, port = make_flower_venv(), host_address(), free_port(host_address())
    state = {"FLWR_HOME": str(tmp_path), "PATH": f"{flower}:/usr/bin:/bin", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    # With Flower's own certificate, which the gateway asks for on loopback.
    for suffix in ("crt", "key"):
        (tmp_path / f"flower.{suffix}").write_text(machine("cat", f"/opt/flower/loopback/flower.{suffix}").stdout)
    tls = ["--ssl-ca-certfile", "flower.crt", "--ssl-certfile", "flower.crt", "--ssl-keyfile", "flower.key"]
    command = [flower / "flower-superlink", *tls, "--host", host, "--port", str(port), "--disable-runtime-dependency-installation"]
    settings = example("", "defaults").replace("127.0.0.1:9093", f"{gateway.address}:9193").replace("10.0.0.5", gateway.address)
    settings = settings.replace("superlink.example.org", "superlink")
    for name, content in (("operator.pem", Path(operator.certificate()).read_text()), ("ca.crt", gateway.authority), ("operator.cfg", settings)):
        machine("tee", f"/root/{name}", standard_input=content)
    machine("pkill", "-f", "ThreadingHTTPServer")
    eventually(lambda: machine("pgrep", "-f", "ThreadingHTTPServer", check=False).returncode != 0, "the end of what answered for Flower")
    (tmp_path / "config.toml").write_text(
        example("toml", "[superlink.cloud]").replace("127.0.0.1:9093", f"{gateway.address}:9193")
        + f'[superlink.direct]\naddress = "{gateway.address}:9093"\nroot-certificates = "{tmp_path / "ca.crt"}"\n'
    )
    (tmp_path / "ca.crt").write_text(gateway.authority)

    def listed(connection: str) -> bool:
        asked = subprocess.run([flower / "flwr", "list", connection, "--format", "json"], env=state, capture_output=True, text=True, check=False)
        return '"success": true' in asked.stdout

    with subprocess.Popen(command, env=state, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as superlink:
        try:
            subprocess.run(["docker", "exec", "--detach", MACHINE, "python3", "-c", RELAY, host, str(port)], check=True)
            machine("sh", "-c", "cd /root && haproxy -D -f operator.cfg")
            eventually(lambda: listed("cloud"), "an answer to flwr")
            assert not listed("direct"), "without a certificate"
        finally:
            superlink.terminate()
