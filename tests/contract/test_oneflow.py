# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's OneFlow answers as the recorded ones of OpenNebula 7.4 and 6.10."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_played import SESSIONS, played
from flow_recordings import differences, load, load_vm, names, value_differences
from flow_session import COOLDOWN, DEPLOYING, FAILED_DEPLOYING, FAILED_SCALING, RUNNING, WARNING
from flow_world import ALICE, World, answer, started_world

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import section

#: the recorded service had been RUNNING for a moment in between
IGNORED = {("7.4", "GET.service.104_UNDEPLOYING"): ("log",)}
RECORDED = [(release, name) for release in SESSIONS for name in names(release, "oneflow")]
VMS = [
    ("7.4", "service_master_running"), ("7.4", "service_worker_running"), ("7.4", "service_user_inputs"),
    ("6.10", "service_master_running"), ("6.10", "service_worker_running"), ("6.10", "service_user_inputs"),
    ("6.10", "context_app"), ("6.10", "context_repl"), ("6.10", "context_seven"), ("6.10", "custom_attrs"),
    ("6.10", "custom_attrs_escaped_quote"), ("6.10", "custom_attrs_prefix"), ("6.10", "custom_attrs_specials"),
    ("6.10", "roles_first_only"), ("6.10", "roles_swapped"),
]


@pytest.mark.parametrize(("release", "name"), RECORDED)
def test_answers_as_recorded(release: str, name: str, record_property) -> None:
    record_property("recording", f"oneflow {release}/{name}")
    recorded = load(release, "oneflow", name)
    assert differences(recorded, played(release).oneflow[name], IGNORED.get((release, name), ())) == []


@pytest.mark.parametrize(("release", "name"), VMS)
def test_makes_vms_as_recorded(release: str, name: str, record_property) -> None:
    if not name.startswith("service_"):
        # The others are counted where they are compared as a whole.
        record_property("recording", f"xmlrpc {release}/one.vm.info.{name}")
    recorded, made = load_vm(release, f"one.vm.info.{name}"), played(release).vms[f"one.vm.info.{name}"]
    # A real 6.10 may leave the message empty or remove it.
    for vm in (recorded, made):
        if vm["USER_TEMPLATE"].get("SCHED_MESSAGE") == "":
            del vm["USER_TEMPLATE"]["SCHED_MESSAGE"]
    assert value_differences(recorded["USER_TEMPLATE"], made["USER_TEMPLATE"]) == []
    assert value_differences(recorded["TEMPLATE"]["CONTEXT"], made["TEMPLATE"]["CONTEXT"]) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    with started_world(tmp_path_factory.mktemp("zone")) as started:
        yield started


@pytest.mark.parametrize("name", ["POST.both_document", "GET.both_document"])
def test_7_takes_over_a_document_in_the_words_of_both_lines(world: World, name: str, record_property) -> None:
    record_property("recording", f"cross74/{name}")
    recorded, document = load("6.10", "cross74", name), load("6.10", "cross74", "POST.both_document").body
    response = world.flow("POST", "/service_template", document)
    if recorded.method == "GET":
        response = world.flow("GET", f"/service_template/{response.json()['DOCUMENT']['ID']}")
    assert differences(recorded, answer(response)) == []


UNDEPLOYING, FAILED_UNDEPLOYING, SCALING = 3, 6, 8


def role(name: str = "a", **options: object) -> dict:
    return {"name": name, "type": "vm", "cardinality": 1, "template_id": 0, "cooldown": 0, **options}


def running_service(world: World, *roles: dict, **template: object) -> int:
    service = world.instantiate(world.create(name="svc", roles=list(roles or [role()]), **template))
    world.wait_state(service, RUNNING)
    return service


def test_user_inputs_reach_user_template_and_context_of_the_vms(world: World) -> None:
    inputs = {"user_inputs": {"COLOUR": "O|text|| |"}}
    template = world.create(name="inputs", roles=[role(**inputs), role("b")], user_inputs={"SIZE": "M|number|| |1"})
    values = {"SIZE": '1 "x" \\ y'}
    of_role = [{"name": "a", "user_inputs_values": {"COLOUR": "red"}}]
    service = world.instantiate(template, user_inputs_values=values, roles=of_role)
    world.wait_state(service, RUNNING)
    a, b = (world.vm(world.vms(service, name)[0]) for name in ("a", "b"))
    context = section(a, "TEMPLATE", "CONTEXT")
    for attributes in (a["USER_TEMPLATE"], context):
        assert (attributes["COLOUR"], attributes["SIZE"]) == ("red", values["SIZE"])
    assert "COLOUR" not in section(b, "TEMPLATE", "CONTEXT")
    assert context["START_SCRIPT_BASE64"] == "ZWNobyBoaQ==", "the VM template's context is kept"


