# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Services without a server: what each of the 16 states means to a wait, and which settings differ."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import states
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import settings as service_settings
from ansible_collections.opennebula.flower.plugins.module_utils.one.service.wait import ServiceWait
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException

FAILURES = {state for state in states.SERVICE if state.startswith("FAILED")}
END = {"UNDEPLOYING", "UNDEPLOYING_NETS", "DONE"}
POLICY = {"type": "CHANGE", "adjust": 1, "expression": "CPU > 80", "period": 60}


def document(service_state: str, /, **role: object) -> dict:
    nodes = [{"deploy_id": 3}]
    roles = [{"name": "node", "cardinality": 1, "state": 4 if service_state == "WARNING" else 2, "nodes": nodes, **role}]
    return {"ID": "6", "NAME": "flower", "TEMPLATE": {"BODY": {"state": states.SERVICE.index(service_state), "roles": roles}}}


class Zone:
    """Shows one service with one VM that is powered off, for ever."""

    place = "http://zone"

    def __init__(self, service: dict) -> None:
        self.service = service
        self.looks = 0

    def flow(self, method: str, path: str) -> dict:
        assert (method, path) == ("GET", "/service/6")
        self.looks += 1
        return {"DOCUMENT": self.service}

    def call(self, method: str, *arguments: object) -> dict:
        assert method == "one.vmpool.infoextended"
        state = str(states.VM.index("POWEROFF"))
        return {"VM": {"ID": "3", "NAME": "node_0", "STATE": state, "LCM_STATE": "0", "USER_TEMPLATE": {}}}


def outcome(state: str, wait: str, *arguments: object) -> str:
    zone = Zone(document(state))
    try:
        getattr(ServiceWait(zone, zone.service, 0.01, lambda text: None), wait)(*arguments)
    except OneException as error:
        assert state in error.message
        assert error.kind == "timeout" or zone.looks == 1, "a failure ends the wait at once"
        return error.kind
    return "done"


@pytest.mark.parametrize("state", states.SERVICE)
def test_each_state_ends_a_wait_for_a_service_that_runs_or_is_waited_out(state):
    expected = {"RUNNING": "done", **dict.fromkeys(FAILURES | END | {"HOLD", "WARNING"}, "wrong_state")}
    assert outcome(state, "running", {}) == expected.get(state, "timeout")


def test_a_cooldown_is_waited_out_only_if_asked():
    assert outcome("COOLDOWN", "running", {}, False) == "done"


def test_a_role_that_is_to_rest_makes_a_warning_no_failure():
    assert outcome("WARNING", "running", {}, True, frozenset({"node"})) == "done"


@pytest.mark.parametrize("state", states.SERVICE)
def test_each_state_ends_a_wait_for_a_service_that_is_removed_or_is_waited_out(state):
    expected = {"DONE": "done", "FAILED_UNDEPLOYING": "wrong_state", "FAILED_UNDEPLOYING_NETS": "wrong_state"}
    assert outcome(state, "gone") == expected.get(state, "timeout")


def test_any_number_of_vms_is_read_with_one_call_and_few_are_named(monkeypatch):
    service = document("DEPLOYING", cardinality=30, state=1, nodes=[{"deploy_id": number} for number in range(30)])
    zone, calls = Zone(service), []

    def call(method: str, *arguments: object) -> dict:
        calls.append(arguments)
        return {"VM": [{"ID": str(number), "STATE": "1", "LCM_STATE": "0", "USER_TEMPLATE": ""} for number in range(30)]}

    monkeypatch.setattr(zone, "call", call)
    with pytest.raises(OneException) as caught:
        ServiceWait(zone, service, 0, lambda text: None).running({})
    assert calls == [(-2, 0, 29, -2)]
    assert "role node 0/30 ready, VM 0 PENDING, VM 1 PENDING" in caught.value.message
    assert caught.value.message.endswith("VM 4 PENDING, and 25 more.")


def test_there_are_16_states_by_the_servers_numbers():
    assert len(states.SERVICE) == 16
    assert [service_facts.state(document(state)) for state in states.SERVICE] == list(states.SERVICE)


@pytest.mark.parametrize(("role", "desired"), [
    ({"max_vms": 4}, {"max_vms": "4"}),
    ({"elasticity_policies": [{**POLICY, "last_eval": 7, "true_evals": 1}]}, {"elasticity_policies": [{**POLICY, "period": "60"}]}),
    ({"cooldown": 5}, {"cardinality": 3, "user_inputs": {"A": 1}}),
])
def test_settings_that_mean_the_same_change_nothing(role, desired):
    body = service_facts.body(document("RUNNING", **role))
    assert service_settings.updated(body, {}, {"node": desired}) == body


def test_only_what_is_said_changes():
    body = service_facts.body(document("RUNNING", max_vms=4, cooldown=5, elasticity_policies=[POLICY]))
    desired = {"max_vms": 5, "elasticity_policies": []}
    new = service_settings.updated({**body, "description": "a"}, {"description": "b"}, {"node": desired})
    assert new["description"] == "b"
    assert new["roles"] == [{**body["roles"][0], "max_vms": 5, "elasticity_policies": []}]
    assert service_settings.said(new, {"description": "b"}, {"node": desired}) == {
        "description": "b", "roles": {"node": {"max_vms": 5, "elasticity_policies": []}}
    }


@pytest.mark.parametrize("policies", [{"elasticity_policies": [{**POLICY, "colddown": 1}]}, {"scheduled_policies": [POLICY]}])
def test_a_policy_says_only_what_oneflow_heeds(policies):
    with pytest.raises(OneException, match=r"^there is no key '(colddown|expression)' in"):
        service_settings.check({}, {"node": policies})
