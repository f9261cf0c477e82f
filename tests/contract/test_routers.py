# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual routers: their addresses, their VMs, and what these see of them at OneGate.

The words are those of OpenNebula's published source.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ALICE, DEADLINE, RUNNING, World, refusal

AUTHORIZATION, ACTION, INTERNAL, ALLOCATE = 512, 2048, 8192, 16384
NETWORK = 'NAME="inner"\nVN_MAD="bridge"\nBRIDGE="br1"\nGATEWAY="10.1.0.1"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="9"]'
VM = 'CPU="0.1"\nMEMORY="64"\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with two networks, a template for routers and one for other VMs, and alice."""
    world = World(Path(tmp_path_factory.mktemp("zone")))
    for text in (NETWORK, NETWORK.replace("inner", "outer").replace("10.1.", "10.2.")):
        number = world.call("one.vn.allocate", text, 0)
        world.wait("one.vn.info", number, "<STATE><![CDATA[1]]>")
    world.call("one.template.allocate", f'NAME="router"\n{VM}VROUTER="YES"\nCONTEXT=[NETWORK="YES",TOKEN="YES"]')
    world.call("one.template.allocate", f'NAME="plain"\n{VM}')
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    yield world
    world.stop()


def document(world: World, method: str, *params: object) -> ElementTree.Element:
    return ElementTree.fromstring(world.call(method, *params))


@pytest.fixture
def router(world: World) -> Iterator[int]:
    """A router with a floating address in one network and none in the other."""
    nics = 'NIC=[NETWORK="inner",FLOATING_IP="YES"]\nNIC=[NETWORK="outer"]'
    number = world.call("one.vrouter.allocate", f'NAME="edge"\n{nics}\nKEEPALIVED_PASSWORD="secret"')
    yield number
    if world.zone.core.store.get("vrouter", number):
        world.call("one.vrouter.delete", number)
    for vm in document(world, "one.vmpool.info", -2, -1, -1, -1).findall("VM"):
        world.wait("one.vm.info", int(vm.findtext("ID")), "<STATE>6<")


def started(world: World, router: int) -> int:
    world.call("one.vrouter.instantiate", router, 1, 0, "", False, "")
    vm = int(document(world, "one.vrouter.info", router).findtext("VMS/ID"))
    world.tick()
    world.wait("one.vm.info", vm, *RUNNING)
    return vm


def test_a_router_holds_its_floating_address(world: World, router: int) -> None:
    nics = document(world, "one.vrouter.info", router).findall("TEMPLATE/NIC")
    assert [nic.findtext("NIC_ID") for nic in nics] == ["0", "1"]
    assert (nics[0].findtext("VROUTER_IP")[:7], nics[0].find("IP")) == ("10.1.0.", None)
    assert nics[1].find("VROUTER_IP") is None
    network = document(world, "one.vn.info", 0)
    assert network.findtext("AR_POOL/AR/LEASES/LEASE/VROUTER") == str(router)
    assert [number.text for number in network.findall("VROUTERS/ID")] == [str(router)]
    world.call("one.vrouter.delete", router)
    assert document(world, "one.vn.info", 0).findtext("USED_LEASES") == "0"


def test_its_vms_have_addresses_of_their_own_too(world: World, router: int) -> None:
    vm = started(world, router)
    shown = document(world, "one.vm.info", vm)
    assert shown.findtext("NAME") == "vr-edge-0"
    context = {part.tag: part.text for part in shown.find("TEMPLATE/CONTEXT")}
    floating = document(world, "one.vrouter.info", router).findtext("TEMPLATE/NIC/VROUTER_IP")
    assert {name: context[name] for name in (
        "VROUTER_ID", "VROUTER_KEEPALIVED_ID", "VROUTER_KEEPALIVED_PASSWORD", "ETH0_VROUTER_IP",
    )} == {
        "VROUTER_ID": str(router), "VROUTER_KEEPALIVED_ID": str(router + 1), "VROUTER_KEEPALIVED_PASSWORD": "secret",
        "ETH0_VROUTER_IP": floating,
    }
    own = [nic.findtext("IP") for nic in shown.findall("TEMPLATE/NIC")]
    assert own == [context["ETH0_IP"], context["ETH1_IP"]]
    assert floating not in own
    world.call("one.vrouter.delete", router)
    world.wait("one.vm.info", vm, "<STATE>6<")