@pytest.mark.parametrize("merge", [
    {"user_inputs_values": {"ONE": "1"}, "roles": [{"name": "a", "user_inputs_values": {"MINE": ""}}]},
    {"user_inputs_values": {"ONE": "1", "TWO": "2"}, "roles": [{"name": "a", "user_inputs_values": {}}]},
])
def test_every_declared_input_needs_a_value(world: World, merge: dict) -> None:
    declared = {"ONE": "M|text|| |", "TWO": "O|text|| |with default"}
    template = world.create(name="inputs", roles=[role(user_inputs={"MINE": "O|text|| |"})], user_inputs=declared)
    response = world.act(f"/service_template/{template}", "instantiate", merge_template=merge)
    assert response.status_code == 400
    assert "User Input" in response.text


def test_context_refers_to_the_first_vm_of_a_parent_and_to_nothing_else(world: World) -> None:
    contents = {"CONTEXT": {
        "LEADER": "${a.template.context.eth0_ip}", "SHORT": "${a.eth0_ip}", "STRANGER": "<${c.name}>", "SHELL": "<${HOME}>",
        "UNKNOWN": "<${a.template.colour}>",
    }}
    roles = [role(), role("b", parents=["a"], template_contents=contents), role("c")]
    service = running_service(world, *roles, deployment="straight")
    leader, follower = (world.vm(world.vms(service, name)[0]) for name in ("a", "b"))
    context, address = section(follower, "TEMPLATE", "CONTEXT"), section(leader, "TEMPLATE", "NIC")["IP"]
    assert (context["LEADER"], context["SHORT"]) == (address, address)
    assert [context[name] for name in ("STRANGER", "SHELL", "UNKNOWN")] == ["<>", "<>", "<>"]


@pytest.mark.parametrize(("value", "kept"), [
    ('say "hi" [x], {y}', 'say "hi" [x], {y}'), ("one\ntwo", "one,\ntwo"), ("dir\\", None), ('\\"', '\\"'),
])
def test_the_vm_templates_context_goes_through_oneflows_own_writing(world: World, value: str, kept: str | None) -> None:
    """It parts the lines of a vector with commas, and cannot write a backslash at the end."""
    text = render({"NAME": "odd", "CPU": 0.1, "MEMORY": 64, "CONTEXT": {"ODD": value, "REST": "x"}})
    template = world.call("one.template.allocate", text)
    try:
        roles = [role(template_id=template, template_contents={"COLOUR": "red"})]
        service = world.instantiate(world.create(name="odd", roles=roles))
        if kept is None:
            world.wait_state(service, FAILED_DEPLOYING)
            assert "Parse error: syntax error" in world.body(service)["log"][-2]["message"]
        else:
            world.wait_state(service, RUNNING)
            vm = world.vm(world.vms(service, "a")[0])
            assert section(vm, "TEMPLATE", "CONTEXT")["ODD"] == kept
            assert vm["USER_TEMPLATE"]["COLOUR"] == "red"
    finally:
        world.call("one.template.delete", template, False)


def test_gate_keeps_children_waiting_and_no_is_ignored_afterwards(world: World) -> None:
    template = world.create(name="gate", roles=[role(), role("b", parents=["a"])], ready_status_gate=True)
    service = world.instantiate(template)
    world.wait("a VM of role a", lambda: bool(world.vms(service, "a")))
    first = world.vms(service, "a")[0]
    world.wait("it to run", lambda: world.running(first))
    world.gate("PUT", "/vm", first, "READY=yes")
    assert (world.body(service)["state"], world.vms(service, "b")) == (DEPLOYING, [])
    world.ready(first)
    world.wait("a VM of role b", lambda: bool(world.vms(service, "b")))
    world.gate("PUT", "/vm", first, "READY=NO")
    world.ready(*world.vms(service, "b"))
    world.wait_state(service, RUNNING)


