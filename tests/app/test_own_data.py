# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What use cases make of a node's own data: the documented layouts are read, anything else is refused in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from federation.data import DataError
from federation.usecases import Options, Share, anomaly_detection, image_classification, llm_fine_tuning

from .shipped import DEFAULTS

MINE = Share(0, 1, seed=42)
ROWS = "".join(f"{number},{number * 2},{int(number == 7)}\n" for number in range(20))


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., Options]:
    """Return options with this run configuration, underscores for hyphens; the data directory is empty."""

    def make(**settings: object) -> Options:
        given = {key.replace("_", "-"): value for key, value in settings.items()}
        return Options("pytorch", tmp_path, seed=1, settings=DEFAULTS | given)

    return make


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


class TestSensors:
    def test_rows_are_split_and_known_anomalies_are_not_trained_on(self, options, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(f"heat,noise,label\n{ROWS}")
        (train,), (held_out, labels, _) = anomaly_detection.load_data(MINE, options())
        assert len(train) + len(held_out) == 20 - (labels.sum() == 0)
        assert 7 not in train[:, 0]
        assert not set(train[:, 0]) & set(held_out[:, 0])

    def test_the_order_of_the_columns_does_not_matter_and_times_are_left_out(self, options, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("time,noise,heat\n" + "12:00,2,1\n" * 10)
        (tmp_path / "b.csv").write_text("heat,time,noise\n" + "1,13:00,2\n" * 10)
        (train,), _ = anomaly_detection.load_data(MINE, options())
        assert np.unique(train, axis=0).tolist() == [[1, 2]]

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("a.csv", "heat,label\n1,0\nwarm,0\n", r"a\.csv line 3 has 'warm' for heat, expected a number"),
            ("a.csv", "heat,label\nnan,0\n", r"a\.csv line 2 has 'nan' for heat"),
            ("a.csv", "heat,label\n1,yes\n", r"a\.csv line 2 has 'yes' for label, expected 0 or 1"),
            ("a.csv", "heat,noise\n1\n", r"a\.csv line 2 has 1 values, expected 2 as in the header"),
            ("a.csv", "1,2\n3,4\n", r"a\.csv starts with '1,2', expected CSV files with a header line"),
            ("a.csv", "", r"a\.csv starts with '', expected CSV files with a header line"),
            ("a.csv", "heat\n1\n2\n", r"has 2 rows, expected at least 10"),
            ("a.parquet", "", r"holds a\.parquet, expected CSV files"),
        ],
    )
    def test_what_is_no_such_table_is_refused(self, options, tmp_path: Path, name: str, text: str, words: str) -> None:
        (tmp_path / name).write_text(text)
        assert re.search(words, refusal(lambda: anomaly_detection.load_data(MINE, options())))

    def test_files_with_other_sensors_are_refused(self, options, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("heat\n1\n")
        (tmp_path / "b.csv").write_text("noise\n1\n")
        assert "b.csv has the sensors noise, expected heat as in" in refusal(lambda: anomaly_detection.load_data(MINE, options()))


class TestPictures:
    def test_arrays_are_split_and_scaled(self, options, tmp_path: Path) -> None:
        pixels = np.full((10, 28, 28), 255, np.uint8)
        np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(10))
        (images, labels), (held_out, others) = image_classification.load_data(MINE, options())
        assert images.shape == (8, 1, 28, 28)
        assert images.max() == held_out.max() == 1
        assert sorted([*labels, *others]) == list(range(10))

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"images": np.zeros((5, 9, 9), np.uint8), "labels": np.zeros(5, int)}, r"expected images \(n, 28, 28, 1\) of uint8"),
            ({"images": np.zeros((5, 28, 28)), "labels": np.zeros(5, int)}, "of float64"),
            ({"images": np.zeros((5, 28, 28), np.uint8), "labels": np.full(5, 10)}, "up to 10, expected whole numbers 0 to 9"),
            ({"pictures": np.zeros(5)}, "expected arrays images and labels"),
        ],
    )
    def test_other_arrays_are_refused(self, options, tmp_path: Path, arrays: dict, words: str) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        assert re.search(words, refusal(lambda: image_classification.load_data(MINE, options())))

    def test_a_folder_that_is_no_class_is_refused(self, options, tmp_path: Path) -> None:
        (tmp_path / "bird").mkdir()
        text = refusal(lambda: image_classification.load_data(MINE, options(image_classes="cat,dog")))
        assert text == f"{tmp_path / 'bird'} is not named like a class, expected one of: cat, dog (image-classes)"

    def test_bundled_pictures_are_no_stand_in_for_others_that_were_announced(self, options) -> None:
        assert "this node has no data of its own" in refusal(lambda: image_classification.load_data(MINE, options(image_channels=3)))

    def test_the_untrained_network_fits_the_settings(self) -> None:
        arrays = image_classification.initial_arrays(1, DEFAULTS | {"image-size": 8, "image-channels": 3, "image-classes": "cat,dog"})
        assert arrays["conv1.weight"].shape == (16, 3, 3, 3)
        assert arrays["hidden.weight"].shape == (64, 32 * 2 * 2)
        assert arrays["output.bias"].shape == (2,)


class TestTexts:
    @pytest.mark.parametrize(
        ("line", "text"), [('{"text": "Ça va"}', "Ça va"), ('{"instruction": "Add 1 and 1.", "output": "2"}', "Add 1 and 1.\n2")]
    )
    def test_lines_hold_text_or_instruction_and_output(self, tmp_path: Path, line: str, text: str) -> None:
        (tmp_path / "a.jsonl").write_text(f"{line}\n\n")
        assert llm_fine_tuning._texts(tmp_path) == [text]

    @pytest.mark.parametrize("line", ["plain", '"text"', '{"text": 1}', '{"instruction": "x"}', "{}"])
    def test_another_line_is_refused(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "a.jsonl").write_text(f'{{"text": "good"}}\n{line}\n')
        assert f"a.jsonl line 2 is {line!r}, expected an object with text" in refusal(lambda: llm_fine_tuning._texts(tmp_path))

    def test_without_data_there_is_nothing_to_train_on(self, tmp_path: Path) -> None:
        assert f"{tmp_path / 'none'} is empty or not there" in refusal(lambda: llm_fine_tuning._texts(tmp_path / "none"))

    def test_without_a_model_there_is_nothing_to_tune(self, tmp_path: Path) -> None:
        assert f"there is no {tmp_path / 'model' / 'config.json'}" in refusal(lambda: llm_fine_tuning._model_directory(tmp_path))
