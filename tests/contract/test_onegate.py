# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's OneGate answers as the recorded ones of OpenNebula 7.4 and 6.10."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from flow_played import SESSIONS, played
from flow_recordings import differences, load, names
from flow_session import RUNNING
from flow_world import World, started_world

RECORDED = [(release, name) for release in SESSIONS for name in names(release, "onegate")]
#: where the zone keeps images and machines
STORAGE = ("DS_ID", "TM_MAD", "TM_MAD_SYSTEM", "ALLOW_ORPHANS", "DATASTORE", "DATASTORE_ID", "LN_TARGET", "ACTION_ID")
IGNORED = {"GET.service.running.extended": STORAGE, "GET.service.running.extended_false": STORAGE}

#: PUT body -> what is stored under its key afterwards, None where the PUT is refused; from the recorded session's index
STORED = {
    "E=0.5": ("E", "0.5"),
    "foo=1": ("FOO", "1"),
    "B=1,2": ("B", None),
    "A=x=y": ("A", "x=y"),
    'C="a,b"': ("C", None),
    'D={"k":1}': ("D", '"{"k":1}"'),
    "F=": ("F", '"'),
    'G="x y"\nH="z"': ("G", "x y"),
    "I=[K=1,L=two]": ("I", {"K": "1", "L": 'two"'}),
    "novalue": ("NOVALUE", None),
    "M=a]b": ("M", None),
    "NOTREADY=YES": ("NOTREADY", "YES"),
    'N="q\\"uote"': ("N", '"q""uote"'),
    "O=a&b<c>": ("O", "a&b<c>"),
    'P=[K="1",L="2"]': ("P", {"K": "1", "L": "2"}),
    "Q=a\\nR=b": ("Q", "a"),
    "S=two words": ("S", "two words"),
    "T=a\\b": ("T", '"a"\\b'),
    "U=[A=1": ("U", None),
}


@pytest.mark.parametrize(("release", "name"), RECORDED)
def test_answers_as_recorded(release: str, name: str, record_property) -> None:
    record_property("recording", f"onegate {release}/{name}")
    recorded = load(release, "onegate", name)
    assert differences(recorded, played(release).onegate[name], IGNORED.get(name, ())) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    with started_world(tmp_path_factory.mktemp("zone")) as started:
        yield started


@pytest.fixture
def vm(world: World) -> int:
    return world.call("one.template.instantiate", 0, "alone", False, "", False)


@pytest.mark.parametrize("body", STORED)
def test_stores_values_as_the_real_server_does(world: World, vm: int, body: str) -> None:
    key, value = STORED[body]
    response = world.gate("PUT", "/vm", vm, body)
    assert response.status_code == (500 if value is None else 200)
    assert world.user_template(vm).get(key) == value


@pytest.mark.parametrize("body", ['{"READY": "YES"}', '{"CMD":"a=b"}'])
def test_json_body_is_refused(world: World, vm: int, body: str) -> None:
    response = world.gate("PUT", "/vm", vm, body)
    assert (response.status_code, response.text) == (500, "Internal server error")


def test_put_adds_to_what_is_there_and_type_2_deletes(world: World, vm: int) -> None:
    world.gate("PUT", "/vm", vm, "ONE=1\nTWO=2")
    world.gate("PUT", "/vm", vm, "TWO=3")
    world.gate("PUT", "/vm?type=2", vm, "ONE")
    attributes = world.user_template(vm)
    assert ("ONE" not in attributes, attributes["TWO"], attributes["FLAVOUR"]) == (True, "3", "a & b <c>")


@pytest.mark.parametrize("name", ["SERVICE_ID", "role_name"])
def test_restricted_attributes_cannot_be_changed(world: World, vm: int, name: str) -> None:
    changed, deleted = world.gate("PUT", "/vm", vm, f"{name}=1"), world.gate("PUT", "/vm?type=2", vm, name)
    assert (changed.status_code, changed.text) == (403, f"Attribute ({name}) cannot be modified")
    assert (deleted.status_code, deleted.text) == (403, f"Attribute ({name}) cannot be deleted")
    assert name.upper() not in world.user_template(vm)


@pytest.mark.parametrize(("path", "answer"), [
    ("GONE", "Internal server error"),
    ("flavour", "Internal server error"),
    ("ONE TWO", "Invalid expression: USER_TEMPLATE/ONE TWO"),
])
def test_what_is_not_there_cannot_be_erased(world: World, vm: int, path: str, answer: str) -> None:
    before = world.user_template(vm)
    response = world.gate("PUT", "/vm?type=2", vm, path)
    assert (response.status_code, response.text) == (500, answer)
    assert world.user_template(vm) == before


def test_erasing_reaches_into_vectors(world: World, vm: int) -> None:
    world.gate("PUT", "/vm", vm, 'V=[A="1",B="2"]')
    assert world.gate("PUT", "/vm?type=2", vm, "V/A").status_code == 200
    assert world.user_template(vm)["V"] == {"B": "2"}


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(("path", "body", "stored"), [
    ("/vm", "A=1", "1"),
    ("/vm", "data=A%3D2", "2"),
    ("/vm?data=A%3D3", "", "3"),
    ("/vm", "data=FLAVOUR&type=2", None),
])
def test_a_form_and_the_text_itself_say_the_same(world: World, vm: int, path: str, body: str, stored: str | None) -> None:
    response = world.gate("PUT", path, vm, body, {**world.gate_headers(vm), **FORM})
    assert response.status_code == 200
    attributes = world.user_template(vm)
    assert "FLAVOUR" not in attributes if stored is None else attributes["A"] == stored


