# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a context holds reaches files and command lines: each hostile value of each parameter is refused, or changes no line but its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.tests.support.rendered_roles import rendered

ROLES = ("superlink", "supernode")
# Something harmless where the default is nothing, so that the same lines are there.
HARMLESS = {
    "FL_SUPERLINK_ADDRESS": "10.0.0.1:9092", "FL_NODE_CONFIG": "a=1", "FL_APP_CONFIG": "a=1", "FL_APP_SOURCE": "/srv/app",
    "FL_CHECKPOINT_DISK": "/dev/vdb", "FL_CHECKPOINT_NFS": "nas:/x", "FL_INITIAL_MODEL": "/app/checkpoints/x.npz",
}
# These belong together.
STORAGE = {"FL_S3_ENDPOINT": "https://s3", "FL_S3_BUCKET": "models", "FL_S3_ACCESS_KEY": "access", "FL_S3_SECRET_KEY": "secret", "FL_S3_PREFIX": "a"}
WORDS = [
    "x\nfrontend evil", "x\r[Service]", "x\0y", "x\u2028y", "x\x85y", "x\x0by", "--help", "-", "%n%i", "$(id)", "${HOME}", "`id`", "'", '"', '"; x', "\\",
    "../../etc/passwd", "/etc/cron.d/x", "a" * 100_000, "\ud800", "{{ 424242 + 1 }}", "[::1%x\nfrontend evil\n]:9092", "x #", "x\ty", "a=1\nb=2",
]  # fmt: skip
PARAMETERS = [p for p in table.PARAMETERS if not p.platform]


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


def outline(text: str) -> list[str]:
    """What each line is about, wherever any program may see a line end; of the lines of a command its options."""
    lines = re.split(r"[\n\r\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text)
    return [" ".join(re.findall(r"^\s*[\w.\[\]-]*|(?<=\s)--?[a-z][a-z-]*", line)) for line in lines]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_a_hostile_value_is_refused_in_one_line_or_changes_no_other(parameter: table.Parameter) -> None:
    for role in ROLES:
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
                    if name.endswith(".json"):
                        json.loads(text)
                    else:
                        assert outline(text) == lines[name], (name, values[parameter.variable])


def test_a_file_that_takes_a_text_as_it_is_fails_this_test() -> None:
    usual = rendered("superlink", table.validate({}, "superlink"), "container")["haproxy.cfg"]
    values = {**table.validate({}, "superlink"), "flower_gateway_max_connections": "10\nfrontend evil\n"}
    assert outline(rendered("superlink", values, "container")["haproxy.cfg"]) != outline(usual)
