# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The OpenNebula modules against a zone that boots nothing: what they change, what they leave alone, what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.tests.support.one_servers import hanging, self_signed, success
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, module_zone, run_module
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from lab.core import ranges
from lab.core.errors import INTERNAL, OneError
from lab.driver import DriverError

NETWORK = {
    "template": {"VN_MAD": "bridge", "BRIDGE": "br0", "NETWORK_ADDRESS": "10.9.0.0", "NETWORK_MASK": "255.255.255.0"},
    "address_ranges": [{"ip": "10.9.0.10", "size": 20}],
}
WIDE = {"template": {"VN_MAD": "bridge", "DNS": "10.8.0.1"}, "address_ranges": [{"ip": "10.8.0.10", "size": 20}]}
# What the server keeps outside of the template, and a group to which it adds another one.
VLAN = {"template": {"VN_MAD": "802.1Q", "PHYDEV": "eth1", "AUTOMATIC_VLAN_ID": True, "SECURITY_GROUPS": "5"}}
IMAGE = {"path": "/images/disk", "size": 10}
DATABLOCK = {"type": "DATABLOCK", "size": 5, "format": "qcow2", "fs": "ext4"}
TEMPLATE = {"template": {"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"TOKEN": True, "NETWORK": True, "NOTE": 'a "b", [c]\\'}}}
# OneFlow cannot hand on a value that ends with a backslash.
SMALL = {"template": {"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"TOKEN": True, "NETWORK": True, "NOTE": 'a "b", [c]'}}}
SERVICE_TEMPLATE = {
    "template": {
        "deployment": "straight",
        "user_inputs": {"MODE": "O|list|How|fast,slow|fast", "PASS": "O|password|Secret||"},
        "roles": [
            {"name": "superlink", "vm_template": "small", "cardinality": 1, "min_vms": 1, "max_vms": 1,
             "user_inputs": {"ROUNDS": "O|number|Rounds||3"}},
            {"name": "supernode", "vm_template": "small", "cardinality": 2, "min_vms": 1, "max_vms": 4, "cooldown": 1,
             "parents": ["superlink"]},
        ],
    }
}
POLICY = {"type": "CHANGE", "adjust": 1, "expression": "ATT > 50", "period": "60"}
SERVICE = {"service_template": "federation", "wait_timeout": 15}
# Module, options, and options that ask for a change of what the first made.
RESOURCES = [
    ("one_virtual_network", NETWORK, {"template": {"DNS": "10.9.0.1"}}),
    ("one_virtual_network", VLAN, {"template": {**VLAN["template"], "DNS": "10.9.0.1"}, "update": "replace"}),
    ("one_virtual_network", NETWORK, {"address_ranges": [{"IP": "10.9.0.100", "SIZE": 3}, {"IP": "10.9.0.10", "SIZE": 20}]}),
    ("one_virtual_network", NETWORK, {"address_ranges": [{"IP": "10.9.0.100", "SIZE": 3}], "update": "replace"}),
    ("one_virtual_network", NETWORK, {"address_ranges": [{"IP": "10.9.0.10", "SIZE": 30, "GATEWAY": "10.9.0.1"}]}),
    ("one_virtual_network", {**NETWORK, "held": ["10.9.0.11"]}, {"held": ["02:00:0a:09:00:0C", "10.9.0.29"], "update": "replace"}),
    ("one_virtual_network", {"reservation": {"network": "wide", "size": 3}}, {"reservation": {"network": "wide", "size": 5}, "held": ["10.8.0.10"]}),
    ("one_virtual_network", {**NETWORK, "mode": "640"}, {"mode": "004", "owner": "carol", "group": "staff"}),
    ("one_image", IMAGE, {"persistent": True, "template": {"DESCRIPTION": "x"}}),
    ("one_image", {**DATABLOCK, "template": {"A": 1}}, {"type": "OS", "template": {"B": 1}, "update": "replace"}),
    ("one_image", DATABLOCK, {"enabled": False, "mode": "664", "group": "staff"}),
    ("one_template", TEMPLATE, {"template": {"MEMORY": 128, "CONTEXT": {"EXTRA": 1}}}),
    ("one_template", TEMPLATE, {"template": {"CPU": 1}, "update": "replace"}),
    ("one_template", {**TEMPLATE, "mode": "640"}, {"mode": "604", "owner": "carol", "group": "staff"}),
    ("one_template", {"template": {"NIC": {"NETWORK": "wide", "SECURITY_GROUPS": 0}}},
     {"template": {"nic": [{"NETWORK": "wide", "security_groups": ["default"]}, {"NETWORK": "wide"}]}}),
    ("one_service_template", SERVICE_TEMPLATE, {"template": {**SERVICE_TEMPLATE["template"], "description": "x"}}),
    ("one_service_template", {**SERVICE_TEMPLATE, "mode": "640"}, {"mode": "604", "owner": "carol", "group": "staff"}),
    ("one_service", SERVICE, {"roles": {"supernode": {"cardinality": 3}}}),
    ("one_service", SERVICE, {"roles": {"supernode": {"state": "poweroff"}}}),
    ("one_service", {**SERVICE, "mode": "640"}, {"mode": "604", "owner": "carol", "group": "0"}),
    ("one_service", {**SERVICE, "template": {"description": "one"}, "roles": {"supernode": {"max_vms": 5, "elasticity_policies": [POLICY]}}},
     {"template": {"description": "two"}, "roles": {"supernode": {"min_vms": 2, "elasticity_policies": [{**POLICY, "adjust": 2}]}}}),
]
NAMED_RESOURCES = list({module: options for module, options, _change in reversed(RESOURCES)}.items())
ids = [f"{module}-{'-'.join(change)}" for module, _options, change in RESOURCES]


@pytest.fixture(scope="module", params=["7.4", "6.10"])
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone"), version=request.param) as zone:
        zone.changed("one_template", name="small", **SMALL)
        zone.changed("one_service_template", name="federation", **SERVICE_TEMPLATE)
        zone.changed("one_virtual_network", name="wide", **WIDE)
        zone.call("one.user.allocate", "carol", "carolpw", "", [])
        zone.call("one.group.allocate", "staff")
        yield zone


@pytest.fixture
def service(zone: ModuleZone) -> Iterator[str]:
    """The name of a service that is gone after the test, whatever became of it."""
    yield "service"
    zone.driver.boot_error = ""
    assert not zone.run("one_service", name="service", state="absent", wait_timeout=600).get("failed")


def template_of(zone: ModuleZone, name: str, vm_template: dict | None = None, **settings: object) -> dict:
    """Options for a service of one role whose VM template and service template are made for it."""
    zone.run("one_template", name=name, template={"CPU": 0.1, "MEMORY": 64, **(vm_template or {})})
    role = {"name": "superlink", "vm_template": name, "cardinality": 1, "max_vms": 3, "cooldown": 1}
    zone.run("one_service_template", name=name, template={"deployment": "straight", "roles": [role], **settings})
    return {"service_template": name, "wait_timeout": 600}


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 300
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.05)


@contextmanager
def no_host(zone: ModuleZone) -> Iterator[None]:
    """New VMs stay pending meanwhile."""
    hosts = [host["id"] for host in zone.run("one_host_info")["hosts"]]
    for host in hosts:
        zone.call("one.host.status", host, 1)
    try:
        yield
    finally:
        for host in hosts:
            zone.call("one.host.status", host, 0)


# ---- What every resource has in common ------------------------------------------------------------


@pytest.mark.parametrize(("module", "options", "change"), RESOURCES, ids=ids)
def test_each_resource_is_made_changed_and_removed_exactly_once(zone, module, options, change):
    name = {"name": "thing"}
    zone.calls.clear()
    zone.changed(module, check=True, **name, **options)
    assert zone.writes == []
    made = zone.changed(module, **name, **options)
    assert made["diff"]["before"] == {} and made["diff"]["after"]
    zone.unchanged(module, **name, **options)

    changed = {**options, **change}
    zone.calls.clear()
    predicted = zone.changed(module, check=True, **name, **changed)
    assert zone.writes == []
    done = zone.changed(module, **name, **changed)
    assert predicted["diff"] == done["diff"] != {"before": {}, "after": {}}
    zone.unchanged(module, **name, **changed)

    zone.calls.clear()
    zone.changed(module, check=True, **name, state="absent")
    assert zone.writes == []
    zone.changed(module, **name, state="absent")
    zone.unchanged(module, **name, state="absent")


@pytest.mark.parametrize(("module", "options"), NAMED_RESOURCES)
def test_a_run_without_change_makes_few_calls_however_many_objects_there_are(zone, module, options):
    for number in range(5):
        zone.run("one_template", name=f"other{number}", template={"MEMORY": 64})
    zone.changed(module, name="thing", **options)
    zone.unchanged(module, name="thing", **options)
    lookup = 2
    assert len(zone.calls) <= lookup + 2, zone.calls
    zone.changed(module, name="thing", state="absent")


@pytest.mark.parametrize(("module", "options"), NAMED_RESOURCES)
def test_an_id_is_as_good_as_a_name_also_0(tmp_path, module, options):
    with module_zone(tmp_path) as zone:
        if module in ("one_service_template", "one_service"):
                zone.changed("one_template", name="small", **SMALL)
        if module == "one_service":
            zone.changed("one_service_template", name="federation", **SERVICE_TEMPLATE)
            options = {**options, "service_template": "0"}
        made = zone.changed(module, name="thing", **options)
        number = str(next(value["id"] for value in made.values() if isinstance(value, dict) and "id" in value))
        assert number == ("1" if module == "one_service" else "0")
        zone.unchanged(module, name=number, **options)
        zone.changed(module, name=number, state="absent")
        zone.unchanged(module, name="thing", state="absent")
        assert zone.fails(module, name=number, **options)["error"]["kind"] == "missing"


@pytest.mark.parametrize("module", [
    "one_image", "one_virtual_network", "one_template", "one_service_template", "one_service", "one_service_info", "one_vm",
    "one_vm_info",
])
def test_a_bad_endpoint_or_identity_is_one_sentence_with_the_endpoint(zone, module, tmp_path):
    options = {**zone.options, "name": "thing"}
    if not module.endswith("_info"):
        options["state"] = "absent"
    refused = f"http://127.0.0.1:{free_port()}"
    cases = [({"api_password": "wrong"}, "authentication", "does not accept the password of user oneadmin")]
    cases.append(({"api_url": refused + "/RPC2", "oneflow_url": refused}, "network", f"{refused}"))
    with hanging() as slow, self_signed(tmp_path, success("7.4.0")) as (server, _certificate):
        secure = server.url.replace("http:", "https:")
        cases.append(({"api_url": slow + "/RPC2", "oneflow_url": slow, "api_timeout": 0.5}, "timeout", f"{slow}"))
        cases.append(({"api_url": secure + "/RPC2", "oneflow_url": secure}, "network", "self-signed certificate"))
        for bad, kind, sentence in cases:
            result = run_module(module, {**options, **bad})
            assert (result["failed"], result["error"]["kind"]) == (True, kind)
            assert sentence in result["msg"] and result["msg"].endswith(".") and "\n" not in result["msg"]


@pytest.mark.parametrize("times", [
    {"api_timeout": 1e10}, {"api_timeout": float("inf")}, {"api_timeout": float("nan")}, {"api_timeout": 0}, {"wait_timeout": float("inf")},
    {"wait_timeout": float("nan")},
])
def test_a_time_that_is_no_deadline_is_refused(zone, times):
    (name,) = times
    zone.calls.clear()
    failed = zone.fails("one_image", name="thing", **times)
    assert failed["error"]["kind"] == "invalid" and f"{name} is {times[name]:.10g}, it must be" in failed["msg"]
    assert zone.calls == []


@pytest.mark.parametrize("template", [{"9X": 1}, {"A": "]]>"}, {"A": {"B": {"C": 1}}}])
@pytest.mark.parametrize(("module", "options"), [("one_template", {}), ("one_cluster", {}), ("one_vm", {"vm_template": "small"})])
def test_what_the_server_cannot_keep_is_refused_in_check_mode_too_and_before_anything_is_changed(zone, module, options, template):
    zone.run("one_template", name="small", **SMALL)
    for check in (True, False):
        zone.calls.clear()
        failed = zone.fails(module, check=check, name="odd", template=template, **options)
        assert failed["error"]["kind"] == "invalid" and zone.writes == []


@pytest.fixture
def twins(zone: ModuleZone) -> Iterator[list[int]]:
    """VM templates of one name: oneadmin's, and those of two tenants."""
    made = []
    for owner in ("oneadmin", "alice", "bob"):
        number = zone.call("one.template.allocate", f'NAME="twin-{owner}"\nMEMORY="64"')
        if owner != "oneadmin":
            zone.call("one.template.chown", number, zone.call("one.user.allocate", owner, f"{owner}-pw", "", []), -1)
        zone.call("one.template.rename", number, "twin")
        made.append(number)
    yield made
    for number in made:
        zone.changed("one_template", name=str(number), state="absent")
    for owner in ("alice", "bob"):
        zone.changed("one_user", name=owner, state="absent")


def test_a_name_that_others_have_too_means_the_users_own_and_says_so(zone, twins):
    result = zone.run("one_template", name="twin", template={"MEMORY": 64})
    assert (result["changed"], result["vm_template"]["id"]) == (False, twins[0])
    owners = f"{twins[0]} of oneadmin, {twins[1]} of alice, {twins[2]} of bob"
    said = f"The VM template name 'twin' is not unique, ids {owners} have it: id {twins[0]} is taken."
    assert said in str(result["warnings"])
    roles = [{"name": "a", "vm_template": "twin", "cardinality": 1}]
    made = zone.changed("one_service_template", name="twins", template={"roles": roles})["service_template"]
    assert template_of_role(made) == twins[0]
    zone.changed("one_service_template", name="twins", state="absent")


def template_of_role(service_template: dict) -> int:
    # Its name before OpenNebula 7.0 and since.
    role = service_template["template"]["roles"][0]
    return role["vm_template"] if "vm_template" in role else role["template_id"]


def test_a_task_names_whose_object_it_means(zone, twins):
    assert zone.run("one_template", name="twin", owner="bob")["vm_template"]["id"] == twins[2]
    roles = [{"name": "a", "vm_template": "alice/twin", "cardinality": 1}]
    made = zone.changed("one_service_template", name="twins", template={"roles": roles})["service_template"]
    assert template_of_role(made) == twins[1]
    zone.changed("one_service_template", name="twins", state="absent")


def test_a_name_of_others_only_is_an_error_with_ids_and_owners(zone, twins):
    zone.call("one.template.rename", twins[0], "single")
    result = zone.fails("one_template", name="twin", state="absent")
    assert result["error"]["kind"] == "conflict"
    assert result["msg"] == (
        f"The VM template name 'twin' is ambiguous: ids {twins[1]} of alice, {twins[2]} of bob have it; "
        "use the id or OWNER/NAME."
    )


def test_who_is_not_authorized_is_told_what_for(zone):
    zone.call("one.user.allocate", "carl", "carlpw", "", [])
    number = zone.unchanged("one_template", name="small", **SMALL)["vm_template"]["id"]
    carl = {"api_username": "carl", "api_password": "carlpw"}
    # What carl cannot see he cannot name.
    zone.unchanged("one_template", name="small", state="absent", **carl)
    result = zone.fails("one_template", name=str(number), state="absent", **carl)
    assert result["error"]["kind"] == "authorization"
    assert f"TEMPLATE [{number}]" in result["msg"] and zone.options["api_url"] in result["msg"]


def test_credentials_come_from_the_file_that_one_auth_names(zone, tmp_path, monkeypatch):
    options = {name: value for name, value in zone.options.items() if name not in ("api_username", "api_password")}
    for variable in ("ONE_USERNAME", "ONE_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    auth = tmp_path / "one_auth"
    monkeypatch.setenv("ONE_AUTH", str(auth))
    result = run_module("one_service_info", options)
    assert f"{auth} (ONE_AUTH) cannot be read: No such file or directory" in result["msg"]
    auth.write_text("oneadmin")
    assert "does not have the form USER:PASSWORD" in run_module("one_service_info", options)["msg"]
    auth.write_text(f"oneadmin:{PASSWORD}\n")
    assert run_module("one_service_info", options)["services"] == []
    monkeypatch.setenv("ONE_USERNAME", "oneadmin")
    assert "api_username is given without api_password" in run_module("one_service_info", options)["msg"]
    monkeypatch.setenv("ONE_PASSWORD", PASSWORD)
    auth.unlink()
    assert run_module("one_service_info", options)["services"] == []


# ---- Networks, images, VM templates ---------------------------------------------------------------


def test_an_address_range_without_a_size_is_named(zone):
    result = zone.fails("one_virtual_network", name="thing", address_ranges=[{"IP": "10.9.0.1"}])
    assert "needs a SIZE" in result["msg"] and "10.9.0.1" in result["msg"]


def test_a_range_that_would_leave_the_network_in_error_is_refused_before_it_is_made(zone):
    for ar in ({"IP": "10.9.0.1", "TYPE": "IP9"}, {"IP6": "fd00::1"}, {"TYPE": "ETHER", "SHARED": True}):
        zone.fails("one_virtual_network", name="thing", template={"VN_MAD": "dummy"}, address_ranges=[{"SIZE": 5, **ar}])
    assert "thing" not in [network["name"] for network in zone.zone.core.store.all("network")]


def network_of(zone: ModuleZone, name: str) -> dict:
    return zone.unchanged("one_virtual_network", name=name)["virtual_network"]


def test_a_change_of_an_address_range_keeps_what_the_task_does_not_name(zone):
    zone.changed("one_virtual_network", name="thing", address_ranges=[{"IP": "10.9.0.10", "SIZE": 5, "TEAM": "a"}], template=WIDE["template"])
    zone.changed("one_virtual_network", name="thing", address_ranges=[{"IP": "10.9.0.10", "SIZE": 8}])
    (address_range,) = network_of(zone, "thing")["address_ranges"]
    assert (address_range["SIZE"], address_range["TEAM"]) == ("8", "a")
    zone.changed("one_virtual_network", name="thing", state="absent")


def test_an_address_range_goes_only_once_the_one_in_its_place_is_there(zone, monkeypatch):
    zone.changed("one_virtual_network", name="thing", **NETWORK)
    zone.calls.clear()
    good = [{"IP": "10.9.0.100", "SIZE": 3}]

    def refuse(attribute: dict, range_id: int) -> dict:
        raise OneError(INTERNAL, "No address manager answers.")

    with monkeypatch.context() as patched:
        patched.setattr(ranges, "new", refuse)
        zone.fails("one_virtual_network", name="thing", **{**NETWORK, "address_ranges": good}, update="replace")
    assert zone.writes == ["one.vn.add_ar"]
    assert [item["IP"] for item in network_of(zone, "thing")["address_ranges"]] == ["10.9.0.10"]
    zone.calls.clear()
    zone.changed("one_virtual_network", name="thing", **{**NETWORK, "address_ranges": good}, update="replace")
    assert zone.writes == ["one.vn.add_ar", "one.vn.rm_ar"]
    zone.changed("one_virtual_network", name="thing", state="absent")


def test_an_address_range_that_vms_use_is_not_replaced_and_nothing_else_is_changed(zone):
    zone.changed("one_virtual_network", name="thing", **NETWORK)
    vm = zone.changed("one_vm", name="vm", vm_template="small", nics=[{"NETWORK": "thing"}], wait_timeout=60)["vms"][0]
    zone.calls.clear()
    failed = zone.fails("one_virtual_network", name="thing", address_ranges=[{"IP": "10.9.0.100", "SIZE": 3}], update="replace", mode="640")
    assert failed["error"]["kind"] == "conflict"
    assert f"Address range 0 from 10.9.0.10 on cannot be removed, its addresses are in use by VM {vm['id']}." in failed["msg"]
    assert zone.writes == []
    zone.changed("one_vm", name="vm", state="absent", wait_timeout=60)
    zone.changed("one_virtual_network", name="thing", state="absent")


def test_addresses_on_hold_go_to_no_vm_and_those_of_vms_are_not_held(zone):
    zone.changed("one_virtual_network", name="thing", **{**NETWORK, "address_ranges": [{"IP": "10.9.0.10", "SIZE": 3}]}, held=["10.9.0.10"])
    zone.changed("one_vm", name="vm", vm_template="small", nics=[{"NETWORK": "thing"}], wait_timeout=600)
    zone.calls.clear()
    result = zone.fails("one_virtual_network", name="thing", held=["10.9.0.12", "10.9.0.11"])
    assert result["error"]["kind"] == "conflict" and "10.9.0.11 of virtual network 'thing' is in use by VM" in result["msg"]
    assert zone.writes == []
    assert network_of(zone, "thing")["held"] == ["10.9.0.10"]
    assert "'nowhere' in held is not a valid IP or MAC address" in zone.fails("one_virtual_network", name="thing", held=["nowhere"])["msg"]
    assert zone.fails("one_virtual_network", name="thing", held=["10.7.0.1"])["error"]["kind"] == "invalid"
    zone.changed("one_vm", name="vm", state="absent", wait_timeout=600)
    zone.changed("one_virtual_network", name="thing", held=[], update="replace")
    zone.changed("one_virtual_network", name="thing", state="absent")


def test_a_reservation_takes_its_settings_and_addresses_from_its_network_and_gives_them_back(zone):
    reservation = {"network": "wide", "size": 3, "address_range": 0, "address": "10.8.0.20"}
    made = zone.changed("one_virtual_network", name="thing", reservation=reservation, template={"DNS": "10.8.0.2"})["virtual_network"]
    assert made["template"]["DNS"] == "10.8.0.2" and made["template"]["VN_MAD"] == "bridge"
    assert [(item["IP"], item["SIZE"]) for item in made["address_ranges"]] == [("10.8.0.20", "3")]
    vm = zone.changed("one_vm", name="vm", vm_template="small", nics=[{"NETWORK": "thing"}], wait_timeout=600)["vms"][0]
    assert vm["addresses"] == ["10.8.0.20"]
    zone.changed("one_vm", name="vm", state="absent", wait_timeout=600)
    zone.calls.clear()
    for wrong, sentence in (
        ({"network": "wide", "size": 2}, "has 3 addresses reserved, their number cannot become 2"),
        ({"network": "thing", "size": 3}, "it cannot become one of network 'thing'"),
        ({"network": "wide", "size": 0}, "size is 0"),
        ({"network": "wide", "size": 3, "address": "10.8.0.20"}, "needs the address_range"),
        ({"network": "nowhere", "size": 3}, "no virtual network with the name 'nowhere'"),
    ):
        assert sentence in zone.fails("one_virtual_network", name="thing", reservation=wrong)["msg"]
    assert zone.writes == []
    zone.changed("one_virtual_network", name="thing", state="absent")
    assert network_of(zone, "wide")["used_leases"] == 0
    full = zone.fails("one_virtual_network", name="thing", reservation={"network": "wide", "size": 50})
    assert "Not enough free addresses" in full["msg"]
    zone.unchanged("one_virtual_network", name="thing", state="absent")


def test_a_network_that_failed_is_an_error_with_the_drivers_reason_in_every_run(zone, monkeypatch):
    def create_network(net) -> None:
        raise DriverError("no such bridge")

    monkeypatch.setattr(zone.driver, "create_network", create_network)
    for _run in range(2):
        failed = zone.fails("one_virtual_network", name="thing", **NETWORK, wait_timeout=600)
        assert failed["error"]["kind"] == "wrong_state"
        assert "Virtual network 'thing'" in failed["msg"] and "ERROR" in failed["msg"] and "no such bridge" in failed["msg"]
    monkeypatch.undo()
    zone.changed("one_virtual_network", name="thing", state="absent")


def test_a_broken_image_is_reported_with_the_drivers_reason_and_replaced_by_the_next_run(zone):
    result = zone.fails("one_image", name="thing", path="/broken/disk", wait_timeout=600)
    assert result["error"]["kind"] == "wrong_state"
    assert "Image 'thing'" in result["msg"] and "/broken/disk is not a disk image" in result["msg"]
    zone.calls.clear()
    zone.changed("one_image", check=True, name="thing", **IMAGE)
    for wrong in ({"datastore": "nowhere"}, {"owner": "nobody"}, {"type": "CDROM", "persistent": True}):
        zone.fails("one_image", name="thing", **{**IMAGE, **wrong})
    assert zone.writes == [], "the image goes only when the new one can be registered"
    assert zone.changed("one_image", name="thing", **IMAGE)["image"]["state"] == "READY"
    zone.unchanged("one_image", name="thing", **IMAGE)
    zone.changed("one_image", name="thing", state="absent")


def test_another_path_for_an_image_is_an_error_since_its_content_cannot_be_exchanged(zone):
    zone.changed("one_image", name="thing", **IMAGE)
    result = zone.fails("one_image", name="thing", path="/images/other")
    assert "'thing'" in result["msg"] and "'/images/disk'" in result["msg"] and "'/images/other'" in result["msg"]
    zone.changed("one_image", name="thing", state="absent")


def test_an_empty_disk_is_made_as_the_task_says_and_keeps_its_size(zone):
    image = zone.changed("one_image", name="thing", **DATABLOCK)["image"]
    assert (image["type"], image["size"], image["format"], image["state"]) == ("DATABLOCK", 5, "qcow2", "READY")
    failed = zone.fails("one_image", name="thing", **{**DATABLOCK, "size": 6})
    assert failed["error"]["kind"] == "conflict" and "has 5 MB, its size cannot become 6 MB" in failed["msg"]
    zone.changed("one_image", name="thing", state="absent")


def test_a_persistent_image_in_use_is_not_changed_and_a_change_of_it_is_the_servers_error(zone):
    zone.changed("one_image", name="thing", persistent=True, **IMAGE)
    zone.changed("one_vm", name="vm", vm_template="small", disks=[{"IMAGE": "thing"}], wait_timeout=600)
    assert zone.unchanged("one_image", name="thing", persistent=True, **IMAGE)["image"]["state"] == "USED_PERS"
    failed = zone.fails("one_image", name="thing", persistent=False)
    assert "Image cannot be in state USED" in failed["msg"]
    zone.changed("one_vm", name="vm", state="absent", wait_timeout=600)
    zone.changed("one_image", name="thing", state="absent")


@pytest.mark.parametrize(("options", "sentence"), [
    ({**IMAGE, "type": "CDROM", "persistent": True}, "is of type CDROM, which cannot be persistent"),
    ({**IMAGE, "template": {"format": "raw"}}, "The template has format; use the option format for it"),
    ({**IMAGE, "owner": "nobody"}, "no user with the name 'nobody'"),
    ({}, "path, app, vm, or size for an empty one, is needed"),
])
def test_a_wrong_image_is_refused_before_it_is_made(zone, options, sentence):
    zone.calls.clear()
    assert sentence in zone.fails("one_image", name="thing", **options)["msg"]
    assert zone.writes == []


def test_a_disabled_image_is_not_waited_for(zone):
    zone.changed("one_image", name="thing", enabled=False, **IMAGE)
    assert zone.unchanged("one_image", name="thing", **IMAGE)["image"]["enabled"] is False
    zone.changed("one_image", name="thing", enabled=True)
    zone.changed("one_image", name="thing", state="absent")


def test_an_unknown_datastore_is_named(zone):
    result = zone.fails("one_image", name="thing", datastore="nowhere", **IMAGE)
    assert result["error"]["kind"] == "missing"
    assert "no datastore with the name 'nowhere'" in result["msg"]


@pytest.mark.parametrize(
    ("template", "label"),
    [
        ({"NIC": {"NETWORK": "nowhere"}}, "virtual network"), ({"DISK": [{"IMAGE": "nowhere"}]}, "image"),
        ({"NIC": {"NETWORK": "wide", "SECURITY_GROUPS": "0,nowhere"}}, "security group"),
    ],
)
def test_a_vm_template_cannot_use_what_does_not_exist_except_before_it_is_made(zone, template, label):
    zone.calls.clear()
    result = zone.fails("one_template", name="thing", template=template)
    assert result["error"]["kind"] == "missing"
    assert f"There is no {label} with the name 'nowhere'" in result["msg"]
    assert zone.writes == []
    zone.changed("one_template", check=True, name="thing", template=template)


# ---- Services -------------------------------------------------------------------------------------


def test_a_service_gets_every_input_and_its_vms_get_the_values(zone, service):
    wanted = {**SERVICE, "user_inputs": {"MODE": "slow"}, "roles": {"superlink": {"user_inputs": {"ROUNDS": 7}}}}
    result = zone.changed("one_service", name=service, **wanted)["service"]
    assert result["state"] == "RUNNING"
    assert [len(role["vms"]) for role in result["roles"].values()] == [1, 2]
    zone.unchanged("one_service", name=service, **wanted)
    details = zone.unchanged("one_service_info", name=service, vm_details=True, vm_context=["NOTE", "MISSING"])["services"][0]
    assert [(vm["role"], vm["state"]) for vm in details["vms"]] == [
        ("superlink", "RUNNING"), ("supernode", "RUNNING"), ("supernode", "RUNNING"),
    ]
    assert details["vms"][0]["context"] == {"NOTE": 'a "b", [c]'}
    superlink = details["vms"][0]["attributes"]
    assert (superlink["MODE"], superlink["ROUNDS"], superlink["ROLE_NAME"]) == ("slow", "7", "superlink")
    assert zone.unchanged("one_service_info", name="nobody")["services"] == []


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        ({"service_template": "nowhere"}, "missing", "no service template with the name 'nowhere'"),
        ({"service_template": None}, "invalid", "service_template is needed"),
        ({"roles": {"supernode": {"cardinality": 5}}}, "invalid", "Cardinality 5 of role 'supernode' must be between 1 and 4"),
        ({"roles": {"supernode": {"cardinality": 0}}}, "invalid", "Cardinality 0 of role 'supernode' must be between 1 and 4"),
        ({"roles": {"supernode": {"cardinality": "two"}}}, "invalid", "Cardinality 'two' of role 'supernode'"),
        ({"roles": {"ghost": {"cardinality": 1}}}, "missing", "no role 'ghost', its roles are superlink, supernode"),
        ({"roles": {"supernode": 3}}, "invalid", "Role 'supernode' is 3"),
        ({"roles": {"supernode": {"state": "asleep"}}}, "invalid", "State of role 'supernode' is 'asleep'"),
        ({"roles": {"supernode": {"max_vms": "x"}}}, "invalid", "max_vms of role 'supernode' is 'x'"),
        ({"roles": {"supernode": {"elasticity_policies": "x"}}}, "invalid", "must be a list of dictionaries"),
        ({"roles": {"supernode": {"user_inputs": "A=1"}}}, "invalid", "user_inputs of role 'supernode' must be a dictionary"),
        ({"user_inputs": {"A": {"x": 1}}}, "invalid", "A is not declared"),
        ({"template": {"deployment": "none"}}, "invalid", "A service cannot change deployment"),
        ({"owner": "nobody"}, "missing", "no user with the name 'nobody'"),
        ({"user_inputs": {"MODE": 7}}, "invalid", "MODE is '7', it must be one of fast, slow"),
        ({"user_inputs": {"GHOST": 7}}, "invalid", "GHOST is not declared (declared: MODE, PASS)"),
        ({"user_inputs": {"ROUNDS": 7}}, "invalid", "ROUNDS belongs to role superlink"),
        ({"roles": {"superlink": {"user_inputs": {"ROUNDS": "many"}}}}, "invalid", "ROUNDS is 'many', it must be a whole number"),
        ({"state": "scaled"}, "missing", "no service with the name 'service'"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_made(zone, wrong, kind, sentence):
    zone.calls.clear()
    result = zone.fails("one_service", name="service", **{**SERVICE, **wrong})
    assert result["error"]["kind"] == kind
    assert sentence in result["msg"]
    assert zone.writes == []


def test_in_check_mode_the_service_template_may_come_later(zone):
    result = zone.changed("one_service", check=True, name="service", service_template="later",
                          roles={"supernode": {"cardinality": 2}})
    assert result["diff"]["after"]["roles"] == {"supernode": {"cardinality": 2}}


def test_a_running_service_is_scaled_within_its_bounds_and_only_if_it_has_another_size(zone, service):
    zone.changed("one_service", name=service, **SERVICE)
    scaled = {"state": "scaled", "roles": {"supernode": {"cardinality": 3}}, "wait_timeout": 600}
    result = zone.changed("one_service", name=service, **scaled)
    assert result["diff"] == {"before": {"roles": {"supernode": 2}}, "after": {"roles": {"supernode": 3}}}
    assert result["service"]["state"] in ("COOLDOWN", "RUNNING")
    assert len(result["service"]["roles"]["supernode"]["vms"]) == 3
    zone.unchanged("one_service", name=service, **scaled)
    zone.calls.clear()
    assert "between 1 and 4" in zone.fails("one_service", name=service, roles={"supernode": {"cardinality": 9}})["msg"]
    assert zone.writes == []
    down = zone.changed("one_service", name=service, **{**scaled, "roles": {"supernode": {"cardinality": 1}}}, wait_for_cooldown=True)
    assert down["service"]["state"] == "RUNNING"
    assert len(down["service"]["roles"]["supernode"]["vms"]) == 1


def test_a_role_shrinks_once_what_runs_in_its_oldest_vms_has_left(zone, service):
    vms = zone.changed("one_service", name=service, **SERVICE)["service"]["roles"]["supernode"]["vms"]
    smaller = {"state": "scaled", "roles": {"supernode": {"cardinality": 1}}, "drain": True}

    def attributes(vm: int) -> dict[str, str]:
        found = zone.call("one.vm.info", vm)
        return {name: "".join(re.findall(rf"<{name}><!\[CDATA\[(.*?)\]\]>", found)) for name in ("DRAIN", "DRAINED")}

    zone.calls.clear()
    zone.changed("one_service", check=True, name=service, **smaller)
    assert zone.writes == []
    stays = zone.fails("one_service", name=service, **smaller, wait_timeout=1)
    assert stays["error"]["kind"] == "timeout"
    assert f"Role 'supernode' of service '{service}'" in stays["msg"] and f"VM {vms[0]} has not left" in stays["msg"]
    assert [attributes(vm)["DRAIN"] for vm in vms] == ["NO", ""]

    answered = []

    def leave() -> None:
        def asked() -> bool | None:
            answered.extend(vm for vm in vms if attributes(vm)["DRAIN"] == "YES")
            return bool(answered) or None

        wait_until(asked, lambda: "nobody is asked to leave", 60)
        zone.call("one.vm.update", answered[0], "DRAINED=YES", 1)

    node = threading.Thread(target=leave)
    node.start()
    done = zone.changed("one_service", name=service, **smaller)
    node.join()
    assert answered == vms[:1]
    assert done["service"]["roles"]["supernode"]["vms"] == vms[1:]
    zone.unchanged("one_service", name=service, **smaller)


def test_all_vms_of_a_role_stop_and_start_and_the_second_run_leaves_them(zone, service):
    zone.changed("one_service", name=service, **SERVICE)

    def states_of(result: dict) -> set[str]:
        vms = result["service"]["roles"]["supernode"]["vms"]
        return {vm["state"] for vm in zone.run("one_vm_info")["vms"] if vm["id"] in vms}

    for state in ("poweroff", "running", "suspended"):
        wanted = {**SERVICE, "roles": {"supernode": {"state": state}}}
        zone.calls.clear()
        predicted = zone.changed("one_service", check=True, name=service, **wanted)
        assert zone.writes == []
        done = zone.changed("one_service", name=service, **wanted)
        assert predicted["diff"] == done["diff"] and done["diff"]["after"] == {"vms": {"supernode": [state.upper()]}}
        assert states_of(done) == {state.upper()}
        zone.unchanged("one_service", name=service, **wanted)
    stuck = zone.fails("one_service", name=service, **{**SERVICE, "roles": {"supernode": {"state": "undeployed"}}})
    assert stuck["error"]["kind"] == "wrong_state" and "is SUSPENDED: from there it cannot become UNDEPLOYED" in stuck["msg"]
    more = {**SERVICE, "roles": {"supernode": {"state": "suspended", "cardinality": 3}}, "wait_for_cooldown": True}
    done = zone.changed("one_service", name=service, **more)
    assert states_of(done) == {"SUSPENDED"} and len(done["service"]["roles"]["supernode"]["vms"]) == 3
    zone.changed("one_service", name=service, **{**SERVICE, "roles": {"supernode": {"state": "running"}}})
    off = {**SERVICE, "roles": {"supernode": {"state": "poweroff"}}}
    zone.changed("one_service", name=service, **off)
    refused = zone.fails("one_service", name=service, **{**off, "roles": {"supernode": {"state": "poweroff", "cardinality": 2}}})
    assert refused["error"]["kind"] == "wrong_state" and "cannot be scaled in state: WARNING" in refused["msg"]


def test_a_service_gets_the_networks_that_its_template_asks_for(zone, service):
    """A template as the marketplace has it, on the release that it was not written for too."""
    role = {"name": "vnf", "vm_template": "small", "cardinality": 1,
            "vm_template_contents": 'NIC = [ NAME = "NIC0", NETWORK_ID = "$Public" ]\nCOLOUR = "$COLOUR"'}
    zone.run("one_service_template", name="market", template={
        "roles": [role], "networks": {"Public": "M|network|Public| |id::"}, "custom_attrs": {"COLOUR": "0|list|Colour|red,blue|red"},
    })
    wanted = {"service_template": "market", "wait_timeout": 30}
    zone.calls.clear()
    for networks, sentence in (
        ({}, "Networks of service 'service': Public has no value"),
        ({"Private": "wide"}, "Private is not declared (declared: Public)"),
        ({"Public": "nowhere"}, "no virtual network with the name 'nowhere'"),
        ({"Public": {"id": 1, "reserve_from": 2}}, "it must be a network, or have one of id, template_id, reserve_from"),
    ):
        assert sentence in zone.fails("one_service", name=service, **wanted, networks=networks)["msg"]
    assert zone.writes == []
    wanted["networks"] = {"Public": "wide"}
    number = zone.changed("one_service", name=service, **wanted)["service"]["roles"]["vnf"]["vms"][0]
    vm = zone.run("one_vm_info", name=str(number))["vms"][0]
    assert [nic["network"] for nic in vm["nics"]] == ["wide"]
    assert vm["attributes"]["COLOUR"] == "red"
    zone.unchanged("one_service", name=service, **wanted)
    other = zone.fails("one_service", name=service, **{**wanted, "networks": {"Public": {"reserve_from": "wide", "extra": "SIZE=1"}}})
    assert other["error"]["kind"] == "conflict" and "was started with another network Public" in other["msg"]


def test_values_that_oneflow_cannot_hand_on_are_refused_before_anything_is_made(zone, service):
    zone.run("one_template", name="odd", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": {"NOTE": "dir\\"}})
    template = {"roles": [{"name": "a", "vm_template": "odd", "cardinality": 1, "template_contents": {"CONTEXT": {"X": "1"}}}]}
    made = zone.run("one_service_template", name="odd", template=template)
    refused = made if made.get("failed") else zone.fails("one_service", name=service, service_template="odd")
    assert refused["error"]["kind"] == "invalid" and "a backslash" in refused["msg"]
    assert zone.run("one_service_info", name=service)["services"] == []


def test_a_service_on_hold_is_released(zone, service):
    wanted = template_of(zone, "held", on_hold=True)
    zone.changed("one_service", name=service, **wanted, wait=False)
    wait_for(lambda: zone.run("one_service_info", name=service)["services"][0]["state"] == "HOLD", "no HOLD")
    released = zone.changed("one_service", name=service, **wanted)
    assert released["diff"] == {"before": {"state": "HOLD"}, "after": {"state": "RUNNING"}}
    assert released["service"]["state"] == "RUNNING"
    zone.unchanged("one_service", name=service, **wanted)
    zone.changed("one_service", name=service, state="absent", wait_timeout=600)
    assert zone.changed("one_service", name=service, **wanted)["service"]["state"] == "RUNNING"


def test_a_failed_service_is_recovered_and_one_that_runs_is_left_alone(zone, service):
    wanted = template_of(zone, "failing")
    assert zone.fails("one_service", name=service, state="recovered")["error"]["kind"] == "missing"
    zone.driver.boot_error = "no such hypervisor"
    zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 600})
    zone.driver.boot_error = ""
    assert zone.changed("one_service", name=service, state="recovered", wait_timeout=600)["service"]["state"] == "RUNNING"
    zone.unchanged("one_service", name=service, state="recovered")


def test_a_service_that_is_being_recovered_is_not_asked_again(zone, service, monkeypatch):
    def stuck(vm) -> None:
        wait_for(lambda: not held.is_set(), "the VM boots for ever")
        deploy(vm)

    wanted = template_of(zone, "failing")
    zone.driver.boot_error = "no such hypervisor"
    zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 600})
    zone.driver.boot_error = ""
    deploy, held = zone.driver.deploy, threading.Event()
    held.set()
    monkeypatch.setattr(zone.driver, "deploy", stuck)
    try:
        zone.changed("one_service", name=service, state="recovered", wait=False)
        for state in ("recovered", "present"):
            zone.unchanged("one_service", name=service, **{**wanted, "state": state, "wait": False})
    finally:
        held.clear()
    done = zone.run("one_service", name=service, state="recovered", wait_timeout=600)
    assert not done.get("failed"), done["msg"]
    assert done["service"]["state"] == "RUNNING"


def test_a_service_that_recovers_just_before_it_is_asked_to_is_as_wanted(zone, service, monkeypatch):
    wanted = template_of(zone, "failing")
    zone.driver.boot_error = "no such hypervisor"
    zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 600})
    zone.driver.boot_error = ""
    recover = zone.zone.flow.recover

    def twice(session: str, number: int) -> None:
        monkeypatch.undo()
        recover(session, number)
        wait_for(lambda: zone.run("one_service_info", name=number)["services"][0]["state"] == "RUNNING", "the service does not recover")
        recover(session, number)

    monkeypatch.setattr(zone.zone.flow, "recover", twice)
    done = zone.changed("one_service", name=service, **wanted)
    assert done["service"]["state"] == "RUNNING"


