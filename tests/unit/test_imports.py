# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What may import what, read from the source: which room of the repository knows which. And what importing does to others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections.opennebula.flower"
UTILS = f"{COLLECTION}.plugins.module_utils"
# What only a checkout has, in a file that is shipped.
CHECKOUT = re.compile(
    r"(?:^ *(?:\$ )?|`)make (?:{targets})\b|\bpython3? -m (?:lab|scripts)\b|\binventories/lab|(?<![\w./*-])(?:lab|tests|bench|extensions|scripts)/|\blab zone\b"
    r"|\bpytest tests|zone in a box|\bansible-playbook\b.* playbooks/\w+\.yml".format(
        targets="|".join(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)),
    ),
    re.MULTILINE,
)
# Where a page speaks to those who work in a checkout, and the pages that are for nobody else.
FOR_DEVELOPERS = re.compile(r"^## (?:For developers|Development|Try it|In a box)$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PAGES_FOR_DEVELOPERS = (
    "CHANGELOG.md", "CONTRIBUTING.md", "changelogs/", "docs/decisions/", "docs/project/", "docs/style.md", "docs/tutorials/first-federation.md", "galaxy.yml",
)  # fmt: skip
LAB = re.compile(r"\blab zone\b|\bpython3? -m lab\b|\binventories/lab\b|(?<![\w./-])lab/")


class Import(NamedTuple):
    """An import of a module, or of a name from it. lazy: inside a function."""

    module: str
    name: str
    lazy: bool


