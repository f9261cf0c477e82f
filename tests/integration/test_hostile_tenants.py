# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a tenant can write into his own objects: it stops neither lists nor the work of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, module_zone

REPOSITORY = Path(__file__).resolve().parents[2]
#: what alice writes into her VM, and the attributes that cannot be read then
WRITTEN = [
    ('LABELS="a"\nLABELS="b, c"', []),
    ('LABELS=[A="1"]', ["LABELS"]),
    ('LABELS="a"\nLABELS=[A="1"]', ["LABELS"]),
    ('SERVICE_ID="none"', ["SERVICE_ID"]),
    ('SERVICE_ID="-5"', ["SERVICE_ID"]),
    (f'SERVICE_ID="{"9" * 5000}"', ["SERVICE_ID"]),
    ('SERVICE_ID="1"\nSERVICE_ID="2"', ["SERVICE_ID"]),
    ('ROLE_NAME="a"\nROLE_NAME="b"', ["ROLE_NAME"]),
    ('ROLE_NAME=[A="1"]', ["ROLE_NAME"]),
    ('ERROR=[A="1"]\nSCHED_MESSAGE=[B="2"]', ["ERROR", "SCHED_MESSAGE"]),
    ('READY=[A="1"]\nHOSTNAME=[A="1"]\nUSER_INPUTS="text"', []),
    ('USER_INPUTS="a"\nUSER_INPUTS=[B="c"]\nNAME="x"\nID="y"', []),
]


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A zone with a VM of oneadmin's."""
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.01, "MEMORY": 1})
        zone.changed("one_vm", name="mine", vm_template="small")
        zone.changed("one_user", name="alice", password="alice-pw")
        yield zone


@pytest.fixture
def theirs(zone: ModuleZone) -> Iterator[int]:
    """A VM of alice's."""
    number = zone.changed("one_vm", name="theirs", vm_template="small", owner="alice")["vms"][0]["id"]
    yield number
    zone.changed("one_vm", name=str(number), state="absent", hard=True)


