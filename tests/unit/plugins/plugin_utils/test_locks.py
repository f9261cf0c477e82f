# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock files of what images are baked from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.plugin_utils import locks
from ansible_collections.opennebula.flower.scripts.locks import PYTHON, requirement_sets

SETS = {name: requirements for name, requirements, _dependencies in requirement_sets()}
# Their index is not Python's own; a release is made where it can be reached.
OTHER_INDEX = {name for name, requirements in SETS.items() if any(each.endswith("+cpu") for each in requirements)}
LINE = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+ --hash=sha256:[0-9a-f]{64}")


def normalized(requirement: str) -> str:
    name, _equals, version = requirement.replace("===", "==").partition("==")
    return re.sub(r"[-_.]+", "-", name.split("[")[0]).lower() + (f"=={version}" if version else "")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "3.13").mkdir()
    (tmp_path / "3.13" / "some.txt").write_text(f"# a==1 b\na==1 --hash=sha256:{'0' * 64}\nb==2 --hash=sha256:{'1' * 64}\n")
    return tmp_path


@pytest.mark.parametrize("name", sorted(SETS.keys() - OTHER_INDEX))
def test_what_images_are_baked_from_is_locked_with_hashes(name: str) -> None:
    found = locks.lock(SETS[name], PYTHON)
    assert found is not None, f"make locks writes the lock file of {name} ({', '.join(SETS[name])})"
    lines = found.read_text().splitlines()[1:]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    pins = {normalized(line.split(" ")[0]) for line in lines}
    assert {normalized(each) for each in SETS[name]} <= pins | {pin.partition("==")[0] for pin in pins}


def test_a_lock_is_for_its_requirements_in_any_order(directory: Path) -> None:
    path = str(directory / "3.13" / "some.txt")
    assert locks.download_arguments(["b", "a==1"], "3.13", directory) == ["--no-deps", "--require-hashes", "--requirement", path]
    assert locks.install_arguments(["b", "a==1"], "3.13", directory) == ["--no-deps", "a==1", "b==2"]


@pytest.mark.parametrize(("requirements", "python"), [(["a==2", "b"], "3.13"), (["a==1"], "3.13"), (["a==1", "b"], "3.12"), (["a==1", "b"], "")])
def test_other_requirements_are_left_to_pip(directory: Path, requirements: list[str], python: str) -> None:
    assert locks.download_arguments(requirements, python, directory) == requirements
    assert locks.install_arguments(requirements, python, directory) == requirements


def test_the_source_is_the_lock_files_if_each_list_has_one(directory: Path) -> None:
    assert locks.source([["b", "a==1"]], "3.13", directory) == "locked"
    assert locks.source([["b", "a==1"], ["c"]], "3.13", directory) == "index"
    assert locks.source([["b", "a==1"]], "", directory) == "index"


@pytest.mark.parametrize(("requirement", "url", "wanted"), [
    ("torch==2.13.0+cpu", "https://index", True), ("torch==2.13.0+cpu", "", False), ("torch===2.13.0", "https://index", False),
])  # fmt: skip
def test_pytorch_for_the_cpu_comes_from_an_index_of_its_own(requirement: str, url: str, wanted: bool) -> None:
    assert ("--extra-index-url" in locks.index_arguments(["numpy", requirement], url)) is wanted


@pytest.mark.parametrize(("lines", "reason"), [
    ([], "no reason given"),
    (["WARNING: retrying", "ERROR: it is broken"], "it is broken"),
    (["ERROR: No matching distribution found for a", "ERROR: see above", "note: this is an issue"], "No matching distribution found for a"),
])  # fmt: skip
def test_pip_says_what_it_lacked_or_its_last_word(lines: list[str], reason: str) -> None:
    assert locks.reason(lines) == reason