def test_a_service_that_leaves_is_not_removed_again(zone, service, monkeypatch):
    def stuck(vm, hard) -> None:
        wait_for(lambda: not held.is_set(), "the VM shuts down for ever")
        shutdown(vm, hard)

    zone.changed("one_service", name=service, **template_of(zone, "plain"))
    shutdown, held = zone.driver.shutdown, threading.Event()
    held.set()
    monkeypatch.setattr(zone.driver, "shutdown", stuck)
    try:
        zone.changed("one_service", name=service, state="absent", wait=False)
        zone.unchanged("one_service", name=service, state="absent", wait=False)
    finally:
        held.clear()
    zone.unchanged("one_service", name=service, state="absent", wait_timeout=600)


def test_a_recovery_that_fails_again_ends_the_wait_with_its_own_reason(zone, service):
    wanted = template_of(zone, "failing")
    zone.driver.boot_error = "no such hypervisor"
    zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 60})
    zone.driver.boot_error = "no memory left"
    failed = zone.fails("one_service", name=service, state="recovered", wait_timeout=60)
    zone.driver.boot_error = ""
    assert failed["error"]["kind"] == "wrong_state"
    assert "no memory left" in failed["msg"] and "no such hypervisor" not in failed["msg"]
    assert zone.changed("one_service", name=service, **wanted)["service"]["state"] == "RUNNING"


