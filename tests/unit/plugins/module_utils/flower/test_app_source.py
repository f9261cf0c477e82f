# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Where an operator's own app comes from."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.app_source import AppSource, parse_source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("/srv/apps/mine", AppSource("directory", "/srv/apps/mine")),
        ("/srv/apps/mine.fab", AppSource("fab", "/srv/apps/mine.fab")),
        ("https://git.example.org/team/app.git", AppSource("git", "https://git.example.org/team/app.git")),
        ("git+https://git.example.org/app", AppSource("git", "https://git.example.org/app")),
        ("https://git.example.org/app.git@v1.2", AppSource("git", "https://git.example.org/app.git", "v1.2")),
        ("https://git.example.org/app@feature/x#subdirectory=a/b", AppSource("git", "https://git.example.org/app", "feature/x", "a/b")),
        ("ssh://git@git.example.org:2222/app.git@0a1b2c3", AppSource("git", "ssh://git@git.example.org:2222/app.git", "0a1b2c3")),
        ("file:///srv/git/app.git@main", AppSource("git", "file:///srv/git/app.git", "main")),
    ],
)
def test_a_source_is_understood(text: str, source: AppSource) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("apps/mine", "neither an absolute path nor a git URL"),
        ("", "neither an absolute path nor a git URL"),
        ("ext::sh -c touch% /tmp/owned", "blanks"),
        ("ext::sh%20-c", "neither"),
        ("http://git.example.org/app.git", "neither"),
        ("git@git.example.org:app.git", "neither"),
        ("https://user:secret@git.example.org/app.git", "credentials"),
        ("https://token@git.example.org/app.git", "credentials"),
        ("https://git.example.org", "not the URL of a repository"),
        ("https:///app.git", "not the URL of a repository"),
        ("https://git.example.org/app.git?x=1", "not the URL of a repository"),
        ("https://git.example.org/app.git@--upload-pack=touch", "not a branch, tag or commit"),
        ("https://git.example.org/app.git@", "not a branch, tag or commit"),
        ("https://git.example.org/app.git@a..b", "not a branch, tag or commit"),
        ("https://git.example.org/app.git#subdirectory=../../etc", "is not #subdirectory=PATH"),
        ("https://git.example.org/app.git#subdirectory=/etc", "is not #subdirectory=PATH"),
        ("https://git.example.org/app.git#egg=app", "is not #subdirectory=PATH"),
        ("/srv/apps/my app", "blanks"),
        ("/srv/apps\n/etc", "control characters"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_source(text)
