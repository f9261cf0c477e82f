# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves behind: its files with their checksums, and the server that hands them out.

The server listens on loopback; the gateway forwards to it. Whoever knows the token of a run gets the files that were
registered for it, as long as they were then, and nothing else. A token expires, and the supervisor publishes another one.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import os
import re
import secrets
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from .protocol import published_files
from .run_directory import RunDirectory
from .untrusted import count, sentence

LOGGER = logging.getLogger("flower-artifacts")

PATH = "/artifacts/"
TOKEN_HEADER = "X-Artifact-Token"
# The final model in every form that the app exports, and what happened.
_ARTIFACT = re.compile(r"(model[.-][A-Za-z0-9._-]{1,60}|events\.jsonl)")
_ARTIFACTS = 16
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TOKEN_BYTES = 32
_BLOCK = 1 << 20
_RUN_FILES_BYTES = 64 << 30
# A connection is for one request, which comes within so many seconds and bytes; a client that takes a file more slowly
# than this, or is silent for a minute, is cut off.
_REQUEST_SECONDS = 20
_REQUEST_BYTES = 16 << 10
_LEAST_BYTES_PER_SECOND = 4 << 10
_IDLE_SECONDS = 60
MOST_CONNECTIONS = 64


@dataclass(frozen=True)
class Artifact:
    """A file of a run: its name, and its size in bytes and SHA-256 when the run ended."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """The files of a run that has ended, the token that opens them, and when that was made, in seconds since the epoch."""

    token: str
    files: tuple[Artifact, ...]
    made: int = 0

    def to_record(self) -> dict[str, Any]:
        """Return the collection as JSON takes it."""
        return {"token": self.token, "files": [[file.name, file.size, file.sha256] for file in self.files], "made": self.made}

    def expired(self, now: float, lifetime: float) -> bool:
        """Say whether the token was made longer ago than so many seconds, or by a clock that was ahead; 0 seconds are no limit."""
        return lifetime > 0 and not 0 <= now - self.made < lifetime

    def renewed(self, now: float) -> Collection:
        """Return the same files under a new token."""
        return Collection(secrets.token_hex(_TOKEN_BYTES), self.files, int(now))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Collection:
        """Return the collection of a record; ValueError when it is none."""
        try:
            token, files = record["token"], tuple(Artifact(*file) for file in record["files"])
            made = count(record.get("made", 0))
        except (AttributeError, KeyError, TypeError):
            raise ValueError("not a collection of files") from None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token) or len(files) > _ARTIFACTS or made is None or not all(map(_is_artifact, files)):
            raise ValueError("not a collection of files")
        return cls(token, files, made)


def published_collections(attributes: Mapping[str, Any]) -> dict[str, Collection]:
    """Return what the attributes of a VM say of the files of runs, by name of the run; ValueError when it is something else."""
    return {name: Collection.from_record(record) for name, record in published_files(attributes).items()}


def artifact_path(run: str, name: str) -> str:
    """Return the path of a file in the URL of the server."""
    return f"{PATH}{quote(run)}/{quote(name)}"


def collect(directory: RunDirectory) -> Collection:
    """Register what a run left behind, under a new token; files that cannot be read, or are too large, are left out."""
    files: list[Artifact] = []
    left = _RUN_FILES_BYTES
    for name in [name for name in _names(directory) if _ARTIFACT.fullmatch(name)][:_ARTIFACTS]:
        try:
            with directory.open(name) as stream:
                size = os.fstat(stream.fileno()).st_size
                if size > left:
                    raise OSError(f"the files of a run are limited to {_RUN_FILES_BYTES >> 30} GiB")
                left -= size
                _show_to_group(stream)
                files.append(Artifact(name, *_measure(stream, size)))
        except OSError as problem:
            LOGGER.warning("%s is not offered: %s.", name, sentence(problem.strerror or problem))
    return Collection("", tuple(files)).renewed(time.time())


class ArtifactServer:
    """Serves collections on a port of the loopback; ``collections`` is read at every request and may change.

    A token opens nothing any more after ``lifetime`` seconds, 0 for no limit.
    """

    def __init__(
        self, port: int, runs_directory: str, collections: Mapping[str, Collection], lifetime: float = 0, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises OSError when the port is taken."""

        class Handler(_Handler):
            served_directory = runs_directory
            served = collections
            expired = staticmethod(lambda collection: collection.expired(clock(), lifetime))

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as problem:
            raise OSError(f"files cannot be served on port {port}: {problem.strerror or problem}") from None
        self.port = self._server.server_address[1]

    def start(self) -> None:
        """Serve in a thread until the process ends or ``close`` is called."""
        threading.Thread(target=self._server.serve_forever, name="artifacts", daemon=True).start()

    @property
    def connections(self) -> int:
        """How many clients are being served."""
        return self._server.connections

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Keeps the number of connections and the time of each within bounds, whatever clients do."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._deadlines)

    def allow(self, connection: socket.socket, seconds: float) -> None:
        """Cut a connection off after so many seconds from now."""
        with self._lock:
            self._deadlines[connection] = time.monotonic() + seconds

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or drop it when there are too many."""
        if self.connections >= MOST_CONNECTIONS:
            self.shutdown_request(request)
            return
        self.allow(request, _REQUEST_SECONDS)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        """End a connection."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off who is late; called twice in a second and after every connection."""
        now = time.monotonic()
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if deadline < now:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Say nothing of clients that go away; what else goes wrong ends one connection and takes one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            LOGGER.warning("A request for a file was broken off: %s.", sentence(f"{type(error).__name__}: {error}"))


