# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP keys, of a key that GnuPG made."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.openpgp import fingerprints, normalized

# As gpg --export --armor wrote it, and the fingerprint that gpg --list-keys shows.
FINGERPRINT = "F9CB05FB63B0DBCA6FDD1AD7B3CBF67DF4517693"
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mQENBGsHi6cBCACm8PaWWulij5BU1vK0KIoIE65UJKr+DYZQzTX7I2RKGvQokQe4
4EyfLcMR3lwnJRIU03VvroLh2QOOl5dz29qPmkBaGpQzQ1+JcyRr11jPGWDAvT4e
fiBcaXyQmsvcFeq5dSA4IUmnHW1BTELAyjDYPCgz1SN8eiv3tKjkZ6GB35Qzrv7D
IPjWcjR7IKhOZgHcwi3NNj7e93MiN+j/IZ8oIDoTShbFMLG9Mdlx1xwQ/HiceEA/
wL0e+bvwqdUCXvHpINWo3Z0pullxmP4y4KQXVehxaF3jy2wZXwrC5rOYYTNUm+pR
3DU+mAw67XCM0WdpTS0wxTdnRD96SxZnbuxFABEBAAG0BHRlc3SJAU4EEwEKADgW
IQT5ywX7Y7Dbym/dGtezy/Z99FF2kwUCaweLpwIbAwULCQgHAgYVCgkICwIEFgID
AQIeAQIXgAAKCRCzy/Z99FF2k6niB/944zQNqNevi7ObgUnpmg6VZ16Ndj9y+dCe
Z9EeMQgdIB2v98im7Ge2Pmlbv99fD91e0NBq7nqOkfqM4jc5bIN15GTWjtVVwSYG
UebbMvf+lzebAMvLR0q7Xq+WWZ8/684qF1zCiCRqxiuluwv5kKEPKglkckk1E3if
5bq7yw5ex9WLBwIPGFF1lFzbf5MeQPq7rGcrFF8PEW1EZ3WkVq7uAS4cqzq4i0jK
rTrtkXpdamE1bdoGKRNiTGmv722rOSLMug7QQDYTllXiduGbfmbYjG2E5QJrMoDR
Iu/lGD0Vhs8sAZp20PI7dF1Rw6J02FT7ByxyiO6rHnrkZvxKToNg
=47dn
-----END PGP PUBLIC KEY BLOCK-----
"""


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
    with pytest.raises(ValueError, match="'F796ECB0' is no fingerprint"):
        normalized("F796ECB0")