def test_interfaces_of_a_router_come_and_go_in_its_vms(world: World, router: int) -> None:
    vm = started(world, router)
    world.call("one.vrouter.attachnic", router, 'NIC=[NETWORK="outer",FLOATING_IP="YES"]')
    world.wait("one.vm.info", vm, *RUNNING)
    assert len(document(world, "one.vm.info", vm).findall("TEMPLATE/NIC")) == 3
    assert document(world, "one.vrouter.info", router).findall("TEMPLATE/NIC")[2].findtext("VROUTER_IP").startswith("10.2.0.")
    world.call("one.vrouter.detachnic", router, 2)
    world.wait("one.vm.info", vm, *RUNNING)
    assert len(document(world, "one.vm.info", vm).findall("TEMPLATE/NIC")) == 2
    words = "NIC with NIC_ID 2 does not exist."
    assert refusal(world, "one.vrouter.detachnic", router, 2) == (ACTION, words)
    assert refusal(world, "one.vrouter.attachnic", router, 'A="1"') == (
        ACTION, "The template must contain one NIC attribute",
    )
    for method, parameters in (
        ("attachnic", ('NIC=[NETWORK="outer"]',)), ("detachnic", (0,)), ("updatenic", (0, "", 0)),
        ("attach", ('DISK=[TYPE="fs",SIZE="1"]',)), ("detach", (0,)),
    ):
        assert refusal(world, f"one.vm.{method}", vm, *parameters) == (
            ACTION, "Action is not supported for virtual router VMs",
        )


def test_only_templates_for_routers_make_routers(world: World, router: int) -> None:
    assert refusal(world, "one.template.instantiate", 0, "x", False, "", False) == (
        ACTION, "Virtual router templates cannot be instantiated",
    )
    assert refusal(world, "one.vrouter.instantiate", router, 1, 1, "", False, "") == (
        ACTION, "Only virtual router templates are allowed",
    )
    assert refusal(world, "one.vrouter.instantiate", router, 1, -1, "", False, "") == (
        ACTION, "A template ID was not provided, and the virtual router does not have a default one",
    )


@pytest.mark.parametrize(("nic", "words"), [
    ('NETWORK_MODE="auto"', "Virtual Router is incompatible with auto mode"),
    ('NETWORK="inner",FLOATING_IP="YES",IP="10.9.0.1"', "Cannot get IP/MAC lease from virtual network 0."),
    ('NETWORK_ID="9"', "Virtual network with ID: 9 does not exist"),
])
def test_a_router_without_its_addresses_is_none(world: World, nic: str, words: str) -> None:
    text = f'NAME="bad"\nNIC=[NETWORK="inner",FLOATING_IP="YES"]\nNIC=[{nic}]'
    assert refusal(world, "one.vrouter.allocate", text) == (INTERNAL, words)
    assert document(world, "one.vn.info", 0).findtext("USED_LEASES") == "0"


def test_a_template_cannot_take_the_networks_of_a_router(world: World, router: int) -> None:
    world.call("one.vrouter.update", router, 'NIC=[NETWORK="outer"]\nNOTE="x"', 0)
    shown = document(world, "one.vrouter.info", router)
    assert (len(shown.findall("TEMPLATE/NIC")), shown.findtext("TEMPLATE/NOTE")) == (2, "x")


def test_a_vm_that_cannot_be_is_refused_as_a_part_of_its_router(world: World, router: int) -> None:
    world.call("one.template.allocate", 'NAME="torn"\nVROUTER="YES"\nCPU="1"\nMEMORY="64"\nDISK=[IMAGE_ID="77"]')
    number = document(world, "one.templatepool.info", -2, -1, -1).find("VMTEMPLATE").findtext("ID")
    words = "Error allocating a new virtual router. DISK 0: Image with ID: 77 does not exist"
    assert refusal(world, "one.vrouter.instantiate", router, 1, int(number), "", False, "") == (ALLOCATE, words)
    world.call("one.template.delete", int(number))


def test_a_foreign_router_is_closed(world: World, router: int) -> None:
    words = f"User [2] : Not authorized to perform MANAGE VROUTER [{router}]."
    assert refusal(world, "one.vrouter.instantiate", router, 1, 0, "", False, "", session=ALICE) == (AUTHORIZATION, words)


