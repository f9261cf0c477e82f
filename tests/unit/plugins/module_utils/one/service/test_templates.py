# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Service templates: what is refused, and what counts as a change."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.service.templates import merged, normalize
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException

ROLES = [
    {"name": "superlink", "vm_template": "sl", "cardinality": 1, "max_vms": 1},
    {"name": "supernode", "vm_template": "sn", "cardinality": "2", "min_vms": 2, "parents": ["superlink"]},
]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "super-node"}, "role name 'super-node' is not of letters, digits and _"),
        ({"name": "superlink"}, "role name 'superlink' occurs twice"),
        ({"cardinality": 1}, "Cardinality 1 of role 'supernode' must be at least 2"),
        ({"cardinality": 5, "max_vms": 4}, "Cardinality 5 of role 'supernode' must be between 2 and 4"),
        ({"cardinality": "two"}, "cardinality of role 'supernode' is 'two'"),
        ({"parents": ["ghost"]}, "role 'supernode' has the parent 'ghost'"),
        ({"parents": ["supernode"]}, "roles supernode wait for each other"),
        ({"vm_template": None}, "role 'supernode' has no vm_template"),
        ({"user_inputs": {"A": "text"}}, "User input A is declared as 'text'"),
        ({"user_inputs": {"A": "O|list|x|a,b|c"}}, "the default of user input A is 'c', it must be one of a, b"),
        ({"user_inputs": {"A": "O|range|x|1..3|4"}}, "the default of user input A is '4', it must be between 1 and 3"),
        ({"user_inputs": {"A": "O|boolean|x||maybe"}}, "the default of user input A is 'maybe', it must be YES or NO"),
        ({"user_inputs": {"A": "O|list|x|a,b|a"}, "user_inputs_values": {"A": "c"}}, "A is 'c', it must be one of a, b"),
        ({"user_inputs_values": {"A": "c"}}, "A is not declared"),
        ({"user_inputs": ["A"]}, "user_inputs of role 'supernode' is ['A'], it must be a dictionary"),
        ({"cardinallity": 2}, "there is no key 'cardinallity' of role 'supernode', is cardinality meant?"),
        ({"Cardinality": 2}, "there is no key 'Cardinality' of role 'supernode', is cardinality meant?"),
        ({"frobnicate": 2}, "there is no key 'frobnicate' of role 'supernode'"),
        ({"parents": "superlink"}, "parents of role 'supernode' is 'superlink', it must be a list"),
        ({"on_hold": "maybe"}, "on_hold of role 'supernode' is 'maybe', it must be true or false"),
        ({"type": "container"}, "type is 'container', it must be one of vm, vr"),
        ({"custom_attrs": {"A": "O|text|x||"}, "user_inputs": {"B": "O|text|x||"}}, "in role 'supernode', custom_attrs and user_inputs are the same"),
        ({"vm_template_contents": "CPU = ["}, "in role 'supernode', template_contents is not a valid template: syntax error"),
        ({"template_contents": {"A": "x]]>y"}}, "roles/1/template_contents/A has ']]>', which OpenNebula cannot store"),
        ({"template_contents": {"A": {"B": "\x07"}}}, "roles/1/template_contents/A/B has '\\x07', which OpenNebula cannot store"),
        ({"user_inputs": {"A\ud800": "O|text|x||"}}, "has '\\ud800', which OpenNebula cannot store"),
        ({"user_inputs": {"my input": "O|text|x||"}}, "the user inputs of role 'supernode' cannot be kept: 'my input' is not a valid attribute name"),
        ({"user_inputs": {"1A": "O|text|x||"}}, "'1A' is not a valid attribute name: it begins with a digit"),
        ({"user_inputs": {"A": ["O|text|x"]}}, "user_inputs/A of role 'supernode' is a list, it must be a single value"),
        ({"user_inputs": {"A": "O|text|x"}, "user_inputs_values": {"A": {"x": 1}}}, "user_inputs_values/A of role 'supernode' is a dictionary, it must be"),
        ({"template_contents": {"BAD NAME": 1}}, "template_contents of role 'supernode' cannot be kept: 'BAD NAME' is not a valid attribute name"),
        ({"template_contents": {"9X": 1}}, "'9X' is not a valid attribute name: it begins with a digit"),
        ({"template_contents": {"CONTEXT": {"A B": 1}}}, "'A B' is not a valid attribute name"),
        ({"template_contents": {"A": {"B": {"C": 1}}}}, "A/B is nested too deep"),
        ({"template_contents": {"CONTEXT": {"A": "x\\"}}}, "CONTEXT/A of template_contents of role 'supernode' ends with a backslash"),
        ({"vm_template_contents": "A=x\\"}, "A of template_contents of role 'supernode' ends with a backslash"),
        ({"elasticity_policies": [{"type": "CHANGE", "colddown": 1}]}, "there is no key 'colddown' in elasticity_policies of role 'supernode'"),
        ({"scheduled_policies": [{"type": "CHANGE", "expression": "CPU > 1"}]}, "there is no key 'expression' in scheduled_policies of role 'supernode'"),
        ({"elasticity_policies": ["CHANGE"]}, "elasticity_policies of role 'supernode' must be a list of dictionaries"),
    ],
)
def test_what_oneflow_would_refuse_or_never_deploy_is_refused_by_name(change, sentence):
    with pytest.raises(OneException) as caught:
        normalize("fl", {"roles": [ROLES[0], {**ROLES[1], **change}]})
    assert caught.value.kind == "invalid"
    assert sentence in caught.value.message


