# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenNebula's template syntax, against the grammar of OpenNebula 7.4; what holds for every template is in tests/fuzz."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import TemplateSyntaxError, parse, render
from ansible_collections.opennebula.flower.tests.support.one_templates import AWKWARD, NAMES, UNSTORABLE


def test_quotes_are_escaped_and_backslashes_stay_single():
    assert render({"A": 'say "hi"', "B": r"C:\temp\n"}) == 'A="say \\"hi\\""\nB="C:\\temp\\n"'


def test_a_backslash_at_the_end_is_rendered_as_xml_because_the_text_form_has_no_way_to_say_it():
    text = render({"A": "dir\\", "B": ""})
    assert text == "<TEMPLATE><A>dir\\</A><B><![CDATA[]]></B></TEMPLATE>"
    assert parse(text) == {"A": "dir\\", "B": ""}


def test_names_are_read_and_written_in_upper_case():
    assert parse('context = [ network = "YES" ]\nmemory = 128') == {"CONTEXT": {"NETWORK": "YES"}, "MEMORY": "128"}
    assert render({"memory": 128}) == 'MEMORY="128"'


def test_yaml_booleans_and_nothing_become_opennebula_words():
    assert render({"A": True, "B": False, "C": None, "D": 0, "E": 0.5}) == 'A="YES"\nB="NO"\nC=""\nD="0"\nE="0.5"'


def test_repeated_attributes_are_lists():
    text = 'DISK=[IMAGE_ID="1"]\nDISK=[IMAGE_ID="2"]\n'
    assert parse(text) == {"DISK": [{"IMAGE_ID": "1"}, {"IMAGE_ID": "2"}]}
    assert parse(render(parse(text))) == parse(text)


def test_comments_blank_lines_empty_values_and_line_breaks_inside_vectors_are_read():
    text = '# a comment\n\nEMPTY=\n  NIC = [\n  NETWORK = "a, b",\n  IP = 10.0.0.1 ]\n# the end\n'
    assert parse(text) == {"EMPTY": "", "NIC": {"NETWORK": "a, b", "IP": "10.0.0.1"}}


def test_a_quote_after_a_backslash_closes_the_value_only_if_no_other_quote_follows():
    assert parse('A="x\\"') == {"A": "x\\"}
    assert parse('A="x\\"y"') == {"A": 'x"y'}


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("NIC = [ A = 1 # why\n, B = 2 # and that\n]", {"NIC": {"A": "1", "B": "2"}}),
        ("NIC = [ # why\n A = 1 ]", {"NIC": {"A": "1"}}),
        ("A = 1 # why\nB = 2", {"A": "1", "B": "2"}),
        ("A = == 5", {"A": "5"}),
        ("A = , x;\nB = 2;", {"A": "x;", "B": "2;"}),
        ("1A = 2\nXMLA = 3", {"ONE_1A": "2", "ONE_XMLA": "3"}),
        ("A = [ B = 1, B = 2 ]", {"A": {"B": "1"}}),
        ("A = []", {"A": {}}),
        ("<T><A><B/></A><C/><D><![CDATA[]]></D><E>1</E></T>", {"A": {}, "D": "", "E": "1"}),
        ("<T><A><B>x</B><B>y</B></A><xmla>1</xmla></T>", {"A": {"B": "y"}, "XMLA": "1"}),
    ],
)
def test_odd_texts_are_read_as_the_server_reads_them(text, template):
    assert parse(text) == template


@given(NAMES, st.booleans(), AWKWARD, UNSTORABLE, AWKWARD)
def test_what_xml_cannot_carry_is_refused_in_reading_and_writing(name, xml, before, character, after):
    value = before + character + after
    with pytest.raises(TemplateSyntaxError):
        render({name: value})
    with pytest.raises(TemplateSyntaxError):
        parse(f"<T><{name}>{value}</{name}></T>" if xml else f'{name}="{value}"')


@pytest.mark.parametrize("part", ['A="1" ', "NIC=[A=1, B=x] ", 'A="\\"" ', "#", "A= ", 'A="', "\n", "&amp;"])
@pytest.mark.parametrize("whole", ["{}", "<T><A>{}</A></T>"])
def test_the_work_grows_with_the_length_of_the_text_alone(part, whole):
    def least_time(part: str) -> float:
        text = whole.format(part)
        times = []
        for _repetition in range(5):
            start = time.process_time()
            with contextlib.suppress(TemplateSyntaxError):
                parse(text)
            times.append(time.process_time() - start)
        return min(times)

    # Work that grows with the square of the length would take 256 times as long.
    assert least_time(part * 16000) < 80 * least_time(part * 1000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("CPU = [", "unexpected $end, expecting CBRACKET or VARIABLE"),
        ("CPU", "unexpected $end, expecting EQUAL or EQUAL_EMPTY"),
        ("CPU = 1, 2", "unexpected COMMA, expecting $end"),
        ("= 5", "unexpected EQUAL, expecting $end"),
        ("CPU = 1\n# no line end", "unexpected VARIABLE, expecting EQUAL or EQUAL_EMPTY at line 2, columns 5:6"),
        ("CPU =", "unexpected $end, expecting OBRACKET or CCDATA or STRING"),
        ("NIC = [ A =\n]", "unexpected EQUAL_EMPTY, expecting EQUAL"),
        ("NIC = [ A = 1, ]", "unexpected CBRACKET, expecting VARIABLE"),
        ("NIC = [ A =\n= ]]> ]", "unexpected EQUAL_EMPTY"),
        ("NIC = [\nA = ]]> ]", "cannot contain ]]>"),
        ("NIC = [ A = 1 B = 2 ]", "unexpected VARIABLE, expecting COMMA or CBRACKET"),
        ("A = ]]>", "cannot contain ]]>"),
        ("<TEMPLATE><A></TEMPLATE>", "XML Template malformed"),
        ('<!DOCTYPE T [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><T><A>&b;</A></T>', "XML Template malformed"),
    ],
)
def test_what_is_no_template_is_refused_with_the_place(text, sentence):
    with pytest.raises(TemplateSyntaxError) as caught:
        parse(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ({"A B": "1"}, "'A B' is not a valid attribute name"),
        ({"1A": "1"}, "'1A' is not a valid attribute name"),
        ({"xmlA": "1"}, "'xmlA' is not a valid attribute name"),
        ({"A": {"B": {"C": "1"}}}, "A/B is nested too deep"),
        ({"A": "x]]>y"}, "the value of A contains ]]>"),
        ({"A": "bell\x07 \\"}, "the value of A contains a control character"),
    ],
)
def test_what_opennebula_cannot_store_is_refused_by_name(template, sentence):
    with pytest.raises(TemplateSyntaxError) as caught:
        render(template)
    assert sentence in str(caught.value)
