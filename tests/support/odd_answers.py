# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A server between a module and a zone that turns one of the zone's answers into something odd, and the odd things."""

from __future__ import annotations

import json
import random
import xmlrpc.client
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from xml.etree import ElementTree

import requests

from ansible_collections.opennebula.flower.tests.support.one_zone import READS

# More than Python calls itself; its reader of JSON takes more.
DEEP, DEEP_JSON = 2_000, 30_000
NO_NUMBERS = ("", "-1", "abc", "1_0", "9" * 5000, "\u0663")


def _nested(levels: int) -> str:
    """A VM as OneGate shows it whose owner wrote brackets into it."""
    return '{"VM": {"ID": "1", "NAME": "x", "USER_TEMPLATE": ' + '{"A": ' * levels + "1" + "}" * levels + "}}"


class Answer(NamedTuple):
    """An answer of a zone: what was asked, as a call or as method and path, and the body."""

    asked: str
    status: int
    body: bytes

    @property
    def is_call(self) -> bool:
        return self.asked.startswith("one.")


class OddServer(ThreadingHTTPServer):
    """Passes reads on to a server and remembers its answers; one answer, given by its number, is spoilt.

    Writes are not passed on: they are answered with what spoils them, or with id 1.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.answers: list[Answer] = []
        self.spoil: Callable[[Answer], bytes | tuple[int, bytes]] | None = None
        self.place = 0
        self._known: dict[tuple[str, str, bytes], Answer] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spoilt(self, place: int = 0, spoil: Callable[[Answer], bytes | tuple[int, bytes]] | None = None) -> None:
        """Spoil the answer of this number from now on, counted from 0."""
        self.answers.clear()
        self.place, self.spoil = place, spoil

    def answer(self, method: str, path: str, body: bytes, headers: dict) -> tuple[int, bytes]:
        asked = xmlrpc.client.loads(body)[1] if path == "/RPC2" else f"{method} {path}"
        if READS.search(asked):
            key = (method, path, body)
            if key not in self._known:
                answer = requests.request(method, self.target + path, data=body, headers=headers, timeout=60)
                self._known[key] = Answer(asked, answer.status_code, answer.content)
            found = self._known[key]
        else:
            found = Answer(asked, 200, called([True, 1, 0]) if path == "/RPC2" else b"")
        number = len(self.answers)
        self.answers.append(found)
        if self.spoil and number == self.place:
            odd = self.spoil(found)
            return odd if isinstance(odd, tuple) else (200, odd)
        return found.status, found.body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        status, content = self.server.answer(self.command, self.path, body, headers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _pass_on

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""


def called(value: object) -> bytes:
    """An answer of XML-RPC."""
    return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode("utf-8", "surrogatepass")


def odd_calls(answer: Answer) -> Iterator[tuple[str, bytes | tuple[int, bytes]]]:
    """What oned never answers to this call, by name."""
    yield "nothing", b""
    yield "half of it", answer.body[: len(answer.body) // 2]
    yield "HTML", b"<html><body>It works!</body></html>"
    yield "bytes that are no UTF-8", b"\xff\xfe\x00" * 50
    yield "a status", (503, b"busy\r\n\x1b[31mred")
    nested = "<value><array><data>" * DEEP + "</data></array></value>" * DEEP
    yield "nested arrays", f"<methodResponse><params><param>{nested}</param></params></methodResponse>".encode()
    values = (
        [], [True], [1, "x", 0], ["true", "x", 0], {}, "text", 7, [False], [False, {}, 0], [False, "x", "y"], [False, 5, 1024],
        [True, {}, 0], [True, {"IMAGE": 1}, 0], [True, [], 0], [True, True, 0], [True, 1.5, 0], [True, None, 0], [True, "", 0],
        [True, "text", 0], [True, -1, 0], [True, "<", 0], [True, "<A/>", 0], [True, "<VM_POOL>text</VM_POOL>", 0],
        [True, "<A>" * DEEP + "</A>" * DEEP, 0], [True, "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", 0],
    )
    for value in values:
        yield f"the value {str(value)[:40]}", called(value)
    document = xmlrpc.client.loads(answer.body)[0][0][1]
    if not isinstance(document, str) or not document.startswith("<"):
        return
    yield "a number", called([True, 5, 0])
    yield "another root", called([True, document.replace(document[1:document.index(">")], "X_POOL"), 0])
    root = ElementTree.fromstring(document)
    for place in (root, *root[:1]):
        if place.find("ID") is None:
            continue
        kept = place.find("ID").text
        for text in NO_NUMBERS:
            place.find("ID").text = text
            yield f"the id {text[:10]!r}", called([True, ElementTree.tostring(root, "unicode"), 0])
        place.find("ID").text = kept
        for name in ("ID", "NAME"):
            gone = place.find(name)
            if gone is not None:
                place.remove(gone)
                yield f"no {name}", called([True, ElementTree.tostring(root, "unicode"), 0])
                place.append(gone)


def odd_documents(answer: Answer) -> Iterator[tuple[str, bytes | tuple[int, bytes]]]:
    """What OneFlow and OneGate never answer to this request, by name."""
    texts = (
        "", "{", "[]", "{}", "null", "5", '"x"', "NaN", "[" * DEEP_JSON, '{"a":' * DEEP_JSON, "9" * 5000, '{"DOCUMENT": null}',
        '{"DOCUMENT": {}}', '{"DOCUMENT": {"ID": "abc", "NAME": "x"}}', '{"DOCUMENT": {"ID": "1"}}', '{"DOCUMENT": [1]}',
        '{"DOCUMENT_POOL": []}', '{"DOCUMENT_POOL": null}', '{"DOCUMENT_POOL": {"DOCUMENT": 5}}',
        '{"DOCUMENT_POOL": {"DOCUMENT": [null, {}]}}', '{"VM": null}', '{"VM": []}', '{"VM": {"ID": "1"}}',
        '{"VM": {"USER_TEMPLATE": {}}}', '{"SERVICE": 5}', '{"SERVICE": {}}', '{"SERVICE": {"roles": 5}}',
        '{"SERVICE": {"roles": [{}]}}', *(_nested(levels) for levels in (100, 600, 900)),
    )
    for text in texts:
        yield f"the text {text[:40]}", text.encode()
    yield "half of it", answer.body[: len(answer.body) // 2]
    yield "bytes that are no UTF-8", b"\xff\xfe\x00" * 50
    yield "a status", (502, b"<h1>Bad\r\n\x1b[31mGateway</h1>")


def broken(answer: Answer, chance: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """The answer with one thing in it gone, repeated or of another kind, by name."""
    if not answer.is_call:
        for _number in range(count):
            document = json.loads(answer.body)
            what = _break_json(document, chance)
            yield what, json.dumps(document).encode()
        return
    text = xmlrpc.client.loads(answer.body)[0][0][1]
    if not isinstance(text, str) or not text.startswith("<"):
        return
    for _number in range(count):
        root = ElementTree.fromstring(text)
        what = _break_xml(root, chance)
        yield what, called([True, ElementTree.tostring(root, "unicode"), 0])


def _break_xml(root: ElementTree.Element, chance: random.Random) -> str:
    places = [(parent, child) for parent in root.iter() for child in parent]
    if not places:
        root.text = "text"
        return "text in the root"
    parent, child = chance.choice(places)
    how = chance.choice(("gone", "twice", "text", "number", "nested", "empty"))
    if how == "gone":
        parent.remove(child)
    elif how == "twice":
        parent.append(child)
    else:
        child.clear()
        if how == "nested":
            ElementTree.SubElement(ElementTree.SubElement(child, "A"), "B").text = "c"
        else:
            child.text = {"text": "none\n\x85", "number": "9" * 30, "empty": None}[how]
    return f"{child.tag} in {parent.tag} {how}"


def _break_json(document: object, chance: random.Random) -> str:
    places: list[tuple[object, object]] = []

    def walk(value: object) -> None:
        keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(document)
    parent, key = chance.choice(places)
    odd = chance.choice((None, 5, "none", [], {}, [1], "9" * 30, -1, {"A": {"B": "c"}}, "gone"))
    if odd == "gone":
        del parent[key]
    else:
        parent[key] = odd
    return f"{key} is {odd!r}"