def test_a_service_whose_vms_cannot_be_made_says_why_after_each_recovery(zone, service):
    wanted = template_of(zone, "unmade")
    assert not zone.run("one_template", name="unmade", state="absent").get("failed")
    for state in ("present", "recovered"):
        failed = zone.fails("one_service", name=service, **{**wanted, "state": state, "wait_timeout": 60})
        assert failed["error"]["kind"] == "wrong_state", failed
        assert "is FAILED_DEPLOYING: role superlink 0/1 VMs" in failed["msg"] and "Instantiate failed" in failed["msg"]
    zone.changed("one_service", name=service, state="absent", wait_timeout=30)


def test_a_removal_that_failed_is_recovered_until_the_service_is_gone(zone, service, monkeypatch):
    def shutdown(vm, hard) -> None:
        raise DriverError("it does not go")

    zone.changed("one_service", name=service, **template_of(zone, "plain"))
    monkeypatch.setattr(zone.driver, "shutdown", shutdown)
    failed = zone.fails("one_service", name=service, state="absent", wait_timeout=600)
    assert failed["error"]["kind"] == "wrong_state" and "FAILED_UNDEPLOYING" in failed["msg"] and "it does not go" in failed["msg"]
    assert "remove it first" in zone.fails("one_service", name=service, **template_of(zone, "plain"))["msg"]
    monkeypatch.undo()
    # The VM takes its time: OneFlow and the module look at the service before the VM is gone.
    shutdown = zone.driver.shutdown
    zone.calls.clear()

    def slow_shutdown(vm, hard) -> None:
        zone.wait(lambda: sum(call.startswith("GET /service/") for call in zone.calls) > 2, "looks at the service")
        shutdown(vm, hard)

    monkeypatch.setattr(zone.driver, "shutdown", slow_shutdown)
    assert zone.changed("one_service", name=service, state="recovered", wait_timeout=600)["service"] == {}
    zone.unchanged("one_service", name=service, state="absent")