class _Imports(ast.NodeVisitor):
    """Collects what a file imports when it runs: imports for type checkers alone do not."""

    def __init__(self, package: str) -> None:
        self._package = package.split(".")
        self._depth = 0
        self.found: list[Import] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        for statement in node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(alias.name, "", self._depth > 0) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self._package[: len(self._package) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        self.found += [Import(module, alias.name, self._depth > 0) for alias in node.names]


def imports(text: str, package: str) -> list[Import]:
    """Return what a source text imports."""
    visitor = _Imports(package)
    visitor.visit(ast.parse(text))
    return visitor.found


class Tree:
    """The Python files below a directory by module name, and what each imports."""

    def __init__(self, directory: str, name: str) -> None:
        self.imports: dict[str, list[Import]] = {}
        for path in sorted((REPOSITORY / directory).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / directory).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            module = ".".join((name, *(parts[:-1] if is_package else parts)))
            package = module if is_package else module.rpartition(".")[0]
            self.imports[module] = imports(path.read_text(), package)

    def below(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield each module of a package, or the module itself, with each name that it imports, in full."""
        for module, found in self.imports.items():
            if module == name or module.startswith(f"{name}."):
                yield from ((module, f"{item.module}.{item.name}") for item in found)

    def loads(self, module: str) -> set[str]:
        """Return what is loaded with a module at once: what it imports outside of functions, and the packages these are in."""
        loaded = set()
        for item in self.imports[module]:
            full = f"{item.module}.{item.name}"
            target = full if full in self.imports else item.module
            if not item.lazy and target in self.imports:
                loaded |= {target, *self.packages(target)} - {*self.packages(module), module}
        return loaded

    def packages(self, module: str) -> set[str]:
        """Return the packages that a module is in, as far as they have a file."""
        parts = module.split(".")
        return {".".join(parts[:length]) for length in range(1, len(parts))} & self.imports.keys()

    def circle(self) -> list[str]:
        """Return modules of which each loads the next and the last the first, empty if there are none.

        A module loads the packages that it is in, too.
        """
        finished: set[str] = set()

        def visit(module: str, path: list[str]) -> list[str]:
            if module in path:
                return path[path.index(module):]
            if module not in finished:
                for other in sorted(self.loads(module) | self.packages(module)):
                    circle = visit(other, [*path, module])
                    if circle:
                        return circle
                finished.add(module)
            return []

        return next(filter(None, (visit(module, []) for module in self.imports)), [])

    def in_order(self) -> list[str]:
        """Return the modules, each behind those that it loads."""
        order: dict[str, None] = {}

        def add(module: str) -> None:
            if module not in order:
                for other in sorted(self.loads(module) | self.packages(module)):
                    add(other)
                order[module] = None

        for module in self.imports:
            add(module)
        return list(order)


def loaded(package: str) -> dict[str, ModuleType]:
    """Return the modules of a package that are loaded."""
    return {name: module for name, module in sys.modules.items() if is_in(name, package)}


def contents(package: str) -> dict[str, str]:
    """Return what is in the modules of a package that are loaded: of tables what they hold."""
    return {
        f"{name}.{key}": repr(value) for name, module in loaded(package).items()
        for key, value in vars(module).items() if not key.startswith("__") and not isinstance(value, ModuleType)
    }


def changes(tree: Tree, package: str) -> list[str]:
    """Import the modules of a package one by one, and return what each changes in those that were there before."""
    assert tree.circle() == []
    found, kept = [], loaded(package)
    try:
        for name in kept:
            del sys.modules[name]
        for module in tree.in_order():
            before, there = contents(package), set(loaded(package))
            import_module(module)
            assert set(loaded(package)) - there == {module}
            after = contents(package)
            found += [f"{module} changes {name}" for name in before if after.get(name) != before[name]]
    finally:
        for name in loaded(package):
            del sys.modules[name]
        sys.modules.update(kept)
    return found


@pytest.fixture(scope="module")
def utils() -> Tree:
    return Tree("plugins/module_utils", UTILS)


@pytest.fixture(scope="module")
def lab() -> Tree:
    return Tree("lab", "lab")


def is_in(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def outside(tree: Tree, package: str, *allowed: str) -> list[str]:
    """Return the imports of a package from the collection, Ansible or the lab that are not allowed."""
    return [
        f"{module} imports {name}" for module, name in tree.below(package)
        if is_in(name, COLLECTION, "ansible", "lab") and not is_in(name, *allowed)
    ]


def test_opennebula_knows_neither_flower_nor_ansible_nor_the_lab(utils):
    assert outside(utils, f"{UTILS}.one", f"{UTILS}.one", f"{UTILS}.addresses", f"{UTILS}.scalars") == []


def test_transport_is_below_the_core_and_the_core_below_the_resources(utils):
    transport, core = f"{UTILS}.one.transport", f"{UTILS}.one.core"
    assert outside(utils, transport, transport) == []
    assert outside(utils, core, core, transport, f"{UTILS}.scalars") == []


def test_onegate_knows_ansible_in_the_base_of_its_modules_only(utils):
    allowed = (f"{UTILS}.onegate", f"{UTILS}.one.transport", f"{UTILS}.scalars")
    assert [line for line in outside(utils, f"{UTILS}.onegate", *allowed) if not line.startswith(f"{UTILS}.onegate.module ")] == []


def test_facts_about_flower_need_neither_opennebula_nor_the_programs_of_the_vms(utils):
    assert outside(utils, f"{UTILS}.flower", f"{UTILS}.flower") == []


def test_no_module_of_the_plugins_loads_itself(utils):
    assert utils.circle() == []


def test_no_module_of_the_lab_loads_itself(lab):
    assert lab.circle() == []


def test_one_file_of_the_lab_does_not_load_all_of_its_package(lab):
    assert [package for package in ("lab", "lab.core", "lab.driver") if lab.loads(package)] == []


def test_no_file_of_the_lab_changes_another_by_being_imported(lab):
    assert changes(lab, "lab") == []


@pytest.mark.parametrize("directory", ["plugins", "roles", "playbooks"])
def test_nothing_that_is_shipped_knows_the_lab(directory):
    found = []
    for path in sorted((REPOSITORY / directory).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            text = path.read_text(errors="replace")
            imported = imports(text, "") if path.suffix == ".py" else []
            if LAB.search(text) or any(is_in(item.module, "lab") for item in imported):
                found.append(str(path.relative_to(REPOSITORY)))
    assert found == []


def shipped() -> list[Path]:
    """The files of the repository that galaxy.yml leaves in the archive."""
    ignored = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["build_ignore"]
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True).split("\0")[:-1]
    return [
        REPOSITORY / name for name in listed
        if not any(fnmatch(part, pattern) for pattern in ignored for part in (name, name.split("/")[-1], *map(str, Path(name).parents)))
    ]


def for_users(name: str, text: str) -> str:
    """What a file says to those who have the installed collection alone."""
    if name.startswith(PAGES_FOR_DEVELOPERS):
        return ""
    return re.sub(r"<!--.*?-->", "", FOR_DEVELOPERS.sub("", text), flags=re.DOTALL) if name.endswith(".md") else text


def test_what_is_shipped_names_nothing_that_only_a_checkout_has():
    files = shipped()
    assert REPOSITORY / "docs/edge.md" in files and REPOSITORY / "lab/demo.sh" not in files and REPOSITORY / "Makefile" not in files
    found = []
    for path in files:
        name = path.relative_to(REPOSITORY).as_posix()
        if path.is_file() and path.suffix not in {".png", ".svg"} and not name.startswith("LICENSE"):
            found += [f"{name}: {match[0].strip()}" for match in CHECKOUT.finditer(for_users(name, path.read_text(errors="replace")))]
    assert found == []


def test_sections_for_developers_end_where_the_next_begins():
    page = "# Page\n\n`make test`\n\n## For developers\n\n`make test`\n\n## Use\n\n`make demo`\n"
    assert CHECKOUT.findall(for_users("docs/page.md", page)) == ["`make test", "`make demo"]
    assert CHECKOUT.findall(for_users("docs/project/page.md", page)) == []


def test_a_circle_is_found_and_an_import_inside_a_function_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    for package, lazy in (("lazy", "def f():\n    from room.c import b\n"), ("eager", "from room.c import b\n")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("from . import b\n")
        (tmp_path / package / "b.py").write_text("from .c import d\n")
        (tmp_path / package / "c.py").write_text(lazy.replace("room.c", "room.a"))
    assert Tree("lazy", "room").circle() == []
    assert Tree("eager", "room").circle() == ["room.a", "room.b", "room.c"]


def test_a_file_that_registers_something_in_another_one_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hall").mkdir()
    for name, text in {
        "__init__": "", "table": "ALL = {}\nPARTS = {'one': []}\n", "a": "from hall.table import ALL\nALL['a'] = 1\n",
        "b": "from hall import table\ntable.PARTS['one'].append('b')\n", "c": "from hall.table import ALL\nMORE = ALL | {'c': 1}\n",
    }.items():
        (tmp_path / "hall" / f"{name}.py").write_text(text)
    assert changes(Tree("hall", "hall"), "hall") == ["hall.a changes hall.table.ALL", "hall.b changes hall.table.PARTS"]
