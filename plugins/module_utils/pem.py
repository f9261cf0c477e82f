# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of certificates and keys given as PEM text. They are skipped where `cryptography` is not installed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
except ImportError:
    x509 = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with which of the three TLS parameters."""

    parameter: str
    text: str


def check_certificate(pem: str) -> str | None:
    """Return what is wrong with a certificate or a chain of them, None when it can be used."""
    if x509 is None:
        return None
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return "does not hold a certificate, expected X.509 in PEM"
    now = datetime.datetime.now(datetime.UTC)
    for certificate in certificates:
        if certificate.not_valid_after_utc < now:
            return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}, expected a certificate that is still valid"
    return None


def check_key_pair(authority: str, certificate: str, key: str) -> Problem | None:
    """Return what is wrong between CA, server certificate (with intermediates after it) and key, None when they fit."""
    if x509 is None:
        return None
    chain = x509.load_pem_x509_certificates(certificate.encode())
    try:
        private_key = serialization.load_pem_private_key(key.encode(), password=None)
    except (TypeError, ValueError):
        return Problem("FL_SSL_KEYFILE", "is not a usable private key, expected one in PEM without a password")
    if _public_bytes(private_key.public_key()) != _public_bytes(chain[0].public_key()):
        return Problem("FL_SSL_KEYFILE", "does not belong to ONEAPP_FL_SSL_CERTFILE, expected its private key")
    issuers = x509.load_pem_x509_certificates(authority.encode())
    links = zip(chain, chain[1:], strict=False)
    if not all(_issued_by(*link) for link in links) or not any(_issued_by(chain[-1], ca) for ca in issuers):
        return Problem(
            "FL_SSL_CERTFILE", "is not signed by ONEAPP_FL_SSL_CA_CERTFILE, expected a chain that ends there"
        )
    return None


def _public_bytes(public_key) -> bytes:
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _issued_by(certificate, issuer) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return certificate == issuer
    return True
