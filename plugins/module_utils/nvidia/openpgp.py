# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP public keys (RFC 4880), so that a key can be judged on machines without GnuPG."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

_ARMOR = re.compile(r"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*?\r?\n(.+?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
_PUBLIC_KEY = 6


def fingerprints(armored: str) -> list[str]:
    """Return the fingerprints of all primary keys in ASCII-armoured text, as 40 hexadecimal digits. Raises ValueError."""
    blocks = _ARMOR.findall(armored)
    if not blocks:
        raise ValueError("holds no ASCII-armoured OpenPGP public key")
    found = []
    for block in blocks:
        # The last line is a checksum.
        lines = [line.strip() for line in block.splitlines() if not line.startswith("=")]
        try:
            data = base64.b64decode("".join(lines), validate=True)
            found += [_fingerprint(body) for tag, body in _packets(data) if tag == _PUBLIC_KEY]
        except (binascii.Error, IndexError) as problem:
            raise ValueError("holds a damaged OpenPGP public key") from problem
    if not found:
        raise ValueError("holds no OpenPGP public key")
    return found


def normalized(fingerprint: str) -> str:
    """Return a fingerprint without spaces and colons, in capitals. Raises ValueError."""
    plain = re.sub(r"[\s:]", "", fingerprint).upper()
    if not re.fullmatch(r"[0-9A-F]{40}", plain):
        raise ValueError(f"'{fingerprint}' is not a valid fingerprint, expected 40 hexadecimal digits")
    return plain


def _fingerprint(body: bytes) -> str:
    if body[0] != 4:
        raise ValueError(f"holds an OpenPGP key of version {body[0]}, only version 4 is known")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        header = data[position]
        position += 1
        if not header & 0x80:
            raise ValueError("holds a damaged OpenPGP public key")
        if header & 0x40:
            tag = header & 0x3F
            length, position = _new_length(data, position)
        else:
            tag = (header >> 2) & 0x0F
            size = 1 << (header & 0x03)
            if size == 8:
                raise ValueError("holds an OpenPGP packet without a length")
            length, position = int.from_bytes(data[position : position + size], "big"), position + size
        if position + length > len(data):
            raise ValueError("holds a damaged OpenPGP public key")
        yield tag, data[position : position + length]
        position += length


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """Return a length in the newer format and the position behind it."""
    first = data[position]
    if first < 192:
        return first, position + 1
    if first < 224:
        return ((first - 192) << 8) + data[position + 1] + 192, position + 2
    if first == 255:
        return int.from_bytes(data[position + 1 : position + 5], "big"), position + 5
    raise ValueError("holds an OpenPGP packet without a length")