@pytest.mark.parametrize(("method", "path", "status", "answer"), [
    ("GET", "/vrouter", 400, "Empty or invalid VROUTER_ID"),
    ("GET", "/vnet/0", 400, "Virtual networks information can only be retrieved from Virtual Routers."),
    ("GET", "/vnet/x", 400, "Invalid id format (ID: x). ID must be an integer."),
    ("GET", "/vms/999", 400, "This VM does not belong to any Virtual Router or Service, so it cannot retrieve information from other VMs"),
    ("GET", "/service", 400, "Empty or invalid SERVICE_ID"),
    ("POST", "/vm", 400, "OneGate server doesn't support this feature"),
    ("OPTIONS", "/vm", 400, "OneGate server doesn't support this feature"),
    ("DELETE", "/nowhere", 400, "OneGate server doesn't support this feature"),
])
def test_routes_answer_as_the_server_does(world: World, vm: int, method: str, path: str, status: int, answer: str) -> None:
    response = world.gate(method, path, vm)
    assert (response.status_code, response.text) == (status, answer)


@pytest.mark.parametrize(("body", "status", "answer"), [
    ('{"action": {"perform": "dance"}}', 500, "Internal server error"),
    ('{"perform": "resume"}', 400, "Error parsing JSON: Wrong resource type"),
    ("no json", 400, "unexpected token at 'no json'"),
    ('{"action": {"perform": "Reboot"}}', 403, "Action (Reboot) is not allowed on this resource"),
    ('{"action": {"perform": "resize", "params": "CPU=2"}}', 500, "wrong number of arguments (given 1, expected 2)"),
    ('{"action": {"perform": "recover", "params": "2"}}', 500, "Internal server error"),
    ('{"action": {"perform": "migrate", "params": "77"}}', 500, "Internal server error"),
    ('{"action": {"perform": "release"}}', 500, "Internal server error"),
])
def test_actions_that_are_none_are_refused(world: World, vm: int, body: str, status: int, answer: str) -> None:
    response = world.gate("POST", f"/vms/{vm}/action", vm, body)
    assert (response.status_code, response.text) == (status, answer)


def test_a_vm_acts_on_itself(world: World, vm: int) -> None:
    world.wait("it to run", lambda: world.running(vm))
    response = world.gate("POST", f"/vms/{vm}/action", vm, '{"action": {"perform": "poweroff", "params": true}}')
    assert (response.status_code, response.text) == (204, "")
    world.wait("it to be off", lambda: world.vm(vm)["STATE"] == "8")


@pytest.mark.parametrize(("action", "seen"), [
    ({"perform": "rename", "params": "other"}, ("NAME", "other")),
    ({"perform": "chmod", "params": "640"}, ("PERMISSIONS/GROUP_U", "1")),
    ({"perform": "snapshot_create", "params": "now"}, ("TEMPLATE/SNAPSHOT/NAME", "now")),
    ({"perform": "attachdisk", "params": 'DISK=[TYPE="fs",SIZE="1"]'}, ("TEMPLATE/DISK[2]/TYPE", "fs")),
])
def test_actions_have_one_parameter(world: World, vm: int, action: dict, seen: tuple[str, str]) -> None:
    world.wait("it to run", lambda: world.running(vm))
    response = world.gate("POST", f"/vms/{vm}/action", vm, json.dumps({"action": action}))
    assert (response.status_code, response.text) == (204, "")
    shown = ElementTree.fromstring(world.zone.core.call(world.zone.core.session_for(0), "one.vm.info", vm))
    assert shown.findtext(seen[0]) == seen[1]


def test_other_vms_and_their_services_stay_out_of_reach(world: World, vm: int) -> None:
    role = {"name": "a", "type": "vm", "cardinality": 1, "template_id": 0}
    service = world.instantiate(world.create(name="svc", roles=[role]))
    world.wait_state(service, RUNNING)
    member = world.vms(service, "a")[0]
    assert world.gate("GET", f"/vms/{vm}", member).status_code == 400
    assert world.gate("PUT", f"/vms/{vm}", member, "A=1").status_code == 400
    assert world.gate("GET", f"/vms/{member}", vm).status_code == 400
    assert "A" not in world.user_template(vm)


def test_vm_of_a_deleted_service_gets_404(world: World) -> None:
    role = {"name": "a", "type": "vm", "cardinality": 1, "template_id": 0}
    service = world.instantiate(world.create(name="svc", roles=[role]))
    world.wait_state(service, RUNNING)
    member = world.vms(service, "a")[0]
    world.flow("DELETE", f"/service/{service}")
    world.wait_gone(service)
    assert world.gate("GET", "/service", member).status_code == 404
    assert world.gate("GET", "/vm", member).status_code == 200