def test_scaling_down_ends_the_oldest_vm(world: World) -> None:
    service = running_service(world, role(cardinality=2))
    oldest, youngest = world.vms(service, "a")
    scale = {"role_name": "a", "cardinality": 1, "force": False}
    assert world.flow("POST", f"/service/{service}/scale", scale).status_code == 204
    world.wait_state(service, RUNNING)
    assert world.vms(service, "a") == [youngest]
    assert world.vm(oldest)["STATE"] == "6"


def test_cooldown_lasts_300_seconds_unless_the_role_says_otherwise(world: World) -> None:
    service = running_service(world, {**role(), "cooldown": None})
    world.flow("POST", f"/service/{service}/scale", {"role_name": "a", "cardinality": 2, "force": False})
    world.wait_state(service, COOLDOWN)
    assert world.role(service, "a")["cooldown"] == 300
    world.advance(290)
    assert world.body(service)["state"] == COOLDOWN
    world.advance(11)
    world.wait_state(service, RUNNING)


@pytest.mark.parametrize(("cardinality", "answer"), [
    (0, "Can't scale service {}: Minimum cardinality is 1"),
    (1, "Cardinality of a is already at 1"),
])
def test_scale_refuses(world: World, cardinality: int, answer: str) -> None:
    service = running_service(world, role(min_vms=1, max_vms=3))
    body = {"role_name": "a", "cardinality": cardinality, "force": False}
    response = world.flow("POST", f"/service/{service}/scale", body)
    assert (response.status_code, response.text) == (500, answer.format(service))


def test_vm_ended_by_hand_lowers_the_cardinality(world: World) -> None:
    service = running_service(world, role(cardinality=2))
    world.call("one.vm.action", "terminate-hard", world.vms(service, "a")[0])
    world.wait("one VM left", lambda: len(world.vms(service, "a")) == 1)
    assert (world.role(service, "a")["cardinality"], world.body(service)["state"]) == (1, RUNNING)


ELASTIC = {"type": "CHANGE", "adjust": 1, "expression": "LOAD > 70", "period": 5, "period_number": 2, "cooldown": 7}


def elastic_service(world: World, policy: dict, loads: tuple[str, ...], kind: str = "elasticity_policies", **options: object) -> int:
    """A running service whose VMs have published their LOAD."""
    policies = {"min_vms": 1, "max_vms": 4, "cooldown": 300, kind: [policy], **options}
    service = running_service(world, role(cardinality=len(loads), **policies))
    for vm, load_value in zip(world.vms(service, "a"), loads, strict=True):
        world.gate("PUT", "/vm", vm, f"LOAD={load_value}")
    return service


def evaluate(world: World, service: int, seconds: int, kind: str = "elasticity_policies") -> dict:
    """Let policies be evaluated once, some seconds after the last time. Returns the policy."""
    def policy() -> dict:
        return world.role(service, "a")[kind][0]

    before = policy().get("last_eval")
    world.advance(seconds)
    with world.policies():
        world.wait("an evaluation", lambda: policy().get("last_eval") != before)
    return policy()


@pytest.mark.parametrize(("loads", "evaluations"), [(("100", "60"), [1, None]), (("100", "10"), [0, 0]), (("71",), [1, None])])
def test_a_policy_fires_after_its_periods_with_the_mean_above_its_bound(world: World, loads: tuple, evaluations: list) -> None:
    service = elastic_service(world, ELASTIC, loads)
    assert [evaluate(world, service, 6).get("true_evals") for _time in range(2)] == evaluations
    grown = None in evaluations
    assert world.role(service, "a")["cardinality"] == len(loads) + grown
    assert world.role(service, "a")["cooldown"] == (7 if grown else 300), "the policy's cooldown becomes the role's"


def test_an_attribute_that_no_vm_has_is_no_reason_to_scale(world: World) -> None:
    service = elastic_service(world, {**ELASTIC, "expression": "NOTHING < 5", "period_number": 0}, ("90",))
    policy = evaluate(world, service, 6)
    assert (policy["expression_evaluated"], policy["true_evals"]) == ("NOTHING[--] < 5", 0)


