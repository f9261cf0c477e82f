# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys by which SuperNodes authenticate themselves: as OpenSSH writes them on one line, and as Flower keeps them.

Only P-384 is taken, which is what SuperNodes of this collection make. A line of that kind has one length and one beginning, so
nothing is left for a parser to go wrong on. Whether the point lies on the curve Flower says when a key is registered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

TYPE = "ecdsa-sha2-nistp384"
EXPECTED = f"an OpenSSH public key of type {TYPE}, with a name after it if wanted"
# A context may have spaces around, and a person's key a long comment.
LONGEST_LINE = 512

_POINT_BYTES = 97
_UNCOMPRESSED = b"\x04"
# SubjectPublicKeyInfo of an uncompressed point on P-384 (RFC 5480), up to the point.
_DER_HEAD = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")
_COLUMNS = 64
_LINE = re.compile(rf"{TYPE} +([A-Za-z0-9+/]{{181,184}}={{0,2}})(?: +([A-Za-z0-9][A-Za-z0-9._:@/-]{{0,63}}))?")


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


_BLOB_HEAD = _string(TYPE.encode()) + _string(b"nistp384") + _POINT_BYTES.to_bytes(4, "big")


@dataclass(frozen=True)
class NodeKey:
    """A public key. ``line`` is its one form as text, without a name; ``pem`` is what Flower compares; ``name`` may be empty."""

    line: str
    pem: str
    fingerprint: str
    name: str = ""


def read_key(text: str) -> NodeKey:
    """Return the key in a line; ValueError, in a few words, when there is none."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"it has more than {LONGEST_LINE} characters")
    match = _LINE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"it is not {EXPECTED}")
    encoded, name = match.groups()
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("its base64 is damaged") from None
    point = blob.removeprefix(_BLOB_HEAD)
    if len(blob) != len(_BLOB_HEAD) + _POINT_BYTES or len(point) != _POINT_BYTES or not point.startswith(_UNCOMPRESSED):
        raise ValueError("it does not hold a point on P-384")
    if base64.b64encode(blob).decode() != encoded:
        raise ValueError("its base64 is not in its one form")
    return NodeKey(f"{TYPE} {encoded}", _pem(point), _fingerprint(blob), name or "")


def _pem(point: bytes) -> str:
    text = base64.b64encode(_DER_HEAD + point).decode()
    lines = [text[start : start + _COLUMNS] for start in range(0, len(text), _COLUMNS)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def _fingerprint(blob: bytes) -> str:
    """Return the fingerprint as ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
