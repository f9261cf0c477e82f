# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where OpenNebula's guest agent leaves the context and the OneGate token of a VM, and how they are read.

Source: one-context 7.2.1. The agent copies the context CD's ``context.sh`` once per phase, in OpenNebula's own shell
quoting, and writes ``one_env`` without escaping anything; ``token.txt`` stays on the CD, which is mounted during a phase
only. Nothing here is ever handed to a shell.
"""

from __future__ import annotations

import re
from pathlib import Path

DIRECTORY = "/run/one-context"
ENVIRONMENT = f"{DIRECTORY}/one_env"
# The copies of the phases, the newest phase first, and last what may have lost something.
CONTEXT_FILES = (*(f"{DIRECTORY}/context.sh.{phase}" for phase in ("network", "online", "local")), ENVIRONMENT)

# The agent exports the whole context to its hooks, which the kernel refuses beyond 2 MiB.
_LIMIT = 4 << 20
_ASSIGNMENT = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)=((?:'[^']*'|\\')*)[ \t]*(?:\n|\Z)")
# Any other line, with all lines of what is quoted in it: a value is never taken for an assignment.
_OTHER = re.compile(r"[ \t]*#[^\n]*(?:\n|\Z)|(?:'[^']*'|\\[\s\S]|[^'\\\n])*(?:\n|\Z)")
_PIECE = re.compile(r"'([^']*)'|\\(')")
_EXPORT = re.compile(r'^export ([A-Za-z_][A-Za-z0-9_]*)="', re.MULTILINE)
_TOKEN = re.compile(r"[!-~]{1,4096}")


class ContextMissing(Exception):
    """There is no context, or no token, that could be used."""


def read_context(*paths: str) -> tuple[dict[str, str], str]:
    """Return the context and the path it was read from.

    The first of ``paths`` that is there counts; without any, the agent's own files in the order of CONTEXT_FILES.
    Raises ContextMissing.
    """
    reasons = []
    for path in paths or CONTEXT_FILES:
        try:
            return parse(_read(path)), path
        except OSError as problem:
            reasons.append(f"{path}: {problem.strerror}")
        except ContextMissing as problem:
            raise ContextMissing(f"the context of this VM cannot be used: {path} {problem}") from None
    raise ContextMissing(f"the context of this VM cannot be read ({'; '.join(reasons)})")


def read_token(context: dict[str, str] | None = None, environment: str = ENVIRONMENT) -> str:
    """Return the VM's OneGate token: ONEGATE_TOKEN of the context, else TOKENTXT in the file ``environment``.

    context: as read before; None to read it. Raises ContextMissing when there is no token, or when it is none.
    """
    if context is None:
        try:
            context = read_context()[0]
        except ContextMissing:
            context = {}
    token, source = context.get("ONEGATE_TOKEN", ""), "ONEGATE_TOKEN of the context"
    if not token:
        source = f"TOKENTXT in {environment}"
        try:
            token = parse_environment(_read(environment)).get("TOKENTXT", "").strip()
        except OSError as problem:
            reason = f"{environment}: {problem.strerror}"
            raise ContextMissing(f"the OneGate token of this VM cannot be read ({reason})") from None
    if not token:
        raise ContextMissing(f"this VM has no OneGate token: {source} is empty; its template needs TOKEN=YES in CONTEXT")
    if not _TOKEN.fullmatch(token):
        raise ContextMissing(f"{source} is not a valid OneGate token: it takes up to 4096 printable characters without spaces")
    return token


def parse(text: str) -> dict[str, str]:
    """Parse either form of the guest agent. Raises ContextMissing when the text ends within a value."""
    return parse_environment(text) if text.startswith("export ") else parse_context(text)


def parse_context(text: str) -> dict[str, str]:
    """Parse ``KEY='value'`` lines in which a single quote is written as ``'\\''`` and values may span lines.

    Raises ContextMissing when the text ends within a value.
    """
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        assignment = _ASSIGNMENT.match(text, position)
        if assignment:
            name, value = assignment.groups()
            values[name] = "".join(quoted or escaped for quoted, escaped in _PIECE.findall(value))
        found = assignment or _OTHER.match(text, position)
        if not found:
            raise ContextMissing("ends within a value")
        position = found.end()
    return values


def parse_environment(text: str) -> dict[str, str]:
    """Parse ``export KEY="value"`` lines whose values are not escaped: one reaches to the quote before the next.

    Of a name that is there twice the first counts: the agent's own lines come first, a later one may be part of a value.
    """
    matches = list(_EXPORT.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    values: dict[str, str] = {}
    for match, end in zip(matches, ends, strict=True):
        values.setdefault(match.group(1), text[match.end() : end].removesuffix("\n").removesuffix('"'))
    return values


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise ContextMissing(f"is larger than {_LIMIT >> 20} MiB")
    return content.decode("utf-8", errors="replace")
