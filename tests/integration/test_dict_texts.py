# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Text in the place of dictionaries, as it comes from templates, command lines and tasks of other collections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


@pytest.fixture
def thing(zone: ModuleZone) -> Iterator[str]:
    yield "thing"
    for module in ("one_template", "one_security_group", "one_virtual_network"):
        zone.run(module, name="thing", state="absent")


@pytest.mark.parametrize("text", [
    "CPU=1\nMEMORY=2048\n",
    'CPU = "1"\n# how much\nMEMORY = 2048',
    "CPU=1 MEMORY=2048",
    "cpu=1, memory=2048",
    '{"CPU": 1, "MEMORY": 2048}',
    "<TEMPLATE><CPU>1</CPU><MEMORY>2048</MEMORY></TEMPLATE>",
])
def test_a_template_given_as_text_is_what_opennebula_reads_in_it(zone, thing, text):
    made = zone.changed("one_template", name=thing, template=text)
    assert made["vm_template"]["template"] == {"CPU": "1", "MEMORY": "2048"}
    zone.unchanged("one_template", name=thing, template={"CPU": 1, "MEMORY": 2048})


def test_vectors_and_repeated_attributes_of_a_text_are_kept(zone, thing):
    text = 'MEMORY=64\nCPU=0.1\nCONTEXT=[\n  NETWORK="YES",\n  NOTE="a, b = c" ]\nDISK=[SIZE="1"]\nDISK=[SIZE="2"]\n'
    template = zone.changed("one_template", name=thing, template=text)["vm_template"]["template"]
    assert template["CONTEXT"] == {"NETWORK": "YES", "NOTE": "a, b = c"}
    assert template["DISK"] == [{"SIZE": "1"}, {"SIZE": "2"}]


@pytest.mark.parametrize(("module", "options", "words"), [
    ("one_template", {"template": "CPU=1\nMEMORY"}, "template is text that is neither JSON nor in OpenNebula's syntax"),
    ("one_template", {"template": "just words"}, "template is text that is neither JSON"),
    ("one_template", {"template": "A=hello world"}, "template is text that is neither JSON"),
    ("one_service", {"user_inputs": "A=hello world"}, "user_inputs is text that is neither JSON nor pairs of a name, = and a value"),
    ("one_service", {"roles": "node"}, "roles is text that is neither JSON nor pairs of a name, = and a value"),
    ("one_image", {"template": "A=[B"}, "template is text"),
    ("one_vm_info", {"attributes": "LABELS\n"}, "attributes is text"),
    ("one_security_group", {"rules": "all"}, "rules is text, expected a list of dictionaries"),
    ("one_vm", {"nics": "NETWORK=private"}, "nics is text, expected a list of dictionaries"),
    ("one_vm", {"nics": ["private"]}, "one of nics is the text 'private', expected a dictionary"),
    ("one_template", {"template": "CPU=1;MEMORY=2048"}, "template is text that is neither JSON nor in OpenNebula's syntax"),
])
def test_a_text_that_says_nothing_is_refused_in_one_sentence(zone, module, options, words):
    zone.calls.clear()
    failed = zone.fails(module, name="thing", **options)
    assert failed["error"]["kind"] == "invalid" and words in failed["msg"]
    assert zone.calls == []


@pytest.mark.parametrize("rules", [
    'RULE=[RULE_TYPE="inbound",PROTOCOL="tcp",RANGE="22,80"]',
    ["RULE_TYPE=inbound, PROTOCOL=tcp, RANGE=\"22,80\""],
    '[{"RULE_TYPE": "inbound", "PROTOCOL": "tcp", "RANGE": "22,80"}]',
])
def test_a_list_of_vectors_may_be_text(zone, thing, rules):
    made = zone.changed("one_security_group", name=thing, rules=rules)
    assert made["security_group"]["rules"] == [{"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "22,80"}]


def test_a_line_break_ends_a_value_in_other_dictionaries_too(zone, thing):
    zone.changed("one_virtual_network", name="parent", template={"VN_MAD": "bridge", "BRIDGE": "br0"}, address_ranges=[{"IP": "10.0.0.1", "SIZE": 9}])
    made = zone.changed("one_virtual_network", name=thing, reservation="network=parent\nsize=3\n")
    assert made["virtual_network"]["reservation"]["size"] == 3
