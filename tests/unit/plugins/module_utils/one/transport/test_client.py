# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The client against real local servers: answers, errors, time-outs, TLS, retries."""

from __future__ import annotations

import gzip
import json
import xmlrpc.client
from base64 import b64encode

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import http
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.download import DownloadHttp
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.tests.support.one_servers import (
    dripping,
    failure,
    hanging,
    scripted,
    self_signed,
    success,
)
from ansible_collections.opennebula.flower.tests.support.ports import free_port

PASSWORD = "pass:word é"


def client(url: str, **options: object) -> Client:
    return Client(url + "/RPC2", "oneadmin", PASSWORD, **{"timeout": 5, "oneflow_url": url, **options})


def error_of(function, *arguments) -> OneException:
    with pytest.raises(OneException) as caught:
        function(*arguments)
    assert PASSWORD not in caught.value.message
    assert caught.value.message.endswith(".") and "\n" not in caught.value.message
    return caught.value


def test_a_call_carries_the_session_and_returns_documents_as_dictionaries():
    with scripted(success("<CLUSTER><ID>3</ID><NAME>i</NAME><HOSTS/><DATASTORES/><VNETS/><TEMPLATE><A><![CDATA[x]]></A></TEMPLATE></CLUSTER>")) as server:
        cluster = client(server.url).call("one.cluster.info", 3)
    assert cluster == {"ID": "3", "NAME": "i", "HOSTS": "", "DATASTORES": "", "VNETS": "", "TEMPLATE": {"A": "x"}}
    parameters, method = xmlrpc.client.loads(server.requests[0][2])
    assert (method, parameters) == ("one.cluster.info", (f"oneadmin:{PASSWORD}", 3))


def test_a_long_pool_is_fetched_in_pages_and_a_short_one_in_one_call():
    page = "<VM_POOL>" + "<VM><ID>1</ID><NAME>a</NAME></VM>" * 2000 + "</VM_POOL>"
    with scripted(success(page), success("<VM_POOL><VM><ID>2</ID><NAME>b</NAME></VM></VM_POOL>")) as server:
        assert len(client(server.url).pool("one.vmpool.info", "VM", -1)) == 2001
    arguments = [xmlrpc.client.loads(body)[0][1:] for _method, _path, body, _headers in server.requests]
    assert arguments == [(-2, 0, -2000, -1), (-2, 2000, -2000, -1)]
    with scripted(success("<VM_POOL></VM_POOL>")) as server:
        assert client(server.url).pool("one.vmpool.info", "VM", -1) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "message", "kind", "sentence"),
    [
        (256, "[one.image.info] User couldn't be authenticated, aborting call.", "authentication",
         "does not accept the password of user oneadmin"),
        (512, "[one.image.info] User [2] : Not authorized to perform USE IMAGE [0].", "authorization",
         "Not authorized to perform USE IMAGE [0] (one.image.info at http://127.0.0.1"),
        (512, "[one.image.info] User [2] : user [2] limit of 1 reached for VMS quota in VM.", "quota", "limit of 1 reached"),
        (1024, "[one.image.info] Error getting image [9].", "missing", "Error getting image [9]"),
        (2048, "[one.image.info] Action is not available for state RUNNING", "wrong_state", "state RUNNING"),
        (2048, "[one.image.info] Cannot update template. Parse error: syntax error", "invalid", "Parse error"),
        (8192, "[one.image.info] NAME is already taken by NET 0.", "conflict", "already taken by NET 0"),
        (16384, "[one.image.info] Error allocating. MEMORY must be positive", "invalid", "MEMORY must be positive"),
    ],
)
def test_every_error_of_the_server_is_one_sentence_with_its_kind(code, message, kind, sentence):
    with scripted(failure(code, message)) as server:
        error = error_of(client(server.url).call, "one.image.info", 9)
    assert error.kind == kind
    assert sentence in error.message


@pytest.mark.parametrize(
    "answer",
    [(200, "no XML at all"), (200, b"\xff\xfe\x00"), (200, "<a><b></a>"), (200, ""), (502, "Bad Gateway"),
     (200, "<?xml version='1.0'?><methodResponse><params></params></methodResponse>"),
     success("<IMAGE><broken"),
     (200, xmlrpc.client.dumps(xmlrpc.client.Fault(-506, "Method 'one.image.info' not defined")))],
)
def test_garbage_and_faults_are_protocol_errors(answer):
    with scripted(answer) as server:
        assert error_of(client(server.url).call, "one.image.info", 1).kind == "protocol"


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<?xml"])
def test_a_hanging_endpoint_ends_at_the_timeout_and_is_not_asked_again(begin):
    with hanging(begin) as url:
        error = error_of(client(url, timeout=0.5).call, "one.image.info", 1)
    assert error.kind == "timeout"
    assert error.message == f"{url}/RPC2 did not answer within 0.5 seconds."


