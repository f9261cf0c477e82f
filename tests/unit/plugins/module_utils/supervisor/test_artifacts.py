# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a run: what is registered, what is served, and that nothing an app leaves there leads elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import encode
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import artifacts
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifacts import (
    TOKEN_HEADER,
    ArtifactServer,
    Collection,
    artifact_path,
    collect,
    published_collections,
)
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import ARTIFACTS_ATTRIBUTE
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.run_directory import RunDirectory

SECRET = "what only root may read"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    directory = tmp_path / "runs"
    (directory / "one").mkdir(parents=True)
    (tmp_path / "secret").write_text(SECRET)
    return directory


@pytest.fixture
def served() -> dict[str, Collection]:
    return {}


@pytest.fixture
def server(runs: Path, served: dict[str, Collection]) -> Iterator[ArtifactServer]:
    server = ArtifactServer(0, str(runs), served)
    server.start()
    yield server
    server.close()


def get(server: ArtifactServer, path: str, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    connection.request("GET", path, headers={TOKEN_HEADER: token})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_registers_models_and_events_with_size_and_checksum(runs: Path) -> None:
    for name in ("model.npz", "model.pt", "model-adapter.safetensors", "events.jsonl", "metrics.prom", "run-config.toml", ".model.npz.partial"):
        (runs / "one" / name).write_bytes(name.encode())
    found = collect(RunDirectory(str(runs), "one"))
    assert [file.name for file in found.files] == ["events.jsonl", "model-adapter.safetensors", "model.npz", "model.pt"]
    assert found.files[2].size == 9
    assert found.files[2].sha256 == hashlib.sha256(b"model.npz").hexdigest()


def test_what_an_app_keeps_for_itself_is_shown_to_who_serves_it(runs: Path) -> None:
    for name in ("model.npz", "other.npz"):
        (runs / "one" / name).write_bytes(b"weights")
        (runs / "one" / name).chmod(0o600)
    collect(RunDirectory(str(runs), "one"))
    assert [(runs / "one" / name).stat().st_mode & 0o777 for name in ("model.npz", "other.npz")] == [0o640, 0o600]


def test_every_collection_has_a_token_of_its_own_with_256_bits(runs: Path) -> None:
    tokens = {collect(RunDirectory(str(runs), "one")).token for _time in range(5)}
    assert len(tokens) == 5
    assert all(len(bytes.fromhex(token)) == 32 for token in tokens)


def test_a_run_without_a_directory_left_nothing(runs: Path) -> None:
    assert collect(RunDirectory(str(runs), "never")).files == ()


def test_links_pipes_and_directories_are_not_registered(runs: Path, tmp_path: Path) -> None:
    (runs / "one/model.npz").symlink_to(tmp_path / "secret")
    os.mkfifo(runs / "one/events.jsonl")
    (runs / "one/model.dir").mkdir()
    assert collect(RunDirectory(str(runs), "one")).files == ()


def test_a_directory_that_is_a_link_is_not_followed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/model.npz").write_text(SECRET)
    (runs / "link").symlink_to(tmp_path / "elsewhere")
    assert collect(RunDirectory(str(runs), "link")).files == ()
    with pytest.raises(OSError, match="link"):
        RunDirectory(str(runs), "link").write("run-config.toml", "")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["model.npz"]


@pytest.mark.parametrize("leftover", ["run-config.toml", ".run-config.toml.new"])
def test_writing_replaces_a_link_and_not_what_it_leads_to(runs: Path, tmp_path: Path, leftover: str) -> None:
    (runs / "one" / leftover).symlink_to(tmp_path / "secret")
    RunDirectory(str(runs), "one").write("run-config.toml", "a = 1\n")
    assert (tmp_path / "secret").read_text() == SECRET
    assert (runs / "one/run-config.toml").read_text() == "a = 1\n"
    assert [path.name for path in (runs / "one").iterdir()] == ["run-config.toml"]


def test_serves_a_file_to_who_has_the_token(runs: Path, server: ArtifactServer, served: dict[str, Collection]) -> None:
    (runs / "one/model.npz").write_bytes(b"weights")
    served["one"] = collect(RunDirectory(str(runs), "one"))
    assert get(server, artifact_path("one", "model.npz"), served["one"].token) == (200, b"weights")


def test_everything_else_is_not_there(runs: Path, tmp_path: Path, server: ArtifactServer, served: dict[str, Collection]) -> None:
    (runs / "one/model.npz").write_bytes(b"weights")
    (runs / "two").mkdir()
    (runs / "two/model.npz").write_bytes(b"other weights")
    served |= {name: collect(RunDirectory(str(runs), name)) for name in ("one", "two")}
    (runs / "one/run-config.toml").write_text("a = 1")
    token = served["one"].token
    for path, given in [
        ("/artifacts/one/model.npz", ""),
        ("/artifacts/one/model.npz", served["two"].token),
        ("/artifacts/one/model.npz", token[:-1]),
        ("/artifacts/one/run-config.toml", token),
        ("/artifacts/one/../two/model.npz", token),
        ("/artifacts/one/%2e%2e/two/model.npz", token),
        ("/artifacts/one//etc/passwd", token),
        ("/artifacts/three/model.npz", token),
        ("/artifacts/", token),
        ("/", token),
    ]:
        assert get(server, path, given) == (404, b""), path


def test_a_token_opens_nothing_after_its_time_nor_before_it(runs: Path) -> None:
    (runs / "one/model.npz").write_bytes(b"weights")
    made = collect(RunDirectory(str(runs), "one"))
    now = made.made
    server = ArtifactServer(0, str(runs), {"one": made}, lifetime=100, clock=lambda: now)
    server.start()
    answers = []
    for seconds in (0, 99, 100, 1000, -1):
        now = made.made + seconds
        answers.append(get(server, artifact_path("one", "model.npz"), made.token)[0])
    server.close()
    assert answers == [200, 200, 404, 404, 404]


def test_a_file_that_became_a_link_is_not_served(runs: Path, tmp_path: Path, server: ArtifactServer, served: dict[str, Collection]) -> None:
    (runs / "one/model.npz").write_bytes(b"weights")
    served["one"] = collect(RunDirectory(str(runs), "one"))
    (runs / "one/model.npz").unlink()
    (runs / "one/model.npz").symlink_to(tmp_path / "secret")
    assert get(server, artifact_path("one", "model.npz"), served["one"].token) == (404, b"")


def test_what_was_appended_later_is_not_sent(runs: Path, server: ArtifactServer, served: dict[str, Collection]) -> None:
    events = runs / "one/events.jsonl"
    events.write_text("first\n")
    served["one"] = collect(RunDirectory(str(runs), "one"))
    with events.open("a") as stream:
        stream.write("second\n")
    assert get(server, artifact_path("one", "events.jsonl"), served["one"].token) == (200, b"first\n")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "nothing",
        '{"one": 1}',
        '{"one": {"token": "a"}}',
        '{"one": {"token": 1, "files": []}}',
        '{"one": {"token": "a", "files": [], "made": -1}}',
        '{"one": {"token": "a", "files": [], "made": "x"}}',
        '{"one": {"token": "a", "files": [["model.npz", -1, "' + "0" * 64 + '"]]}}',
        '{"one": {"token": "a", "files": [["../model.npz", 1, "' + "0" * 64 + '"]]}}',
        '{"one": {"token": "a", "files": [["model.npz", 1, "0"]]}}',
    ],
)
def test_anything_else_than_collections_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        published_collections({ARTIFACTS_ATTRIBUTE: encode(text)})


