# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How a node at the edge waits for its SuperLink, and what it says meanwhile."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import validate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.tests.support.one_servers import ScriptedServer, running, scripted, self_signed
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.unit_log_schema import problem

CLOCK = Path(__file__).parents[3] / "roles" / "flower_supernode" / "files" / "flower-clock"
DAY = datetime.timedelta(days=1)


@pytest.fixture
def link(service: ModuleType) -> ModuleType:
    return service.link


def no_gate() -> OneGate:
    raise AssertionError("a given address needs no OneGate")


def values(**parameters: str) -> dict:
    return validate({f"ONEAPP_FL_{name}": value for name, value in parameters.items()}, "edge")


def waits_for(link: ModuleType, address: str, authority: Path | None = None) -> str:
    trust = {"flower_tls_enabled": bool(authority), "flower_ssl_ca_certfile": authority.read_text() if authority else ""}
    return link.missing(values(SUPERLINK_ADDRESS=address) | trust, no_gate)


class TestPause:
    def test_doubles_up_to_the_longest(self, link: ModuleType) -> None:
        pauses = [link.pause(attempt, "exponential", 300, draw=lambda: 0.0) for attempt in range(8)]
        assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]

    @pytest.mark.parametrize("attempt", [61, 1_000, 10**9])
    def test_is_the_longest_after_any_number_of_attempts(self, link: ModuleType, attempt: int) -> None:
        assert link.pause(attempt, "exponential", 86400, draw=lambda: 0.0) == 86400

    def test_stays_the_same_when_it_is_fixed(self, link: ModuleType) -> None:
        assert {link.pause(attempt, "fixed", 300, draw=lambda: 0.0) for attempt in range(100)} == {10}

    def test_differs_between_nodes_by_up_to_half(self, link: ModuleType) -> None:
        pauses = {link.pause(9, "exponential", 300) for _i in range(200)}
        assert len(pauses) > 100
        assert min(pauses) >= 150
        assert max(pauses) <= 300