class _Head:
    """The lines of a request, of which only so many bytes are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = _REQUEST_BYTES

    def readline(self, size: int) -> bytes:
        if self._left <= 0:
            raise http.client.LineTooLong("request")
        line = self._stream.readline(min(size, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        self._stream.close()

    @property
    def closed(self) -> bool:
        return self._stream.closed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: _Server
    served_directory: str
    served: Mapping[str, Collection]
    expired: Callable[[Collection], bool]

    def setup(self) -> None:
        """Read no more than a request may have."""
        super().setup()
        self.rfile = _Head(self.rfile)

    def do_GET(self) -> None:
        """Answer with a file, or with 404 for everything else: names are not to be guessed."""
        try:
            run, file, stream = self._opened()
        except (KeyError, OSError):
            self._end(404, 0)
            return
        with stream:
            LOGGER.info("%s of run '%s' is fetched.", file.name, run)
            self.server.allow(self.connection, _IDLE_SECONDS + file.size / _LEAST_BYTES_PER_SECOND)
            self._end(200, file.size)
            self._send(stream, file.size)

    def send_error(self, code: int, *_reason: object) -> None:
        """Answer a request that is none with its status alone."""
        self.request_version = self.protocol_version  # to older ones there would be no answer
        self._end(code, 0)

    def _opened(self) -> tuple[str, Artifact, BinaryIO]:
        run, _slash, name = self.path.removeprefix(PATH).partition("/")
        run, name = unquote(run), unquote(name)
        collection = self.served[run]
        given = (self.headers.get(TOKEN_HEADER) or "").encode()
        if not hmac.compare_digest(given, collection.token.encode()) or self.expired(collection):
            raise KeyError(run)
        file = {file.name: file for file in collection.files}[name]
        return run, file, RunDirectory(self.served_directory, run).open(name)

    def _end(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")  # nobody holds one of the few connections for the next request
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
            LOGGER.warning("Sending a file was broken off: %s.", problem.strerror or problem)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: do_GET logs what was fetched."""


def _names(directory: RunDirectory) -> list[str]:
    try:
        return directory.names()
    except OSError as problem:
        LOGGER.warning("The files of a run cannot be listed: %s.", problem)
        return []


def _show_to_group(stream: BinaryIO) -> None:
    """Let who serves a file read it: it belongs to the same group as its app, whose files may be for the app alone."""
    mode = os.fstat(stream.fileno()).st_mode
    if not mode & stat.S_IRGRP:
        os.fchmod(stream.fileno(), stat.S_IMODE(mode) | stat.S_IRGRP)


def _measure(stream: BinaryIO, most: int) -> tuple[int, str]:
    """Return the size and SHA-256 of a file, without what is appended meanwhile."""
    size, digest = 0, hashlib.sha256()
    while block := stream.read(min(_BLOCK, most - size)):
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


def _is_artifact(file: Artifact) -> bool:
    """Say whether a record from outside is a file with a name that leads nowhere else."""
    if not all(isinstance(text, str) for text in (file.name, file.sha256)) or not _ARTIFACT.fullmatch(file.name):
        return False
    return isinstance(file.size, int) and file.size >= 0 and bool(re.fullmatch(r"[0-9a-f]{64}", file.sha256))
