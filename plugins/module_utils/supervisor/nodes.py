# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SuperNodes that a SuperLink knows, through the three methods of Flower's Control API that are about them.

Flower's command line needs more than a second of a core for each key and does not list keys at all; a registrar asks every few
seconds. The messages are Protocol Buffers with five fields of interest, of the two kinds of the wire format that are read and written here:
no reason for a runtime and generated code on each platform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..one.transport.errors import OneException
from ..one.transport.http import Http
from .untrusted import decode_json, sentence

UNREGISTERED = "unregistered"
INVALID_KEY = 22
KEY_IN_USE = 23
UNKNOWN_NODE = 24

_MEDIA_TYPE = "application/protobuf"
_ERROR_BYTES = 64 << 10
_TIMEOUT = 30
_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
# Field numbers of RegisterNodeRequest, RegisterNodeResponse, UnregisterNodeRequest, ListNodesResponse and NodeInfo.
_REQUEST_KEY, _REQUEST_NAME = 1, 3
_NODE_ID, _NODES = 1, 1
_INFO_ID, _INFO_STATUS, _INFO_KEY, _INFO_NAME = 1, 4, 11, 13


class NodesError(Exception):
    """Flower refused, failed or did not answer; the message says why. ``code`` is Flower's number of the reason, 0 without one."""

    def __init__(self, message: str, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class Node:
    """A SuperNode as Flower keeps it; ``status`` is registered, online, offline or unregistered."""

    node_id: int
    status: str
    pem: str
    name: str


class Nodes:
    """The SuperNodes of the SuperLink at ``url``, whose certificate the one in ``ca_file`` signed. All calls raise NodesError."""

    def __init__(self, url: str, ca_file: str) -> None:
        self._url = url.rstrip("/")
        self._http = Http(_TIMEOUT, ca_path=ca_file)

    def listed(self) -> list[Node]:
        """Return all nodes, those that were unregistered as well."""
        answer = self._call("list-nodes", b"")
        return [_node(value) for number, value in fields(answer) if number == _NODES and isinstance(value, bytes)]

    def register(self, pem: str, name: str) -> int:
        """Register a public key under a name; return the node's number."""
        answer = self._call("register-node", field(_REQUEST_KEY, pem.encode()) + field(_REQUEST_NAME, name.encode()))
        numbers = [value for number, value in fields(answer) if number == _NODE_ID and isinstance(value, int)]
        # Flower says success and no number when it could not keep the node.
        if not numbers or not numbers[0]:
            raise NodesError("Flower did not say which node it registered")
        return numbers[0]

    def unregister(self, node_id: int) -> None:
        """Take a node out; its connection ends, and its key is never accepted again."""
        self._call("unregister-node", field(_NODE_ID, node_id))

    def _call(self, method: str, message: bytes) -> bytes:
        headers = {"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE}
        try:
            status, content = self._http.send("POST", f"{self._url}/v1/control/{method}", message, headers=headers)
        except OneException as problem:
            raise NodesError(problem.message) from None
        if status == 200:
            return content
        try:
            reason = decode_json(content, _ERROR_BYTES)
        except ValueError:
            reason = None
        reason = reason if isinstance(reason, dict) else {}
        code = reason.get("code")
        raise NodesError(
            f"Flower refused {method} with status {status}: {sentence(reason.get('detail') or 'no reason given')}",
            code if isinstance(code, int) else 0,
        )


def _node(content: bytes) -> Node:
    found = dict(fields(content))
    number = found.get(_INFO_ID)
    texts = (found.get(item) for item in (_INFO_STATUS, _INFO_KEY, _INFO_NAME))
    status, pem, name = (value.decode(errors="replace") if isinstance(value, bytes) else "" for value in texts)
    return Node(number if isinstance(number, int) else 0, status, pem, name)


def field(number: int, value: int | bytes) -> bytes:
    """Return a field of a message."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message, by number; raise NodesError when it is none."""
    position = 0
    while position < len(content):
        tag, position = _read_varint(content, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _read_varint(content, position)
            yield tag >> 3, value
            continue
        length = {_I64: 8, _I32: 4}.get(kind)
        if kind == _BYTES:
            length, position = _read_varint(content, position)
        if length is None or length > len(content) - position:
            raise NodesError("Flower answered with something else than Protocol Buffers")
        yield tag >> 3, content[position : position + length]
        position += length


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for digit in range(_LONGEST_VARINT):
        if position + digit >= len(content):
            break
        byte = content[position + digit]
        value |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            return value, position + digit + 1
    raise NodesError("Flower answered with something else than Protocol Buffers")