def test_a_file_without_end_is_not_read_for_its_checksum(runs: Path) -> None:
    (runs / "one/model.npz").write_bytes(b"weights")
    with (runs / "one/model.bin").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert [file.name for file in collect(RunDirectory(str(runs), "one")).files] == ["model.npz"]


# Hostile clients


@pytest.fixture
def offered(runs: Path, served: dict[str, Collection]) -> Collection:
    (runs / "one/model.npz").write_bytes(b"weights")
    served["one"] = collect(RunDirectory(str(runs), "one"))
    return served["one"]


def connected(server: ArtifactServer, content: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(content)
    return connection


def answer(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    content = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while block := connection.recv(1 << 16):
            content += block
    return content


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /artifacts/one/model.npz HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 431),
        (b"GET /artifacts/one/model.npz HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /artifacts/one/model.npz HTTP/9.9\r\n\r\n", 505),
        (b"POST /artifacts/one/model.npz HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 501),
        (b"GET //artifacts/one/model.npz HTTP/1.1\r\n\r\n", 404),
        (b"GET /artifacts/%00/%ff HTTP/1.1\r\n\r\n", 404),
        (b"GET /artifacts/\xff\xfe/\x00 HTTP/1.1\r\nX-Artifact-Token: \xff\r\n\r\n", 404),
        (b"GET http://[::1/artifacts/one HTTP/1.1\r\n\r\n", 404),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 x\r\n\r\n", 400),
    ],
)
def test_an_odd_request_gets_a_status_and_harms_nobody(
    server: ArtifactServer, offered: Collection, capfd: pytest.CaptureFixture[str], request_text: bytes, status: int
) -> None:
    assert f" {status} ".encode() in answer(connected(server, request_text)).split(b"\r\n")[0]
    assert get(server, artifact_path("one", "model.npz"), offered.token) == (200, b"weights")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wanted", ["bytes=0-1", "bytes=-5", "bytes=9-2", "bytes=0-0,1-1", "lines=1", "bytes=" + "0-0," * 1000])
