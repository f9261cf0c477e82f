# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Variables in attributes of a VM, such as $NAME or $NIC[IP, NETWORK="private"], read as strictly as oned reads them.

After a $ there must be a name, and after the name, if no bracket opens, one character that is neither a comma nor an
equal sign; a line break there does not count. What looks like a shell's variable is therefore often an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_PLAIN = re.compile(r"(?:[^$\\]|\\\$|\\[^$])+", re.DOTALL)
#: the tokens after a $; of equally long ones the first counts
_TOKENS = tuple((name, re.compile(pattern)) for name, pattern in (
    ("EQUAL", r"[ \t]*=[ \t]*"), ("COMMA", r"[ \t]*,[ \t]*"), ("OBRACKET", r"\[[ \t]*"), ("CBRACKET", r"[ \t]*\]"),
    ("VARIABLE", r"[A-Za-z0-9_]+"), ("EOA", r"."),
))
_VALUE = re.compile(r'"[^"]*"|[A-Za-z0-9]+')
_BEGIN = ("VARIABLE", "RSTRING")
#: what may follow the names and signs read so far
_NEXT = {
    ("VARIABLE",): ("OBRACKET", "EOA"),
    ("VARIABLE", "OBRACKET"): ("VARIABLE",),
    ("VARIABLE", "OBRACKET", "VARIABLE"): ("COMMA", "CBRACKET"),
    ("VARIABLE", "OBRACKET", "VARIABLE", "CBRACKET"): ("EOA",),
    ("VARIABLE", "OBRACKET", "VARIABLE", "COMMA"): ("VARIABLE",),
    ("VARIABLE", "OBRACKET", "VARIABLE", "COMMA", "VARIABLE"): ("EQUAL",),
    ("VARIABLE", "OBRACKET", "VARIABLE", "COMMA", "VARIABLE", "EQUAL"): ("STRING",),
    ("VARIABLE", "OBRACKET", "VARIABLE", "COMMA", "VARIABLE", "EQUAL", "STRING"): ("CBRACKET",),
    ("VARIABLE", "OBRACKET", "VARIABLE", "COMMA", "VARIABLE", "EQUAL", "STRING", "CBRACKET"): ("EOA",),
}


class VariableError(Exception):
    """A text with a $ that begins no variable; says in oned's words what is wrong."""


def fill(text: str, value: Callable[[list[str]], str]) -> str:
    """Return a text with its variables filled in.

    value: returns what a variable stands for; it gets its name alone, with an attribute, or with an attribute and the
    name and value of one that tells which vector is meant. Raises VariableError.
    """
    result, read, words, line = [], (), [], 0
    for token, word, begin, end in _tokens(text):
        expected = _NEXT.get(read) or (("$end", *_BEGIN) if result else _BEGIN)
        if token not in expected:
            if token == "$end" and not result:
                return ""
            raise VariableError(
                f"syntax error, unexpected {token}, expecting {' or '.join(expected)} at line {line}, columns {begin}:{end}"
            )
        if token == "RSTRING":
            result.append(word)
            line += word.count("\n")
        elif token == "EOA":
            result += [value(words), word]
            read, words = (), []
        else:
            read = (*read, token)
            words += [word if token == "STRING" else word.upper()] if token in ("VARIABLE", "STRING") else []
    return "".join(result)


def _tokens(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Give the tokens of a text: name, text, and the columns that messages tell."""
    position, begin, end, state = 0, 1, 1, "plain"
    while position < len(text):
        token, match = _token(text, position, state)
        position, begin, end = match.end(), end, end + len(match.group())
        if token == "$":
            state = "variable"
        elif token == "EQUAL":
            state = "value"
            yield token, "", begin, end
        elif token == "STRING":
            state = "variable"
            yield token, match.group().strip('"'), begin, end
        elif token == "EOA":
            again = match.group() == "$"
            state = "variable" if again else "plain"
            yield token, "" if again else match.group(), begin, end
        elif token:
            yield token, match.group(), begin, end
    if state == "variable":
        yield "EOA", "", begin, end
    yield "$end", "", begin, end


def _token(text: str, position: int, state: str) -> tuple[str, re.Match]:
    """Return the token at a position, without a name for a character that oned passes over."""
    skipped = re.compile(r".", re.DOTALL).match(text, position)
    if state == "plain":
        plain = _PLAIN.match(text, position)
        return ("RSTRING", plain) if plain else ("$" if skipped.group() == "$" else "", skipped)
    if state == "value":
        match = _VALUE.match(text, position)
        return ("STRING", match) if match else ("", skipped)
    found = [(name, match) for name, pattern in _TOKENS if (match := pattern.match(text, position))]
    return max(found, key=lambda token: len(token[1].group()), default=("", skipped))