class TestGivenAddress:
    def test_a_healthy_superlink_is_nothing_to_wait_for(self, link: ModuleType, tmp_path: Path) -> None:
        with self_signed(tmp_path, (200, "")) as (server, certificate):
            assert waits_for(link, f"127.0.0.1:{server.server_port}", certificate) == ""
        assert [request[:2] for request in server.requests] == [("GET", "/health")]

    def test_without_tls(self, link: ModuleType) -> None:
        with scripted((200, "")) as server:
            assert waits_for(link, f"127.0.0.1:{server.server_port}") == ""

    def test_a_gateway_without_its_superlink_is_waited_for(self, link: ModuleType) -> None:
        with scripted((503, "")) as server:
            address = f"127.0.0.1:{server.server_port}"
            assert waits_for(link, address) == f"the SuperLink at {address}: it answers with status 503"

    def test_a_superlink_that_is_down_is_waited_for(self, link: ModuleType) -> None:
        address = f"127.0.0.1:{free_port()}"
        assert waits_for(link, address) == f"the SuperLink at {address}: Connection refused"

    def test_what_is_no_http_is_waited_for(self, link: ModuleType) -> None:
        with scripted(None) as server:
            assert waits_for(link, f"127.0.0.1:{server.server_port}").startswith(f"the SuperLink at 127.0.0.1:{server.server_port}: ")

    def test_a_name_is_looked_up_each_time(self, link: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "superlink.invalid:9092: its name cannot be looked up" in waits_for(link, "superlink.invalid:9092")
        with scripted((200, "")) as server:
            looked_up = link.socket.getaddrinfo
            monkeypatch.setattr(link.socket, "getaddrinfo", lambda _host, *more, **options: looked_up("127.0.0.1", *more, **options))
            assert waits_for(link, f"superlink.invalid:{server.server_port}") == ""

    def test_an_authority_that_is_another_one_is_no_matter_of_waiting(self, link: ModuleType, tmp_path: Path) -> None:
        with self_signed(tmp_path, (200, "")) as (server, _certificate):
            other = signed(tmp_path, -DAY, DAY)[0]
            assert waits_for(link, f"127.0.0.1:{server.server_port}", other) == ""


class TestClock:
    @pytest.mark.parametrize(("begin", "end", "state"), [(DAY, 2 * DAY, "is not valid yet"), (-2 * DAY, -DAY, "has expired")])
    def test_a_clock_outside_of_the_certificate_is_said(
        self, link: ModuleType, tmp_path: Path, begin: datetime.timedelta, end: datetime.timedelta, state: str
    ) -> None:
        certificate, key = signed(tmp_path, begin, end)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = ScriptedServer((200, ""))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with running(server):
            said = link.unreachable(f"127.0.0.1:{server.server_port}", certificate.read_text())
        assert said.startswith("the right time: the clock of this machine says 20")
        assert said.endswith(f"when the certificate of the SuperLink at 127.0.0.1:{server.server_port} {state}")

    def test_a_clock_before_the_given_authority_was_made_is_said(self, link: ModuleType, tmp_path: Path) -> None:
        early = {"ONEAPP_FL_SSL_CA_CERTFILE": signed(tmp_path, DAY, 2 * DAY)[0].read_text()}
        assert "before the certificate of the CA was made on 20" in link.too_early(early)
        early["ONEAPP_FL_SSL_CA_CERTFILE"] = base64.b64encode(early["ONEAPP_FL_SSL_CA_CERTFILE"].encode()).decode()
        assert "before the certificate of the CA was made on 20" in link.too_early(early)

    @pytest.mark.parametrize("given", ["", "no certificate"])
    def test_without_an_authority_no_clock_is_early(self, link: ModuleType, given: str) -> None:
        assert link.too_early({"ONEAPP_FL_SSL_CA_CERTFILE": given}) == ""

    def test_the_unit_does_not_start_before_its_authority_was_made(self, tmp_path: Path) -> None:
        done = subprocess.run(["sh", CLOCK, signed(tmp_path, DAY, 2 * DAY)[0]], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("Waiting for the right time: the clock of this machine says ")

    def test_the_unit_says_so_to_programs(self, tmp_path: Path) -> None:
        environment = {**os.environ, "FL_LOG_FORMAT": "json"}
        done = subprocess.run(["sh", CLOCK, signed(tmp_path, DAY, 2 * DAY)[0]], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, "")
        line = json.loads(done.stdout)
        assert problem(line) == ""
        assert line["message"].startswith("Waiting for the right time: the clock of this machine says ")

    def test_the_unit_starts_with_the_right_time(self, tmp_path: Path) -> None:
        subprocess.run(["sh", CLOCK, signed(tmp_path, -DAY, DAY)[0]], check=True)


class TestDiscovery:
    def waits_for(self, link: ModuleType, *answers: tuple[int, str], **parameters: str) -> str:
        with scripted(*answers) as gate:
            return link.missing(values(**parameters), lambda: OneGate(gate.url, 7, "secret"))

    def published(self, **attributes: str) -> tuple[int, str]:
        vm = {"ID": "2", "USER_TEMPLATE": attributes}
        return 200, json.dumps({"SERVICE": {"roles": [{"name": "superlink", "nodes": [{"vm_info": {"VM": vm}}]}]}})

    def test_a_superlink_that_is_ready_is_looked_at(self, link: ModuleType, tmp_path: Path) -> None:
        with self_signed(tmp_path, (200, "")) as (server, certificate):
            answer = self.published(
                FL_READY="YES", FL_ENDPOINT=f"127.0.0.1:{server.server_port}", FL_CA_CERT=base64.b64encode(certificate.read_bytes()).decode()
            )
            assert self.waits_for(link, answer) == ""
        assert len(server.requests) == 1

    @pytest.mark.parametrize("attributes", [{}, {"FL_READY": "NO"}, {"FL_READY": "YES"}, {"FL_READY": "YES", "FL_ENDPOINT": "--insecure"}])
    def test_one_that_is_not_ready_is_waited_for(self, link: ModuleType, attributes: dict[str, str]) -> None:
        assert self.waits_for(link, self.published(**attributes)).startswith("the SuperLink of this service: none has published")

    @pytest.mark.parametrize("shape", [{"roles": []}, {"roles": [{"name": "superlink", "nodes": [None]}]}, {"roles": [{"name": "superlink", "nodes": [{}]}]}])
    def test_a_service_of_another_shape_is_one_without_a_superlink(self, link: ModuleType, shape: dict) -> None:
        assert "none has published" in self.waits_for(link, (200, json.dumps({"SERVICE": shape})))

    def test_an_onegate_that_cannot_be_reached_is_waited_for(self, link: ModuleType) -> None:
        assert link.missing(values(), lambda: OneGate(f"http://127.0.0.1:{free_port()}", 7, "secret")).startswith("OneGate: ")

    def test_a_token_that_is_refused_does_not_mend_by_waiting(self, link: ModuleType) -> None:
        assert self.waits_for(link, (401, "no")) == ""


class TestBoot:
    """The life cycle of a node's appliance, of one for the edge unless a test says otherwise, with a playbook that is a script."""

    @pytest.fixture
    def boot(self, service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, list[float]]]:
        def run(context: Callable[[], dict[str, str]], *endings: str, edge: bool = True) -> tuple[int, str, list[float]]:
            """Boot with what the playbook writes at its ends; return status, log and pauses."""
            log, left, slept = tmp_path / "flower-boot.log", list(endings), []
            log.touch()
            (tmp_path / "role").write_text("supernode\n")

            def playbook(_step: str, _context: object) -> int:
                ending = left.pop(0)
                log.write_text(f"{log.read_text()}{ending}\n")
                return int(ending != "succeeded")

            monkeypatch.setattr(service, "APPLIANCE", tmp_path)
            monkeypatch.setattr(service, "BOOT_LOG", log)
            monkeypatch.setattr(service, "read_context", lambda: (context(), "context.sh"))
            monkeypatch.setattr(service, "run_playbook", playbook)
            monkeypatch.setattr(service.time, "sleep", slept.append)
            code, _context = service.run_node("bootstrap", service.Context("edge" if edge else "supernode"))
            assert left == []
            return code, log.read_text(), slept

        return run

    def context(self, port: int, **more: str) -> dict[str, str]:
        own = {"ONEAPP_FL_SUPERLINK_ADDRESS": f"127.0.0.1:{port}", "ONEAPP_FL_TLS_ENABLED": "NO"}
        return {**own, **{f"ONEAPP_FL_{name}": value for name, value in more.items()}}

    def test_it_goes_on_when_the_superlink_is_there(self, boot: Callable) -> None:
        with scripted((503, ""), None, (503, ""), (200, "")) as server:
            code, log, slept = boot(lambda: self.context(server.server_port), "succeeded")
        assert code == 0
        assert log.count("waiting for the SuperLink at") == len(slept) == 3
        assert slept[0] <= 10 < 2 * slept[1] <= 40

    def test_two_hours_are_no_reason_to_fail(self, boot: Callable) -> None:
        with scripted(*[(503, "")] * 40, (200, "")) as server:
            code, _log, slept = boot(lambda: self.context(server.server_port, EDGE_MAX_BACKOFF="600"), "succeeded")
        assert code == 0
        assert sum(slept) > 7200
        assert max(slept) <= 600

    def test_another_address_in_the_context_is_heeded_while_it_waits(self, boot: Callable) -> None:
        with scripted((200, "")) as server:
            ports = iter([free_port(), server.server_port])
            assert boot(lambda: self.context(next(ports)), "succeeded")[0] == 0

    def test_a_link_that_breaks_in_the_middle_of_a_boot_is_waited_for_again(self, boot: Callable) -> None:
        with scripted((200, "")) as server, scripted((200, "")) as gate:
            context = {**self.context(server.server_port), "ONEGATE_ENDPOINT": gate.url, "VMID": "7", "ONEGATE_TOKEN": "secret"}
            code, log, slept = boot(lambda: context, "failed in stage health: gone", "failed in stage discovery: gone", "succeeded")
        assert (code, len(slept)) == (0, 2)
        # Not FL_ERROR, which says that the boot has ended.
        said = [sorted(body.decode().splitlines()) for _method, _path, body, _headers in gate.requests]
        assert said == [["FL_NODE_READY=NO", f"FL_RETRYING={reason}"] for reason in ("health_check_timeout", "superlink_not_found")]
        assert "waiting for stage health to succeed; looking again in" in log

    def test_what_is_no_matter_of_the_link_ends_the_boot(self, boot: Callable) -> None:
        with scripted((200, "")) as server:
            code, _log, slept = boot(lambda: self.context(server.server_port), "failed in stage tls: no CA")
        assert (code, slept) == (1, [])

    def test_the_right_time_is_waited_for_before_the_context_is_judged(self, boot: Callable, tmp_path: Path) -> None:
        with scripted((200, "")) as server:
            early = self.context(server.server_port, SSL_CA_CERTFILE=signed(tmp_path, DAY, 2 * DAY)[0].read_text())
            contexts = iter([early, self.context(server.server_port)])
            code, log, slept = boot(lambda: next(contexts), "succeeded")
        assert (code, slept) == (0, [10])
        assert "waiting for the right time: the clock of this machine says " in log

    def test_a_context_that_is_not_valid_ends_the_boot(self, boot: Callable) -> None:
        code, _log, slept = boot(lambda: {"ONEAPP_FL_EDGE_BACKOFF": "never"}, "failed in stage context: not valid")
        assert (code, slept) == (1, [])

    def test_any_node_with_a_given_address_waits_as_long_as_it_takes(self, boot: Callable, capsys: pytest.CaptureFixture[str]) -> None:
        with scripted(*[(503, "")] * 40, (200, "")) as server:
            code, log, slept = boot(lambda: self.context(server.server_port), "succeeded", edge=False)
        assert code == 0
        assert sum(slept) > 3600
        # The parameters of the edge are for the edge.
        assert max(slept) <= 300
        assert f"waiting for the SuperLink at 127.0.0.1:{server.server_port}: it answers with status 503" in log
        assert capsys.readouterr().out.count("waiting for the SuperLink at") == 40

    def test_a_node_that_finds_its_superlink_in_its_service_leaves_the_wait_to_the_playbook(self, boot: Callable, tmp_path: Path) -> None:
        context = {"ONEAPP_FL_SSL_CA_CERTFILE": signed(tmp_path, DAY, 2 * DAY)[0].read_text()}
        code, _log, slept = boot(lambda: context, "failed in stage discovery: none", edge=False)
        assert (code, slept) == (1, [])

    def test_a_node_that_its_superlink_refuses_waits_at_the_edge_alone(self, boot: Callable) -> None:
        with scripted((200, "")) as server:
            code, _log, slept = boot(lambda: self.context(server.server_port), "failed in stage health: refused", edge=False)
        assert (code, slept) == (1, [])

    def test_any_node_whose_link_breaks_in_the_middle_of_a_boot_waits_again(self, boot: Callable) -> None:
        with scripted((200, ""), (503, ""), (200, "")) as server:
            code, log, slept = boot(lambda: self.context(server.server_port), "failed in stage health: gone", "succeeded", edge=False)
        assert (code, len(slept)) == (0, 1)
        assert "waiting for stage health to succeed" in log


def signed(directory: Path, begin: datetime.timedelta, end: datetime.timedelta) -> tuple[Path, Path]:
    """Make a certificate that signs itself for 127.0.0.1 and is valid within these times from now; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "signed.pem", directory / "signed.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files