@pytest.mark.parametrize(("policy", "before", "after"), [
    ({"type": "CARDINALITY", "adjust": 3}, 1, 3),
    ({"type": "CHANGE", "adjust": 9}, 2, 4),
    ({"type": "CHANGE", "adjust": -9}, 2, 1),
    ({"type": "PERCENTAGE_CHANGE", "adjust": 50}, 2, 3),
    ({"type": "PERCENTAGE_CHANGE", "adjust": -10, "min_adjust_step": 2}, 4, 2),
])
def test_a_policy_stays_within_the_bounds_of_its_role(world: World, policy: dict, before: int, after: int) -> None:
    firing = {"expression": "LOAD > 1 && (LOAD < 5 || CPU >= 0)", "period_number": 1, "period": 5}
    service = elastic_service(world, {**firing, **policy}, ("2",) * before)
    evaluate(world, service, 6)
    assert world.role(service, "a")["cardinality"] == after


def test_a_scheduled_policy_fires_when_its_time_has_come(world: World) -> None:
    policy = {"type": "CARDINALITY", "adjust": 3, "recurrence": "0 * * * *"}
    service = elastic_service(world, policy, ("1",), "scheduled_policies")
    evaluate(world, service, 1, "scheduled_policies")
    assert world.role(service, "a")["cardinality"] == 1, "the first evaluation only notes the time"
    evaluate(world, service, 3600, "scheduled_policies")
    assert world.role(service, "a")["cardinality"] == 3


def test_policies_rest_while_a_service_does_not_run(world: World) -> None:
    service = elastic_service(world, {**ELASTIC, "period_number": 1}, ("90",))
    evaluate(world, service, 6)
    world.wait_state(service, COOLDOWN)
    stamp = world.role(service, "a")["elasticity_policies"][0]["last_eval"]
    with world.policies():
        world.call("one.vm.update", world.vms(service, "a")[0], 'LOAD="95"', 1)
        world.advance(6)
        assert world.role(service, "a")["elasticity_policies"][0]["last_eval"] == stamp
    world.advance(300)
    world.wait_state(service, RUNNING)


@pytest.mark.parametrize("expression", ["LOAD >", "LOAD > many", "> 3", "(LOAD > 1", "LOAD > 1 LOAD", "LOAD ~ 3"])
def test_an_expression_that_cannot_be_read_is_refused(world: World, expression: str) -> None:
    bad = role(min_vms=1, max_vms=2, elasticity_policies=[{**ELASTIC, "expression": expression}])
    assert world.flow("POST", "/service_template", {"name": "bad", "roles": [bad]}).status_code == 400


def test_a_network_of_the_services_own_is_reserved_and_given_back(world: World) -> None:
    nic = {"NIC": [{"NETWORK_ID": "$Private"}]}
    template = world.create(name="own", roles=[role(template_contents=nic)], networks={"Private": "M|network|x| |reserve_from:0"})
    service = world.instantiate(template, networks_values=[{"Private": {"reserve_from": "0", "extra": "SIZE=2"}}])
    world.wait_state(service, RUNNING)
    network = world.body(service)["networks_values"][0]["Private"]["id"]
    assert section(world.vm(world.vms(service, "a")[0]), "TEMPLATE", "NIC")["NETWORK_ID"] == str(network)
    assert f"<VNET><![CDATA[{network}]]></VNET>" in world.call("one.vn.info", 0)
    world.flow("DELETE", f"/service/{service}")
    world.wait_gone(service)
    world.wait("the addresses to be given back", lambda: "<VNET><!" not in world.call("one.vn.info", 0))


def test_undeploys_children_before_their_parents(world: World) -> None:
    service = running_service(world, role(), role("b", parents=["a"]))
    parent, child = world.vms(service, "a")[0], world.vms(service, "b")[0]
    with world.held("shutdown"):
        assert world.flow("DELETE", f"/service/{service}").status_code == 204
        assert [world.role(service, name)["state"] for name in "ab"] == [RUNNING, UNDEPLOYING]
    world.wait_gone(service)
    assert int(world.vm(child)["ETIME"]) <= int(world.vm(parent)["ETIME"])


def messages(world: World, service: int) -> list[str]:
    return [entry["message"] for entry in world.body(service)["log"]]