def inventory_of(zone: ModuleZone, directory: Path) -> tuple[dict, str]:
    """The hosts that an inventory of the zone has, and what it says to people."""
    source = directory / "test.opennebula.yml"
    source.write_text(json.dumps({"plugin": "opennebula.flower.opennebula", "lookup_names": True, **{
        name: zone.options[name] for name in ("api_url", "oneflow_url", "api_username", "api_password")
    }}))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "--list", "-i", source],
        capture_output=True, text=True, check=False, timeout=900, cwd=directory,
        env={
            **os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{REPOSITORY}:{REPOSITORY / 'build' / 'collections'}", "COLUMNS": "1000",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "ANSIBLE_NOCOLOR": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    return json.loads(done.stdout)["_meta"]["hostvars"], " ".join(done.stderr.split())


@pytest.mark.parametrize(("text", "unreadable"), WRITTEN, ids=[text[:30] for text, _unreadable in WRITTEN])
def test_a_vm_stays_in_the_list_whatever_its_owner_wrote_and_a_warning_names_it(zone, theirs, text, unreadable):
    zone.call("one.vm.update", theirs, text, 1)
    result = zone.run("one_vm_info")
    assert not result.get("failed"), result
    assert [vm["name"] for vm in result["vms"]] == ["mine", "theirs"]
    for name in unreadable:
        assert f"{name} cannot be read and counts as empty in VM {theirs}." in str(result["warnings"])
    if not unreadable:
        assert f"in VM {theirs}." not in str(result.get("warnings"))
    zone.unchanged("one_vm", name="mine", vm_template="small")
    assert zone.run("one_vm", name="theirs", vm_template="small", owner="alice")["changed"] is False


def test_labels_that_are_there_twice_are_all_meant(zone, theirs):
    zone.call("one.vm.update", theirs, 'LABELS="a"\nLABELS="b, c"', 1)
    found = zone.run("one_vm_info", labels=["a", "c"])["vms"]
    assert [(vm["id"], vm["labels"]) for vm in found] == [(theirs, ["a", "b", "c"])]


def test_the_inventory_has_every_vm_and_names_what_cannot_be_read(zone, theirs, tmp_path):
    zone.call("one.vm.update", theirs, "\n".join(text for text, _unreadable in WRITTEN[3:-1]) + '\nLABELS=[A="1"]', 1)
    hosts, said = inventory_of(zone, tmp_path)
    assert set(hosts) == {"mine", "theirs"}
    for name in ("LABELS", "ROLE_NAME", "SERVICE_ID"):
        assert f"{name} cannot be read and counts as empty in VM {theirs}." in said


def test_a_vm_with_the_name_of_a_group_under_every_form_of_it_is_a_host(zone, theirs, tmp_path):
    names = [f"label_x_{theirs}_127.0.0.1", f"label_x_{theirs}", "label_x"]
    zone.call("one.vm.rename", theirs, "label_x")
    zone.call("one.vm.update", theirs, f'LABELS="{",".join(name.removeprefix("label_") for name in names)}"', 1)
    hosts, _said = inventory_of(zone, tmp_path)
    assert "mine" in hosts and len(hosts) == 2


@pytest.mark.parametrize("body", [
    "5", "[]", '{"roles": 5}', '{"roles": [5]}', '{"roles": [{"cardinality": "x"}]}', '{"state": [], "roles": [{"name": "a", "nodes": 7}]}',
])
def test_a_service_stays_in_the_list_whatever_its_document_holds(zone, body):
    made = zone.call("one.document.allocate", f"<TEMPLATE><NAME>odd</NAME><BODY><![CDATA[{body}]]></BODY></TEMPLATE>", 100)
    result = zone.run("one_service_info", vm_details=True)
    zone.call("one.document.delete", made)
    assert not result.get("failed"), result
    assert [service["id"] for service in result["services"]] == [made]


def test_a_numbered_set_of_vms_leaves_alone_what_others_call_so(zone):
    zone.changed("one_vm", name="web-#", count=2, vm_template="small")
    other = zone.changed("one_vm", name="other", vm_template="small", owner="alice")["vms"][0]["id"]
    zone.call("one.vm.rename", other, "web-2")
    result = zone.run("one_vm", name="web-#", count=2, vm_template="small")
    assert result["changed"] is False and other not in [vm["id"] for vm in result["vms"]]
    assert f"left alone: {other} of alice." in str(result["warnings"])
    zone.changed("one_vm", name="web-#", state="absent", hard=True)
    assert [vm["id"] for vm in zone.run("one_vm_info", name="web-2")["vms"]] == [other]
    zone.changed("one_vm", name=str(other), state="absent", hard=True)


@pytest.fixture
def bob(zone: ModuleZone) -> Iterator[None]:
    """A second tenant."""
    zone.changed("one_user", name="bob", password="bob-pw")
    yield
    zone.changed("one_user", name="bob", state="absent")


def test_a_vm_of_another_tenant_is_left_alone_by_who_makes_one_for_somebody_else(zone, theirs, bob):
    gone = zone.run("one_vm", name="theirs", owner="bob", state="absent")
    assert gone["changed"] is False and f"left alone: {theirs} of alice." in str(gone["warnings"])
    result = zone.run("one_vm", name="theirs", vm_template="small", owner="bob")
    assert result["changed"] and f"left alone: {theirs} of alice." in str(result["warnings"])
    (made,) = result["vms"]
    assert (made["owner"], made["id"] != theirs) == ("bob", True)
    assert zone.run("one_vm", name=str(theirs))["vms"][0]["owner"] == "alice"
    zone.changed("one_vm", name=str(made["id"]), state="absent", hard=True)


def test_a_vm_that_only_another_tenant_has_is_taken_with_a_warning(zone, theirs):
    result = zone.run("one_vm", name="theirs")
    assert [vm["id"] for vm in result["vms"]] == [theirs]
    assert f"'theirs' means belongs to other users: VM {theirs} of alice" in str(result["warnings"])
    assert "warnings" not in zone.run("one_vm", name=str(theirs))


@pytest.mark.parametrize("owner", ["bob", "oneadmin"])
def test_an_object_of_another_tenant_is_left_alone_by_who_makes_one_for_somebody_else(zone, bob, owner):
    theirs = zone.changed("one_template", name="flower", template={"MEMORY": 16}, owner="alice")["vm_template"]["id"]
    gone = zone.run("one_template", name="flower", state="absent", owner=owner)
    assert gone["changed"] is False and f"ids {theirs} of alice are left alone" in str(gone["warnings"])
    made = zone.changed("one_template", name="flower", template={"MEMORY": 32}, owner=owner)["vm_template"]
    assert (made["owner"], made["id"] != theirs) == (owner, True)
    assert zone.run("one_template", name=str(theirs))["vm_template"]["template"]["MEMORY"] == "16"
    for number in (theirs, made["id"]):
        zone.changed("one_template", name=str(number), state="absent")


def test_an_object_that_only_another_tenant_has_is_taken_with_a_warning(zone):
    theirs = zone.changed("one_template", name="evil", template={"CPU": 0.01, "MEMORY": 1}, owner="alice")["vm_template"]["id"]
    said = f"The VM template 'evil' that is taken, id {theirs}, belongs to alice"
    assert said in str(zone.run("one_template", name="evil")["warnings"])
    made = zone.changed("one_vm", name="new", vm_template="evil")
    assert said in str(made["warnings"])
    zone.changed("one_vm", name="new", state="absent", hard=True)
    for name in (str(theirs), "alice/evil"):
        assert "warnings" not in zone.run("one_template", name=name)
    assert "warnings" not in zone.run("one_template", name="evil", owner="alice")
    zone.changed("one_template", name=str(theirs), state="absent")


def test_a_tenant_takes_what_oneadmin_offers_without_a_warning(zone):
    zone.changed("one_template", name="small", mode="644")
    alice = {"api_username": "alice", "api_password": "alice-pw"}
    made = zone.changed("one_vm", name="from-small", vm_template="small", **alice)
    assert "warnings" not in made
    zone.changed("one_vm", name="from-small", state="absent", hard=True, **alice)
