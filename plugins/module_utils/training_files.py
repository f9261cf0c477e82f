# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching the files of a run from the Fleet port of its SuperLink."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable
from typing import Any, BinaryIO

from .context_values import split_address
from .one.transport.download import DownloadHttp
from .one.transport.errors import INVALID, MISSING, NETWORK, PROTOCOL, TIMEOUT, OneException
from .supervisor.artifacts import TOKEN_HEADER, Artifact, artifact_path
from .supervisor.untrusted import sentence

_BLOCK = 1 << 20
_MEBIBYTE = 1 << 20
_PEM = b"-----BEGIN CERTIFICATE-----"
_TRUST_HINT = "it is not one that the CA in {} signed for this address; set address to a name in the certificate"


class Download:
    """A connection to the SuperLink that published some attributes, for use in a with statement.

    place: its Fleet address, host:port. timeout: seconds without a sign of it. authority: certificates of the CA that vouches for it, in PEM; without
    them the attributes say whether there is TLS and by which CA, which all who may write them can forge. Raises OneException.
    """

    def __init__(self, place: str | None, attributes: dict[str, Any], vm_id: int, timeout: float, authority: str | None = None) -> None:
        self._place = _checked(place, vm_id)
        self._vm_id = vm_id
        self._ca_path: str | None = None
        self._scheme = "http"
        if authority or attributes.get("FL_TLS") != "NO":
            self._scheme = "https"
            self._ca_path = _write_ca(_given_ca(authority) if authority else _published_ca(attributes.get("FL_CA_CERT"), vm_id))
        self._http = DownloadHttp(timeout, True, self._ca_path, _TRUST_HINT.format("ca_certificate" if authority else "FL_CA_CERT"))

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._ca_path:
            os.unlink(self._ca_path)

    def fetch(self, run: str, file: Artifact, token: str, sink: BinaryIO) -> None:
        """Write a file and make sure that it is the one that was registered."""
        url = f"{self._scheme}://{self._place}{artifact_path(run, file.name)}"
        checked = _Checked(sink)
        try:
            status = self._http.download(url, checked, headers={TOKEN_HEADER: token}, limit=file.size)
        except OneException as problem:
            raise self._explained(run, file, problem) from None
        if status != 200:
            raise OneException(
                MISSING, f"The SuperLink at {self._place} does not offer {file.name} of run '{run}' (status {status})."
            )
        if (checked.size, checked.sha256) != (file.size, file.sha256):
            raise OneException(
                PROTOCOL,
                f"{file.name} of run '{run}' arrived with {checked.size} bytes and SHA-256 {checked.sha256[:12]}, "
                f"expected {file.size} bytes and {file.sha256[:12]}.",
            )

    def _explained(self, run: str, file: Artifact, problem: OneException) -> OneException:
        if problem.kind not in (NETWORK, TIMEOUT):
            return problem
        return OneException(
            problem.kind,
            f"{file.name} of run '{run}' cannot be fetched: {problem.message.rstrip('.')}; this machine must reach the "
            f"Fleet port of VM {self._vm_id}, at {self._place} or at what the option address names.",
        )


def check_size(run: str, files: Iterable[Artifact], most: int) -> None:
    """Raise OneException for files that would take more than so many MiB: how large they are says whoever may write to the VM."""
    size = 0
    for file in files:
        size += file.size
        if size > most * _MEBIBYTE:
            raise OneException(
                INVALID, f"Run '{run}' offers {sentence(size)} bytes with {file.name}, expected at most {most} MiB in all, which max_megabytes says."
            )


def sha256_of(path: str) -> str | None:
    """Return the SHA-256 of a file, None when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


class _Checked:
    """Writes to a file and measures what goes through."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, block: bytes) -> int:
        self.size += len(block)
        self._digest.update(block)
        return self._sink.write(block)


def _checked(place: str | None, vm_id: int) -> str:
    if not place:
        raise OneException(MISSING, f"VM {vm_id} has published no FL_ENDPOINT; its boot has not ended.")
    try:
        split_address(place)
    except (ValueError, TypeError):
        raise OneException(INVALID, f"'{sentence(place)}' is not a Fleet address, expected host:port or [IPv6]:port.") from None
    return place


def _given_ca(authority: str) -> bytes:
    content = authority.encode()
    if _PEM not in content:
        raise OneException(INVALID, "ca_certificate holds no certificate, expected X.509 in PEM.")
    return content


def _published_ca(encoded: object, vm_id: int) -> bytes:
    try:
        content = base64.b64decode(f"{encoded or ''}==")
    except ValueError:
        content = b""
    if _PEM not in content:
        raise OneException(PROTOCOL, f"VM {vm_id} has published no CA certificate in FL_CA_CERT.")
    return content


def _write_ca(content: bytes) -> str:
    """Keep certificates in a file, which is what TLS libraries take."""
    handle, path = tempfile.mkstemp(suffix=".crt")
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    return path