def test_a_service_and_its_vms_get_an_owner_and_their_numbers_show_in_the_diff(zone, service):
    zone.changed("one_service", name=service, **SERVICE)
    given = zone.changed("one_service", name=service, **SERVICE, owner="carol", mode="640")
    assert given["diff"] == {"before": {"owner": "oneadmin", "mode": "600"}, "after": {"owner": "carol", "mode": "640"}}
    assert {vm["owner"] for vm in zone.run("one_vm_info", service=service)["vms"]} == {"carol"}


def test_the_bounds_of_a_role_change_before_it_is_scaled(zone, service):
    zone.changed("one_service", name=service, **SERVICE)
    more = {**SERVICE, "roles": {"supernode": {"max_vms": 5, "cardinality": 5}}}
    assert len(zone.changed("one_service", name=service, **more)["service"]["roles"]["supernode"]["vms"]) == 5
    zone.unchanged("one_service", name=service, **more)
    zone.calls.clear()
    narrow = zone.fails("one_service", name=service, **SERVICE, roles={"supernode": {"max_vms": 4}})
    assert "Cardinality 5 of role 'supernode' must be between 1 and 4" in narrow["msg"]
    assert zone.writes == []
    # OneFlow refuses bounds that the present number of VMs is outside of, whichever way it goes.
    for bounds in ({"min_vms": 1, "max_vms": 3, "cardinality": 3}, {"min_vms": 4, "max_vms": 4, "cardinality": 4}):
        wanted = {**SERVICE, "roles": {"supernode": bounds}}
        done = zone.changed("one_service", name=service, **wanted)["service"]["roles"]["supernode"]
        assert {key: done[key] for key in bounds} == bounds and len(done["vms"]) == bounds["cardinality"]
        zone.unchanged("one_service", name=service, **wanted)


