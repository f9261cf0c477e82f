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
from xml.sax.saxutils import escape

from .errors import TemplateSyntaxError
from .values import scalar

# The server keeps attributes as XML elements, which cannot start with a digit.
_STORABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CDATA_END = "]]>"


def parse(text: str) -> dict:
    """Return the attributes of a template given as text or XML, names in upper case.

    An attribute that occurs several times becomes a list. Raises TemplateSyntaxError.
    """
    from .template_parser import parse as parse_text

    wrong = _NOT_XML.search(text)
    if wrong:
        raise TemplateSyntaxError(f"the text contains {wrong.group()!a}, a character that OpenNebula cannot store")
    return parse_text(text)


def render(template: dict) -> str:
    """Return the template as text that OpenNebula reads back to the same strings.

    Booleans become YES and NO, None an empty string, other scalars their text. Raises TemplateSyntaxError for
    names and values that OpenNebula cannot store.
    """
    attributes = [
        (_attribute_name(name), _normalized(name, item))
        for name, value in template.items()
        for item in (value if isinstance(value, (list, tuple)) else [value])
    ]
    if any(text.endswith("\\") for _name_, value in attributes for text in _texts(value)):
        return _render_xml(attributes)
    return "\n".join(f"{name}={_render_value(value)}" for name, value in attributes)


def _name(name: object) -> str:
    text = str(name)
    if not _STORABLE_NAME.fullmatch(text):
        wrong = "it begins with a digit" if text[:1].isdigit() else "it takes letters, digits and _"
        raise TemplateSyntaxError(f"{text!r} is not a valid attribute name: {wrong}")
    return text.upper()


def _attribute_name(name: object) -> str:
    text = _name(name)
    if text.startswith("XML"):
        raise TemplateSyntaxError(f"{str(name)!r} is not a valid attribute name: OpenNebula renames what begins with XML")
    return text


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
    if _NOT_XML.search(text):
        raise TemplateSyntaxError(f"the value of {name} contains a control character, which OpenNebula cannot store")
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
    body = "".join(f"<{name}>{_xml_value(value)}</{name}>" for name, value in attributes)
    return f"<TEMPLATE>{body}</TEMPLATE>"


def _xml_value(value: str | dict) -> str:
    if isinstance(value, dict):
        # The server drops elements without any node in them; one that is dropped itself keeps the vector.
        return "".join(f"<{key}>{_xml_text(text)}</{key}>" for key, text in value.items()) or "<EMPTY/>"
    return _xml_text(value)


def _xml_text(text: str) -> str:
    # An empty CDATA section keeps the attribute.
    return escape(text, {"\r": "&#13;"}) if text else "<![CDATA[]]>"