def test_a_recovered_service_stays_failed_until_its_vms_run(world: World) -> None:
    with world.broken("deploy"):
        service = world.instantiate(world.create(name="fail", roles=[role(), role("b", parents=["a"])], deployment="straight"))
        world.wait_state(service, FAILED_DEPLOYING)
    vm = world.vms(service, "a")[0]
    with world.held("deploy"):
        assert world.act(f"/service/{service}", "recover").status_code == 204
        world.wait("its VM to boot", lambda: world.vm(vm)["LCM_STATE"] == "2")
        assert (world.body(service)["state"], world.role(service, "a")["state"]) == (FAILED_DEPLOYING, FAILED_DEPLOYING)
    world.wait_state(service, RUNNING)
    assert world.vms(service, "a") == [vm]
    assert messages(world, service)[-2:] == ["New state: FAILED_DEPLOYING", "New state: RUNNING"]


def test_a_recovery_that_fails_again_is_logged_again(world: World) -> None:
    with world.broken("deploy"):
        service = world.instantiate(world.create(name="fail", roles=[role()]))
        world.wait_state(service, FAILED_DEPLOYING)
        assert world.act(f"/service/{service}", "recover").status_code == 204
        world.wait("it to fail again", lambda: messages(world, service)[-2:] == ["New state: FAILED_DEPLOYING"] * 2)


def test_a_recovery_does_not_replace_vms_that_are_gone(world: World) -> None:
    with world.broken("deploy"):
        service = world.instantiate(world.create(name="fail", roles=[role(cardinality=2)]))
        world.wait_state(service, FAILED_DEPLOYING)
    first, second = world.vms(service, "a")
    world.call("one.vm.recover", first, 3)
    world.wait("the VM to end", lambda: world.vm(first)["STATE"] == "6")
    assert world.act(f"/service/{service}", "recover").status_code == 204
    world.wait_state(service, RUNNING)
    assert (world.vms(service, "a"), world.role(service, "a")["cardinality"]) == ([second], 1)


def test_a_recovered_scaling_stays_failed_until_its_vms_run(world: World) -> None:
    service = running_service(world)
    with world.broken("deploy"):
        world.flow("POST", f"/service/{service}/scale", {"role_name": "a", "cardinality": 2, "force": False})
        world.wait_state(service, FAILED_SCALING)
    with world.held("deploy"):
        assert world.act(f"/service/{service}", "recover").status_code == 204
        world.wait("its VM to boot", lambda: world.vm(world.vms(service, "a")[-1])["LCM_STATE"] == "2")
        assert world.body(service)["state"] == FAILED_SCALING
    world.wait_state(service, RUNNING)
    assert len(world.vms(service, "a")) == 2


def test_a_suspended_vm_does_not_trouble_its_service(world: World) -> None:
    service = running_service(world)
    vm = world.vms(service, "a")[0]
    world.call("one.vm.action", "suspend", vm)
    world.wait("it to be suspended", lambda: world.vm(vm)["STATE"] == "5")
    scale = {"role_name": "a", "cardinality": 2, "force": False}
    assert world.flow("POST", f"/service/{service}/scale", scale).status_code == 204
    world.wait_state(service, RUNNING)
    assert "New state: WARNING" not in messages(world, service)


def test_a_service_warns_of_a_vm_that_is_off_until_it_runs(world: World) -> None:
    service = running_service(world)
    vm = world.vms(service, "a")[0]
    world.call("one.vm.action", "poweroff-hard", vm)
    world.wait_state(service, WARNING)
    world.call("one.vm.action", "resume", vm)
    world.wait_state(service, RUNNING)


def test_recover_ends_what_would_not_end(world: World) -> None:
    service = running_service(world)
    with world.broken("shutdown"):
        world.flow("DELETE", f"/service/{service}")
        world.wait_state(service, FAILED_UNDEPLOYING)
    assert world.flow("DELETE", f"/service/{service}").status_code == 500
    assert world.act(f"/service/{service}", "recover").status_code == 204
    world.wait_gone(service)


def test_service_can_be_deleted_while_its_vms_boot(world: World) -> None:
    template = world.create(name="gate", roles=[role()], ready_status_gate=True)
    service = world.instantiate(template)
    world.wait("a VM", lambda: bool(world.vms(service, "a")))
    vm = world.vms(service, "a")[0]
    assert world.flow("DELETE", f"/service/{service}").text == "Service cannot be undeployed in state: DEPLOYING"
    assert world.act(f"/service/{service}", "recover", delete=True).status_code == 204
    world.wait_gone(service)
    assert world.vm(vm)["STATE"] == "6"


def test_recover_of_a_running_service_is_refused(world: World) -> None:
    response = world.act(f"/service/{running_service(world)}", "recover")
    assert (response.status_code, response.text) == (500, "Service cannot be recovered in state: RUNNING")


