# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/style.md, as far as a program can read it: words that prose does not use, and names of tasks that say what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROSE = [
    path
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md", "apps/*/README.md", "plugins/modules/*.py", "plugins/filter/*.yml", "plugins/inventory/*.py",
                    "plugins/doc_fragments/*.py", "plugins/module_utils/contextualization.py", "roles/*/meta/argument_specs.yml")
    for path in sorted(ROOT.glob(pattern))
    if path.name not in {"CHANGELOG.md", "style.md"}
]  # fmt: skip
# The column "not" of docs/style.md as far as a word is always wrong, and wordings that no reader needs to work out.
WRONG = re.compile(
    r"\b(?:bears?|bore|borne) (?:\S+ ){0,2}malicious|\baggregators?\b|\bhypervisor nodes?\b|\buser data\b|\bcontextualization scripts?\b|\bcustomers?\b"
    r"|\bto be had\b|\bthat there is not\b",
    re.IGNORECASE,
)
# "'x' is no address"; "there is no address" is all right.
IS_NO = re.compile(r"(?<!there )\b(?:is|are) no (?!such\b)[a-z]+", re.IGNORECASE)
CODE = [path for pattern in ("plugins/**/*.py", "playbooks/files/*.py", "roles/*/files/**/*.py") for path in sorted(ROOT.glob(pattern))]
# Where every machine is a VM, it is called one.
MACHINE = re.compile(r"(?<!virtual )\bmachines?\b(?! type)", re.IGNORECASE)
ABOUT_VMS = [ROOT / "docs/tenancy.md", *(ROOT / f"plugins/modules/{name}.py" for name in ("one_acl", "one_quota", "one_vm_info"))]
PLAYBOOKS = sorted(path for path in (ROOT / "playbooks").rglob("*.yml") if path.parent.name != "vars")
IMPERATIVES = """
    Add Address Admit Allow Ask Assess Bind Bring Build Change Check Choose Compare Configure Connect Copy Create Deploy Derive Describe Disable
    Divide Download Draw Drop Empty Enable Enlarge Evacuate Export Fetch Find Follow Gather Get Give Go Hand Hold Identify Install Keep Learn Leave
    Limit List Load Look Make Monitor Name Offer Open Pack Pass Plan Power Prepare Publish Pull Put Read Reboot Refuse Register Remember Remove
    Replace Report Reserve Restart Run Save Set Show Shrink Sign Start Stop Switch Take Tell Train Trust Try Turn Unpack Use Wait Warn Watch Withdraw
    Work Write
"""


def task_names(text: str) -> Iterator[str]:
    """Yield the names of the tasks in a list of tasks or plays."""

    def tasks(items: list[dict]) -> Iterator[str]:
        for item in items or []:
            if "name" in item:
                yield item["name"]
            for key in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
                yield from tasks(item.get(key))

    yield from tasks(yaml.safe_load(text))


def examples(module: Path) -> str:
    """The EXAMPLES of a module."""
    for statement in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name) and statement.targets[0].id == "EXAMPLES":
            return ast.literal_eval(statement.value)
    raise AssertionError(f"{module.name} has no EXAMPLES")


def messages(path: Path) -> Iterator[str]:
    """Yield the texts in a program that no reader of its source alone sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings)


def test_the_pages_are_found() -> None:
    assert len(PROSE) > 120
    assert len(CODE) > 200


def test_a_message_says_what_a_value_is_not_in_the_usual_words() -> None:
    assert [f"{path.relative_to(ROOT)}: {text}" for path in CODE for text in messages(path) if IS_NO.search(text)] == []


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_prose_uses_the_words_of_the_style_guide(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    patterns = [WRONG, *([MACHINE] if path in ABOUT_VMS else [])]
    assert [match[0] for pattern in patterns for match in pattern.finditer(text)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/modules").glob("*.py")), ids=lambda path: path.stem)
def test_examples_say_what_to_do(path: Path) -> None:
    names = list(task_names(examples(path)))
    assert names
    assert [name for name in names if name.split()[0] not in IMPERATIVES.split()] == []


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plays_and_tasks_say_what_to_do(path: Path) -> None:
    names = task_names(path.read_text(encoding="utf-8"))
    assert [name for name in names if name.split()[0].rstrip(",") not in IMPERATIVES.split()] == []
