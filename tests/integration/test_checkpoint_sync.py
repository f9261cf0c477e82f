# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in object storage: the real client against a server that speaks S3 over HTTP and checks credentials."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.checkpoint_bucket import LARGEST_OBJECT, BucketError, Checkpoint
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.checkpoint_directory import CheckpointDirectory
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.checkpoint_sync import Config, Uploader, restore
from ansible_collections.opennebula.flower.tests.support.object_storage import Storage, empty_bucket, server
from ansible_collections.opennebula.flower.tests.support.ports import free_port

DEADLINE = 600  # seconds


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with server(free_port()) as running:
        yield running


@pytest.fixture
def storage(endpoint: str) -> Storage:
    return empty_bucket(endpoint)


@pytest.fixture
def config(storage: Storage, tmp_path: Path) -> Config:
    (tmp_path / "checkpoints").mkdir()
    return Config(
        endpoint=storage.endpoint,
        bucket="models",
        access_key=storage.access_key,
        secret_key=storage.secret_key,
        directory=str(tmp_path / "checkpoints"),
        metrics_file=str(tmp_path / "sync.prom"),
        prefix="site-a",
        restore_seconds=0,
    )


def uploader(config: Config) -> Uploader:
    return Uploader(config, config.open_bucket())


def write(config: Config, number: int, content: bytes = b"model", run: str = "first") -> Path:
    path = Path(config.directory) / run / f"checkpoint_round_{number}.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def metrics(config: Config) -> dict[str, int]:
    lines = Path(config.metrics_file).read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


def files(directory: str) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(Path(directory).rglob("*")) if path.is_file()}


def test_new_checkpoints_are_uploaded_once(config: Config, storage: Storage) -> None:
    write(config, 5)
    syncing = uploader(config)
    syncing.step()
    write(config, 10)
    syncing.step()
    syncing.step()
    assert storage.keys() == ["site-a/first/checkpoint_round_10.npz", "site-a/first/checkpoint_round_5.npz"]
    assert metrics(config)["fl_checkpoint_uploaded_total"] == 2
    assert metrics(config)["fl_checkpoint_upload_pending"] == 0
    assert abs(metrics(config)["fl_checkpoint_upload_last_timestamp_seconds"] - time.time()) < DEADLINE


def test_a_restarted_uploader_does_not_upload_again(config: Config) -> None:
    write(config, 5)
    uploader(config).step()
    uploader(config).step()
    assert metrics(config)["fl_checkpoint_uploaded_total"] == 0


def test_a_checkpoint_that_was_written_anew_is_uploaded_anew(config: Config, storage: Storage) -> None:
    write(config, 5)
    syncing = uploader(config)
    syncing.step()
    write(config, 5, b"another model")
    syncing.step()
    stored = storage.client().get_object(Bucket="models", Key="site-a/first/checkpoint_round_5.npz")["Body"].read()
    assert stored == b"another model"


def test_incomplete_and_rejected_files_stay_where_they_are(config: Config, storage: Storage) -> None:
    path = write(config, 5)
    path.rename(path.with_name("checkpoint_round_5.npz.rejected"))
    path.with_name(".checkpoint_round_10.npz.partial").write_bytes(b"mod")
    path.with_name("checkpoint_latest.npz").symlink_to("checkpoint_round_5.npz")
    uploader(config).step()
    assert storage.keys() == []


def test_as_many_are_kept_in_the_bucket_as_on_the_disk(config: Config, storage: Storage) -> None:
    syncing = uploader(replace(config, keep=2))
    for number in (5, 10, 15):
        path = write(config, number)
        syncing.step()
        storage.next_second()
        if number == 5:
            path.unlink()
    assert storage.keys() == ["site-a/first/checkpoint_round_10.npz", "site-a/first/checkpoint_round_15.npz"]