def test_other_words_than_oneflows_are_refused():
    with pytest.raises(OneException) as caught:
        normalize("fl", {"deployment": "parallel", "roles": ROLES})
    assert "deployment is 'parallel', it must be one of none, straight" in caught.value.message
    with pytest.raises(OneException) as caught:
        normalize("fl", {})
    assert "it has no roles" in caught.value.message


@pytest.mark.parametrize(("name", "template", "sentence"), [
    ("fl", {"NAME": "other"}, "template names it 'other': its name is an option of its own"),
    ("fl", {"name": "other"}, "template names it 'other'"),
    ("a & b", {}, "OneFlow cannot store a name with & or <"),
    ("fl", {"roles": {"a": {}}}, "roles is not a list of dictionaries"),
    ("fl", {"roles": ["a"]}, "roles is not a list of dictionaries"),
    ("fl", {"ready_status_gates": True}, "there is no key 'ready_status_gates', is ready_status_gate meant?"),
    ("fl", {"user_inputs": {"a-b": "O|text|x||"}}, "the user inputs of the service cannot be kept: 'a-b' is not a valid attribute name"),
    ("fl", {"networks": {"N": "foo"}}, "network N is declared as 'foo', it must be M|network|description| |id:NUMBER"),
    ("fl", {"networks": {"N": {"id": 3}}}, "network N is declared as {'id': 3}"),
    ("fl", {"networks": {"N": "M|network|x| |id:seven"}}, "network N is declared as 'M|network|x| |id:seven'"),
    ("fl", {"networks": {"N": "M|network|x| |name:private"}}, "network N is declared as 'M|network|x| |name:private'"),
    ("fl", {"networks_values": ["x"]}, "networks_values has 'x', it must be a network's name with one of id, template_id, reserve_from"),
    ("fl", {"networks_values": [{"N": "7"}]}, "networks_values has {'N': '7'}, it must be a network's name with one of"),
    ("fl", {"ready_status_gate": "on"}, "ready_status_gate is 'on', it must be true or false"),
])
def test_what_no_service_can_start_with_is_refused(name, template, sentence):
    with pytest.raises(OneException) as caught:
        normalize(name, {"roles": ROLES, **template})
    assert caught.value.kind == "invalid"
    assert sentence in caught.value.message
    assert not caught.value.message.count("..")


def test_its_own_name_may_be_in_a_template():
    assert normalize("fl", {"NAME": "fl", "roles": ROLES}) == normalize("fl", {"name": "fl", "roles": ROLES})


def test_a_template_as_the_marketplace_has_it_is_understood():
    """OneKE's and others' templates: the contents of 6.x beside the user inputs of 7.x, and 0 for O."""
    contents = 'NIC = [\n  NAME = "NIC0", # the first\n  NETWORK_ID = "$Public" ]\nONEAPP_DNS = "$ONEAPP_DNS"\n'
    role = {"name": "vnf", "vm_template": 3, "cardinality": 1, "vm_template_contents": contents, "elasticity_policies": []}
    inputs = {"ONEAPP_DNS": "0|boolean|Enable DNS||YES", "ONEAPP_IP": "0|text|Address||", "ONEAPP_N": " O | range | n | 1..9 |5"}
    for key in ("custom_attrs", "user_inputs"):
        template = {"deployment": "straight", "roles": [role], key: inputs, "networks": {"Public": "M|network|Public| |id:"}}
        body = normalize("OneKE", {**template, "user_inputs_metadata": [{"NAME": "x"}]})
        assert body["user_inputs"] == inputs and "custom_attrs" not in body
        assert body["roles"][0]["template_contents"] == {
            "NIC": [{"NAME": "NIC0", "NETWORK_ID": "$Public"}], "ONEAPP_DNS": "$ONEAPP_DNS",
        }
        assert "vm_template_contents" not in body["roles"][0]


