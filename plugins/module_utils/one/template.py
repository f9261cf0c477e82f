# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenNebula's template syntax, read and written as OpenNebula's own parser understands it.

A template is a dictionary: names to strings, to dictionaries of strings (vector attributes), or to lists of
either (repeated attributes). Two properties of the server's parser shape this module:

- Inside double quotes only ``\\"`` is an escape; every other backslash stands for itself and must not be doubled.
- A backslash before the closing quote is taken for an escape, so such a value cannot be quoted. Templates that
  contain one are rendered in the XML form, which the server accepts wherever it accepts the text form.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .errors import TemplateSyntaxError
from .values import add, scalar

_NAME = re.compile(r"[A-Za-z0-9_]+")
# The server's parser accepts a leading digit, but keeps attributes as XML elements, which cannot start with one.
_STORABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLANK = re.compile(r"(?:[ \t]*#[^\n]*(?:\n|\Z)|[ \t\n\r]+)*")
_EQUAL = re.compile(r"[ \t]*=[ \t]*(\r?\n)?")
_OPEN = re.compile(r"[ \t]*\[[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_CLOSE = re.compile(r"[ \t\n\r]*\][ \t\n\r]*")
_BARE = re.compile(r"[^=# \t\n\r,\[\]]+")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CDATA_END = "]]>"


def parse(text: str) -> dict:
    """Return the attributes of a template given as text or XML, names in upper case.

    An attribute that occurs several times becomes a list. Raises TemplateSyntaxError.
    """
    if text.startswith("<"):
        return _parse_xml(text)
    return _Parser(text).template()


def render(template: dict) -> str:
    """Return the template as text that OpenNebula reads back to the same strings.

    Booleans become YES and NO, None an empty string, other scalars their text. Raises TemplateSyntaxError for
    names and values that OpenNebula cannot store.
    """
    attributes = [
        (_name(name), _normalized(name, item))
        for name, value in template.items()
        for item in (value if isinstance(value, (list, tuple)) else [value])
    ]
    if any(text.endswith("\\") for _name_, value in attributes for text in _texts(value)):
        return _render_xml(attributes)
    return "\n".join(f"{name}={_render_value(value)}" for name, value in attributes)


