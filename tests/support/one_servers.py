# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Small real servers for tests of the wire: one that answers from a list, one that hangs, one with TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HANG_SECONDS = 120


class ScriptedServer(ThreadingHTTPServer):
    """Gives the prepared answers in turn, the last one for ever; None closes the connection without an answer."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, str | bytes] | None, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.answers = list(answers)
        self.requests: list[tuple[str, str, bytes, dict]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_answer(self) -> tuple[int, str | bytes] | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, body, dict(self.headers)))
        answer = self.server.next_answer()
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content = answer
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def scripted(*answers: tuple[int, str | bytes] | None) -> Iterator[ScriptedServer]:
    """Run a scripted server."""
    with running(ScriptedServer(*answers)) as server:
        yield server


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    """Serve until the context ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def hanging(first_bytes: bytes = b"") -> Iterator[str]:
    """Accept connections, perhaps begin an answer, and never finish it. Yields the URL.

    After HANG_SECONDS connections end, so that a client without a time-out gets an error of another kind.
    """
    connections = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            connections.append(connection)
            connection.sendall(first_bytes)

    def end() -> None:
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    patience = threading.Timer(HANG_SECONDS, end)
    patience.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        patience.cancel()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


@contextmanager
def dripping(answer: bytes, pause: float = 0.05) -> Iterator[str]:
    """Answer every connection with one byte after the other, slowly but never silent for long. Yields the URL.

    pause: seconds between two bytes.
    """
    with running(_DrippingServer(answer, pause)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


class _DrippingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: bytes, pause: float) -> None:
        super().__init__(("127.0.0.1", 0), _Dripper)
        self.answer = answer
        self.pause = pause

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is part of the tests."""


class _Dripper(BaseHTTPRequestHandler):
    def handle(self) -> None:
        pause = threading.Event()
        for byte in self.server.answer:
            self.connection.sendall(bytes((byte,)))
            pause.wait(self.server.pause)


@contextmanager
def self_signed(directory: Path, *answers: tuple[int, str | bytes] | None) -> Iterator[tuple[ScriptedServer, Path]]:
    """Run a scripted server with a self-signed certificate. Yields the server and the certificate's file."""
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    server = ScriptedServer(*answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server):
        yield server, certificate_file


def success(value: object) -> tuple[int, str]:
    """oned's answer to a call that worked."""
    return 200, xmlrpc.client.dumps(([True, value, 0],), methodresponse=True)


def failure(code: int, message: str) -> tuple[int, str]:
    """oned's answer to a call that did not."""
    return 200, xmlrpc.client.dumps(([False, message, code, -1, -1],), methodresponse=True)
