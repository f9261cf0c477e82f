# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the context of a VM as OpenNebula's guest agent leaves it."""

from __future__ import annotations

import re
from pathlib import Path

_SHELL_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=((?:'[^']*'|\\')*)[ \t]*$", re.MULTILINE)
_SHELL_PIECE = re.compile(r"'([^']*)'|\\(')")
_EXPORT = re.compile(r'^export ([A-Za-z_][A-Za-z0-9_]*)="', re.MULTILINE)


class ContextMissing(Exception):
    """There is no context to read."""


def read_context(context_file: str, environment_file: str) -> tuple[dict[str, str], str]:
    """Return the context and the path it was read from.

    ``context_file`` is preferred because nothing gets lost in it; ``environment_file`` holds values without escaping.
    Raises ContextMissing when neither file can be read.
    """
    reasons = []
    for path, parse in ((context_file, parse_context), (environment_file, parse_environment)):
        try:
            return parse(Path(path).read_text(encoding="utf-8", errors="replace")), path
        except OSError as problem:
            reasons.append(f"{path}: {problem.strerror}")
    raise ContextMissing(f"the context of this VM cannot be read ({'; '.join(reasons)})")


def parse_context(text: str) -> dict[str, str]:
    """Parse ``KEY='value'`` lines in which a single quote is written as ``'\\''`` and values may span lines."""
    return {
        name: "".join(quoted or escaped for quoted, escaped in _SHELL_PIECE.findall(value))
        for name, value in _SHELL_ASSIGNMENT.findall(text)
    }


def parse_environment(text: str) -> dict[str, str]:
    """Parse ``export KEY="value"`` lines whose values are not escaped: one reaches to the quote before the next."""
    matches = list(_EXPORT.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return {
        match.group(1): text[match.end() : end].rstrip("\n").removesuffix('"')
        for match, end in zip(matches, ends, strict=True)
    }
