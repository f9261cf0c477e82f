# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OneGate's client against a real local server: what is sent, and which values survive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate, check, decode, encode
from ansible_collections.opennebula.flower.tests.support.one_servers import dripping, hanging, scripted

TOKEN = "the+token=="


def gate(url: str, **options: object) -> OneGate:
    return OneGate(url, 2, TOKEN, **options)


def test_a_vm_is_read_with_its_token():
    with scripted((200, '{"VM":{"ID":"2","USER_TEMPLATE":{}}}')) as server:
        assert gate(server.url).get_vm() == {"ID": "2", "USER_TEMPLATE": {}}
    method, path, _body, headers = server.requests[0]
    assert (method, path) == ("GET", "/vm")
    assert {name.upper(): value for name, value in headers.items()}.items() >= {
        "X-ONEGATE-VMID": "2", "X-ONEGATE-TOKEN": TOKEN,
    }.items()


def test_another_vm_than_the_one_asked_for_is_refused():
    with scripted((200, '{"VM":{"ID":"3","USER_TEMPLATE":{}}}')) as server, pytest.raises(OneException, match="VM 3 instead of 5") as found:
        gate(server.url).get_vm(5)
    assert found.value.kind == "protocol"


@pytest.mark.parametrize("body", ["<html><body>Sign in</body></html>", "{}", '{"error": "attribute not found"}', "OK"])
def test_a_write_that_is_answered_with_text_is_not_done(body):
    with scripted((200, body)) as server:
        for write in (lambda: gate(server.url).put({"READY": "YES"}), lambda: gate(server.url).delete(["READY"])):
            with pytest.raises(OneException, match="where OneGate says nothing") as found:
                write()
            assert found.value.kind == "protocol"


def test_a_service_is_read_with_the_attributes_of_its_vms():
    with scripted((200, '{"SERVICE":{"id":"6","roles":[]}}')) as server:
        assert gate(server.url).get_service() == {"id": "6", "roles": []}
    assert server.requests[0][1] == "/service?extended=true"


@pytest.mark.parametrize("mebibytes", [15, 17])
def test_an_answer_is_as_long_as_a_service_can_be(mebibytes):
    attribute = "x" * (mebibytes << 20)
    with scripted((200, f'{{"SERVICE":{{"id":"6","roles":[],"x":"{attribute}"}}}}')) as server:
        if mebibytes < 16:
            assert gate(server.url, timeout=600).get_service()["x"] == attribute
        else:
            with pytest.raises(OneException, match="answers with more than 16 MiB"):
                gate(server.url, timeout=600).get_service()


def test_attributes_are_put_as_lines_and_removed_one_by_one():
    with scripted((200, "")) as server:
        gate(server.url).put({"READY": "YES", "NOTE": "a b=c"})
        gate(server.url).delete(["note", "READY"])
        gate(server.url).put({})
    assert [(path, body) for _method, path, body, _headers in server.requests] == [
        ("/vm", b"READY=YES\nNOTE=a b=c"), ("/vm?type=2", b"NOTE"), ("/vm?type=2", b"READY"),
    ]


@pytest.mark.parametrize("value", ["1,2", 'say "x"', "a[0]", "a]b", "a\nb", "C:\\x", "", " x", "x ", "it's"])
def test_a_value_that_onegate_would_change_is_refused_before_sending(value):
    with scripted((200, "")) as server, pytest.raises(OneException) as caught:
        gate(server.url).put({"A": value})
    assert server.requests == []
    assert caught.value.kind == "invalid"
    assert "The value of A cannot be published" in caught.value.message


def test_a_name_of_other_characters_is_refused():
    with pytest.raises(OneException):
        check("A=1\nREADY", "YES")


@pytest.mark.parametrize("name", ["XML", "xmlns", "XMLRPC_URL"])
def test_a_name_that_opennebula_would_change_is_refused(name):
    with pytest.raises(OneException, match="OpenNebula renames what begins with XML"):
        check(name, "YES")


@given(st.text())
def test_any_text_can_be_encoded_into_a_value_that_survives(text):
    encoded = encode(text)
    assert decode(encoded) == text
    if text:
        check("A", encoded)


def test_what_is_not_encoded_is_refused():
    with pytest.raises(OneException):
        decode("not base64!")


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [(401, "Not authorized", "authentication"), (403, "Attribute (X) cannot be modified", "authorization"),
     (404, "gone", "missing"), (400, "VM not in a service", "invalid"), (500, "Internal server error", "protocol"),
     (200, "<html>", "protocol"), (200, "[]", "protocol")],
)
def test_errors_are_one_sentence_without_the_token(status, text, kind):
    with scripted((status, text)) as server, pytest.raises(OneException) as caught:
        gate(server.url).get_service()
    assert caught.value.kind == kind
    assert TOKEN not in caught.value.message
    assert server.url in caught.value.message


def test_reads_are_repeated_after_a_connection_fault_and_writes_are_not():
    with scripted(None, (200, '{"VM":{"ID":"2","USER_TEMPLATE":{}}}')) as server:
        assert gate(server.url).get_vm() == {"ID": "2", "USER_TEMPLATE": {}}
    with scripted(None, (200, "")) as server, pytest.raises(OneException) as caught:
        gate(server.url).put({"READY": "YES"})
    assert (caught.value.kind, len(server.requests)) == ("network", 1)


def test_a_hanging_onegate_ends_at_the_timeout():
    with hanging() as url, pytest.raises(OneException) as caught:
        gate(url, timeout=0.3).get_vm()
    assert caught.value.kind == "timeout"


def test_a_onegate_that_drips_bytes_ends_at_the_timeout_too():
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000) as url, pytest.raises(OneException) as caught:
        gate(url, timeout=0.3).get_vm()
    assert caught.value.kind == "timeout"
