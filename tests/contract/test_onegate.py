# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's OneGate answers as the recorded ones of OpenNebula 7.4 and 6.10."""

from __future__ import annotations

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
    assert world.gate("PUT", "/vm", vm, f"{name}=1").status_code == 403
    assert name.upper() not in world.user_template(vm)


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
