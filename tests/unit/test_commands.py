# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Commands get their arguments as they are: Ansible would put variables of the environment into them, also into what a person or a file says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.parsing.utils.yaml import from_yaml

ROOT = Path(__file__).parents[2]
FILES = [path for pattern in ("roles/*/tasks/**/*.yml", "roles/*/handlers/*.yml", "playbooks/**/*.yml") for path in sorted(ROOT.glob(pattern))]
# A dollar, or what may bring one: a document, or pip's own, which takes addresses with passwords.
HOLDS_A_DOLLAR = re.compile(r"\$|to_json|'pip'|/bin/pip")
_WITHIN = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")


def commands(content: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield name and arguments of the tasks that run a command, and the text of what the arguments are made from."""
    if isinstance(content, list):
        for part in content:
            yield from commands(part)
    elif isinstance(content, dict):
        if isinstance(content.get("ansible.builtin.command"), dict):
            given = content["ansible.builtin.command"]
            yield content.get("name", ""), given, f"{given.get('argv')} {content.get('vars')}"
        for within in _WITHIN:
            yield from commands(content.get(within))


def test_no_variable_of_the_environment_gets_into_an_argument() -> None:
    found = [(path, name, given) for path in FILES for name, given, text in commands(from_yaml(path.read_text())) if HOLDS_A_DOLLAR.search(text)]
    assert len(found) > 10
    assert [(str(path.relative_to(ROOT)), name) for path, name, given in found if given.get("expand_argument_vars") is not False] == []