def test_an_empty_disk_gets_everything_back(config: Config, tmp_path: Path) -> None:
    for number in (5, 10):
        write(config, number, f"model {number}".encode())
    write(config, 2, b"other", run="second")
    uploader(config).step()
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o750)
    os.chown(empty, 49999, 49999)
    assert restore(replace(config, directory=str(empty)), config.open_bucket()) == 3
    assert files(str(empty)) == files(config.directory)
    assert {path.stat().st_uid for path in empty.rglob("*")} == {49999}


def test_a_disk_with_checkpoints_is_left_alone_even_without_the_storage(config: Config) -> None:
    write(config, 3)
    unreachable = replace(config, endpoint=f"http://127.0.0.1:{free_port()}")
    assert restore(unreachable, unreachable.open_bucket()) == 0
    assert list(files(config.directory)) == ["first/checkpoint_round_3.npz"]


def test_a_changed_object_is_not_restored(config: Config, storage: Storage, tmp_path: Path) -> None:
    write(config, 5)
    write(config, 10)
    uploader(config).step()
    key = "site-a/first/checkpoint_round_5.npz"
    known = storage.client().head_object(Bucket="models", Key=key)["Metadata"]
    storage.client().put_object(Bucket="models", Key=key, Body=b"modem", Metadata=known)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BucketError, match="first/checkpoint_round_5.npz in bucket 'models' at .* is not what was uploaded"):
        restore(replace(config, directory=str(empty)), config.open_bucket())
    assert files(str(empty)) == {}


