# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The tutorials' blocks of code, each with the mark that says what becomes of it in the tests.

A comment right above a block says so: ``<!-- run -->`` in a zone that boots nothing, ``<!-- run in the lab -->`` and ``<!-- run with Flower -->``
(`make tutorials`), each perhaps with ``: fails with SENTENCE``, ``<!-- file: PATH -->``, or ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PAGES = sorted((Path(__file__).parents[2] / "docs/tutorials").glob("*.md"))
_FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: the prose before it, what happens to it, with what, and its text."""

    prose: str
    mark: str
    argument: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    source, end = page.read_text(encoding="utf-8"), 0
    for match in _FENCE.finditer(source):
        mark, _colon, argument = (match["mark"] or "").partition(": ")
        yield Block(source[end : match.start()], mark, argument, match["text"])
        end = match.end()


def follow(page: Path, mark: str, directory: Path, environment: Mapping[str, str], replaced: Mapping[str, str] | None = None) -> str:
    """Do what a page says, in a directory: write its files and run the blocks of a mark, in one shell as a reader would; return what they printed."""
    script = ["set -eu -o pipefail"]
    for block in blocks(page):
        text = block.text
        for name, value in (replaced or {}).items():
            text = text.replace(name, value)
        if block.mark == "file":
            script += [f"mkdir -p {Path(block.argument).parent}", f"cat > {block.argument} <<'END_OF_FILE'\n{text}END_OF_FILE"]
        elif block.mark == mark and block.argument:
            sentence = block.argument.removeprefix("fails with ")
            script.append(f"! ( {text}) > failed.log 2>&1\ntr -s '[:space:]' ' ' < failed.log | sed \"s/''/'/g\" | grep -F \"{sentence}\"")
        elif block.mark == mark:
            script.append(text)
    ran = subprocess.run(["bash", "-c", "\n".join(script)], cwd=directory, env=dict(environment), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
    return ran.stdout