def test_a_number_that_a_service_has_by_itself_after_the_waiting_is_not_asked_for(zone, service):
    wanted = template_of(zone, "leaving")
    number = zone.changed("one_service", name=service, **wanted)["service"]["id"]
    with no_host(zone):
        zone.changed("one_service", name=service, **wanted, roles={"superlink": {"cardinality": 2}}, wait=False)

        def vms() -> list[int]:
            return zone.run("one_service_info", name=number)["services"][0]["roles"]["superlink"]["vms"]

        wait_for(lambda: len(vms()) == 2, "no second VM")
        zone.call("one.vm.recover", vms()[-1], 3)
        # Whether OneFlow has noticed by now is nobody's business: either way the number is right in the end.
        one = zone.run("one_service", name=service, **wanted, roles={"superlink": {"cardinality": 1}})
    assert not one.get("failed"), one["msg"]
    assert one["service"]["roles"]["superlink"]["cardinality"] == 1 and len(one["service"]["roles"]["superlink"]["vms"]) == 1
    zone.unchanged("one_service", name=service, **wanted, roles={"superlink": {"cardinality": 1}})


def test_a_number_that_a_service_lost_while_it_was_waited_for_is_asked_for_again(zone, service):
    wanted = template_of(zone, "losing")
    zone.changed("one_service", name=service, **wanted)
    two = {**wanted, "roles": {"superlink": {"cardinality": 2}}}
    with no_host(zone):
        zone.changed("one_service", name=service, **two, wait=False)
        number = zone.run("one_service_info", name=service)["services"][0]["roles"]["superlink"]["vms"][-1]
        zone.call("one.vm.recover", number, 3)
    done = zone.run("one_service", name=service, **two)
    assert len(done["service"]["roles"]["superlink"]["vms"]) == 2, done


