# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""tenant.yml: two tenants that cannot see or reach each other, their limits, and what is left of one that is removed.

The tests build on each other: tenants are made, used, and one of them is removed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import items, to_dict
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, changes, module_zone

ROOT = Path(__file__).parents[2]
SECRETS = {"alice": "wonder-land", "bob": "build:er", "eve": "apple-tree"}
MOST_VMS = 2
PAGE = (-2, -1, -1)
#: element and arguments of a pool
POOLS = {
    "vnpool": ("VNET", PAGE), "secgrouppool": ("SECURITY_GROUP", PAGE), "grouppool": ("GROUP", ()), "userpool": ("USER", ()),
    "vdcpool": ("VDC", ()),
}


def tenant(users: list[str], subnet: str, **settings: object) -> dict:
    """The settings of a tenant."""
    return {
        "tenant_users": [{"name": user, "password": SECRETS[user]} for user in users],
        "tenant_network": {
            "template": {"VN_MAD": "802.1Q", "PHYDEV": "eth1", "AUTOMATIC_VLAN_ID": "YES"},
            "address_ranges": [{"IP": f"{subnet}.10", "SIZE": 20}],
        },
        "tenant_quotas": {"vm": {"VMS": MOST_VMS, "MEMORY": 1024}},
        "tenant_appliances": {
            "images": ["superlink"], "vm_templates": ["flower-superlink"], "service_templates": ["flower"],
        },
        **settings,
    }


TENANTS = {
    "hospital": tenant(["alice", "eve"], "10.20.0"),
    "clinic": tenant(["bob"], "10.20.1", tenant_inbound=[{"PROTOCOL": "TCP", "RANGE": "22"}]),
}


class User:
    """A user of a tenant, who asks the zone."""

    def __init__(self, zone: ModuleZone, name: str) -> None:
        self.zone = zone
        self.name = name
        self.session = f"{name}:{SECRETS[name]}"
        self.options = {"api_username": name, "api_password": SECRETS[name]}

    def call(self, method: str, *arguments: object) -> str:
        return self.zone.zone.core.call(self.session, method, *arguments)

    def names(self, pool: str, *arguments: int) -> list[str]:
        """The names of what a pool shows the user."""
        return sorted(re.findall(r"<NAME>(.*?)</NAME>", self.call(f"one.{pool}.info", *arguments)))

    def refused(self, method: str, *arguments: object) -> None:
        """A call that the zone has to refuse for lack of rights."""
        with pytest.raises(Exception, match="Not authorized to perform") as caught:
            self.call(method, *arguments)
        assert caught.value.code == 512

    def flow(self, path: str, method: str = "GET", **body: object) -> requests.Response:
        """Ask OneFlow."""
        return requests.request(
            method, self.zone.options["oneflow_url"] + path, json=body or None, auth=(self.name, SECRETS[self.name]), timeout=300
        )


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A zone with an appliance for all tenants, and with things that are the administrator's alone."""
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        for image in ("superlink", "private-image"):
            zone.changed("one_image", name=image, path="/images/disk", size=10)
        for template in ("flower-superlink", "private-template"):
            disk = {"IMAGE": "superlink", "IMAGE_UNAME": "oneadmin"}
            zone.changed("one_template", name=template, template={"CPU": 0.1, "MEMORY": 64, "DISK": [disk]})
        zone.changed("one_virtual_network", name="office", template={"VN_MAD": "bridge"}, address_ranges=[{"IP": "10.0.0.1", "SIZE": 9}])
        for service in ("flower", "private-service"):
            role = {"name": "superlink", "vm_template": "flower-superlink", "cardinality": 1}
            zone.changed("one_service_template", name=service, template={"deployment": "straight", "roles": [role]})
        yield zone


