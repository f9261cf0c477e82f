# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an operator's own Flower App comes from: a directory, a FAB or a git repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

DIRECTORY = "directory"
FAB = "fab"
GIT = "git"

FORM = "an absolute path of a directory or .fab file, or a git URL (https, ssh or file) with optional @REF and #subdirectory=PATH"

_SCHEMES = ("https", "ssh", "file")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SUBDIRECTORY = re.compile(r"subdirectory=([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)")


@dataclass(frozen=True)
class AppSource:
    """A parsed source. ``place`` is a path or the URL of a repository; ``ref`` and ``subdirectory`` are for git only."""

    kind: str
    place: str
    ref: str = "HEAD"
    subdirectory: str = ""


def parse_source(text: str) -> AppSource:
    """Parse the source of an app; ValueError says what is wrong with it.

    Examples: ``/srv/apps/mine``, ``/srv/apps/mine.fab``, ``https://git.example.org/team/app.git@v1.2#subdirectory=flower``.
    """
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError("it has blanks or control characters")
    if text.startswith("/"):
        return AppSource(FAB if text.endswith(".fab") else DIRECTORY, text)
    return _parse_git(text.removeprefix("git+"))


def _parse_git(text: str) -> AppSource:
    url = urlsplit(text)
    if url.scheme not in _SCHEMES:
        raise ValueError("it is neither an absolute path nor a git URL with https, ssh or file")
    if url.query or not url.path.strip("/") or bool(url.hostname) == (url.scheme == "file"):
        raise ValueError("it is not the URL of a repository")
    if url.password or (url.username and url.scheme != "ssh"):
        raise ValueError("it holds credentials, which belong to a credential helper of git on the SuperLink's VM")
    path, at, ref = url.path.rpartition("@")
    if not at:
        path, ref = url.path, "HEAD"
    if not _REF.fullmatch(ref) or ".." in ref:
        raise ValueError(f"'{ref}' is not a branch, tag or commit")
    subdirectory = _SUBDIRECTORY.fullmatch(url.fragment)
    if url.fragment and (not subdirectory or ".." in url.fragment.split("=")[1].split("/")):
        raise ValueError(f"'#{url.fragment}' is not #subdirectory=PATH")
    place = urlunsplit((url.scheme, url.netloc, path, "", ""))
    return AppSource(GIT, place, ref, subdirectory.group(1) if subdirectory else "")