LONG_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"X-Header: value\r\n" * 100
LONG_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("head", [LONG_HEADERS, LONG_BODY + b" " * 1000])
def test_an_endpoint_that_drips_bytes_ends_at_the_timeout_too(head):
    with dripping(head) as url:
        asking = client(url, timeout=0.5)
        for ask in (lambda: asking.call("one.image.info", 1), lambda: asking.flow("GET", "/service")):
            error = error_of(ask)
            assert error.kind == "timeout"
            assert "did not answer within 0.5 seconds" in error.message


def test_repetitions_end_at_the_timeout_too():
    # The pauses before them are 0.2 and 0.8 seconds, so that a third request would come too late. On a busy machine even the first may.
    with scripted(None) as server:
        assert error_of(client(server.url, timeout=0.9).call, "one.image.info", 1).kind in ("network", "timeout")
    assert len(server.requests) <= 2


def test_a_refusing_endpoint_is_named_with_the_reason():
    url = f"http://127.0.0.1:{free_port()}"
    error = error_of(client(url).call, "one.image.info", 1)
    assert error.kind == "network"
    assert error.message == f"{url}/RPC2 cannot be reached: Connection refused."


def test_a_host_that_does_not_exist_is_named():
    error = error_of(client("http://no-such-host.invalid").call, "one.image.info", 1)
    assert error.kind == "network"
    assert "no-such-host.invalid" in error.message


def test_an_url_without_a_scheme_is_invalid():
    assert error_of(client("localhost:2633").call, "one.image.info", 1).kind == "invalid"


def test_credentials_in_an_url_are_not_shown():
    error = error_of(client(f"http://user:hidden@127.0.0.1:{free_port()}").call, "one.image.info", 1)
    assert "hidden" not in error.message


def test_a_self_signed_certificate_is_refused_unless_it_is_trusted_or_validation_is_off(tmp_path):
    answer = success("7.4.0")
    with self_signed(tmp_path, answer) as (server, certificate):
        url = server.url.replace("http:", "https:")
        error = error_of(client(url).call, "one.system.version")
        assert error.kind == "network"
        assert error.message.startswith(f"{url}/RPC2 has a certificate that is not trusted (self-signed certificate)")
        assert "ca_path" in error.message and "validate_certs" in error.message
        assert client(url, ca_path=str(certificate)).version == (7, 4, 0)
        assert client(url, validate_certs=False).version == (7, 4, 0)


def test_a_ca_path_that_does_not_exist_is_named():
    error = error_of(client("https://127.0.0.1:1", ca_path="/no/such/file").call, "one.image.info", 1)
    assert error.kind == "invalid"
    assert "/no/such/file" in error.message


def test_an_answer_that_is_broken_off_is_a_network_error():
    with dripping(LONG_BODY + b"<", pause=0) as url:
        error = error_of(client(url).call, "one.image.info", 1)
    assert (error.kind, error.message) == ("network", f"{url}/RPC2 broke off its answer.")


def test_the_proxy_of_the_environment_is_asked_with_its_password_unless_the_server_is_near(monkeypatch):
    with scripted(success("7.4.0")) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//jane:p%40ss@"))
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.0/8")
        assert client("http://cloud.example:2633").version == (7, 4, 0)
        method, path, _body, headers = server.requests[0]
        assert (method, path) == ("POST", "http://cloud.example:2633/RPC2")
        assert headers["proxy-authorization"] == f"Basic {b64encode(b'jane:p@ss').decode()}"
        for near in ("localhost", "127.0.0.1"):
            error = error_of(client(f"http://{near}:{free_port()}").call, "one.system.version")
            assert error.message.endswith("cannot be reached: Connection refused.")
        assert len(server.requests) == 1


def test_a_read_is_repeated_after_a_connection_fault_and_a_write_is_not():
    with scripted(None, success("<IMAGE_POOL><IMAGE><ID>3</ID><NAME>i</NAME></IMAGE></IMAGE_POOL>")) as server:
        assert client(server.url).pool("one.imagepool.info", "IMAGE") == [{"ID": "3", "NAME": "i"}]
    with scripted(None, success(1)) as server:
        assert error_of(client(server.url).call, "one.image.delete", 3).kind == "network"
    assert len(server.requests) == 1


def test_oneflow_is_asked_again_for_reads_only():
    pool = {"DOCUMENT_POOL": {}}
    with scripted(None, (200, json.dumps(pool))) as server:
        assert client(server.url).flow("GET", "/service") == pool
    for method in ("POST", "PUT", "DELETE"):
        with scripted(None, (200, "{}")) as server:
            assert error_of(client(server.url).flow, method, "/service").kind == "network"
        assert len(server.requests) == 1


def test_an_answer_of_any_kind_is_never_asked_for_again():
    for answer in (failure(2048, "[one.image.info] no"), (503, "busy"), (200, "garbage")):
        with scripted(answer) as server:
            error_of(client(server.url).call, "one.image.info", 3)
        assert len(server.requests) == 1


def test_a_value_xml_cannot_carry_is_refused_before_sending():
    with scripted(success(1)) as server:
        assert error_of(client(server.url).call, "one.image.update", 3, None, 0).kind == "invalid"
        assert server.requests == []