def test_other_inputs_for_a_running_service_are_an_error_that_shows_no_password(zone, service):
    zone.changed("one_service", name=service, **SERVICE, user_inputs={"PASS": "first-secret"})
    zone.unchanged("one_service", name=service, **SERVICE, user_inputs={"PASS": "first-secret"})
    result = zone.fails("one_service", name=service, **SERVICE, user_inputs={"MODE": "slow", "PASS": "other-secret"})
    assert result["error"]["kind"] == "conflict"
    assert "MODE is 'fast', not 'slow'" in result["msg"]
    assert "PASS is another value" in result["msg"]
    assert "first-secret" not in str(result) and "other-secret" not in str(result)


def test_a_boolean_input_is_the_same_however_it_is_written(zone, service):
    wanted = template_of(zone, "switched", user_inputs={"SWITCH": "O|boolean|x| |NO"})
    zone.changed("one_service", name=service, **wanted, user_inputs={"SWITCH": "yes"})
    for on in ("yes", "True", "YES", True):
        zone.unchanged("one_service", name=service, **wanted, user_inputs={"SWITCH": on})
    assert "SWITCH is 'YES', not 'NO'" in zone.fails("one_service", name=service, **wanted, user_inputs={"SWITCH": "off"})["msg"]


def test_a_service_template_in_use_can_change(zone, service):
    wanted = template_of(zone, "changing")
    zone.changed("one_service", name=service, **wanted)
    template_of(zone, "changing", description="another")
    zone.unchanged("one_service", name=service, **wanted)