@pytest.fixture
def play(zone: ModuleZone, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run tenant.yml on the zone; returns exit status and output."""

    def run(*arguments: str, tenants: dict | None = None, **settings: object) -> tuple[int, str]:
        variables = {f"one_{name}": value for name, value in zone.options.items()} | settings
        hosts = TENANTS if tenants is None else tenants
        inventory = {"all": {"children": {"tenants": {"hosts": hosts}}, "vars": variables}}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), str(ROOT / "playbooks/tenant.yml")]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
        output = done.stdout + done.stderr
        assert not [secret for secret in (PASSWORD, *SECRETS.values()) if secret in output]
        return done.returncode, re.sub(r"\s+", " ", output)

    return run


@pytest.fixture(scope="module")
def alice(zone: ModuleZone) -> User:
    return User(zone, "alice")


@pytest.fixture(scope="module")
def bob(zone: ModuleZone) -> User:
    return User(zone, "bob")


def named(zone: ModuleZone, pool: str, name: str) -> dict:
    """The object of that name, of all that there are."""
    element, arguments = POOLS[pool]
    documents = items(to_dict(zone.call(f"one.{pool}.info", *arguments)), element)
    return next(document for document in documents if document["NAME"] == name)


def number(zone: ModuleZone, pool: str, name: str) -> int:
    """The id of the object of that name."""
    return int(named(zone, pool, name)["ID"])


def machine(name: str, network: str) -> dict:
    """Options of one_vm for a machine of the appliance in a network."""
    return {"name": name, "vm_template": "flower-superlink", "nics": [{"NETWORK": network}], "wait_timeout": 600}


def test_bad_settings_end_the_run_before_anything_is_made(zone, play):
    bad = {
        "users": {},
        "a b": {},
        "hospital": {"tenant_users": [{"name": "alice"}]},
        "school": {"tenant_users": [{"password": "x"}]},
        "clinic": {"tenant_network": {"template": {"VN_MAD": "802.1Q"}}},
        "surgery": {"tenant_network": {"template": {"VN_MAD": "bridge"}, "address_ranges": []}},
        "ward": {"tenant_state": "gone"},
    }
    zone.calls.clear()
    status, output = play(tenants={name: TENANTS["clinic"] | settings for name, settings in bad.items()})
    assert status != 0
    said = output.replace("''", "'")
    for sentence in (
        "tenant_name 'users' is not valid", "tenant_name 'a b' is not valid", "The users alice of tenant 'hospital' have no password",
        "A user of tenant 'school' has no name", "tenant_network of tenant 'clinic' needs", "The driver 'bridge' of tenant 'surgery'",
        "tenant_state 'gone' of tenant 'ward' is not valid",
    ):
        assert sentence in said, said
    assert zone.calls == []


def test_a_dry_run_makes_nothing_a_run_makes_the_tenants_and_a_second_one_changes_nothing(zone, play):
    zone.calls.clear()
    status, output = play("--check", "--diff")
    assert status == 0, output
    assert zone.writes == []

    status, output = play("-v")
    assert status == 0, output
    assert changes(output) > 0

    zone.calls.clear()
    status, output = play("--diff")
    assert status == 0, output
    assert changes(output) == 0
    assert zone.writes == []


def test_a_tenant_sees_the_appliances_and_its_own_network_and_nothing_else(zone, alice, bob):
    for user, own in ((alice, "hospital"), (bob, "clinic")):
        assert user.names("imagepool", *PAGE) == ["superlink"]
        assert user.names("templatepool", *PAGE) == ["flower-superlink"]
        assert user.names("vnpool", *PAGE) == [own]
        assert user.names("secgrouppool", *PAGE) == sorted(["default", own])
        assert user.names("userpool") == [user.name]
        assert user.names("grouppool") == [own]
        assert user.names("hostpool") == []
        templates = user.flow("/service_template").json()["DOCUMENT_POOL"]["DOCUMENT"]
        assert [template["NAME"] for template in templates] == ["flower"]


def test_a_tenant_makes_machines_and_services_that_another_one_cannot_see_or_reach(zone, alice, bob):
    made = zone.changed("one_vm", **machine("ward", "hospital"), **alice.options)
    vm = made["vms"][0]["id"]
    zone.changed("one_service", name="study", service_template="flower", wait_timeout=600, **alice.options)
    service = int(alice.flow("/service").json()["DOCUMENT_POOL"]["DOCUMENT"][0]["ID"])
    of_service = alice.flow(f"/service/{service}").json()["DOCUMENT"]["TEMPLATE"]["BODY"]["roles"][0]["nodes"][0]["deploy_id"]
    network = number(zone, "vnpool", "hospital")

    assert bob.names("vmpool", *PAGE, -2) == []
    assert bob.flow("/service").json() == {"DOCUMENT_POOL": {}}
    for machine_id in (vm, of_service):
        bob.refused("one.vm.info", machine_id)
        bob.refused("one.vm.action", "terminate-hard", machine_id)
        bob.refused("one.vm.update", machine_id, 'A="1"', 1)
        bob.refused("one.vm.attachnic", machine_id, f'NIC=[NETWORK_ID="{network}"]')
    bob.refused("one.vn.info", network)
    bob.refused("one.document.info", service, False)
    bob.refused("one.secgroup.info", number(zone, "secgrouppool", "hospital"))
    bob.refused("one.user.info", number(zone, "userpool", "alice"))
    bob.refused("one.group.info", number(zone, "grouppool", "hospital"))
    bob.refused("one.acl.info")
    assert bob.names("vdcpool") == []
    assert bob.flow(f"/service/{service}").status_code == 401
    assert bob.flow(f"/service/{service}", "DELETE").status_code == 401
    scale = {"role_name": "superlink", "cardinality": 2, "force": False}
    assert bob.flow(f"/service/{service}/scale", "POST", **scale).status_code == 401


@pytest.mark.parametrize("network", ["hospital", "office"])
def test_no_machine_gets_into_the_network_of_somebody_else(zone, bob, network):
    failed = zone.fails("one_vm", **machine("spy", network), **bob.options)
    assert failed["error"]["kind"] in ("authorization", "missing"), failed
    template = f'NIC=[NETWORK_ID="{number(zone, "vnpool", network)}"]'
    bob.refused("one.template.instantiate", 0, "spy", False, template, False)
    assert bob.names("vmpool", *PAGE, -2) == []


def test_a_tenant_cannot_use_what_is_no_appliance_nor_make_more_than_it_may(zone, bob):
    bob.refused("one.image.info", 1)
    bob.refused("one.template.instantiate", 1, "other", False, "", False)
    bob.refused("one.image.allocate", 'NAME="own"\nPATH="/x"', 1, False)
    bob.refused("one.vm.allocate", 'NAME="own"\nCPU="1"\nMEMORY="64"', False)
    bob.refused("one.vn.allocate", 'NAME="own"\nVN_MAD="bridge"', -1)
    bob.refused("one.template.update", 0, 'MEMORY="1"', 1)
    bob.refused("one.acl.addrule", "400000000", "1400000000", "1", "400000000")


def test_a_vm_template_of_a_tenants_own_opens_no_network_image_or_device(zone, bob):
    """The right to make some comes with that to deploy, as oned has no other."""
    office = number(zone, "vnpool", "office")
    for part in (f'NIC=[NETWORK_ID="{office}"]', 'DISK=[IMAGE="private-image",IMAGE_UNAME="oneadmin"]'):
        own = bob.call("one.template.allocate", f'NAME="own"\nCPU="0.1"\nMEMORY="64"\n{part}')
        bob.refused("one.template.instantiate", own, "spy", False, "", False)
        bob.call("one.template.delete", own, False)
    for reserved in ('PCI=[CLASS="0302"]', 'RAW=[TYPE="kvm",DATA="<x/>"]', 'CONTEXT=[FILES="/etc/shadow"]', 'EMULATOR="/bin/sh"'):
        with pytest.raises(Exception, match="restricted attribute"):
            bob.call("one.template.allocate", f'NAME="own"\nCPU="0.1"\nMEMORY="64"\n{reserved}')
        with pytest.raises(Exception, match="restricted attribute"):
            bob.call("one.template.instantiate", 0, "spy", False, reserved, False)


def test_quotas_stop_the_machine_too_many_whichever_user_of_the_tenant_asks(zone, alice):
    eve = User(zone, "eve")
    assert len(alice.names("vmpool", *PAGE, -1)) == MOST_VMS
    for user in (alice, eve):
        failed = zone.fails("one_vm", **machine("too-many", "hospital"), **user.options)
        assert failed["error"]["kind"] == "quota"
        assert f"limit of {MOST_VMS} reached for VMS quota in VM" in failed["msg"]


def test_a_machine_of_a_tenant_is_filtered_by_the_security_group_of_the_tenant_alone(zone, bob):
    made = zone.changed("one_vm", **machine("desk", "clinic"), **bob.options)
    nic = to_dict(bob.call("one.vm.info", made["vms"][0]["id"]))["TEMPLATE"]["NIC"]
    group = named(zone, "secgrouppool", "clinic")
    assert nic["SECURITY_GROUPS"] == group["ID"]
    inbound = [rule for rule in group["TEMPLATE"]["RULE"] if rule["RULE_TYPE"] == "INBOUND"]
    own = {"PROTOCOL": "ALL", "RULE_TYPE": "INBOUND", "NETWORK_ID": str(number(zone, "vnpool", "clinic"))}
    assert inbound == [own, {"PROTOCOL": "TCP", "RULE_TYPE": "INBOUND", "RANGE": "22"}]


def test_a_tenant_with_machines_is_only_removed_when_asked_and_then_nothing_is_left_of_it(zone, play, bob):
    limit = ("--limit", "hospital")
    zone.calls.clear()
    status, output = play(*limit, tenant_state="absent")
    assert status != 0
    assert "Tenant 'hospital' still has the services study and the VMs" in output.replace("''", "'")
    assert zone.writes == []

    group = number(zone, "grouppool", "hospital")
    status, output = play(*limit, tenant_state="absent", tenant_purge=True)
    assert status == 0, output
    for pool, (_element, arguments) in POOLS.items():
        assert not re.search(r"\b(hospital|alice|eve)\b", zone.call(f"one.{pool}.info", *arguments))
    assert not re.search(rf"@{group}\b", zone.call("one.acl.info"))
    assert zone.call("one.documentpool.info", *PAGE, 100).count("<DOCUMENT>") == 0
    assert bob.names("vmpool", *PAGE, -1) == ["desk"]

    zone.calls.clear()
    status, output = play(*limit, tenant_state="absent")
    assert status == 0 and changes(output) == 0, output
    assert zone.writes == []
