# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Booleans, numbers, sizes and permissions are values, however they are written."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils import scalars


@pytest.mark.parametrize("value", [True, "yes", "YES", "True", " on ", "1", 1])
def test_what_says_yes_is_true(value: object) -> None:
    assert scalars.boolean(value) is True


@pytest.mark.parametrize("value", [False, "no", "NO", "False", "off", "0", 0])
def test_what_says_no_is_false(value: object) -> None:
    assert scalars.boolean(value) is False


@pytest.mark.parametrize("value", ["", "maybe", 2, None, [], {}])
def test_what_says_neither_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected true or false"):
        scalars.boolean(value)


@given(st.integers(0, 10**15))
def test_a_number_is_one_however_it_is_written(number: int) -> None:
    for written in (number, str(number), f"00{number}", f" {number} ", f"{number}.0", f"+{number}"):
        assert scalars.whole_number(written) == number


@pytest.mark.parametrize("value", ["", "1.5", 1.5, "1e3", "٣", True, None, "9" * 5000, float("nan"), float("inf")])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        scalars.whole_number(value)


@pytest.mark.parametrize("value", [0, 65536, "-1"])
def test_a_number_out_of_its_range_is_refused_with_the_range(value: object) -> None:
    with pytest.raises(ValueError, match="from 1 to 65535"):
        scalars.whole_number(value, 1, 65535)


@pytest.mark.parametrize(
    ("value", "size"),
    [(20480, 20480), ("20480", 20480), (20480.0, 20480), ("20G", 20480), ("20 GiB", 20480), ("20gb", 20480), ("0.5T", 524288), ("2048k", 2)],
)
def test_a_size_is_one_however_it_is_written(value: object, size: int) -> None:
    assert scalars.megabytes(value) == size


@pytest.mark.parametrize("value", ["20X", "", "-1", "1k", "G", "1.5", None, True, []])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a"):
        scalars.megabytes(value)


@given(st.integers(0, 0o777))
def test_permissions_are_three_octal_digits(mode: int) -> None:
    digits = f"{mode:03o}"
    assert scalars.permissions(digits) == scalars.permissions(f"0{digits}") == scalars.permissions(f"0o{digits}") == digits


@given(st.integers(0, 0o777))
def test_permissions_that_yaml_read_as_octal_are_refused_with_what_to_write(mode: int) -> None:
    number = yaml.safe_load(f"0{mode:03o}")
    with pytest.raises(ValueError, match=f"'{mode:03o}'") as refused:
        scalars.permissions(number)
    proposed = re.findall(r"'([^']*)'", str(refused.value))
    assert len(set(proposed)) == len(proposed) and all(scalars.permissions(digits) == digits for digits in proposed)


def test_permissions_without_quotes_and_leading_zero_are_what_was_written() -> None:
    assert [scalars.permissions(yaml.safe_load(written)) for written in ("600", "640", "777")] == ["600", "640", "777"]


@pytest.mark.parametrize("value", [800, 1000, 6.4, "64", "6400", "688", "u=rw", True, None, -1, []])
def test_what_is_no_permissions_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="three octal digits"):
        scalars.permissions(value)
