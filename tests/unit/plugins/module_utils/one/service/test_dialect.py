# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Service templates and instantiations as OpenNebula 7 and OpenNebula 6 want them."""

from __future__ import annotations

import re
from functools import partial

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.service import dialect
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import parse
from ansible_collections.opennebula.flower.tests.support.one_servers import scripted, success

BODY = {
    "name": "fl",
    "user_inputs": {"ATT": "M|text|d||", "ATT2": "M|text|d||"},
    "roles": [
        {"name": "a", "template_id": 0, "user_inputs": {"R": "O|number|d||1"}},
        {"name": "b", "template_id": 0, "parents": ["a"], "template_contents": {"CPU": "2", "CONTEXT": {"X": "1"}}},
    ],
}
CONTEXTS = {0: {"NETWORK": "YES", "SSH_PUBLIC_KEY": "$USER[SSH_PUBLIC_KEY]"}}


@pytest.fixture
def client_of():
    def make(version: str) -> Client:
        with scripted(success(version)) as server:
            client = Client(server.url + "/RPC2", "user", "password")
            assert client.version
        return client

    return make


def test_opennebula_7_gets_its_own_names_and_a_type_for_each_role(client_of):
    document = dialect.render_template(client_of("7.4.0"), BODY, CONTEXTS)
    assert document == {**BODY, "roles": [{"type": "vm", **role} for role in BODY["roles"]]}


def test_opennebula_6_gets_the_old_names_and_contents_as_text(client_of):
    document = dialect.render_template(client_of("6.10.5"), BODY, CONTEXTS)
    assert document["custom_attrs"] == BODY["user_inputs"]
    assert "user_inputs" not in document
    first, second = document["roles"]
    assert (first["vm_template"], first["custom_attrs"]) == (0, {"R": "O|number|d||1"})
    assert not {"template_id", "type", "user_inputs", "template_contents"} & first.keys()
    assert parse(second["vm_template_contents"])["CPU"] == "2"


def test_opennebula_6_keeps_the_context_of_the_vm_template_and_passes_the_inputs_on(client_of):
    document = dialect.render_template(client_of("6.10.5"), BODY, CONTEXTS)
    contexts = [parse(role["vm_template_contents"])["CONTEXT"] for role in document["roles"]]
    assert contexts == [
        {**CONTEXTS[0], "ATT": "$ATT", "ATT2": "$ATT2", "R": "$R"},
        {**CONTEXTS[0], "X": "1", "ATT": "$ATT", "ATT2": "$ATT2"},
    ]


@pytest.mark.parametrize("value", ["plain", 'q"uote', r"C:\temp\0", r"a\\b", "x, y = [z]", ""])
def test_opennebula_6_pastes_every_value_in_unharmed(client_of, value):
    client = client_of("6.10.5")
    contents = dialect.render_template(client, BODY, CONTEXTS)["roles"][0]["vm_template_contents"]
    values = {name: dialect.render_value(client, text) for name, text in {"ATT": value, "ATT2": "2", "R": "3"}.items()}
    pasted = parse(paste(contents, values))
    for attributes in (pasted, pasted["CONTEXT"]):
        assert (attributes["ATT"], attributes["ATT2"], attributes["R"]) == (value, "2", "3")


def test_opennebula_6_does_not_mistake_an_input_for_the_beginning_of_another_one(client_of):
    contents = {"NOTE": "$ATT and $ATT2"}
    body = {**BODY, "roles": [{"name": "a", "template_id": 0, "template_contents": contents}]}
    document = dialect.render_template(client_of("6.10.5"), body, CONTEXTS)
    pasted = parse(paste(document["roles"][0]["vm_template_contents"], {"ATT": "one", "ATT2": "two"}))
    assert pasted["NOTE"] == "one and two"


def paste(contents: str, values: dict[str, str]) -> str:
    """Do as OneFlow 6 does: replace $NAME in the order of the text, with the rules of Ruby's gsub for backslashes."""
    for name in re.findall(r"\$(\w+)", contents):
        if name in values:
            replacement = re.sub(r"\\([\\0])", partial(_escaped, "$" + name), values[name])
            contents = contents.replace("$" + name, replacement)
    return contents


def _escaped(match: str, found: re.Match) -> str:
    return match if found.group(1) == "0" else found.group(1)


def test_an_instantiation_names_the_values_as_the_server_does(client_of):
    merge = {"name": "s", "user_inputs_values": {"A": "1"}, "roles": [{"name": "a", "user_inputs_values": {"R": "2"}}]}
    assert dialect.render_instantiation(client_of("7.4.0"), merge) == merge
    assert dialect.render_instantiation(client_of("6.10.5"), merge) == {
        "name": "s", "custom_attrs_values": {"A": "1"}, "roles": [{"name": "a", "custom_attrs_values": {"R": "2"}}],
    }


def test_both_dialects_are_read():
    old = {"custom_attrs": {"A": "M|text|d||"}, "custom_attrs_values": {"A": "1"}}
    new = {"user_inputs": {"A": "M|text|d||"}, "user_inputs_values": {"A": "1"}}
    for part in (old, new):
        assert dialect.declared_inputs(part) == {"A": "M|text|d||"}
        assert dialect.input_values(part) == {"A": "1"}
