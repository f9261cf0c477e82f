# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and renews the certificates of a SuperLink's gateway, on its machine: the role runs it, and a timer.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.certificates --config FILE [--check | --reload]``

Answers with one line of JSON: what was done (``made``), and until when the server's certificate is valid (``not_after``). With ``--reload``,
which is how the timer runs it, that goes to the log of the unit instead.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import fcntl
import ipaddress
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:
    x509 = None

from ..one.transport.errors import OneException
from ..onegate.context_files import ContextMissing
from ..pem import validity
from . import unit_log
from .exposition import render
from .metric_table import metric
from .state_file import write

LOGGER = logging.getLogger(__name__)

# The clock of a machine that makes a certificate may be ahead of those that check it, by a day at worst.
_BACKDATED = datetime.timedelta(days=2)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# A gateway that does not run takes what is there when it starts.
_RELOAD = ["systemctl", "try-reload-or-restart", "haproxy.service"]
_ORGANIZATION = "Flower FL"
_OTHER_CA = "sign with another CA (flower_ca_number) and give it to the nodes (flower_ssl_ca_certfile)"


class CertificateError(Exception):
    """Nothing can be made; the text says why and what to do."""


@dataclass(frozen=True)
class Config:
    """The settings, as in the JSON file.

    ``names`` are those of the server's certificate, as IP:ADDRESS and DNS:NAME. CAs have numbers: ``signs`` is the one that signs,
    ``trusted`` are those in the bundle for the nodes. Another ``renewal`` than at the last time renews at once. Without ``generated``
    the certificates are the operator's: nothing is made, but their end is told.
    """

    directory: str
    authorities: str
    host_name: str
    names: list[str]
    days: int
    ca_days: int
    signs: int = 1
    trusted: list[int] = field(default_factory=lambda: [1])
    renewal: int = 0
    generated: bool = True
    metrics_file: str = ""
    onegate: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a settings file, or standard input for ``-``; ValueError names unknown and missing keys."""
        content = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))
        # Templates of older releases of Ansible make texts of numbers.
        content |= {name: int(content[name]) for name in ("days", "ca_days", "signs", "renewal") if name in content}
        try:
            return cls(**content)
        except TypeError as problem:
            raise ValueError(f"{path}: {problem}") from None


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate, and its key, which one that does not sign can do without."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None


class Keeper:
    """Keeps the certificates as the settings want them. ``made`` says what was made, or would be when ``check`` is set."""

    def __init__(self, config: Config, check: bool = False, now: datetime.datetime | None = None) -> None:
        self._config = config
        self._check = check
        self._now = now or datetime.datetime.now(datetime.timezone.utc)
        self._directory = Path(config.directory)
        self._authorities = Path(config.authorities)
        self.made: list[str] = []

    @property
    def bundle(self) -> str:
        """The CAs that nodes trust."""
        return (self._directory / "ca.crt").read_text(encoding="ascii")

    def ends(self) -> dict[str, datetime.datetime]:
        """Return until when the server's certificate and the CAs in the bundle are valid, as far as they are there."""
        found = {"server": _certificates(self._directory / "server.pem")[:1], "ca": _certificates(self._directory / "ca.crt")}
        return {name: min(validity(certificate)[1] for certificate in certificates) for name, certificates in found.items() if certificates}

    def ensure(self) -> None:
        """Make what is missing, and renew what is due. Raises CertificateError."""
        config = self._config
        authorities = {number: self._authority(number) for number in sorted({config.signs, *config.trusted})}
        if None in authorities.values():
            # A dry run before the first one has no CA to ask further questions about.
            self.made += ["bundle", "server certificate"]
            return
        bundle = "".join(_pem(authorities[number].certificate) for number in config.trusted)
        if _text(self._directory / "ca.crt") != bundle:
            self._write(self._directory / "ca.crt", bundle, 0o644, "bundle")
        signer = authorities[config.signs]
        self._check_clock(signer.certificate)
        if self._due(signer.certificate):
            self._issue(signer)
        if _text(self._authorities / "renewal").strip() != str(config.renewal):
            self._write(self._authorities / "renewal", f"{config.renewal}\n", 0o600, "")

    def _authority(self, number: int) -> Authority | None:
        key_file, certificate_file = (self._authorities / f"{number}.{suffix}" for suffix in ("key", "crt"))
        certificates = _certificates(certificate_file)
        if certificates and number != self._config.signs:
            return Authority(certificates[0], None)
        if certificates and not key_file.exists():
            raise CertificateError(f"the key of CA {number} is lost; restore {key_file}, or {_OTHER_CA}")
        try:
            key = _key(key_file) if key_file.exists() else None
        except ValueError:
            raise CertificateError(f"{key_file} holds no usable key; restore it, or {_OTHER_CA}") from None
        if certificates:
            if _public(key) != _public(certificates[0]):
                raise CertificateError(f"{key_file} is not the key of {certificate_file}; restore it, or {_OTHER_CA}")
            return Authority(certificates[0], key)
        if self._check:
            self.made.append(f"CA {number}")
            return None
        if key is None:
            # First, so that an interrupted run leaves no certificate without its key.
            key = ec.generate_private_key(ec.SECP256R1())
            self._write(key_file, _pem_key(key), 0o600, "")
        # One for a key that lost its certificate is accepted by whoever trusts that.
        authority = Authority(self._certify_authority(number, key), key)
        self._write(certificate_file, _pem(authority.certificate), 0o644, f"CA {number}")
        return authority

    def _certify_authority(self, number: int, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        name = _name(f"Flower CA {number} of {self._config.host_name}")
        return (
            _builder(name, name, key, self._now - _BACKDATED, self._now + datetime.timedelta(days=self._config.ca_days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )

    def _check_clock(self, authority: x509.Certificate) -> None:
        start, end = validity(authority)
        number, clock = self._config.signs, f"the clock of this machine says {self._now:%Y-%m-%d %H:%M} UTC"
        if start > self._now:
            raise CertificateError(f"CA {number} is not valid before {start:%Y-%m-%d %H:%M} UTC, and {clock}; set the clock")
        if end <= self._now:
            raise CertificateError(f"CA {number} expired on {end:%Y-%m-%d}, and {clock}; set the clock, or {_OTHER_CA}")

    def _due(self, authority: x509.Certificate) -> bool:
        """Say whether the server needs another certificate."""
        file = self._directory / "server.pem"
        present = _certificates(file)
        if not present or not _signed_by(present[0], authority):
            return True
        try:
            if _public(_key(file)) != _public(present[0]):
                return True
            names = present[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return True
        if set(names) != set(self._names()) or _text(self._authorities / "renewal").strip() not in ("", str(self._config.renewal)):
            return True
        start, end = validity(present[0])
        due = end - (end - start - _BACKDATED) / 3
        # One that ends with its CA is not renewed again and again for nothing.
        return start > self._now or (self._now >= due and self._end(authority) - end > datetime.timedelta(hours=1))

    def _end(self, authority: x509.Certificate) -> datetime.datetime:
        return min(self._now + datetime.timedelta(days=self._config.days), validity(authority)[1])

    def _names(self) -> list[x509.GeneralName]:
        pairs = (entry.split(":", 1) for entry in self._config.names)
        return [x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value) for kind, value in pairs]

    def _issue(self, authority: Authority) -> None:
        if self._check:
            self.made.append("server certificate")
            return
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(self._config.host_name), authority.certificate.subject, key, self._now - _BACKDATED, self._end(authority.certificate))
            .add_extension(x509.SubjectAlternativeName(self._names()), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
            .sign(authority.key, hashes.SHA256())
        )
        # Certificate and key in one file: there is no moment in which they do not belong together.
        self._write(self._directory / "server.pem", _pem(certificate) + _pem_key(key), 0o600, "server certificate")

    def _write(self, path: Path, text: str, mode: int, what: str) -> None:
        if what:
            self.made.append(what)
        if not self._check:
            if path.parent == self._directory:
                # First, so that a reload that does not come to pass, the role's or the timer's, is made up for by the next one.
                pending_reload(self._config).touch()
            write(path, text, mode)


def pending_reload(config: Config) -> Path:
    """Return the file that is there while the gateway has not been told of what it is to serve."""
    return Path(config.authorities) / "reload"


def metrics(ends: dict[str, datetime.datetime]) -> str:
    """Return the ends of the certificates for Prometheus."""
    samples = [({"certificate": which}, int(end.timestamp())) for which, end in ends.items()]
    return render([metric("fl_certificate_not_after_timestamp_seconds", *samples)])


def stamp(moment: datetime.datetime) -> str:
    """Return a time as it is published."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def publish(settings: dict[str, Any], attributes: dict[str, str]) -> None:
    """Tell OneGate what it does not know yet. Raises OneException and ContextMissing."""
    # A machine without OneGate does without its client.
    from ..onegate.client import OneGate
    from ..onegate.context_files import read_token

    token_file = settings.get("token_file")
    token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else read_token()
    gate = OneGate(settings["endpoint"], settings["vm_id"], token)
    known = gate.get_vm()["USER_TEMPLATE"]
    # What a boot has not published yet is the boot's affair.
    changed = {name: value for name, value in attributes.items() if name in known and known[name] != value}
    if changed:
        gate.put(changed)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)


def _name(common_name: str) -> x509.Name:
    oids = x509.NameOID
    # Longer common names are not allowed.
    return x509.Name([x509.NameAttribute(oids.ORGANIZATION_NAME, _ORGANIZATION), x509.NameAttribute(oids.COMMON_NAME, common_name[:64])])


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in (*names, "encipher_only", "decipher_only")})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return "unreadable"


def _certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a file, none of one that is damaged. Debian 12's cryptography reads one at a time."""
    try:
        return [x509.load_pem_x509_certificate(block.encode()) for block in _CERTIFICATE.findall(_text(path))]
    except ValueError:
        return []


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        algorithm = ec.ECDSA(certificate.signature_hash_algorithm)
        authority.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, algorithm)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return certificate.issuer == authority.subject


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    text = _text(path)
    return serialization.load_pem_private_key(text[max(text.rfind("-----BEGIN "), 0) :].encode(), password=None)


def _public(holder: Any) -> bytes:
    return holder.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _reload(config: Config) -> None:
    """Have the gateway take what was made, also when it could not at the last time."""
    pending = pending_reload(config)
    if pending.exists():
        subprocess.run(_RELOAD, check=True, stdin=subprocess.DEVNULL)
        pending.unlink()


def _tell(config: Config, keeper: Keeper, ends: dict[str, datetime.datetime]) -> None:
    """Tell Prometheus and OneGate; that they cannot be told changes nothing about the certificates."""
    if config.metrics_file:
        try:
            write(Path(config.metrics_file), metrics(ends), 0o644)
        except OSError as problem:
            LOGGER.warning("The metrics cannot be written: %s.", problem)
    if config.onegate and "server" in ends:
        attributes = {"FL_CERT_NOT_AFTER": stamp(ends["server"]), "FL_CA_CERT": base64.b64encode(keeper.bundle.encode()).decode()}
        try:
            publish(config.onegate, attributes)
        except (OneException, ContextMissing, OSError) as problem:
            LOGGER.warning("The end of the certificate cannot be published: %s", problem)


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Keep out whoever else wants to make certificates meanwhile: the role, or the timer."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(arguments: Iterable[str] | None = None) -> int:
    """Bring the certificates up to date once; return the exit status."""
    parser = argparse.ArgumentParser(description="Keeps the certificates of a SuperLink's gateway.")
    parser.add_argument("--config", required=True, help="JSON file with the settings, - for standard input")
    parser.add_argument("--check", action="store_true", help="say what would be made and change nothing")
    parser.add_argument("--reload", action="store_true", help="reload the gateway after a change, tell Prometheus and OneGate")
    options = parser.parse_args(arguments)
    if options.reload:
        unit_log.set_up("flower-certificates")
    else:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        if x509 is None:
            raise CertificateError("Python's package cryptography is not installed (Debian: python3-cryptography)")
        config = Config.read(options.config)
        keeper = Keeper(config, options.check)
        if config.generated:
            with _alone(config.authorities):
                keeper.ensure()
        ends = keeper.ends()
        if options.reload:
            _reload(config)
            _tell(config, keeper, ends)
    except (CertificateError, OSError, ValueError, subprocess.CalledProcessError) as problem:
        LOGGER.error("The certificates of the gateway cannot be kept: %s", problem)
        return 1
    answer = {"made": keeper.made, "not_after": stamp(ends["server"]) if "server" in ends else ""}
    if options.reload:
        told = unit_log.event("certificates_renewed" if keeper.made else "certificates_kept", **answer)
        LOGGER.info("Made: %s; the server's certificate is valid until %s.", ", ".join(keeper.made) or "nothing", answer["not_after"], extra=told)
    else:
        sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
