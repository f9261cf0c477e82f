# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What OpenNebula's command line and Sunstone ask OneFlow besides services that come and go.

Copies of service templates, scheduled actions, networks made of templates, and roles that are virtual routers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_session import RUNNING
from flow_world import World, started_world

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import items, section, to_dict

ROLE = {"name": "a", "type": "vm", "cardinality": 1, "template_id": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with a VM template for virtual routers besides the usual one."""
    with started_world(Path(tmp_path_factory.mktemp("zone"))) as world:
        world.call("one.template.allocate", 'NAME="router"\nVROUTER="YES"\nCPU="0.1"\nMEMORY="64"\nCONTEXT=[NETWORK="YES"]')
        yield world


def running(world: World, *roles: dict, **template: object) -> int:
    service = world.instantiate(world.create(name="svc", roles=list(roles) or [ROLE], **template))
    world.wait_state(service, RUNNING)
    return service


def ended(world: World, service: int) -> None:
    world.flow("DELETE", f"/service/{service}")
    world.wait_gone(service)


def template_names(world: World) -> dict[int, str]:
    pool = items(to_dict(world.call("one.templatepool.info", -2, -1, -1)), "VMTEMPLATE")
    return {int(template["ID"]): template["NAME"] for template in pool}


def images(world: World) -> list[dict]:
    return items(to_dict(world.call("one.imagepool.info", -2, -1, -1)), "IMAGE")


def cloned(world: World, name: str, **mode: str) -> dict:
    """The body of a copy of a service template with two roles of one VM template."""
    source = world.create(name=f"src-{name}", roles=[ROLE, ROLE | {"name": "b"}])
    response = world.act(f"/service_template/{source}", "clone", name=name, **mode)
    assert response.status_code == 201, response.text
    document = response.json()["DOCUMENT"]
    assert document["NAME"] == name
    return document["TEMPLATE"]["BODY"] | {"id": int(document["ID"])}


def test_a_copy_alone_uses_the_same_vm_templates(world: World) -> None:
    before = template_names(world)
    body = cloned(world, "plain", recursive="none")
    assert ([role["template_id"] for role in body["roles"]], body["name"]) == ([0, 0], "src-plain")
    assert template_names(world) == before


@pytest.mark.parametrize(("name", "mode", "with_images"), [
    ("tpl", {"recursive": "templates"}, False), ("all", {"recursive": "all"}, True), ("unsaid", {}, False),
])
def test_a_recursive_copy_has_vm_templates_of_its_own(world: World, name: str, mode: dict, with_images: bool) -> None:
    """Who says nothing about it gets one, too."""
    body = cloned(world, name, **mode)
    numbers = {role["template_id"] for role in body["roles"]}
    assert len(numbers) == 1 and numbers != {0}
    copy_id = numbers.pop()
    assert template_names(world)[copy_id] == f"tmpl0-{name}"
    disk = section(to_dict(world.call("one.template.info", copy_id)), "TEMPLATE", "DISK")
    assert (disk["IMAGE_ID"] != "0") == with_images
    world.wait("the copies", lambda: {image["STATE"] for image in images(world)} == {"1"})
    response = world.flow("DELETE", f"/service_template/{body['id']}", {"delete_type": "all" if with_images else "templates"})
    assert response.status_code == 204
    assert copy_id not in template_names(world)
    world.wait("the end of the copies", lambda: [image["ID"] for image in images(world)] == ["0"])


def test_a_copy_of_what_is_not_there_fails(world: World) -> None:
    response = world.act("/service_template/999", "clone", name="x", recursive="none")
    assert (response.status_code, "Error getting document [999]." in response.text) == (500, True)


def test_a_copy_whose_vm_template_is_gone_leaves_no_others(world: World) -> None:
    before = template_names(world)
    source = world.create(name="half", roles=[ROLE, ROLE | {"name": "b", "template_id": 777}])
    response = world.act(f"/service_template/{source}", "clone", name="x", recursive="templates")
    assert response.status_code == 500
    assert template_names(world) == before


@pytest.mark.parametrize(("action", "params"), [("chmod", {"octet": "600"}), ("rename", {"name": "x"}), ("chgrp", {"group_id": 0})])
def test_the_server_says_nothing_of_what_goes_wrong(world: World, action: str, params: dict) -> None:
    assert world.act("/service_template/999", action, **params).status_code == 204


def test_an_owner_alone_brings_the_group_of_number_0(world: World) -> None:
    template = world.create(name="given", roles=[ROLE])
    assert world.act(f"/service_template/{template}", "chgrp", group_id=1).status_code == 204
    assert world.act(f"/service_template/{template}", "chown", owner_id=2).status_code == 204
    document = world.flow("GET", f"/service_template/{template}").json()["DOCUMENT"]
    assert (document["UID"], document["GID"]) == ("2", "0")


def scheduled(world: World, vm: int) -> list[dict]:
    return items(section(world.vm(vm), "TEMPLATE"), "SCHED_ACTION")


def test_actions_are_scheduled_a_number_of_vms_at_a_time(world: World) -> None:
    service = running(world, ROLE | {"cardinality": 3})
    assert world.act(f"/service/{service}/role/a", "snapshot-create", args="night", period=3600, number=2).status_code == 204
    vms = world.vms(service, "a")
    actions = [scheduled(world, vm)[0] for vm in vms]
    assert {(action["ACTION"], action["ARGS"]) for action in actions} == {("snapshot-create", "night")}
    times = [int(action["TIME"]) for action in actions]
    assert (times[1] - times[0], times[2] - times[0]) == (0, 3600)
    world.advance(3)
    world.wait("the first snapshot", lambda: "SNAPSHOT" in section(world.vm(vms[0]), "TEMPLATE"))
    assert "SNAPSHOT" not in section(world.vm(vms[2]), "TEMPLATE")
    path = f"/service/{service}/role/a/sched_action/{actions[2]['ID']}"
    assert world.flow("DELETE", path).status_code == 204
    assert scheduled(world, vms[2]) == []
    assert world.flow("DELETE", path).status_code == 204
    assert world.flow("DELETE", f"/service/{service}/role/b/sched_action/1").text == "Role 'b' not found"
    ended(world, service)


def test_what_vms_cannot_do_is_nobodys_error(world: World) -> None:
    service = running(world)
    assert world.act(f"/service/{service}/role/a", "dance", period=0, number=0).status_code == 204
    assert scheduled(world, world.vms(service, "a")[0]) == []
    ended(world, service)


def test_a_network_of_the_services_own_is_made_of_a_template(world: World) -> None:
    plan = world.call("one.vntemplate.allocate", 'NAME="plan"\nVN_MAD="dummy"\nBRIDGE="br9"\nAR=[TYPE="IP4",IP="10.9.0.5",SIZE="4"]')
    nic = {"NIC": [{"NETWORK_ID": "$Own"}]}
    service = running(world, ROLE | {"template_contents": nic}, networks={"Own": f"M|network|text| |template_id:{plan}"})
    own = section(world.vm(world.vms(service, "a")[0]), "TEMPLATE", "NIC")
    assert (own["NETWORK"], own["IP"]) == (f"Own-{service}", "10.9.0.5")
    ended(world, service)
    names = [network["NAME"] for network in items(to_dict(world.call("one.vnpool.info", -2, -1, -1)), "VNET")]
    assert f"Own-{service}" not in names


ROUTER = {"name": "gw", "type": "vr", "cardinality": 2, "template_id": 1}
FLOATING = {"NIC": [{"NETWORK_ID": "0", "FLOATING_IP": "YES"}]}


def test_a_role_can_be_a_virtual_router(world: World) -> None:
    service = running(world, ROUTER | {"template_contents": FLOATING})
    role = world.role(service, "gw")
    router = to_dict(world.call("one.vrouter.info", role["vrouter_id"], False))
    assert router["NAME"] == f"gw(service_{service})"
    assert [int(number) for number in items(section(router, "VMS"), "ID")] == world.vms(service, "gw")
    assert role["vrouter_ips"] == [{"NETWORK_ID": 0, "VROUTER_IP": section(router, "TEMPLATE", "NIC")["VROUTER_IP"]}]
    assert [world.vm(vm)["NAME"] for vm in world.vms(service, "gw")] == [f"gw_{place}_(service_{service})" for place in (0, 1)]
    response = world.act(f"/service/{service}/role/gw", "poweroff")
    assert (response.status_code, response.text) == (500, "Virtual Router role gw does not support schedule actions")
    response = world.flow("POST", f"/service/{service}/scale", {"role_name": "gw", "cardinality": 3, "force": False})
    assert (response.status_code, response.text) == (500, f"Can't scale service {service}: Maximum cardinality is 2")
    ended(world, service)
    pool = items(to_dict(world.call("one.vrouterpool.info", -2, -1, -1)), "VROUTER")
    assert role["vrouter_id"] not in [int(router["ID"]) for router in pool]


def test_several_routers_need_an_address_that_floats(world: World) -> None:
    roles = [ROUTER | {"template_contents": {"NIC": [{"NETWORK_ID": "0"}]}}]
    response = world.flow("POST", "/service_template", {"name": "vr", "roles": roles})
    words = "Role 'gw' with 'cardinality' greather than one must define a floating IP"
    assert (response.status_code, response.text) == (400, words)


@pytest.mark.parametrize("body", [
    "", "<BODY><![CDATA[]]></BODY>", "<BODY><![CDATA[[1]]]></BODY>", "<BODY><![CDATA[{}]]></BODY>", '<BODY><![CDATA[{"state": "x"}]]></BODY>',
])
def test_a_document_that_is_no_service_stops_no_other(world: World, body: str) -> None:
    odd = world.call("one.document.allocate", f"<TEMPLATE><NAME>odd</NAME>{body}</TEMPLATE>", 100)
    service = running(world)
    listed = world.flow("GET", "/service")
    assert listed.status_code == 200 and {document["ID"] for document in listed.json()["DOCUMENT_POOL"]["DOCUMENT"]} == {str(odd), str(service)}
    ended(world, service)
    world.call("one.document.delete", odd)


def test_a_document_whose_body_is_no_json_stops_the_listing_alone(world: World) -> None:
    odd = world.call("one.document.allocate", "<TEMPLATE><NAME>odd</NAME><BODY><![CDATA[{]]></BODY></TEMPLATE>", 100)
    service = running(world)
    assert world.flow("GET", "/service").status_code == 500
    ended(world, service)
    world.call("one.document.delete", odd)


def test_a_document_that_was_written_as_it_is_can_be_changed_although_it_has_no_time(world: World) -> None:
    raw = json.dumps({"name": "raw", "deployment": "none", "roles": [ROLE]})
    number = world.call("one.document.allocate", f"<TEMPLATE><NAME>raw</NAME><BODY><![CDATA[{raw}]]></BODY></TEMPLATE>", 101)
    answer = world.flow("PUT", f"/service_template/{number}", {"name": "raw", "deployment": "straight", "roles": [ROLE]})
    assert answer.status_code == 200, answer.text
    assert world.flow("GET", f"/service_template/{number}").json()["DOCUMENT"]["TEMPLATE"]["BODY"]["deployment"] == "straight"


DECLARED = {"user_inputs": {"A": "M|text|A"}}


@pytest.mark.parametrize(("template", "merge", "answer"), [
    # Values that the template was written with do not count.
    ({**DECLARED, "user_inputs_values": {"A": "1"}}, {}, "The Service template specifies User Inputs but no values have been found"),
    (DECLARED, {"user_inputs_values": ["A"]}, "Wrong User Inputs or User Inputs Values format"),
    (DECLARED, {"user_inputs_values": {"B": "1"}}, "Verify that every User Input have its corresponding value defined"),
    ({"roles": [ROLE | DECLARED]}, {}, "The Service template specifies user inputs for the role a but no values have been found"),
    ({"roles": [ROLE | DECLARED]}, {"roles": []}, "The role user inputs are empty or do not have a valid format"),
    ({"roles": [ROLE | DECLARED]}, {"roles": [{"name": "a"}]}, "The Service template specifies User Inputs but no values have been found"),
    ({"networks": {"N": "M|network|a net"}}, {}, "Wrong networks format"),
    ({"networks": {"N": "M|network|a net| |id:0"}}, {"networks_values": ["N"]}, "Wrong networks_values format"),
    ({"networks": {"N": "M|network|a net| |id:0"}}, {"networks_values": [{"M": {"id": "0"}}]},
     "Every network key must have its value defined at networks_value"),
])
def test_an_instantiation_without_what_the_template_asks_for_is_refused(world: World, template: dict, merge: dict, answer: str) -> None:
    number = world.create(**{"name": "asks", "roles": [ROLE]} | template)
    response = world.act(f"/service_template/{number}", "instantiate", merge_template=merge)
    assert (response.status_code, response.text) == (400, answer)


def test_a_role_that_the_instantiation_does_not_name_needs_no_values(world: World) -> None:
    service = world.instantiate(world.create(name="asks", roles=[ROLE | DECLARED]), roles=[ROLE | {"name": "b"}])
    world.wait_state(service, RUNNING)
    ended(world, service)


@pytest.mark.parametrize(("method", "path", "body", "status", "answer"), [
    ("GET", "/service/77x", None, 404, "[one.document.info] Error getting document [77]."),
    ("GET", "/service/none", None, 404, "[DocumentInfo] Error getting document [0]."),
    ("POST", "/service/77/action", {"action": {"perform": "dance"}}, 500, "Action dance not supported"),
    ("POST", "/service/77/action", {"action": {"perform": "chown", "params": {"owner_id": "0"}}}, 404, "[one.document.info] Error getting document [77]."),
])
def test_addresses_and_actions_are_read_before_services_are_looked_for(
    world: World, method: str, path: str, body: dict | None, status: int, answer: str,
) -> None:
    world.create(name="first", roles=[ROLE])
    response = world.flow(method, path, body)
    assert (response.status_code, response.text) == (status, answer)


@pytest.mark.parametrize(("action", "params", "reason"), [
    ("add_role", None, "undefined method `[]' for nil:NilClass"), ("remove_role", None, "undefined method `[]' for nil:NilClass"),
    ("add_role", {}, "no implicit conversion of nil into String"),
])
def test_a_change_of_roles_without_a_role_makes_the_server_stumble(world: World, action: str, params: dict | None, reason: str) -> None:
    response = world.flow("POST", "/service/77/role_action", {"action": {"perform": action, "params": params}})
    assert (response.status_code, json.loads(response.text)) == (500, {"message": "Internal server error", "reason": reason})


def test_what_is_wrong_with_a_scaling_is_said_as_the_server_reads_it(world: World) -> None:
    service = running(world, ROLE, ROLE | {"name": "b", "min_vms": 1})
    wanted = [(None, 2), ("a", -1), ("b", "none"), ("a", "1 more")]
    assert [
        world.flow("POST", f"/service/{service}/scale", {"role_name": role, "cardinality": cardinality, "force": False}).text
        for role, cardinality in wanted
    ] == [
        "Role  not found", f"Can't scale service {service}: Minimum cardinality is ", f"Can't scale service {service}: Minimum cardinality is 1",
        "Cardinality of a is already at 1",
    ]
    ended(world, service)


def test_what_cannot_change_of_a_service_is_named_in_the_servers_order(world: World) -> None:
    service = running(world)
    body = world.body(service)
    fewer = world.flow("PUT", f"/service/{service}", body | {"name": "other", "roles": []})
    assert (fewer.status_code, fewer.text) == (500, "Immutable value: `service/roles size` can not be changed")
    renamed = world.flow("PUT", f"/service/{service}", body | {"name": "other"})
    assert renamed.text == "Immutable value: `service/name` can not be changed"
    added = world.flow("PUT", f"/service/{service}", {"append": True, "template": json.dumps({"name": None, "description": "new"})})
    assert (added.status_code, world.body(service)["description"]) == (204, "new")
    ended(world, service)


def test_6_10_takes_no_scheduled_action_from_a_role(tmp_path: Path) -> None:
    with started_world(tmp_path, release="6.10") as world:
        assert world.flow("DELETE", "/service/0/sched_action/0").status_code == 404