class _Parser:
    """Recursive descent over the grammar; messages use the token names of OpenNebula's own errors."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def template(self) -> dict:
        result: dict = {}
        self._take(_BLANK)
        while self._position < len(self._text):
            name = self._variable("VARIABLE")
            add(result, name, self._attribute_value())
            self._take(_BLANK)
        return result

    def _attribute_value(self) -> str | dict:
        equal = self._take(_EQUAL)
        if equal is None:
            raise self._unexpected("EQUAL or EQUAL_EMPTY")
        if equal.group(1):
            return ""
        if self._take(_OPEN):
            return self._vector()
        return self._string("OBRACKET or CCDATA or STRING")

    def _vector(self) -> dict:
        vector: dict = {}
        if self._take(_CLOSE):
            return vector
        expected = "CBRACKET or VARIABLE"
        while True:
            self._take(_BLANK)
            name = self._variable(expected)
            equal = self._take(_EQUAL)
            if equal is None or equal.group(1):
                raise self._unexpected("EQUAL")
            vector.setdefault(name, self._string("STRING"))
            if self._take(_CLOSE):
                return vector
            if not self._take(_COMMA):
                raise self._unexpected("COMMA or CBRACKET")
            expected = "VARIABLE"

    def _variable(self, expected: str) -> str:
        match = self._take(_NAME)
        if match is None:
            raise self._unexpected(expected)
        return match.group().upper()

    def _string(self, expected: str) -> str:
        line_end = self._text.find("\n", self._position)
        if _CDATA_END in self._text[self._position:line_end if line_end >= 0 else None]:
            raise TemplateSyntaxError(f"syntax error, a value cannot contain {_CDATA_END}")
        quoted_end = self._quoted_end()
        bare = _BARE.match(self._text, self._position)
        if quoted_end and (bare is None or quoted_end >= bare.end()):
            value = self._text[self._position + 1:quoted_end - 1]
            self._position = quoted_end
        elif bare:
            value = bare.group()
            self._position = bare.end()
        else:
            raise self._unexpected(expected)
        return value.replace('\\"', '"')

    def _quoted_end(self) -> int:
        """Position after the quoted string at the current position, 0 if there is none.

        A quote after a backslash closes the string only when no other quote follows in the whole template.
        """
        if not self._text.startswith('"', self._position):
            return 0
        last = 0
        quote = self._text.find('"', self._position + 1)
        while quote >= 0:
            last = quote + 1
            if self._text[quote - 1] != "\\":
                break
            quote = self._text.find('"', quote + 1)
        return last

    def _take(self, pattern: re.Pattern) -> re.Match | None:
        match = pattern.match(self._text, self._position)
        if match:
            self._position = match.end()
        return match

    def _unexpected(self, expected: str) -> TemplateSyntaxError:
        rest = self._text[self._position:].lstrip()
        found = next((token for token, pattern in _TOKENS if pattern.match(rest)), "STRING") if rest else "$end"
        line = self._text.count("\n", 0, self._position) + 1
        column = self._position - (self._text.rfind("\n", 0, self._position) + 1)
        return TemplateSyntaxError(
            f"syntax error, unexpected {found}, expecting {expected} at line {line}, columns {column}:{column + 1}"
        )


_TOKENS = (("EQUAL", _EQUAL), ("OBRACKET", _OPEN), ("CBRACKET", _CLOSE), ("COMMA", _COMMA), ("VARIABLE", _NAME))


def _name(name: object) -> str:
    text = str(name)
    if not _STORABLE_NAME.fullmatch(text):
        raise TemplateSyntaxError(f"{text!r} is no attribute name: it takes letters, digits and _, and no digit first")
    return text.upper()


def _normalized(name: str, value: object) -> str | dict:
    if isinstance(value, dict):
        return {_name(key): _storable(f"{name}/{key}", item) for key, item in value.items()}
    return _storable(name, value)


def _storable(name: str, value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        raise TemplateSyntaxError(f"{name} is nested too deep: a template has attributes and vectors of attributes")
    text = scalar(value)
    if _CDATA_END in text:
        raise TemplateSyntaxError(f"the value of {name} contains {_CDATA_END}, which OpenNebula cannot store")
    return text


def _texts(value: str | dict) -> list[str]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _render_value(value: str | dict) -> str:
    if isinstance(value, dict):
        return "[" + ", ".join(f"{name}={_quote(text)}" for name, text in value.items()) + "]"
    return _quote(value)


def _quote(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _render_xml(attributes: list[tuple[str, str | dict]]) -> str:
    body = "".join(f"<{name}>{_xml_value(name, value)}</{name}>" for name, value in attributes)
    return f"<TEMPLATE>{body}</TEMPLATE>"


def _xml_value(name: str, value: str | dict) -> str:
    if isinstance(value, dict):
        return "".join(f"<{key}>{_xml_text(f'{name}/{key}', text)}</{key}>" for key, text in value.items())
    return _xml_text(name, value)


def _xml_text(name: str, text: str) -> str:
    if _NOT_XML.search(text):
        raise TemplateSyntaxError(f"the value of {name} contains a control character, which OpenNebula cannot store")
    # The server drops elements without any node in them; an empty CDATA section keeps the attribute.
    return escape(text, {"\r": "&#13;"}) if text else "<![CDATA[]]>"


def _parse_xml(text: str) -> dict:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise TemplateSyntaxError("XML Template malformed") from error
    result: dict = {}
    for element in root:
        if len(element):
            add(result, element.tag.upper(), {child.tag.upper(): child.text or "" for child in element})
        else:
            add(result, element.tag.upper(), element.text or "")
    return result
