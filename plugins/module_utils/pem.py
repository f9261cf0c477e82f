# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of certificates and keys given as PEM text. They are skipped where `cryptography` is not installed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
except ImportError:
    x509 = None

# What OpenSSL takes at the security level of current distributions, and what Python's and Go's TLS know as well.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_LEAST_RSA_BITS = 2048
_BROKEN_HASHES = ("md5", "sha1")
_GOOD_KEYS = f"RSA of {_LEAST_RSA_BITS} bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519"
# The clock of a VM that has just booted may be behind.
_CLOCK_TOLERANCE = datetime.timedelta(minutes=5)


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
    return next((problem for problem in map(_certificate_problem, certificates) if problem), None)


def check_key_pair(authority: str, certificate: str, key: str) -> Problem | None:
    """Return what is wrong between CA, server certificate (with intermediates after it) and key, None when they fit.

    CA and certificate have passed ``check_certificate``.
    """
    if x509 is None:
        return None
    chain = x509.load_pem_x509_certificates(certificate.encode())
    try:
        private_key = serialization.load_pem_private_key(key.encode(), password=None)
    except UnsupportedAlgorithm:
        return Problem("FL_SSL_KEYFILE", f"is of a kind that TLS does not take, expected {_GOOD_KEYS}")
    except (TypeError, ValueError):
        return Problem("FL_SSL_KEYFILE", "is not a usable private key, expected one in PEM without a password")
    own = _public_bytes(private_key.public_key())
    if own != _public_bytes(chain[0].public_key()):
        if any(own == _public_bytes(other.public_key()) for other in chain[1:]):
            return Problem("FL_SSL_CERTFILE", "has its certificates in another order, expected the server's own first and its issuers after it")
        return Problem("FL_SSL_KEYFILE", "does not belong to ONEAPP_FL_SSL_CERTFILE, expected its private key")
    issuers = x509.load_pem_x509_certificates(authority.encode())
    if not _leads_to(chain, issuers):
        if _leads_to(_in_order(chain), issuers):
            return Problem("FL_SSL_CERTFILE", "has its certificates in another order, expected the server's own first and its issuers after it")
        return Problem(
            "FL_SSL_CERTFILE", "is not signed by ONEAPP_FL_SSL_CA_CERTFILE, expected a chain that ends there"
        )
    problem = _server_problem(chain[0])
    return Problem("FL_SSL_CERTFILE", problem) if problem else None


def _certificate_problem(certificate: x509.Certificate) -> str | None:
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - controllers may have Python 3.10
    end, start = (_utc(certificate, name) for name in ("not_valid_after", "not_valid_before"))
    if end < now:
        return f"expired on {end:%Y-%m-%d}, expected a certificate that is still valid"
    if start > now + _CLOCK_TOLERANCE:
        return f"is not valid before {start:%Y-%m-%d %H:%M} UTC, expected a certificate that is valid already"
    try:
        weak = _is_weak(certificate.public_key())
        broken = certificate.signature_hash_algorithm
        certificate.extensions  # noqa: B018 - reads them
    except UnsupportedAlgorithm:
        weak, broken = True, None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return "has a part that cannot be read, expected X.509 in PEM"
    if weak:
        return f"has a key of a kind that TLS does not take, expected {_GOOD_KEYS}"
    if broken is not None and broken.name in _BROKEN_HASHES and certificate.issuer != certificate.subject:
        return f"is signed with {broken.name.upper()}, which TLS does not take any more, expected SHA-256 or better"
    return None


def _server_problem(certificate: x509.Certificate) -> str | None:
    """Return why no client would take a certificate for a server's."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None or not (names.get_values_for_type(x509.DNSName) or names.get_values_for_type(x509.IPAddress)):
        return "names no server, expected DNS names or IP addresses as subject alternative names"
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    oids = x509.ExtendedKeyUsageOID
    if purposes is not None and not {oids.SERVER_AUTH, oids.ANY_EXTENDED_KEY_USAGE} & set(purposes):
        return "is not for servers, expected the extended key usage serverAuth"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "may not sign, expected the key usage digitalSignature"
    return None


def _extension(certificate: x509.Certificate, kind: type) -> object:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _is_weak(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < _LEAST_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name not in _CURVES
    return not isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey))


def _utc(certificate: x509.Certificate, name: str) -> datetime.datetime:
    """Return a time of a certificate. cryptography before 42 has them without a time zone only."""
    found = getattr(certificate, f"{name}_utc", None)
    return found or getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)  # noqa: UP017


def _public_bytes(public_key) -> bytes:
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _leads_to(chain: Sequence[x509.Certificate], issuers: Sequence[x509.Certificate]) -> bool:
    links = zip(chain, chain[1:], strict=False)
    return all(_issued_by(*link) for link in links) and any(_issued_by(chain[-1], issuer) for issuer in issuers)


def _in_order(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return a chain with each certificate's issuer after it, as far as there is one."""
    ordered, rest = [chain[0]], list(chain[1:])
    while True:
        issuer = next((other for other in rest if _issued_by(ordered[-1], other)), None)
        if issuer is None:
            return ordered
        ordered.append(issuer)
        rest.remove(issuer)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return certificate == issuer
    constraints = _extension(issuer, x509.BasicConstraints)
    return certificate == issuer or constraints is None or constraints.ca