def test_a_vm_that_can_never_be_scheduled_is_reported_with_the_schedulers_reason(zone, service):
    wanted = template_of(zone, "huge", {"MEMORY": 99999999})
    zone.changed("one_service", name=service, wait=False, **wanted)
    zone.unplaced()
    result = zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 1})
    assert result["error"]["kind"] == "timeout"
    reason = {"7.4": "Not enough MEMORY", "6.10": "No host with enough capacity"}[zone.zone.config.version]
    for part in ("Service 'service'", "after 1 seconds", "role superlink 0/1", "PENDING", reason):
        assert part in result["msg"]


def test_a_superlink_that_never_gets_ready_is_reported_and_the_next_run_waits_for_the_same_service(zone, service):
    wanted = template_of(zone, "gated", ready_status_gate=True)
    zone.changed("one_service", name=service, wait=False, **wanted)
    zone.running()
    result = zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 1})
    assert result["error"]["kind"] == "timeout"
    assert "role superlink 0/1 ready, VM" in result["msg"] and "RUNNING, READY missing" in result["msg"]
    number = int(result["msg"].partition("(id ")[2].partition(")")[0])
    vm = zone.unchanged("one_service_info", name=service)["services"][0]["roles"]["superlink"]["vms"][0]
    zone.call("one.vm.update", vm, 'READY="YES"', 1)
    assert zone.unchanged("one_service", name=service, **wanted)["service"]["id"] == number


def test_a_vm_that_says_why_it_will_not_be_ready_ends_the_wait_at_once(zone, service):
    wanted = template_of(zone, "gated", ready_status_gate=True)
    number = zone.changed("one_service", name=service, wait=False, **wanted)["service"]["id"]
    zone.running()
    vm = zone.unchanged("one_service_info", name=service)["services"][0]["roles"]["superlink"]["vms"][0]
    zone.call("one.vm.update", vm, 'FL_ERROR="gateway_setup_failed"', 1)
    result = zone.fails("one_service", name=service, error_attribute="FL_ERROR", **{**wanted, "wait_timeout": 3600})
    assert result["error"]["kind"] == "wrong_state"
    assert f"(id {number})" in result["msg"] and f"VM {vm} RUNNING, READY missing, FL_ERROR is gateway_setup_failed." in result["msg"]
    # What any VM may write there is one sentence among others.
    zone.call("one.vm.update", vm, 'FL_ERROR=[A="1"]\nFL_OTHER="' + "x" * 5000 + '"', 1)
    assert len(zone.fails("one_service", name=service, error_attribute="FL_OTHER", **{**wanted, "wait_timeout": 3600})["msg"]) < 600
    zone.call("one.vm.update", vm, 'READY="YES"', 1)
    assert zone.unchanged("one_service", name=service, error_attribute="FL_OTHER", **wanted)["service"]["state"] == "RUNNING"


def test_a_vm_that_fails_to_boot_ends_the_wait_at_once_and_the_next_run_tries_again(zone, service):
    wanted = template_of(zone, "failing")
    zone.driver.boot_error = "no such hypervisor"
    result = zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 600})
    assert result["error"]["kind"] == "wrong_state"
    assert "BOOT_FAILURE" in result["msg"] and "no such hypervisor" in result["msg"]
    zone.driver.boot_error = ""
    zone.calls.clear()
    zone.changed("one_service", check=True, name=service, **wanted)
    assert zone.writes == []
    assert zone.changed("one_service", name=service, **wanted)["service"]["state"] == "RUNNING"
    zone.unchanged("one_service", name=service, **wanted)


def test_a_full_address_range_is_reported_and_the_service_goes_on_when_there_is_room(zone, service):
    narrow = {**NETWORK, "address_ranges": [{"IP": "10.9.0.10", "SIZE": 1}]}
    zone.changed("one_virtual_network", name="narrow", **narrow)
    wanted = template_of(zone, "crowded", {"NIC": {"NETWORK": "narrow"}})
    crowd = {**wanted, "roles": {"superlink": {"cardinality": 2}}}
    result = zone.fails("one_service", name=service, **crowd)
    assert result["error"]["kind"] == "wrong_state"
    assert "FAILED_DEPLOYING" in result["msg"] and "Cannot get IP/MAC lease from virtual network" in result["msg"]
    more = {**NETWORK, "address_ranges": [{"IP": "10.9.0.10", "SIZE": 1}, {"IP": "10.9.0.50", "SIZE": 5}]}
    zone.changed("one_virtual_network", name="narrow", **more)
    assert zone.changed("one_service", name=service, **crowd)["service"]["state"] == "RUNNING"


def test_a_service_that_failed_to_deploy_can_be_removed(zone, service):
    wanted = template_of(zone, "failing")
    zone.driver.boot_error = "no such hypervisor"
    zone.fails("one_service", name=service, **wanted)
    zone.driver.boot_error = ""
    zone.changed("one_service", name=service, state="absent", wait_timeout=600)
    zone.unchanged("one_service", name=service, state="absent")


