# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP keys, of a key that GnuPG made."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.openpgp import fingerprints, normalized
from ansible_collections.opennebula.flower.tests.support.openpgp_test_key import FINGERPRINT, KEY


def test_the_fingerprint_is_the_one_that_gnupg_shows() -> None:
    assert fingerprints(KEY) == [FINGERPRINT]


def test_every_key_of_a_file_counts() -> None:
    assert fingerprints(KEY + KEY) == [FINGERPRINT, FINGERPRINT]


def test_headers_of_the_armour_are_no_part_of_the_key() -> None:
    assert fingerprints(KEY.replace("BLOCK-----\n\n", "BLOCK-----\nComment: mine\n\n", 1).replace("\n", "\r\n")) == [FINGERPRINT]


def armoured(packet: list[int]) -> str:
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{base64.b64encode(bytes(packet)).decode()}\n-----END PGP PUBLIC KEY BLOCK-----"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<html>Not found</html>", "holds no ASCII-armoured OpenPGP public key"),
        (KEY.replace("PUBLIC", "PRIVATE"), "holds no ASCII-armoured OpenPGP public key"),
        (KEY[: len(KEY) // 2] + "\n-----END PGP PUBLIC KEY BLOCK-----\n", "holds a damaged OpenPGP public key"),
        (armoured([0, 0, 0]), "holds a damaged OpenPGP public key"),
        (armoured([0xC6, 1, 6]), "holds an OpenPGP key of version 6"),
        (armoured([0xCD, 1, 65]), "holds no OpenPGP public key"),
    ],
)
def test_what_is_no_key_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fingerprints(text)


def test_a_fingerprint_may_be_written_in_groups() -> None:
    assert normalized("C95B 321B 61E8 8C18 09C4  F759 DDCA E044 F796 ECB0") == "C95B321B61E88C1809C4F759DDCAE044F796ECB0"


def test_a_short_key_id_is_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="'F796ECB0' is not a valid fingerprint"):
        normalized("F796ECB0")
