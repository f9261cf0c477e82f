# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The files that the roles flower_superlink and flower_supernode write, rendered without a machine and without Ansible's own, slow templar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.filter.core import FilterModule as CoreFilters
from ansible.plugins.filter.mathstuff import FilterModule as MathFilters
from ansible.plugins.test.core import TestModule as CoreTests
from jinja2.meta import find_undeclared_variables
from jinja2.nativetypes import NativeEnvironment, NativeTemplate
from jinja2.runtime import Context

from ansible_collections.opennebula.flower.plugins.filter.flower import FilterModule
from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table

ROLES = Path(__file__).parents[2] / "roles"
# Whose files a machine of a role has.
OWNERS = {role: (f"flower_{role}", "_flower_firewall", "_flower_metrics") for role in ("superlink", "supernode")}
CA = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="
# Files by what is in them, so many at most.
_KEPT: dict[tuple[str, ...], str] = {}
_MOST_KEPT = 2000
# What the tasks of the roles find out.
FOUND = {
    "ansible_managed": "Managed by Ansible", "ansible_facts": {"os_family": "Debian"}, "ansible_check_mode": False, "flower_metrics_user": {"changed": False},
    "flower_superlink_disk": {"stat": {"path": "/dev/vdb"}}, "flower_supernode_gpu": True, "flower_superlink_host_name": "superlink",
    "flower_superlink_addresses": ["10.0.0.1"], "flower_supernode_published": {"FL_CA_CERT": CA}, "inventory_hostname": "localhost",
}  # fmt: skip


_GIVEN = {"flower_runtime", "flower_superlink_training", "flower_supernode_superlink", *(parameter.variable for parameter in table.PARAMETERS)}


def rendered(role: str, values: Mapping[str, Any], runtime: str) -> dict[str, str]:
    """Return the files of a role by name. values: typed, by role variable."""
    given = {**FOUND, **_found(role, values), "flower_runtime": runtime, **values}
    own = _variables(role)
    variables = {**_environment().globals, **own, **given, "of_the_role": own.keys() - given.keys(), "made": {}}
    shown = {name: repr(value) for name, value in given.items()}
    files = {}
    for name, (render, needed) in _renderers(role).items():
        # Most files are the same for most values.
        key = (role, name, *(shown[variable] for variable in needed if variable in shown))
        if key not in _KEPT:
            if len(_KEPT) >= _MOST_KEPT:
                _KEPT.clear()
            _KEPT[key] = render(variables)
        files[name] = _KEPT[key]
    return files


def _found(role: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the tasks find out, as far as it depends on the values."""
    if role == "supernode":
        return {"flower_supernode_superlink": values["flower_superlink_address"] or "10.0.0.1:9092"}
    return {"flower_superlink_training": {"initial_run": table.initial_run(values), "run_config": table.run_config(values)}}


@cache
def _renderers(role: str) -> dict[str, tuple[Callable[[dict[str, Any]], str], list[str]]]:
    """A function from variables to text for each file, of a template or of a task that holds the content itself, and the variables that it needs."""
    made = {}
    for owner in OWNERS[role]:
        for path in sorted((ROLES / owner / "templates").glob("*.j2")):
            text = path.read_text()
            made[path.name.removesuffix(".j2")] = partial(_render, text), _needed(role, text)
        for dest, content, item in _copies(owner):
            made[dest] = _copy(content, item), _needed(role, [content, item])
    return made


def _needed(role: str, value: Any) -> list[str]:
    """The variables that a template needs, those that other variables of the role need among them."""
    found: set[str] = set()
    waiting = _names(value)
    while waiting:
        found |= waiting
        # What is given has no other variables in it.
        own = waiting - FOUND.keys() - _GIVEN
        waiting = set().union(*(_names(_variables(role).get(name)) for name in own)) - found
    return sorted(found)


def _names(value: Any) -> set[str]:
    if isinstance(value, str):
        return find_undeclared_variables(_environment().parse(value))
    return set().union(*map(_names, value.values() if isinstance(value, dict) else value)) if isinstance(value, (dict, list)) else set()


def _copy(content: str, item: Mapping[str, str]) -> Callable[[dict[str, Any]], str]:
    return lambda variables: _render(content, {**variables, "item": {key: _render(value, variables) for key, value in item.items()}})


def _render(text: str, variables: dict[str, Any]) -> Any:
    template = _compiled(text)
    # Copies of the variables would take most of the time.
    return template.environment.concat(template.root_render_func(template.new_context(variables, shared=True)))


def _copies(owner: str) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """The destinations, contents and loop items of the tasks that write texts of their own."""
    for task in _tasks(owner):
        copy = task.get("ansible.builtin.copy", {})
        if "content" not in copy:
            continue
        for item in task.get("loop", [{}]):
            yield re.sub(r"{{ item\.(\w+) }}", lambda found, item=item: item[found[1]], copy["dest"]), copy["content"], item


@cache
def _tasks(owner: str) -> list[dict[str, Any]]:
    files = sorted((ROLES / owner / "tasks").glob("*.yml"))
    return [task for path in files for task in _flat(yaml.safe_load(path.read_text()) or [])]


def _flat(tasks: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        yield from _flat(task.get("block", []))


@cache
def _variables(role: str) -> dict[str, Any]:
    """The variables that the role and those that it includes have of themselves, templates among them."""
    found: dict[str, Any] = {}
    for owner in reversed(OWNERS[role]):
        for name in ("defaults", "vars"):
            found |= yaml.safe_load((ROLES / owner / name / "main.yml").read_text())
    for task in _tasks(f"flower_{role}"):
        if task.get("ansible.builtin.include_role", {}).get("name", "").removeprefix("opennebula.flower.") in OWNERS[role]:
            found |= task.get("vars", {})
    return found


class _Variables(Context):
    """Variables as Ansible has them: those of a role are templates themselves, those of a context are not."""

    def resolve_or_missing(self, key: str) -> Any:
        """Return a variable."""
        made = self.parent["made"]
        if key not in made and key in self.parent["of_the_role"]:
            made[key] = self._made(self.parent[key])
        return made[key] if key in made else super().resolve_or_missing(key)

    def _made(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._made(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._made(item) for item in value]
        return _render(value, self.parent) if isinstance(value, str) and "{" in value else value


class _Environment(NativeEnvironment):
    """Values of templates as Ansible has them: one expression keeps its type, several pieces are a text."""

    @staticmethod
    def concat(pieces: Iterable[Any]) -> Any:
        """Return the value of the pieces of a template."""
        pieces = list(pieces)
        return pieces[0] if len(pieces) == 1 else "".join(map(str, pieces))


@cache
def _environment() -> _Environment:
    made = _Environment(trim_blocks=True, keep_trailing_newline=True)
    made.context_class = _Variables
    made.filters |= {**CoreFilters().filters(), **MathFilters().filters()}
    made.filters |= {f"opennebula.flower.{name}": function for name, function in FilterModule().filters().items()}
    made.tests |= CoreTests().tests()
    return made


@cache
def _compiled(text: str) -> NativeTemplate:
    return _environment().from_string(text)
