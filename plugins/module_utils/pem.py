# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of certificates and keys given as PEM text. They are skipped where `cryptography` is not installed."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
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
_IN_ORDER = "expected the server's own first and its issuers after it"
_LONGEST_SHOWN = 200
_UNREADABLE = "does not hold a certificate, expected X.509 in PEM"
_CA, _CERTIFICATE, _KEY = "FL_SSL_CA_CERTFILE", "FL_SSL_CERTFILE", "FL_SSL_KEYFILE"


@dataclass(frozen=True)
class Problem:
    """What is wrong with which of the three TLS parameters."""

    parameter: str
    text: str


def check_certificates(pem: str) -> list[str]:
    """Return what is wrong with one certificate or several, nothing when they can be used."""
    if x509 is None:
        return []
    return _unusable(_load(pem))


def begin(pem: str) -> datetime.datetime | None:
    """Return when a certificate, or the last of several, begins to be valid; None for what is none."""
    return max((validity(certificate)[0] for certificate in (_load(pem) if x509 else [])), default=None)


def check_authority(pem: str) -> list[str]:
    """Return what is wrong with a CA certificate or a bundle of them, nothing when clients can trust it."""
    if x509 is None:
        return []
    certificates = _load(pem)
    return _unusable(certificates) or _unique(filter(None, map(_authority_problem, certificates)))


def check_server(authority: str, certificate: str, key: str) -> list[Problem]:
    """Return everything that is wrong with and between CA, server certificate (with intermediates after it) and key."""
    if x509 is None:
        return []
    problems = [Problem(_CA, text) for text in check_authority(authority)]
    chain, issuers = _load(certificate), _load(authority)
    unusable = _unusable(chain)
    problems += [Problem(_CERTIFICATE, text) for text in unusable]
    own, unusable_key = _public_part(key)
    if unusable_key:
        problems.append(Problem(_KEY, unusable_key))
    if not chain:
        return problems
    public = [_public_bytes(other) for other in chain]
    swapped = own is not None and own != public[0] and own in public[1:]
    if own is not None and public[0] is not None and own not in public:
        problems.append(Problem(_KEY, "does not belong to ONEAPP_FL_SSL_CERTFILE, expected its private key"))
    linked = bool(issuers) and _leads_to(chain, issuers)
    if swapped or (issuers and not linked and _leads_to(_in_order(chain), issuers)):
        return [*problems, Problem(_CERTIFICATE, f"has its certificates in another order, {_IN_ORDER}")]
    if issuers and not linked:
        problems.append(Problem(_CERTIFICATE, "is not signed by ONEAPP_FL_SSL_CA_CERTFILE, expected a chain that ends there"))
    if unusable:
        return problems
    intermediates = [other for other in chain[1:] if other not in issuers]
    found = [*_server_problems(chain[0]), *filter(None, map(_authority_problem, intermediates))]
    return problems + [Problem(_CERTIFICATE, text) for text in _unique(found)]


def check_pair(certificate: str, key: str) -> tuple[list[str], list[str]]:
    """Return what is wrong with a server certificate (with intermediates after it), and with its key, whoever vouches for it."""
    if x509 is None:
        return [], []
    chain = _load(certificate)
    unusable = _unusable(chain)
    own, unusable_key = _public_part(key)
    keys = [unusable_key] if unusable_key else []
    if chain and own is not None and own != _public_bytes(chain[0]):
        keys.append("does not belong to the certificate, expected its private key")
    return unusable or _server_problems(chain[0]), keys


def check_address(certificate: str, address: str) -> str | None:
    """Return what is wrong with a server certificate, which has passed ``check_server``, for clients that connect to an address or name."""
    if x509 is None:
        return None
    names = _extension(_load(certificate)[0], x509.SubjectAlternativeName)
    named, numbered = names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.IPAddress)
    try:
        valid = ipaddress.ip_address(address) in numbered
    except ValueError:
        wanted = address.lower().removesuffix(".")
        valid = any(wanted == name.lower() or (name.startswith("*.") and wanted.partition(".")[2] == name[2:].lower()) for name in named)
    if valid:
        return None
    return f"is for {_shown(', '.join([*named, *map(str, numbered)]))}, expected one that names {_shown(address)} too, which the nodes are told"


def _shown(text: str) -> str:
    """Return what a certificate or a context says, on one line and no more of it than people read."""
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def _load(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, x509.InvalidVersion):
        return []


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _unusable(certificates: Iterable[x509.Certificate]) -> list[str]:
    return _unique(filter(None, map(_certificate_problem, certificates))) if certificates else [_UNREADABLE]


def _certificate_problem(certificate: x509.Certificate) -> str | None:
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - controllers may have Python 3.10
    start, end = validity(certificate)
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


def _authority_problem(certificate: x509.Certificate) -> str | None:
    """Return why clients would not let a certificate vouch for others; Python 3.13 and newer ask for all of this."""
    constraints = _extension(certificate, x509.BasicConstraints, critical=True)
    usage = _extension(certificate, x509.KeyUsage)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        return "may not sign certificates, expected the basic constraint CA:TRUE, marked critical, and the key usage keyCertSign"
    if _extension(certificate, x509.SubjectKeyIdentifier) is None:
        return "has no subject key identifier, which Python 3.13 and newer ask of a CA"
    return None


def _server_problems(certificate: x509.Certificate) -> list[str]:
    """Return why clients would not take a certificate for a server's."""
    problems = []
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None or not (names.get_values_for_type(x509.DNSName) or names.get_values_for_type(x509.IPAddress)):
        problems.append("names no server, expected DNS names or IP addresses as subject alternative names")
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    oids = x509.ExtendedKeyUsageOID
    if purposes is not None and not {oids.SERVER_AUTH, oids.ANY_EXTENDED_KEY_USAGE} & set(purposes):
        problems.append("is not for servers, expected the extended key usage serverAuth")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        problems.append("may not sign, expected the key usage digitalSignature")
    if _extension(certificate, x509.AuthorityKeyIdentifier) is None and certificate.issuer != certificate.subject:
        problems.append("has no authority key identifier, which Python 3.13 and newer ask for")
    return problems


def _extension(certificate: x509.Certificate, kind: type, critical: bool = False) -> object:
    """Return the value of an extension, None when it is not there or, where it has to be, not marked critical."""
    try:
        found = certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
    return found.value if found.critical or not critical else None


def _is_weak(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < _LEAST_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name not in _CURVES
    return not isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey))


def validity(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    """Return from when until when a certificate is valid. cryptography before 42 has times without a time zone only."""
    times = []
    for name in ("not_valid_before", "not_valid_after"):
        found = getattr(certificate, f"{name}_utc", None)
        times.append(found or getattr(certificate, name).replace(tzinfo=datetime.timezone.utc))  # noqa: UP017
    return times[0], times[1]


def _public_part(key: str) -> tuple[bytes | None, str]:
    """Return what is public of a private key, or why there is none."""
    try:
        return _encoded(serialization.load_pem_private_key(key.encode(), password=None)), ""
    except UnsupportedAlgorithm:
        return None, f"is of a kind that TLS does not take, expected {_GOOD_KEYS}"
    except (TypeError, ValueError):
        return None, "is not a usable private key, expected one in PEM without a password"


def _public_bytes(certificate: x509.Certificate) -> bytes | None:
    try:
        return _encoded(certificate)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _encoded(holder: object) -> bytes:
    return holder.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


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
    return True
