# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration values as Flower reads them."""

from __future__ import annotations

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.flower.run_config import inline_config, toml_document

KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=5)
# How flwr 1.41 cuts an inline configuration into pairs.
FLOWER_PAIRS = re.compile(r"(\S+?)=(\'[^\']*\'|\"[^\"]*\"|\S+)")


@given(CONFIGS)
def test_a_document_means_what_went_in(config: dict) -> None:
    assert tomllib.loads(toml_document(config)) == config


@given(CONFIGS)
def test_an_inline_configuration_means_what_went_in_the_way_flower_cuts_it(config: dict) -> None:
    lines = (f"{key} = {value}" for key, value in FLOWER_PAIRS.findall(inline_config(config)))
    assert tomllib.loads("\n".join(lines)) == config


@given(CONFIGS)
def test_an_inline_configuration_is_one_line(config: dict) -> None:
    assert "\n" not in inline_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"a..b": 1},
        {".a": 1},
        {"": 1},
        {"a b": 1},
        {"a": None},
        {"a": [1]},
        {"a": {}},
        {"a": float("nan")},
        {"a": 2**63},
        {"a": "\ud800"},
    ],
)
def test_refuses_what_flower_cannot_take(config: dict) -> None:
    with pytest.raises(ValueError, match=r".+"):
        toml_document(config)
