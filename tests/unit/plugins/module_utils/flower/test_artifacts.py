# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a run: what is registered, what is served, and that nothing an app leaves there leads elsewhere."""

from __future__ import annotations

import hashlib
import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.artifacts import (
    TOKEN_HEADER,
    ArtifactServer,
    Collection,
    artifact_path,
    collect,
    collections_from_json,
)
from ansible_collections.opennebula.flower.plugins.module_utils.flower.run_directory import RunDirectory

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
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
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
        '{"one": {"token": "a", "files": [["model.npz", -1, "' + "0" * 64 + '"]]}}',
        '{"one": {"token": "a", "files": [["../model.npz", 1, "' + "0" * 64 + '"]]}}',
        '{"one": {"token": "a", "files": [["model.npz", 1, "0"]]}}',
    ],
)
def test_anything_else_than_collections_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        collections_from_json(text)