def test_automatic_deletion_ends_a_service_without_vms(world: World) -> None:
    service = running_service(world, automatic_deletion=True)
    world.call("one.vm.action", "terminate-hard", world.vms(service, "a")[0])
    world.wait_gone(service)


def test_vms_belong_to_the_owner_of_the_service(world: World) -> None:
    vm_template = world.core.call(ALICE, "one.template.allocate", 'NAME="own"\nCPU="0.1"\nMEMORY="64"')
    body = {"name": "mine", "roles": [role(template_id=vm_template)]}
    template = world.flow("POST", "/service_template", body, ALICE).json()["DOCUMENT"]["ID"]
    started = world.flow("POST", f"/service_template/{template}/action", {"action": {"perform": "instantiate"}}, ALICE)
    service = int(started.json()["DOCUMENT"]["ID"])
    world.wait_state(service, RUNNING)
    assert world.vm(world.vms(service, "a")[0])["UNAME"] == "alice"


@pytest.mark.parametrize(("change", "answer"), [
    ({"name": "super-node"}, r"KEY: 'name' must match regexp /^\w+$/;"),
    ({"cardinality": "many"}, "KEY: 'cardinality' must be an Integer;"),
    ({"cardinality": -1}, "KEY: 'cardinality' must be greater than or equal to 0;"),
    ({"min_vms": 2}, "Role 'a' 'cardinality' must be greater than or equal to 'min_vms'"),
    ({"type": "pod"}, "KEY: 'type' must be one of vm, vr;"),
    ({"template_contents": "A=1"}, "KEY: template_contents must be a Hash; SCHEMA:"),
])
def test_bad_role_is_refused(world: World, change: dict, answer: str) -> None:
    response = world.flow("POST", "/service_template", {"name": "bad", "roles": [role(**change)]})
    assert (response.status_code, response.text) == (400, answer)


def test_cardinality_given_at_instantiation_must_be_in_its_bounds(world: World) -> None:
    template = world.create(name="bounds", roles=[role(min_vms=1, max_vms=2)])
    merge = {"roles": [{"name": "a", "cardinality": 3}]}
    response = world.act(f"/service_template/{template}", "instantiate", merge_template=merge)
    assert response.status_code == 400
    kept = world.flow("GET", f"/service_template/{template}").json()["DOCUMENT"]["TEMPLATE"]["BODY"]
    assert kept["roles"][0]["cardinality"] == 1


def test_network_without_value_takes_the_declared_id(world: World) -> None:
    nic = {"NIC": [{"NETWORK_ID": "$Private"}]}
    service = running_service(world, role(template_contents=nic), networks={"Private": "M|network|text| |id:0"})
    assert section(world.vm(world.vms(service, "a")[0]), "TEMPLATE", "NIC")["NETWORK_ID"] == "0"


def test_network_without_value_is_refused(world: World) -> None:
    template = world.create(name="nets", roles=[role()], networks={"Private": "M|network|text| |"})
    response = world.act(f"/service_template/{template}", "instantiate", merge_template={"networks_values": []})
    assert response.status_code == 400
    assert response.text.startswith("Every network key must have its value defined at networks_value")


def test_unknown_template_action_is_answered_with_nothing(world: World) -> None:
    response = world.act(f"/service_template/{world.create(name='t', roles=[role()])}", "nosuch")
    assert (response.status_code, response.text) == (200, "")


def test_services_survive_a_restart_of_the_zone(tmp_path: Path) -> None:
    with started_world(tmp_path) as before:
        service = running_service(before, {**role(cardinality=2), "cooldown": 300})
        vms = before.vms(service, "a")
        before.flow("POST", f"/service/{service}/scale", {"role_name": "a", "cardinality": 3, "force": False})
        before.wait_state(service, COOLDOWN)
    with started_world(tmp_path, prepare=False) as after:
        assert after.vms(service, "a")[:2] == vms
        after.advance(301)
        after.wait_state(service, RUNNING)


def test_a_put_replaces_the_bounds_of_a_running_service(world: World) -> None:
    service = running_service(world, role(min_vms=1, max_vms=2))
    body = world.body(service)
    body["roles"][0]["max_vms"] = 5
    assert world.flow("PUT", f"/service/{service}", body).status_code == 204
    scale = {"role_name": "a", "cardinality": 4, "force": False}
    assert world.flow("POST", f"/service/{service}/scale", scale).status_code == 204
    world.wait_state(service, RUNNING)
    assert len(world.vms(service, "a")) == 4


