# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The context as the guest agent leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.context_files import (
    ContextMissing,
    parse_context,
    parse_environment,
    read_context,
)

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)
# The agent's files are read as lines: what Python takes for a line end on top of \n is not one to a shell.
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))


@given(st.dictionaries(NAMES, VALUES))
def test_every_value_survives_in_the_context(context: dict[str, str]) -> None:
    lines = ("{}='{}'\n".format(name, value.replace("'", "'\\''")) for name, value in context.items())
    assert parse_context("# Context variables\n" + "".join(lines)) == context


def test_values_of_the_environment_are_not_escaped() -> None:
    text = 'export A="say "hi""\nexport B="two\nlines"\nexport C=""\nexport D="C:\\new $HOME"\n'
    assert parse_environment(text) == {"A": 'say "hi"', "B": "two\nlines", "C": "", "D": "C:\\new $HOME"}


def test_the_lossless_file_is_preferred(tmp_path: Path) -> None:
    (tmp_path / "context.sh").write_text("A='it'\\''s'\n")
    (tmp_path / "one_env").write_text('export A="other"\n')
    both = read_context(str(tmp_path / "context.sh"), str(tmp_path / "one_env"))
    assert both == ({"A": "it's"}, str(tmp_path / "context.sh"))
    only = read_context(str(tmp_path / "missing"), str(tmp_path / "one_env"))
    assert only == ({"A": "other"}, str(tmp_path / "one_env"))


def test_no_file_at_all() -> None:
    with pytest.raises(ContextMissing, match="/nowhere/a: No such file.*/nowhere/b: No such file"):
        read_context("/nowhere/a", "/nowhere/b")