def test_wrong_credentials_are_said_in_one_sentence(config: Config, storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    wrong = replace(config, secret_key="wrong-secret")
    expected = f"the credentials for bucket 'models' at {storage.endpoint} are refused"
    with pytest.raises(BucketError) as caught:
        restore(wrong, wrong.open_bucket())
    assert (str(caught.value), caught.value.lasting) == (expected, True)
    write(config, 5)
    uploader(wrong).step()
    assert [record.getMessage() for record in caplog.records] == [f"{expected}; the upload is tried again."]


def test_a_bucket_that_is_not_there_is_named(config: Config, storage: Storage) -> None:
    elsewhere = replace(config, bucket="nowhere")
    with pytest.raises(BucketError, match=f"there is no bucket 'nowhere' at {storage.endpoint}"):
        restore(elsewhere, elsewhere.open_bucket())


def test_an_unreachable_storage_is_tried_again_with_growing_pauses_until_it_is_back(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    away = replace(config, endpoint=f"http://127.0.0.1:{port}", access_key="any", secret_key="any")
    write(config, 5)
    syncing = uploader(away)
    assert [syncing.step() for _ in range(7)] == [4, 8, 16, 32, 60, 60, 60]
    assert metrics(config)["fl_checkpoint_upload_failed_total"] == 7
    assert metrics(config)["fl_checkpoint_upload_pending"] == 1
    with server(port) as endpoint:
        storage = Storage(endpoint, "any", "any")
        storage.client().create_bucket(Bucket="models")
        assert syncing.step() == 2
        assert storage.keys() == ["site-a/first/checkpoint_round_5.npz"]
    first, *others = [record.getMessage() for record in caplog.records if record.name == "flower-checkpoint-sync"]
    assert first.startswith(f"bucket 'models' at {away.endpoint} cannot be reached")
    assert others[0].startswith("Checkpoint first/checkpoint_round_5.npz was uploaded")
    assert others[1:] == ["The object storage works again."]


def test_a_restoration_waits_for_the_storage_and_gives_up_in_time(config: Config) -> None:
    away = replace(config, endpoint=f"http://127.0.0.1:{free_port()}", restore_seconds=0.2, poll_seconds=0.05)
    with pytest.raises(BucketError, match="cannot be reached"):
        restore(away, away.open_bucket())


def test_the_secret_key_does_not_show(config: Config) -> None:
    assert config.secret_key not in repr(config)


def test_a_settings_file_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    path.write_text('{"bucket": "models", "colour": "red"}')
    with pytest.raises(ValueError, match="colour"):
        Config.read(str(path))


@pytest.mark.parametrize("left", ["link", "pipe", "directory", "foreign file", "linked run"])
def test_what_the_app_may_leave_instead_of_a_checkpoint_is_not_uploaded(config: Config, storage: Storage, tmp_path: Path, left: str) -> None:
    """The program that uploads may read what the app may not."""
    secret = tmp_path / "ca.key"
    secret.write_text("PRIVATE KEY")
    path = write(config, 5)
    path.unlink()
    if left == "link":
        path.symlink_to(secret)
    elif left == "pipe":
        os.mkfifo(path)
    elif left == "directory":
        path.mkdir()
    elif left == "foreign file":
        os.chown(config.directory, 49999, 49999)
        os.link(secret, path)
    else:
        elsewhere = tmp_path / "elsewhere"
        path.parent.rename(elsewhere)
        (elsewhere / path.name).write_text("PRIVATE KEY")
        path.parent.symlink_to(elsewhere)
    good = write(config, 10, run="second")
    os.chown(good, *[os.stat(config.directory).st_uid] * 2)
    assert uploader(config).step() == config.poll_seconds
    assert storage.keys() == ["site-a/second/checkpoint_round_10.npz"]


@pytest.mark.parametrize("swapped", ["link", "pipe"])
def test_a_checkpoint_that_becomes_something_else_before_it_is_opened_is_not_uploaded(
    config: Config, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    secret = tmp_path / "ca.key"
    secret.write_text("PRIVATE KEY")
    path = write(config, 5)
    listed = CheckpointDirectory.listed

    def then_swapped(directory: CheckpointDirectory) -> dict:
        found = listed(directory)
        path.unlink(missing_ok=True)
        path.symlink_to(secret) if swapped == "link" else os.mkfifo(path)
        return found

    monkeypatch.setattr(CheckpointDirectory, "listed", then_swapped)
    uploader(config).step()
    assert storage.keys() == []


def test_a_checkpoint_that_grows_while_it_is_read_is_uploaded_as_it_was_listed(config: Config) -> None:
    path = write(config, 5)
    with CheckpointDirectory(config.directory).reading(Checkpoint("first", path.name)) as stream, path.open("ab") as more:
        more.write(b" and more")
        more.flush()
        assert stream.read() == b"model"
        assert (stream.seek(0, os.SEEK_END), stream.seek(0), stream.read()) == (5, 0, b"model")


def test_a_file_too_large_for_an_object_keeps_no_other_one_from_being_uploaded(config: Config, storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    write(config, 5)
    os.truncate(write(config, 10), LARGEST_OBJECT + 1)
    syncing = uploader(config)
    syncing.step()
    syncing.step()
    assert storage.keys() == ["site-a/first/checkpoint_round_5.npz"]
    assert [record.getMessage() for record in caplog.records] == [
        f"Checkpoint first/checkpoint_round_10.npz has {LARGEST_OBJECT + 1} bytes, more than the {LARGEST_OBJECT} of one object: it is not uploaded."
    ]


@pytest.mark.parametrize("left", ["linked run", "linked partial", "file"])
def test_nothing_is_restored_through_what_the_app_left(config: Config, storage: Storage, tmp_path: Path, left: str) -> None:
    write(config, 5)
    uploader(config).step()
    disk, outside = tmp_path / "disk", tmp_path / "outside"
    disk.mkdir()
    outside.mkdir()
    (outside / "mine").write_text("mine")
    if left == "linked run":
        (disk / "first").symlink_to(outside)
    elif left == "file":
        (disk / "first").write_text("no directory")
    else:
        (disk / "first").mkdir()
        (disk / "first" / ".checkpoint_round_5.npz.partial").symlink_to(outside / "mine")
    restoring = replace(config, directory=str(disk))
    if left == "linked partial":
        assert restore(restoring, restoring.open_bucket()) == 1
    else:
        with pytest.raises(NotADirectoryError, match=f"{disk}/first is not a directory, so no checkpoint can be put there"):
            restore(restoring, restoring.open_bucket())
    assert files(str(outside)) == {"mine": b"mine"} and (outside.stat().st_uid, (outside / "mine").stat().st_uid) == (0, 0)
