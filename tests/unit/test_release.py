# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What Galaxy's import and the release workflow want of the collection's description and changelog."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
RELEASES = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]


def test_the_description_keeps_galaxys_rules() -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]+", GALAXY["namespace"])
    assert re.fullmatch(r"[a-z][a-z0-9_]+", GALAXY["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", GALAXY["version"])
    assert (ROOT / GALAXY["readme"]).is_file()
    assert all(address.startswith("https://") for address in (GALAXY[name] for name in ("repository", "documentation", "homepage", "issues")))
    assert len(GALAXY["tags"]) <= 20
    assert [tag for tag in GALAXY["tags"] if not re.fullmatch(r"[a-z][a-z0-9_]*", tag)] == []
    assert [name for name, wanted in GALAXY["dependencies"].items() if not re.match(r">=\d", wanted)] == []


def test_no_module_returns_facts_by_its_name() -> None:
    assert [path.name for path in (ROOT / "plugins/modules").glob("*_facts.py")] == []


def test_every_plugin_says_since_when_it_is_there() -> None:
    sources = [*(ROOT / "plugins/modules").glob("*.py"), *(ROOT / "plugins/inventory").glob("*.py"), *(ROOT / "plugins/filter").glob("*.yml")]
    assert len(sources) > 60
    assert [path.name for path in sources if not re.search(r"^ *version_added: [\"']?\d+\.\d+\.\d+", path.read_text(), re.MULTILINE)] == []


def test_the_changelog_will_have_every_module() -> None:
    """Of a release the changelog has all modules that were new in it; the next one gets those that say the collection's version."""
    modules = {path.stem: re.search(r"^version_added: [\"']?([\d.]+)", path.read_text(), re.MULTILINE)[1] for path in (ROOT / "plugins/modules").glob("*.py")}
    listed = {module["name"]: version for version, release in RELEASES.items() for module in release.get("modules", [])}
    assert {name: since for name, since in modules.items() if since != GALAXY["version"] and listed.get(name) != since} == {}
