# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of role variables: a role's own begin with its name, those of a federation with the prefix that all roles share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
SHARED = ("flower_", "appliance_guest_agent")


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/defaults/main.yml")), ids=lambda path: path.parts[-3])
def test_variables_of_a_role_say_whose_they_are(path: Path) -> None:
    own = f"{path.parts[-3].lstrip('_')}_"
    assert [name for name in yaml.safe_load(path.read_text()) or {} if not name.startswith((own, *SHARED))] == []


@pytest.mark.parametrize("path", sorted(ROLES.iterdir()), ids=lambda path: path.name)
def test_a_role_says_whether_it_is_internal(path: Path) -> None:
    assert ("Internal role" in (path / "README.md").read_text()) == path.name.startswith("_")