def test_two_runs_one_right_after_the_other_make_one_service(zone, service):
    zone.changed("one_service", name=service, **SERVICE, wait=False)
    result = zone.unchanged("one_service", name=service, **SERVICE)["service"]
    assert result["state"] == "RUNNING"
    assert [item["id"] for item in zone.unchanged("one_service_info")["services"]] == [result["id"]]


def test_a_service_that_is_being_removed_is_awaited_and_made_anew(zone, service):
    first = zone.changed("one_service", name=service, **SERVICE)["service"]["id"]
    zone.changed("one_service", name=service, state="absent", wait=False)
    assert zone.changed("one_service", name=service, **SERVICE)["service"]["id"] != first


def test_a_vm_that_is_off_is_named_instead_of_waited_for(zone, service):
    wanted = template_of(zone, "plain")
    vm = zone.changed("one_service", name=service, **wanted)["service"]["roles"]["superlink"]["vms"][0]
    zone.call("one.vm.action", "poweroff-hard", vm)
    wait_for(lambda: zone.run("one_service_info", name=service)["services"][0]["state"] == "WARNING", "no WARNING")
    result = zone.fails("one_service", name=service, **{**wanted, "wait_timeout": 600})
    assert result["error"]["kind"] == "wrong_state"
    assert "WARNING" in result["msg"] and f"VM {vm} POWEROFF" in result["msg"]


# ---- OneGate --------------------------------------------------------------------------------------


@pytest.fixture
def inside(zone: ModuleZone, service: str, tmp_path: Path) -> dict:
    """The module's options inside a VM of a service."""
    made = zone.changed("one_service", name=service, **template_of(zone, "plain"))
    vm = made["service"]["roles"]["superlink"]["vms"][0]
    context, token = tmp_path / "one_env", tmp_path / "token.txt"
    context.write_text(f'export ONEGATE_ENDPOINT="{zone.zone.onegate_url}"\nexport VMID="{vm}"\nexport NOTE="a b"\n')
    token.write_text(zone.zone.core.vm_token(vm) + "\n")
    return {"context_file": str(context), "token_file": str(token)}


def test_attributes_are_published_once_and_removed_once(inside):
    wanted = {**inside, "attributes": {"fl_ready": True, "FL_NOTE": "a b=c"}, "service": True}
    predicted = run_module("onegate", wanted, check=True)
    assert predicted["changed"]
    assert "FL_READY" not in run_module("onegate", inside)["vm"]["USER_TEMPLATE"]
    done = run_module("onegate", wanted)
    assert done["diff"] == predicted["diff"] == {"before": {}, "after": {"FL_READY": "YES", "FL_NOTE": "a b=c"}}
    again = run_module("onegate", wanted)
    assert not again["changed"]
    assert again["service"]["roles"][0]["nodes"][0]["vm_info"]["VM"]["USER_TEMPLATE"]["FL_NOTE"] == "a b=c"
    assert run_module("onegate", {**inside, "absent": ["fl_note", "GHOST"]})["diff"]["before"] == {"FL_NOTE": "a b=c"}
    assert not run_module("onegate", {**inside, "absent": ["fl_note", "GHOST"]})["changed"]


def test_names_are_compared_as_onegate_keeps_them(inside):
    assert run_module("onegate", {**inside, "attributes": {"flap": 1}})["changed"]
    assert not run_module("onegate", {**inside, "attributes": {"FLAP": 1}, "absent": ["ghost", "GHOST"]})["changed"]
    assert run_module("onegate", {**inside, "absent": ["flap", "Flap"]})["diff"]["before"] == {"FLAP": "1"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"attributes": {"FLAP": 1}, "absent": ["flap"]}, "FLAP is both in attributes and in absent: the case of names makes no difference."),
        ({"attributes": {"FLAP": 1, "flap": 2}}, "FLAP is twice in attributes: the case of names makes no difference."),
        ({"attributes": {"FLAP": {"a": 1}}, "encode": True}, "The value of FLAP is {'a': 1}, expected a text, a number or a boolean."),
    ],
)
def test_a_contradiction_is_refused_before_anything_is_published(inside, wanted, said):
    result = run_module("onegate", {**inside, **wanted})
    assert (result["msg"], result["error"]["kind"]) == (said, "invalid")
    assert "FLAP" not in run_module("onegate", inside)["vm"]["USER_TEMPLATE"]


def test_an_awkward_value_is_refused_unless_it_is_encoded(inside):
    wanted = {**inside, "attributes": {"FL_NOTE": 'a,"b"\n[c]'}}
    assert "The value of FL_NOTE cannot be published" in run_module("onegate", wanted)["msg"]
    assert run_module("onegate", {**wanted, "encode": True})["changed"]
    assert not run_module("onegate", {**wanted, "encode": True})["changed"]


def test_any_text_survives_the_way_from_one_vm_to_another(inside):
    awkward = {"COMMAS": "a,b=c,", "QUOTES": """it's "quoted" \\""", "BRACKETS": "[A=1]", "LINES": "one\ntwo\r\n", "UNICODE": "ä→😀", "EMPTY": ""}
    assert run_module("onegate", {**inside, "attributes": awkward, "encode": True})["changed"]
    assert not run_module("onegate", {**inside, "attributes": awkward, "encode": True})["changed"]
    read = run_module("onegate_info", {**inside, "service": True, "decode": [name.lower() for name in awkward]})
    assert not read["changed"]
    (member,) = read["members"]
    for attributes in (read["attributes"], member["attributes"]):
        assert {name: attributes[name] for name in awkward} == awkward
    assert (member["role"], str(member["id"])) == ("superlink", read["vm"]["ID"])
    other = run_module("onegate_info", {**inside, "vm": member["id"]})
    assert other["vm"]["NAME"] == member["name"]
    raw = run_module("onegate_info", {**inside, "decode": ["ROLE_NAME"]})
    assert raw["failed"] and raw["error"]["kind"] == "invalid" and "ROLE_NAME of VM" in raw["msg"]


def test_a_vm_outside_the_service_cannot_be_read(zone, inside):
    failed = run_module("onegate_info", {**inside, "vm": 99999})
    assert (failed["failed"], failed["error"]["kind"]) == (True, "invalid") and "status 400" in failed["msg"]


def test_the_token_of_another_vm_is_refused_and_a_machine_without_context_is_told_so(inside, tmp_path):
    Path(inside["token_file"]).write_text("wrong-token")
    result = run_module("onegate", inside)
    assert (result["failed"], result["error"]["kind"]) == (True, "authentication")
    assert "wrong-token" not in str(result)
    missing = run_module("onegate", {**inside, "context_file": str(tmp_path / "none")})
    assert missing["msg"] == f"{tmp_path}/none cannot be read: No such file or directory."


# ---- In a playbook --------------------------------------------------------------------------------

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/opennebula.flower.one:
      api_url: "{{ api_url }}"
      oneflow_url: "{{ oneflow_url }}"
      api_username: oneadmin
      api_password: "{{ lookup('ansible.builtin.env', 'ZONE_PASSWORD') }}"
  tasks:
    - opennebula.flower.one_service:
        name: service
        service_template: gated
        wait_timeout: 1
      ignore_errors: true
"""


def test_a_playbook_shows_what_a_service_waits_for_and_at_no_verbosity_the_password(zone, service, tmp_path):
    zone.changed("one_service", name=service, wait=False, **template_of(zone, "gated", ready_status_gate=True))
    zone.running()
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    endpoints = [argument for name in ("api_url", "oneflow_url") for argument in ("-e", f"{name}={zone.options[name]}")]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-vvvvv", "-i", "localhost,", "-c", "local",
         "-e", f"ansible_python_interpreter={sys.executable}", *endpoints, playbook],
        env={**os.environ, "ZONE_PASSWORD": PASSWORD}, capture_output=True, text=True, timeout=900, check=True,
    )
    shown = done.stdout + done.stderr
    assert "one_service service: DEPLOYING: role superlink 0/1 ready, VM" in shown
    assert "is not RUNNING after 1 seconds" in shown
    assert PASSWORD not in shown