def test_oneflow_is_asked_with_json_and_basic_authentication():
    with scripted((201, '{"DOCUMENT": {"ID": "6", "NAME": "d"}}')) as server:
        document = client(server.url).flow("POST", "/service_template", {"name": "é"})
    assert document == {"DOCUMENT": {"ID": "6", "NAME": "d"}}
    method, path, body, headers = server.requests[0]
    assert (method, path, body) == ("POST", "/service_template", b'{"name": "\\u00e9"}')
    assert headers["Authorization"] == f"Basic {b64encode(f'oneadmin:{PASSWORD}'.encode()).decode()}"


def test_oneflow_by_default_is_beside_the_api():
    assert Client("https://one.example:2633/RPC2", "u", "p").oneflow_url == "https://one.example:2474"
    assert Client("http://[::1]:2633/RPC2", "u", "p").oneflow_url == "http://[::1]:2474"


@pytest.mark.parametrize(
    ("status", "text", "kind", "sentence"),
    [
        (401, "Invalid credentials", "authentication", "does not accept the password of user oneadmin"),
        (401, "[one.document.info] User [2] : Not authorized to perform USE DOCUMENT [8].", "authorization",
         "User [2] : Not authorized to perform USE DOCUMENT [8] (GET /service/8 at"),
        (404, "[one.document.info] Error getting document [9999].", "missing", "Error getting document [9999]"),
        (404, "<!DOCTYPE html><html></html>", "protocol", "it is not a OneFlow endpoint"),
        (500, "Service cannot be scaled in state: COOLDOWN", "wrong_state", "in state: COOLDOWN"),
        (500, "Can't scale service 6: Maximum cardinality is 4", "invalid", "Maximum cardinality is 4"),
        (400, "KEY: 'vm_template' is required;", "invalid", "'vm_template' is required"),
        (500, '{"message":"Internal server error","reason":"no implicit conversion\\n  at line 3"}', "invalid",
         "no implicit conversion (GET /service/8 at"),
        (200, "<html>", "protocol", "not JSON"),
        (503, "", "protocol", "HTTP status 503"),
    ],
)
def test_oneflow_errors_are_one_sentence_with_their_kind(status, text, kind, sentence):
    with scripted((status, text)) as server:
        error = error_of(client(server.url).flow, "GET", "/service/8")
    assert error.kind == kind
    assert sentence in error.message


def test_a_body_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(http, "_MOST_BYTES", 1 << 20)
    with scripted(success("x" * (2 << 20))) as server:
        error = error_of(client(server.url, timeout=60).call, "one.system.version")
    assert (error.kind, "answers with more than 1 MiB" in error.message) == ("protocol", True)


def test_a_packed_body_is_not_unpacked():
    packed = gzip.compress(b" " * (8 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with dripping(head + packed, pause=0) as url:
        assert error_of(client(url, timeout=60).call, "one.system.version").kind == "protocol"


def test_pages_without_end_are_refused(monkeypatch):
    monkeypatch.setattr("ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client._PAGE_SIZE", 2)
    monkeypatch.setattr("ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client._MOST_PAGES", 3)
    page = "<VM_POOL><VM><ID>{}</ID><NAME>a</NAME></VM><VM><ID>{}</ID><NAME>b</NAME></VM></VM_POOL>"
    with scripted(success(page.format(1, 2))) as server:
        assert "sent already" in error_of(client(server.url).pool, "one.vmpool.info", "VM", -1).message
    assert len(server.requests) == 2
    with scripted(*(success(page.format(number, number + 1)) for number in range(0, 20, 2))) as server:
        assert "more than 6 objects" in error_of(client(server.url).pool, "one.vmpool.info", "VM", -1).message
    assert len(server.requests) == 3


def test_the_words_of_a_server_stay_on_one_line_and_are_bounded():
    with scripted(failure(2048, "[one.image.delete] no\t\n\x85red\u202e" + "x" * 100_000)) as server:
        error = error_of(client(server.url).call, "one.image.delete", 3)
    assert "no\\t\\n\\x85red\\u202ex" in error.message and error.message.isprintable()
    assert len(error.message) < 2500


def test_the_document_of_another_object_is_no_answer():
    with scripted(success("<VDC><ID>4</ID><NAME>v</NAME><GROUPS/><CLUSTERS/><HOSTS/><DATASTORES/><VNETS/><TEMPLATE/></VDC>")) as server:
        assert client(server.url).call("one.vdc.info", 4)["NAME"] == "v"
        assert "for 3 with the object 4" in error_of(client(server.url).call, "one.vdc.info", 3).message


def test_a_download_has_a_deadline_for_all_of_it(tmp_path):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
    for answer, pause in ((head + b"x" * 60, 0.2), (head[:20] + b"x" * 600, 0.1)):
        with dripping(answer, pause=pause) as url, (tmp_path / "file").open("wb") as sink, pytest.raises(OneException) as caught:
            DownloadHttp(0.5).download(url, sink, headers={}, limit=60)
        assert caught.value.kind == "timeout"
