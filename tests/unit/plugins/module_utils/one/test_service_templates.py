# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Service templates: what is refused, and what counts as a change."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.service_templates import merged, normalize

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


def test_numbers_written_as_text_become_numbers_because_oneflow_insists():
    assert normalize("fl", {"roles": ROLES})["roles"][1]["cardinality"] == 2


def as_stored() -> dict:
    body = normalize("fl", {"roles": ROLES})
    return {**body, "description": "", "deployment": "none", "registration_time": 1, "roles": body["roles"][::-1]}


@pytest.mark.parametrize("replace", [False, True])
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