def gate(world: World, vm: int, path: str) -> tuple[int, object]:
    """Status and document that a VM gets from OneGate."""
    request = urllib.request.Request(
        world.zone.onegate_url + path, headers={"X-ONEGATE-VMID": str(vm), "X-ONEGATE-TOKEN": world.zone.core.vm_token(vm)},
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_vm_of_a_router_sees_it_and_its_networks(world: World, router: int) -> None:
    vm = started(world, router)
    status, shown = gate(world, vm, "/vrouter")
    assert (status, shown["VROUTER"]["NAME"], shown["VROUTER"]["VMS"]) == (200, "edge", {"ID": [str(vm)]})
    assert [nic["NETWORK"] for nic in shown["VROUTER"]["TEMPLATE"]["NIC"]] == ["inner", "outer"]
    status, network = gate(world, vm, "/vnet/1")
    assert (status, network["VNET"]["NAME"], network["VNET"]["VROUTERS"]) == (200, "outer", {"ID": [str(router)]})
    assert gate(world, vm, "/vnet/7") == (404, "Virtual network 7 not found")


def test_a_vm_of_a_router_sees_reservations_but_no_other_networks(world: World, router: int) -> None:
    vm = started(world, router)
    part = world.call("one.vn.reserve", 1, 'NAME="part"\nSIZE="2"')
    other = world.call("one.vn.allocate", NETWORK.replace("inner", "elsewhere"), 0)
    world.wait("one.vn.info", other, "<STATE><![CDATA[1]]>")
    assert gate(world, vm, f"/vnet/{part}")[1]["VNET"]["PARENT_NETWORK_ID"] == "1"
    words = f"Virtual Network {other} cannot be retrieved from Virtual router {router}."
    assert gate(world, vm, f"/vnet/{other}") == (400, words)


def test_leases_tell_more_of_their_vms_when_asked(world: World, router: int) -> None:
    backend = world.call("one.vm.allocate", f'{VM}NIC=[NETWORK="inner"]\nCONTEXT=[BACKEND="YES"]\nONEGATE_LB0_PORT="80"', True)
    vm = started(world, router)
    leases = gate(world, vm, "/vnet/0?extended=true")[1]["VNET"]["AR_POOL"]["AR"][0]["LEASES"]["LEASE"]
    lease = next(lease for lease in leases if lease.get("VM") == str(backend))
    assert (lease["NIC_NAME"], lease["BACKEND"], lease["ONEGATE_LB0_PORT"]) == ("NIC0", "YES", "80")
    assert "NIC_NAME" not in json.dumps(gate(world, vm, "/vnet/0")[1])
    world.call("one.vm.action", "terminate", backend)


def test_bandwidth_is_all_that_changes_in_an_interface(world: World) -> None:
    vm = world.call("one.vm.allocate", f'{VM}NIC=[NETWORK="inner",INBOUND_AVG_BW="1"]')
    world.tick()
    world.wait("one.vm.info", vm, *RUNNING)
    address = document(world, "one.vm.info", vm).findtext("TEMPLATE/NIC/IP")
    world.call("one.vm.updatenic", vm, 0, 'NIC=[OUTBOUND_AVG_BW="2",IP="10.1.0.15"]', 1)
    world.wait("one.vm.info", vm, *RUNNING, "<OUTBOUND_AVG_BW><![CDATA[2]]>")
    nic = document(world, "one.vm.info", vm).find("TEMPLATE/NIC")
    assert (nic.findtext("IP"), nic.findtext("INBOUND_AVG_BW")) == (address, "1")
    world.call("one.vm.updatenic", vm, 0, 'NIC=[OUTBOUND_AVG_BW="3"]', 0)
    world.wait("one.vm.info", vm, *RUNNING, "<OUTBOUND_AVG_BW><![CDATA[3]]>")
    assert document(world, "one.vm.info", vm).find("TEMPLATE/NIC/INBOUND_AVG_BW") is None
    assert refusal(world, "one.vm.updatenic", vm, 4, "NIC=[A=1]") == (ACTION, f"VM {vm}: NIC 4 does not exists")
    assert refusal(world, "one.vm.updatenic", vm, 0, "A=1") == (
        ACTION, f"Error updating NIC (0) for VM {vm}: Wrong NIC definition, attribute is missing",
    )
    world.call("one.vm.recover", vm, 3)
    world.wait("one.vm.info", vm, "<STATE>6<")
