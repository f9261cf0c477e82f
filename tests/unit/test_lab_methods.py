# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of the lab's methods: it has what the files of the core hand over."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from lab.core import api
from lab.core.kinds import KINDS

FILES = [path for path in sorted(Path(api.__file__).parent.glob("*.py")) if path.stem not in ("__init__", "api")]


def test_the_table_has_the_methods_of_every_file_and_each_once():
    modules = [import_module(f"lab.core.{path.stem}") for path in FILES]
    assert sorted(name for module in modules for name in getattr(module, "METHODS", ())) == sorted(api.METHODS)


def test_every_kind_has_its_methods_and_its_pool():
    wanted = {f"one.{kind.name}.{name}" for kind in KINDS.values() for name in kind.methods}
    wanted |= {f"one.{kind.name}pool.info" for kind in KINDS.values() if kind.pool}
    assert wanted - set(api.METHODS) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_uses_or_hands_over_each_of_its_functions(path):
    tree = ast.parse(path.read_text())
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("_")}
    assert own - {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} == set()
