# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a context holds reaches files and command lines: each hostile value of each parameter is refused, or changes no line but its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.core import FilterModule as CoreFilters
from ansible.plugins.test.core import TestModule as CoreTests
from jinja2.nativetypes import NativeEnvironment, NativeTemplate
from jinja2.runtime import Context

from ansible_collections.opennebula.flower.plugins.filter.flower import FilterModule
from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table

ROLES = Path(__file__).parents[3] / "roles"
TEMPLATES = {
    "superlink": [
        "haproxy.cfg.j2", "flower-superlink.service.j2", "flower-supervisor.service.j2", "opt-flower-checkpoints.mount.j2", "config.toml.j2",
        "flower-checkpoint-upload.service.j2", "flower-checkpoint-restore.service.j2", "supervisor.json.j2", "checkpoint-sync.json.j2", "registrar.json.j2",
        "flower-registrar.service.j2", "certificates.json.j2", "flower-certificates.service.j2",
    ],
    "supernode": ["flower-supernode.service.j2"],
}
# What the tasks of the roles find out.
FOUND = {
    "ansible_managed": "Managed by Ansible", "ansible_facts": {"os_family": "Debian"},
    "flower_superlink_training": {"initial_run": None, "run_config": {}}, "flower_superlink_disk": {"stat": {"path": "/dev/vdb"}}, "flower_supernode_gpu": True,
    "flower_superlink_host_name": "superlink", "flower_superlink_addresses": ["10.0.0.1"], "flower_supernode_superlink": "10.0.0.1:9092",
}
# Something harmless where the default is nothing, so that the same lines are there.
HARMLESS = {
    "FL_SUPERLINK_ADDRESS": "10.0.0.1:9092", "FL_NODE_CONFIG": "a=1", "FL_APP_CONFIG": "a=1", "FL_APP_SOURCE": "/srv/app",
    "FL_CHECKPOINT_DISK": "/dev/vdb", "FL_CHECKPOINT_NFS": "nas:/x", "FL_INITIAL_MODEL": "/app/checkpoints/x.npz",
}
# What no literal of Python begins with, so that a rendered file stays the text it is.
TEXT = "text: "
# These belong together.
STORAGE = {"FL_S3_ENDPOINT": "https://s3", "FL_S3_BUCKET": "models", "FL_S3_ACCESS_KEY": "access", "FL_S3_SECRET_KEY": "secret", "FL_S3_PREFIX": "a"}
WORDS = [
    "x\nfrontend evil", "x\r[Service]", "x\0y", "x\u2028y", "x\x85y", "x\x0by", "--help", "-", "%n%i", "$(id)", "${HOME}", "`id`", "'", '"', '"; x', "\\",
    "../../etc/passwd", "/etc/cron.d/x", "a" * 100_000, "\ud800", "{{ 424242 + 1 }}", "[::1%x\nfrontend evil\n]:9092", "x #", "x\ty", "a=1\nb=2",
]  # fmt: skip
PARAMETERS = [p for p in table.PARAMETERS if not p.platform and p.status == table.IMPLEMENTED]


def hostile(parameter: table.Parameter) -> Iterator[str]:
    """Hostile texts, alone and within a value that is all right."""
    usual = parameter.default or HARMLESS.get(parameter.name, "")
    for word in WORDS:
        yield word
        yield usual + word
        yield word + usual
        if parameter.kind == "node_config":
            yield f"key={word}"
            yield f'key="{word}"'
            yield f"{word}=1"


def checked(parameter: table.Parameter, text: str, role: str) -> dict[str, Any]:
    together = {**STORAGE, "FL_S3_REGION": "eu"} if parameter.name.startswith("FL_S3_") else {}
    return table.validate({f"ONEAPP_{name}": value for name, value in {**together, parameter.name: text}.items()}, role)


@cache
def role_variables(role: str) -> dict[str, Any]:
    directory = ROLES / f"flower_{role}"
    found: dict[str, Any] = {}
    for name in ("defaults", "vars"):
        found |= yaml.safe_load((directory / name / "main.yml").read_text())
    return found


class Variables(Context):
    """Variables as Ansible has them: those of a role are templates themselves, those of a context are not."""

    def resolve_or_missing(self, key: str) -> Any:
        """Return a variable."""
        value = super().resolve_or_missing(key)
        return self._made(value) if key in self.parent["of_the_role"] else value

    def _made(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._made(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._made(item) for item in value]
        return compiled(value).render(self.parent) if isinstance(value, str) and "{" in value else value


@cache
def environment() -> NativeEnvironment:
    made = NativeEnvironment(trim_blocks=True, keep_trailing_newline=True)
    made.context_class = Variables
    made.filters |= CoreFilters().filters() | {f"opennebula.flower.{name}": function for name, function in FilterModule().filters().items()}
    made.tests |= CoreTests().tests()
    return made


@cache
def compiled(text: str) -> NativeTemplate:
    return environment().from_string(text)


def rendered(role: str, values: dict[str, Any], runtime: str) -> dict[str, str]:
    """The files of a role. values: of the context."""
    given = {**FOUND, "flower_runtime": runtime, **values}
    own = role_variables(role)
    variables = {**own, **given, "of_the_role": own.keys() - given.keys()}
    directory = ROLES / f"flower_{role}" / "templates"
    return {name: compiled(f"{TEXT}{(directory / name).read_text()}").render(variables).removeprefix(TEXT) for name in TEMPLATES[role]}


def outline(text: str) -> list[str]:
    """What each line is about, wherever any program may see a line end; of the lines of a command its options."""
    lines = re.split(r"[\n\r\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text)
    return [" ".join(re.findall(r"^\s*[\w.\[\]-]*|(?<=\s)--?[a-z][a-z-]*", line)) for line in lines]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_a_hostile_value_is_refused_in_one_line_or_changes_no_other(parameter: table.Parameter) -> None:
    for role in TEMPLATES:
        if role not in parameter.applies:
            continue
        usual = checked(parameter, HARMLESS.get(parameter.name, parameter.default or STORAGE.get(parameter.name, "")), role)
        taken: list[dict[str, Any]] = []
        for text in hostile(parameter):
            try:
                values = checked(parameter, text, role)
            except table.ContextError as problem:
                assert all(error.isprintable() and len(error) < 1000 for error in problem.errors), text
                continue
            if values != usual and values not in taken:
                taken.append(values)
        for runtime in ("container", "native") if taken else ():
            lines = {name: outline(text) for name, text in rendered(role, usual, runtime).items()}
            for values in taken:
                for name, text in rendered(role, values, runtime).items():
                    assert "424243" not in text
                    if name.endswith(".json.j2"):
                        json.loads(text)
                    else:
                        assert outline(text) == lines[name], (name, values[parameter.variable])


def test_a_file_that_takes_a_text_as_it_is_fails_this_test() -> None:
    usual = rendered("superlink", table.validate({}, "superlink"), "container")["haproxy.cfg.j2"]
    values = {**table.validate({}, "superlink"), "flower_fleet_api_address": "[::1%x\nfrontend evil\n]:9092"}
    assert outline(rendered("superlink", values, "container")["haproxy.cfg.j2"]) != outline(usual)