@pytest.mark.parametrize(("change", "status", "answer"), [
    ({"min_vms": 2}, 400, "Role 'a' 'cardinality' must be greater than or equal to 'min_vms'"),
    ({"max_vms": 0}, 400, "Role 'a' 'cardinality' must be lower than or equal to 'max_vms'"),
    ({"max_vms": "x"}, 400, "KEY: 'max_vms' must be an Integer;"),
    ({"parents": ["b"]}, 500, "Immutable value: `role/parents` can not be changed"),
    ({"name": "z"}, 500, "To change `service/name` use rename operation"),
])
def test_a_put_of_what_a_service_cannot_become_is_refused(world: World, change: dict, status: int, answer: str) -> None:
    service = running_service(world)
    body = world.body(service)
    body["roles"][0] |= change
    response = world.flow("PUT", f"/service/{service}", body)
    assert (response.status_code, response.text) == (status, answer)


def test_a_put_with_append_adds_to_a_service_without_looking_at_it(world: World) -> None:
    service = running_service(world)
    path = f"/service/{service}"
    assert world.flow("PUT", path, {"append": True, "template": '{"description": "x", "odd": 1}'}).status_code == 204
    assert (world.body(service)["description"], world.body(service)["odd"]) == ("x", 1)
    for new, refusal in (
        ({"append": True}, (400, "Missing template to append")),
        ({"append": True, "template": "no json"}, (400, "unexpected token at 'no json'")),
        ({"append": True, "template": '{"name": "x"}'}, (500, "Immutable value: `service/name` can not be changed")),
    ):
        response = world.flow("PUT", path, new)
        assert (response.status_code, response.text) == refusal


@pytest.mark.parametrize("as_text", [True, False])
def test_a_role_is_added_as_an_object_and_as_the_command_lines_text(world: World, as_text: bool) -> None:
    service = running_service(world)
    new = role("b")
    given = json.dumps(new) if as_text else new
    action = {"action": {"perform": "add_role", "params": {"role": given}}}
    assert world.flow("POST", f"/service/{service}/role_action", action).status_code == 204
    world.wait_state(service, RUNNING)
    assert len(world.vms(service, "b")) == 1


@pytest.mark.parametrize(("route", "body", "status", "answer"), [
    ("role_action", {"action": {"perform": "add_role", "params": {"role": "no json"}}}, 400, "unexpected token at 'no json'"),
    ("role_action", {"action": {"perform": "add_role", "params": {"role": "{}"}}}, 400, "Mandatory document key"),
    ("role_action", {"action": {"perform": "dance", "params": {}}}, 500, "Action dance not supported"),
    ("action", "no json", 500, '"message":"Internal server error"'),
    ("action", {"action": {"perform": "chown"}}, 500, "Action chown: You have to specify a UID"),
    ("action", {"action": {"perform": "chgrp", "params": {}}}, 500, "Action chgrp: You have to specify a GID"),
    ("action", {"action": {"perform": "chmod", "params": {}}}, 500, "Action chmod: You have to specify an OCTET"),
    ("action", {"action": {"perform": "rename", "params": {}}}, 500, "Action rename: You have to specify a name"),
    ("action", {"action": {"perform": "poweroff"}}, 500, '"message":"Internal server error"'),
    ("scale", "no json", 500, '"message":"Internal server error"'),
])
def test_requests_that_say_too_little_are_refused_as_the_server_does(
    world: World, route: str, body: object, status: int, answer: str
) -> None:
    service = running_service(world)
    response = world.flow("POST", f"/service/{service}/{route}", body)
    assert response.status_code == status
    assert answer in response.text


def test_a_name_that_is_no_xml_cannot_be_stored(world: World) -> None:
    response = world.flow("POST", "/service_template", {"name": "a & b", "roles": [role()]})
    assert (response.status_code, "XML Template malformed" in response.text) == (500, True)


def test_a_single_nic_that_is_no_list_fails_the_deployment(world: World) -> None:
    contents = {"NIC": {"NETWORK_ID": "0"}}
    service = world.instantiate(world.create(name="nic", roles=[role(template_contents=contents)]))
    world.wait_state(service, FAILED_DEPLOYING)
