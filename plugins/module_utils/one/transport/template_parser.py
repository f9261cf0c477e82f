# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading OpenNebula's template syntax, text and XML, as OpenNebula's own parser does."""

from __future__ import annotations

import re
from xml.parsers import expat

from .errors import TemplateSyntaxError
from .values import add

_NAME = re.compile(r"[A-Za-z0-9_]+")
_BLANK = re.compile(r"[ \t\n]*")
_EQUAL = re.compile(r"=[ \t]*(\n)?")
_OPEN = re.compile(r"\[[ \t\n]*")
_BARE = re.compile(r"[^=# \t\n,\[\]]+")
_CDATA_END = "]]>"


def parse(text: str) -> dict:
    """Return the attributes of a template, names in upper case. Raises TemplateSyntaxError."""
    return _XmlReader().template(text) if text.startswith("<") else _Parser(text).template()


class _Lexer:
    """The tokens of a text, as OpenNebula's own scanner finds them: the longest match, and what matches nothing is skipped.

    It looks for a value after an = until it found one, and for everything else otherwise.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._in_value = False
        self._last_line_end = text.rfind("\n")
        # Where a text was found last: looking for it from every value on would take quadratic time.
        self._found: dict[str, int] = {}

    def next(self) -> tuple[str, str, int]:
        """Return the next token's name, its text and its place; the name is $end after the last one."""
        while self._position < len(self._text):
            start = self._position
            found = self._value(start) if self._in_value else self._other(start)
            if found:
                return found
        return "$end", "", self._position

    def _other(self, start: int) -> tuple[str, str, int] | None:
        text = self._text
        start = _BLANK.match(text, start).end()
        self._position = start + 1
        sign = text[start:start + 1]
        if sign == "#" and start < self._last_line_end:
            self._position = text.index("\n", start) + 1
        elif sign == "=":
            match = _EQUAL.match(text, start)
            self._position = match.end()
            self._in_value = not match.group(1)
            return "EQUAL" if self._in_value else "EQUAL_EMPTY", "", start
        elif sign in (",", "]"):
            self._position = _BLANK.match(text, start + 1).end()
            return "COMMA" if sign == "," else "CBRACKET", "", start
        elif name := _NAME.match(text, start):
            self._position = name.end()
            return "VARIABLE", name.group(), start
        return None

    def _value(self, start: int) -> tuple[str, str, int] | None:
        text = self._text
        while text.startswith((" ", "\t"), start):
            start += 1
        line_end = self._find("\n", start)
        opening, bare, quoted = _OPEN.match(text, start), _BARE.match(text, start), self._quoted_end(start)
        ends = {
            "OBRACKET": opening.end() if opening else 0,
            "CCDATA": line_end if self._find(_CDATA_END, start) < line_end else 0,
            "QUOTED": quoted,
            "STRING": bare.end() if bare else 0,
        }
        name = max(ends, key=ends.__getitem__)
        end = ends[name]
        self._position = end or start + 1
        if not end:
            return None
        self._in_value = False
        value = text[start + 1:end - 1] if name == "QUOTED" else text[start:end]
        return "STRING" if name == "QUOTED" else name, value.replace('\\"', '"'), start

    def _quoted_end(self, start: int) -> int:
        """Position after the quoted string at the start, 0 if there is none.

        A quote after a backslash closes the string only when no other quote follows in the whole template.
        """
        if not self._text.startswith('"', start):
            return 0
        last = 0
        quote = self._text.find('"', start + 1)
        while quote >= 0:
            last = quote + 1
            if self._text[quote - 1] != "\\":
                break
            quote = self._text.find('"', quote + 1)
        return last

    def _find(self, wanted: str, start: int) -> int:
        if self._found.get(wanted, -1) < start:
            found = self._text.find(wanted, start)
            self._found[wanted] = found if found >= 0 else len(self._text)
        return self._found[wanted]


class _Parser:
    """The grammar; messages use the token names of OpenNebula's own errors."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lexer = _Lexer(text)

    def template(self) -> dict:
        result: dict = {}
        while True:
            token = self._lexer.next()
            if token[0] == "$end":
                return result
            name = _stored_name(self._expect(token, "VARIABLE", "$end"))
            add(result, name, self._attribute_value())

    def _attribute_value(self) -> str | dict:
        equal = self._lexer.next()
        if equal[0] == "EQUAL_EMPTY":
            return ""
        self._expect(equal, "EQUAL", "EQUAL or EQUAL_EMPTY")
        value = self._lexer.next()
        if value[0] == "OBRACKET":
            return self._vector()
        return self._expect(value, "STRING", "OBRACKET or CCDATA or STRING")

    def _vector(self) -> dict:
        vector: dict = {}
        token = self._lexer.next()
        if token[0] == "CBRACKET":
            return vector
        expected = "CBRACKET or VARIABLE"
        while True:
            name = self._expect(token, "VARIABLE", expected).upper()
            self._expect(self._lexer.next(), "EQUAL", "EQUAL")
            vector.setdefault(name, self._expect(self._lexer.next(), "STRING", "STRING"))
            token = self._lexer.next()
            if token[0] == "CBRACKET":
                return vector
            self._expect(token, "COMMA", "COMMA or CBRACKET")
            token, expected = self._lexer.next(), "VARIABLE"

    def _expect(self, token: tuple[str, str, int], name: str, expected: str) -> str:
        """Return the token's text. Raises TemplateSyntaxError, saying what was expected, when it has another name."""
        found, text, position = token
        if found == name:
            return text
        if found == "CCDATA":
            raise TemplateSyntaxError(f"syntax error, a value cannot contain {_CDATA_END}")
        line = self._text.count("\n", 0, position) + 1
        column = position - (self._text.rfind("\n", 0, position) + 1)
        raise TemplateSyntaxError(
            f"syntax error, unexpected {found}, expecting {expected} at line {line}, columns {column}:{column + 1}"
        )


def _stored_name(name: str) -> str:
    """Return the name that the server gives an attribute: XML allows neither a digit nor XML at its beginning."""
    return ("ONE_" if name[0].isdigit() or name.startswith("XML") else "") + name.upper()


class _XmlReader:
    """A template in the XML form: elements of the root are attributes, those with elements in them vectors.

    The server drops an element without any node in it; an empty CDATA section is a node.
    """

    def __init__(self) -> None:
        self._result: dict = {}
        self._path: list[str] = []
        self._vector: dict | None = None
        # Pieces of the text of an element; None for an element without any node in it.
        self._text: list[str] | None = None

    def template(self, text: str) -> dict:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        parser.StartCdataSectionHandler = lambda: self._add("")
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            raise TemplateSyntaxError("XML Template malformed") from error
        return self._result

    def _start(self, name: str, attributes: dict) -> None:
        self._path.append(name)
        if len(self._path) == 2:
            self._vector = None
        elif len(self._path) == 3 and self._vector is None:
            self._vector = {}
        if len(self._path) in (2, 3):
            self._text = None

    def _end(self, name: str) -> None:
        if len(self._path) == 3:
            if self._text is not None:
                self._vector[name.upper()] = "".join(self._text)
        elif len(self._path) == 2:
            if self._vector is not None:
                add(self._result, _stored_name(name), self._vector)
            elif self._text is not None:
                add(self._result, _stored_name(name), "".join(self._text))
        self._path.pop()

    def _add(self, text: str) -> None:
        if len(self._path) in (2, 3):
            if self._text is None:
                self._text = []
            self._text.append(text)


def _refuse(*_declaration: object) -> None:
    """Refuse a document type: a few lines of entities can stand for gigabytes."""
    raise TemplateSyntaxError("XML Template malformed")
