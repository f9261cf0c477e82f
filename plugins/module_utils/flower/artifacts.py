# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves behind: its files with their checksums, and the server that hands them out.

The server listens on loopback; the gateway forwards to it. Whoever knows the token of a run gets the files that were
registered for it, as long as they were then, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from .run_directory import RunDirectory

LOGGER = logging.getLogger("flower-supervisor")

PATH = "/artifacts/"
TOKEN_HEADER = "X-Artifact-Token"
# The final model in every form that the app exports, and what happened.
_ARTIFACT = re.compile(r"(model[.-][A-Za-z0-9._-]{1,60}|events\.jsonl)")
_ARTIFACTS = 16
_TOKEN_BYTES = 32
_BLOCK = 1 << 20
_IDLE_SECONDS = 60


@dataclass(frozen=True)
class Artifact:
    """A file of a run: its name, and its size in bytes and SHA-256 when the run ended."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """The files of a run that has ended and the token that opens them."""

    token: str
    files: tuple[Artifact, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the collection as JSON takes it."""
        return {"token": self.token, "files": [[file.name, file.size, file.sha256] for file in self.files]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Collection:
        """Return the collection of a record; ValueError when it is none."""
        try:
            token, files = record["token"], tuple(Artifact(*file) for file in record["files"])
        except (KeyError, TypeError):
            raise ValueError("not a collection of files") from None
        if not isinstance(token, str) or not all(_is_artifact(file) for file in files):
            raise ValueError("not a collection of files")
        return cls(token, files)


def collections_from_json(text: str) -> dict[str, Collection]:
    """Parse what is published of the files of runs, by name of the run; ValueError when it is something else."""
    records = json.loads(text)
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise ValueError("not the files of runs")
    return {name: Collection.from_record(record) for name, record in records.items()}


def artifact_path(run: str, name: str) -> str:
    """Return the path of a file in the URL of the server."""
    return f"{PATH}{quote(run)}/{quote(name)}"


def collect(directory: RunDirectory) -> Collection:
    """Register what a run left behind, under a new token; files that cannot be read are left out."""
    files = []
    for name in [name for name in _names(directory) if _ARTIFACT.fullmatch(name)][:_ARTIFACTS]:
        try:
            with directory.open(name) as stream:
                files.append(Artifact(name, *_measure(stream)))
        except OSError as problem:
            LOGGER.warning("%s is not offered: %s.", name, problem.strerror or problem)
    return Collection(secrets.token_hex(_TOKEN_BYTES), tuple(files))


class ArtifactServer:
    """Serves collections on a port of the loopback; ``collections`` is read at every request and may change."""

    def __init__(self, port: int, runs_directory: str, collections: Mapping[str, Collection]) -> None:
        """Raises OSError when the port is taken."""

        class Handler(_Handler):
            served_directory = runs_directory
            served = collections

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def start(self) -> None:
        """Serve in a thread until the process ends or ``close`` is called."""
        threading.Thread(target=self._server.serve_forever, name="artifacts", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    served_directory: str
    served: Mapping[str, Collection]

    def do_GET(self) -> None:
        """Answer with a file, or with 404 for everything else: names are not to be guessed."""
        try:
            run, file, stream = self._opened()
        except (KeyError, OSError):
            self._end(404, 0)
            return
        with stream:
            LOGGER.info("%s of run '%s' is fetched.", file.name, run)
            self._end(200, file.size)
            self._send(stream, file.size)

    def _opened(self) -> tuple[str, Artifact, BinaryIO]:
        run, _slash, name = self.path.removeprefix(PATH).partition("/")
        run, name = unquote(run), unquote(name)
        collection = self.served[run]
        given = (self.headers.get(TOKEN_HEADER) or "").encode()
        if not hmac.compare_digest(given, collection.token.encode()):
            raise KeyError(run)
        file = {file.name: file for file in collection.files}[name]
        return run, file, RunDirectory(self.served_directory, run).open(name)

    def _end(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def _send(self, stream: BinaryIO, size: int) -> None:
        """Send as many bytes as were registered: an app may still append to its events."""
        try:
            while size:
                block = stream.read(min(size, _BLOCK))
                if not block:
                    break
                self.wfile.write(block)
                size -= len(block)
        except OSError as problem:
            LOGGER.warning("Sending a file was broken off: %s.", problem)
            size = -1
        self.close_connection = self.close_connection or size != 0

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: do_GET logs what was fetched."""


def _names(directory: RunDirectory) -> list[str]:
    try:
        return directory.names()
    except OSError as problem:
        LOGGER.warning("The files of a run cannot be listed: %s.", problem)
        return []


def _measure(stream: BinaryIO) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while block := stream.read(_BLOCK):
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


def _is_artifact(file: Artifact) -> bool:
    """Say whether a record from outside is a file with a name that leads nowhere else."""
    if not all(isinstance(text, str) for text in (file.name, file.sha256)) or not _ARTIFACT.fullmatch(file.name):
        return False
    return isinstance(file.size, int) and file.size >= 0 and bool(re.fullmatch(r"[0-9a-f]{64}", file.sha256))