def test_a_range_is_answered_with_the_whole_file(server: ArtifactServer, offered: Collection, wanted: str) -> None:
    head = f"GET /artifacts/one/model.npz HTTP/1.1\r\n{TOKEN_HEADER}: {offered.token}\r\nRange: {wanted}\r\n\r\n"
    content = answer(connected(server, head.encode()))
    assert content.startswith(b"HTTP/1.1 200 ")
    assert content.endswith(b"\r\n\r\nweights")


def test_a_client_that_goes_away_leaves_no_trace_in_the_log(server: ArtifactServer, offered: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    for content in (b"", b"GET /", b"GET / HTTP/1.1\r\nA"):
        connection = connected(server, content)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
        connection.close()
    assert get(server, artifact_path("one", "model.npz"), offered.token) == (200, b"weights")
    assert capfd.readouterr().err == ""


def test_a_request_that_does_not_end_in_time_is_cut_off(server: ArtifactServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_REQUEST_SECONDS", 0)
    assert answer(connected(server, b"GET /artifacts/one/mod")) == b""


def test_a_client_that_takes_a_file_too_slowly_is_cut_off(
    runs: Path, server: ArtifactServer, served: dict[str, Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs / "one/model.npz").write_bytes(bytes(64 << 20))  # more than the system keeps for a client
    served["one"] = collect(RunDirectory(str(runs), "one"))
    monkeypatch.setattr(artifacts, "_IDLE_SECONDS", 0)
    monkeypatch.setattr(artifacts, "_LEAST_BYTES_PER_SECOND", 1 << 60)
    head = f"GET /artifacts/one/model.npz HTTP/1.1\r\n{TOKEN_HEADER}: {served['one'].token}\r\n\r\n"
    slow = connected(server, head.encode())
    while server.connections:
        threading.Event().wait(0.05)
    assert len(answer(slow)) < 64 << 20


def test_connections_without_end_are_dropped_and_those_that_are_served_are_few(
    server: ArtifactServer, offered: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = [connected(server) for _number in range(200)]
    while server.connections < artifacts.MOST_CONNECTIONS:
        threading.Event().wait(0.05)
    assert answer(connected(server)) == b""
    assert server.connections == artifacts.MOST_CONNECTIONS
    for connection in idle:
        connection.close()
    while server.connections:
        threading.Event().wait(0.05)
    assert get(server, artifact_path("one", "model.npz"), offered.token) == (200, b"weights")
