# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenNebula's templates: what is written is read back, by this collection, by a reader of its own and through a zone's documents."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from hypothesis import example, given

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import TemplateSyntaxError, parse, render
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import add
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import to_dict
from ansible_collections.opennebula.flower.tests.support.one_templates import SCRIPTS, TEMPLATES
from lab.core.call import parse_template
from lab.core.markup import attributes, element

# A value in quotes, as OpenNebula's scanner takes it: it ends at the first quote without a backslash before it.
QUOTED = r'"((?:[^"]|(?<=\\)")*+)"'
PAIR = re.compile(rf"([A-Z_][A-Z0-9_]*)={QUOTED}(, |\]\n?|\n|$)", re.DOTALL)
OPENING = re.compile(r"([A-Z_][A-Z0-9_]*)=\[(\]\n?)?")


@given(TEMPLATES)
@example({"A": "x\\", "B": {"C": ""}})
@example({"A": '"\\"', "B": {}, "C": ["", {"D": "\r\n"}]})
def test_every_template_that_is_written_is_read_back(part: int, template: dict[str, Any]) -> None:
    text = render(template)
    assert parse(text) == template
    assert (read_xml(text) if text.startswith("<") else read_text(text)) == template
    assert through_a_zone(text) == as_xml_has_it(template)


@given(SCRIPTS)
def test_every_text_is_a_template_or_refused_and_reads_the_same_once_written(part: int, text: str) -> None:
    try:
        template = parse(text)
    except TemplateSyntaxError:
        return
    if not any(key[0].isdigit() for value in template.values() if isinstance(value, dict) for key in value):
        assert parse(render(template)) == template


def read_text(text: str) -> dict[str, Any]:
    """Read the text form that this collection writes, and nothing else."""
    found: dict[str, Any] = {}
    position = 0
    while position < len(text):
        opening = OPENING.match(text, position)
        if not opening:
            pair = PAIR.match(text, position)
            assert pair and pair[3] in ("\n", ""), text[position:]
            add(found, pair[1], unescaped(pair[2]))
            position = pair.end()
            continue
        vector: dict[str, str] = {}
        position, closed = opening.end(), opening[2] is not None
        while not closed:
            pair = PAIR.match(text, position)
            assert pair and pair[1] not in vector and pair[3].startswith((",", "]")), text[position:]
            vector[pair[1]] = unescaped(pair[2])
            position, closed = pair.end(), pair[3].startswith("]")
        add(found, opening[1], vector)
    return found


def unescaped(text: str) -> str:
    """A backslash stands for itself, but before a quote."""
    return text.replace('\\"', '"')


def read_xml(text: str) -> dict[str, Any]:
    """Read the XML form."""
    found: dict[str, Any] = {}
    for child in ElementTree.fromstring(text):
        vector = {inner.tag: inner.text or "" for inner in child if inner.tag != "EMPTY" or inner.text}
        add(found, child.tag, vector if len(child) else child.text or "")
    return found


def through_a_zone(text: str) -> dict[str, Any]:
    """What a client reads of a template that it gave to a zone."""
    return to_dict(element("TEMPLATE", attributes(parse_template(text))))


def as_xml_has_it(value: Any) -> Any:
    """The zone answers with documents in XML, whose line ends are line feeds and in which a vector of nothing is an empty text."""
    if isinstance(value, dict):
        return {name: as_xml_has_it(item) or "" for name, item in value.items()}
    if isinstance(value, list):
        return [as_xml_has_it(item) or "" for item in value]
    return value.replace("\r\n", "\n").replace("\r", "\n")
