# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What Galaxy's import and the release workflow want of the collection's description and changelog."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
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


def since(path: Path) -> str:
    """The release that a plugin says it is new in."""
    return re.search(r"^ *version_added: [\"']?([\d.]+)", path.read_text(), re.MULTILINE)[1]


def listed(*kind: str) -> dict[str, str]:
    """What the changelog names as new, of one kind, with the release."""
    found = {}
    for version, release in RELEASES.items():
        entries = release
        for part in kind:
            entries = entries.get(part, {})
        found |= {entry["name"]: version for entry in entries}
    return found


def test_the_changelog_has_every_module_and_filter_with_its_release() -> None:
    """Those that are new in the collection's version come into it with its release."""
    filters = [path for path in (ROOT / "plugins/filter").glob("*.*") if "version_added" in path.read_text()]
    for paths, kind in (((ROOT / "plugins/modules").glob("*.py"), ["modules"]), (filters, ["plugins", "filter"])):
        there = {path.stem: since(path) for path in paths}
        assert {version for version in there.values() if version not in RELEASES} <= {GALAXY["version"]}
        assert {name: version for name, version in there.items() if version in RELEASES} == listed(*kind)


@pytest.mark.skipif(GALAXY["version"] not in RELEASES, reason="the fragments of the next release name what is new in it")
def test_the_changelog_has_every_role_and_playbook() -> None:
    assert {path.name for path in (ROOT / "roles").glob("[a-z]*")} == listed("objects", "role").keys()
    assert {path.stem for path in (ROOT / "playbooks").glob("*.yml")} == listed("objects", "playbook").keys()


def test_a_fragment_that_waits_is_of_the_next_release() -> None:
    """Once the changelog has the collection's version, `antsibull-changelog release --update-existing` takes a fragment in, or galaxy.yml names the next."""
    taken = {name for release in RELEASES.values() for name in release.get("fragments", [])}
    waiting = {path.name for path in (ROOT / "changelogs/fragments").glob("*.yml")} - taken
    assert waiting == set() or GALAXY["version"] not in RELEASES