@pytest.mark.parametrize("contents", [{"NIC": {"NETWORK_ID": "$A"}}, {"nic": [{"NETWORK_ID": "$A"}]}, 'NIC=[NETWORK_ID="$A"]'])
def test_a_single_nic_is_a_list_because_oneflow_looks_for_networks_in_lists_only(contents):
    body = normalize("fl", {"roles": [{**ROLES[0], "template_contents": contents}]})
    assert body["roles"][0]["template_contents"] == {"NIC": [{"NETWORK_ID": "$A"}]}


@pytest.mark.parametrize("declaration", ["M|network|x| |id:7", "O | network | x | | template_id:0", "M|network|x| |reserve_from:", "M|network|x"])
def test_a_network_of_a_service_comes_from_another_one_or_has_no_default(declaration):
    networks = {"networks": {"N": declaration}, "networks_values": [{"N": {"reserve_from": "2", "extra": "SIZE=1"}}]}
    assert normalize("fl", {"roles": ROLES, **networks}).items() >= networks.items()


def test_policies_are_taken_as_oneflow_shows_them():
    policy = {"type": "CHANGE", "adjust": 1, "expression": "CPU > 80", "cooldown": 5, "true_evals": 0, "last_eval": 1, "expression_evaluated": "x"}
    assert normalize("fl", {"roles": [{**ROLES[0], "elasticity_policies": [policy]}]})["roles"][0]["elasticity_policies"] == [policy]


def test_numbers_written_as_text_become_numbers_because_oneflow_insists():
    assert normalize("fl", {"roles": ROLES})["roles"][1]["cardinality"] == 2


def as_stored() -> dict:
    body = normalize("fl", {"roles": ROLES})
    return {**body, "description": "", "deployment": "none", "registration_time": 1, "roles": body["roles"][::-1]}


@pytest.mark.parametrize("replace", [False, True])
def test_null_and_what_oneflow_writes_itself_say_nothing(replace):
    template = {"roles": ROLES, "deployment": None, "description": None, "networks": None, "registration_time": 5}
    roles = [{**role, "shutdown_action": None, "template_contents": None} for role in ROLES]
    for wanted in (template, {**template, "roles": roles}):
        assert merged(as_stored(), normalize("fl", wanted), replace) == as_stored()


@pytest.mark.parametrize("replace", [True, False])
def test_what_the_server_adds_and_the_order_of_roles_are_no_change(replace):
    assert merged(as_stored(), normalize("fl", {"roles": ROLES}), replace) == as_stored()


def test_merging_keeps_what_is_not_named_and_replacing_drops_it():
    there = {**as_stored(), "automatic_deletion": True}
    wanted = normalize("fl", {"roles": ROLES[:1]})
    kept = merged(there, wanted, replace=False)
    assert kept == there
    dropped = merged(there, wanted, replace=True)
    assert "automatic_deletion" not in dropped
    assert [role["name"] for role in dropped["roles"]] == ["superlink"]
    assert dropped["registration_time"] == 1


def test_a_changed_role_is_a_change_and_keeps_the_rest_of_it():
    wanted = normalize("fl", {"roles": [{"name": "supernode", "vm_template": "sn", "cardinality": 3}]})
    roles = {role["name"]: role for role in merged(as_stored(), wanted, replace=False)["roles"]}
    assert roles["supernode"]["cardinality"] == 3
    assert roles["supernode"]["parents"] == ["superlink"]


def test_the_text_of_old_vm_template_contents_is_compared_by_meaning():
    there = {"roles": [{"name": "a", "vm_template_contents": 'B="2"\nA = 1'}]}
    wanted = {"roles": [{"name": "a", "vm_template_contents": 'A="1"\nB="2"'}]}
    assert merged(there, wanted, replace=False) == there


def test_old_vm_template_contents_that_are_no_template_differ_from_those_that_are_wanted():
    there = {"roles": [{"name": "a", "vm_template_contents": "A = ["}]}
    assert merged(there, there, replace=False) == there
    wanted = {"roles": [{"name": "a", "vm_template_contents": "A = 1"}]}
    assert merged(there, wanted, replace=False) == wanted
