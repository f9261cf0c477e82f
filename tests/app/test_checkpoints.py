# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files as they lie on a disk, without Flower."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.checkpoints import LATEST, Checkpoint, CheckpointStore, UnusableCheckpoint, read, read_model

SETTINGS = {"strategy": "FedAdam", "use-case": "digits", "seed": 42}
MODEL = {f"layer{number}.weight": np.full((2, 3), number, dtype=np.float32) for number in range(12)} | {"scale": np.array(2.5)}
SHAPES = {name: array.shape for name, array in MODEL.items()}
STATE = {f"m_t/{name}": array / 10 for name, array in MODEL.items()}
METRICS = {"loss": 0.25, "accuracy": 0.9}


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(number, {name: array + number for name, array in MODEL.items()}, STATE, METRICS, nodes=5)


def store(directory: Path, name: str = "first", keep: int = 3, **changed: object) -> CheckpointStore:
    return CheckpointStore(directory, name, {**SETTINGS, **changed}, keep)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Rejected(dict):
    """File name -> reason."""

    def __call__(self, path: Path, reason: str) -> None:
        self[path.name] = reason


@pytest.fixture
def rejected() -> Rejected:
    return Rejected()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The directory of a run with checkpoints of rounds 2, 4 and 10."""
    for number in (2, 4, 10):
        store(tmp_path).save(checkpoint(number), rounds=20)
    return tmp_path / "first"


def test_a_checkpoint_comes_back_bit_for_bit_with_names_in_order(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    found, path = store(tmp_path).newest(SHAPES, rejected)
    assert path == saved / "checkpoint_round_10.npz"
    assert (found.round, found.metrics, found.nodes, rejected) == (10, METRICS, 5, {})
    for got, expected in ((found.model, checkpoint(10).model), (found.strategy, STATE)):
        assert list(got) == list(expected)
        for name, array in expected.items():
            assert got[name].tobytes() == array.tobytes()
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)


def test_the_metadata_says_what_the_file_is(saved: Path) -> None:
    _, metadata = read(saved / "checkpoint_round_4.npz")
    assert metadata["format"] == 1
    assert metadata["app"]["name"] == "federation"
    assert (metadata["run_name"], metadata["round"], metadata["rounds"]) == ("first", 4, 20)
    assert metadata["settings"] == SETTINGS
    assert metadata["created"].endswith("+00:00")
    assert metadata["model"]["arrays"][0] == {"name": "layer0.weight", "shape": [2, 3], "dtype": "<f4"}
    assert len(metadata["strategy"]["sha256"]) == 64


def test_numpy_alone_reads_the_latest_model(saved: Path) -> None:
    with np.load(saved / LATEST, allow_pickle=False) as content:
        assert (content["model/layer11.weight"] == 21).all()


def test_only_the_newest_are_kept_and_the_latest_is_named(tmp_path: Path, saved: Path) -> None:
    store(tmp_path, keep=2).save(checkpoint(12), rounds=20)
    assert names(saved) == [LATEST, "checkpoint_round_10.npz", "checkpoint_round_12.npz"]
    assert os.readlink(saved / LATEST) == "checkpoint_round_12.npz"


def test_a_run_without_checkpoints_has_none(tmp_path: Path, rejected: Rejected) -> None:
    assert store(tmp_path).newest(SHAPES, rejected) is None
    assert rejected == {}


def test_a_truncated_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    newest = saved / "checkpoint_round_10.npz"
    os.truncate(newest, newest.stat().st_size // 2)
    found, _ = store(tmp_path).newest(SHAPES, rejected)
    assert found.round == 4
    assert rejected == {"checkpoint_round_10.npz": "is damaged: File is not a zip file"}
    assert names(saved) == [LATEST, "checkpoint_round_10.npz.rejected", "checkpoint_round_2.npz", "checkpoint_round_4.npz"]
    assert os.readlink(saved / LATEST) == "checkpoint_round_4.npz"


def test_arrays_that_were_exchanged_are_noticed(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    newest = saved / "checkpoint_round_10.npz"
    with zipfile.ZipFile(newest) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["model/layer3.weight.npy"] = content["model/layer4.weight.npy"]
    with zipfile.ZipFile(newest, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    found, _ = store(tmp_path).newest(SHAPES, rejected)
    assert found.round == 4
    assert rejected["checkpoint_round_10.npz"] == "is damaged: the arrays of the model are not those that were written"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"strategy": "FedAvg"}, "was made with strategy 'FedAvg', not 'FedAdam'"),
        ({"use-case": "anomaly-detection"}, "was made with use-case 'anomaly-detection', not 'digits'"),
        ({"seed": 43}, "was made with seed 43, not 42"),
    ],
)
def test_a_checkpoint_made_with_other_settings_is_not_used(tmp_path: Path, rejected: Rejected, other: dict, reason: str) -> None:
    store(tmp_path, **other).save(checkpoint(5), rounds=20)
    assert store(tmp_path).newest(SHAPES, rejected) is None
    assert rejected == {"checkpoint_round_5.npz": reason}


def test_a_checkpoint_of_another_run_is_not_used(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    saved.rename(tmp_path / "second")
    assert store(tmp_path, name="second").newest(SHAPES, rejected) is None
    assert set(rejected.values()) == {"is of run 'first', not of 'second'"}


def test_a_model_of_another_shape_is_not_used(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    assert store(tmp_path).newest(SHAPES | {"scale": (4,)}, rejected) is None
    assert rejected["checkpoint_round_2.npz"] == "holds scale with shape (); the use case has (4,)"


def test_a_setting_that_is_newer_than_the_checkpoint_does_not_matter(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    found, _ = store(tmp_path, invented_later=1).newest(SHAPES, rejected)
    assert found.round == 10


def test_what_was_rejected_does_not_push_new_checkpoints_out(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    fresh = store(tmp_path, keep=1, seed=7)
    assert fresh.newest(SHAPES, rejected) is None
    fresh.save(checkpoint(1), rounds=20)
    assert fresh.newest(SHAPES, rejected)[0].round == 1


def test_a_file_that_cannot_be_read_now_stays_where_it_is(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    (saved / "checkpoint_round_12.npz").symlink_to("gone")
    assert store(tmp_path).newest(SHAPES, rejected)[0].round == 10
    assert rejected == {"checkpoint_round_12.npz": "cannot be read: No such file or directory"}
    assert "checkpoint_round_12.npz" in names(saved)


def test_what_an_interrupted_attempt_left_is_removed(tmp_path: Path, saved: Path, rejected: Rejected) -> None:
    (saved / ".checkpoint_round_12.npz.partial").write_bytes(b"PK")
    store(tmp_path).newest(SHAPES, rejected)
    assert not [name for name in names(saved) if name.endswith(".partial")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return store(tmp_path_factory.mktemp("whole")).save(checkpoint(7), rounds=20).read_bytes()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_noticed_or_harmless(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    content = bytearray(whole)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    try:
        found, _ = read(path)
    except UnusableCheckpoint:
        return
    assert {name: array.tobytes() for name, array in found.model.items()} == {name: array.tobytes() for name, array in checkpoint(7).model.items()}
    assert {name: array.tobytes() for name, array in found.strategy.items()} == {name: array.tobytes() for name, array in STATE.items()}


def test_a_pickle_is_never_opened(tmp_path: Path, rejected: Rejected) -> None:
    directory = tmp_path / "first"
    directory.mkdir()
    np.savez(directory / "checkpoint_round_3.npz", **{"model/layer0.weight": np.array([object()])})
    assert store(tmp_path).newest(SHAPES, rejected) is None
    assert rejected == {"checkpoint_round_3.npz": "has no metadata.json"}
    with pytest.raises(UnusableCheckpoint, match="Object arrays cannot be loaded"):
        read_model(directory / "checkpoint_round_3.npz.rejected", SHAPES)


def test_another_run_can_start_with_the_model_of_a_checkpoint_or_of_a_finished_run(tmp_path: Path, saved: Path) -> None:
    np.savez(tmp_path / "model.npz", **MODEL)
    assert (read_model(saved / LATEST, SHAPES)["layer1.weight"] == 11).all()
    assert (read_model(tmp_path / "model.npz", SHAPES)["layer1.weight"] == 1).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not an archive", "is damaged: File is not a zip file"), (None, "cannot be read: No such file or directory")],
)
def test_an_initial_model_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "model.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableCheckpoint) as caught:
        read_model(path, SHAPES)
    assert str(caught.value) == f"the initial model {path} {reason}"


def test_a_full_disk_leaves_the_older_checkpoints_and_nothing_half_written(small_disk: Path, rejected: Rejected) -> None:
    store(small_disk).save(checkpoint(1), rounds=20)
    large = Checkpoint(2, {"weights": np.zeros(300_000)})
    with pytest.raises(OSError, match="No space left") as caught:
        store(small_disk).save(large, rounds=20)
    assert caught.value.errno == errno.ENOSPC
    assert names(small_disk / "first") == [LATEST, "checkpoint_round_1.npz"]
    assert store(small_disk).newest(SHAPES, rejected)[0].round == 1
