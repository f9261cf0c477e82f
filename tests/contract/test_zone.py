# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a zone does beyond the recorded exchanges: life of a VM, its resources, rights, and restarts."""

from __future__ import annotations

import re
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path

import pyone
import pytest
from zone_world import ADMIN, ALICE, DEADLINE, RUNNING, World

from lab.core.errors import OneError

NETWORK = """NAME="private"
VN_MAD="dummy"
BRIDGE="br0"
NETWORK_ADDRESS="192.168.150.0"
NETWORK_MASK="255.255.255.0"
AR=[TYPE="IP4",IP="192.168.150.10",SIZE="3"]"""
TEMPLATE = """NAME="small"
CPU="0.1"
MEMORY="128"
SITE="north & south"
DISK=[IMAGE="disk",IMAGE_UNAME="oneadmin"]
NIC=[NETWORK="private",NETWORK_UNAME="oneadmin"]
CONTEXT=[NETWORK="YES",TOKEN="YES",WHERE="at $SITE",ADDRESS="$NIC[IP, NETWORK=\\"private\\"]",ME="$NAME-$VMID",NONE="$X"]"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A zone with a host, a network of three addresses, an image and a VM template."""
    world = World(tmp_path)
    world.call("one.vn.allocate", NETWORK, 0)
    world.call("one.image.allocate", 'NAME="disk"\nPATH="/x"\nSIZE="10"', 1, False)
    world.wait("one.vn.info", 0, "<STATE><![CDATA[1]]>")
    world.wait("one.image.info", 0, "<STATE>1<")
    world.call("one.template.allocate", TEMPLATE)
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    world.tick()
    yield world
    world.stop()


def refusal(world: World, method: str, *params: object, session: str = ADMIN) -> OneError:
    with pytest.raises(OneError) as caught:
        world.call(method, *params, session=session)
    return caught.value


def text(document: str, name: str) -> str:
    return re.search(rf"<{name}>(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?</{name}>", document).group(1)


def test_context_is_filled_in(world: World) -> None:
    vm_id = world.run("first")
    context = world.driver.deployed[vm_id].context
    assert context["WHERE"] == "at north & south"
    assert context["ADDRESS"] == context["ETH0_IP"] == "192.168.150.10"
    assert context["ME"] == "first-0"
    assert context["ETH0_MASK"] == "255.255.255.0"
    assert context["ETH0_NETWORK"] == "192.168.150.0"
    assert context["ONEGATE_ENDPOINT"] == world.zone.onegate_url
    assert context["VMID"] == "0"
    assert "NONE" not in context


def test_slow_driver_blocks_no_call(world: World) -> None:
    world.driver.free.clear()
    vm_id = world.instantiate("slow")
    world.tick()
    world.wait("one.vm.info", vm_id, "<LCM_STATE>2<")
    assert "<NAME>slow</NAME>" in world.call("one.vmpool.info", -2, -1, -1, -1)


def test_failed_boot_tells_the_reason_and_can_be_tried_again(world: World) -> None:
    world.driver.reason = "the disk is broken"
    vm_id = world.instantiate("broken")
    world.tick()
    document = world.wait("one.vm.info", vm_id, "<LCM_STATE>36<")
    assert text(document, "ERROR").endswith("DEPLOY: the disk is broken")
    world.driver.reason = ""
    world.call("one.vm.recover", vm_id, 2)
    assert "<ERROR>" not in world.wait("one.vm.info", vm_id, *RUNNING)


def test_failed_image_tells_the_reason(world: World) -> None:
    world.driver.reason = "no such file"
    image_id = world.call("one.image.allocate", 'NAME="absent"\nPATH="/y"', 1, False)
    assert "no such file" in text(world.wait("one.image.info", image_id, "<STATE>5<"), "ERROR")
    refused = refusal(world, "one.vm.allocate", 'CPU="1"\nMEMORY="64"\nDISK=[IMAGE="absent"]', False)
    assert refused.code == 8192
    assert f"Cannot acquire image {image_id}, it is in state: ERROR" in refused.message


def test_full_range_is_refused_until_an_address_is_free(world: World) -> None:
    for number in range(3):
        world.instantiate(f"vm{number}", hold=True)
    refused = refusal(world, "one.template.instantiate", 0, "more", False, "", False)
    assert refused.code == 16384
    assert refused.message.endswith("Cannot get IP/MAC lease from virtual network 0.")
    world.call("one.vm.action", "terminate", 1)
    address = text(world.call("one.vm.info", world.instantiate("more", hold=True)), "ETH0_IP")
    assert address == "192.168.150.11"


def test_added_range_gives_more_addresses(world: World) -> None:
    for number in range(3):
        world.instantiate(f"vm{number}", hold=True)
    world.call("one.vn.add_ar", 0, 'AR=[TYPE="IP4",IP="192.168.150.100",SIZE="1"]')
    vm_id = world.instantiate("fourth", hold=True)
    assert text(world.call("one.vm.info", vm_id), "ETH0_IP") == "192.168.150.100"


def test_network_in_use_is_not_deleted(world: World) -> None:
    vm_id = world.instantiate("user", hold=True)
    assert refusal(world, "one.vn.delete", 0).code == 2048
    assert refusal(world, "one.image.delete", 0).message.endswith("There are 1 VMs using it.")
    world.call("one.vm.action", "terminate", vm_id)
    world.call("one.vn.delete", 0)
    world.wait_for(lambda: "<ID>" not in world.call("one.vnpool.info", -2, -1, -1), "deletion of the network")


def test_network_of_another_user_needs_its_owners_name(world: World) -> None:
    template = 'CPU="1"\nMEMORY="64"\nNIC=[NETWORK="private"{}]'
    refused = refusal(world, "one.vm.allocate", template.format(""), True, session=ALICE)
    assert "User 2 does not own a network with name: private" in refused.message
    assert world.call("one.vm.allocate", template.format(',NETWORK_UNAME="oneadmin"'), True, session=ALICE) >= 0


def test_machine_without_room_says_why_and_is_placed_when_there_is(world: World) -> None:
    big = world.run("big", 'CPU="7.95"')
    waiting = world.instantiate("waiting", 'CPU="0.1"\nMEMORY="64"')
    world.tick()
    assert text(world.call("one.vm.info", waiting), "SCHED_MESSAGE").endswith("[HOST] Not enough CPU on hosts: 0")
    world.call("one.vm.action", "terminate", big)
    world.wait("one.vm.info", big, "<STATE>6<")
    world.tick()
    assert "SCHED_MESSAGE" not in world.wait("one.vm.info", waiting, *RUNNING)


def test_disabled_host_gets_no_machine(world: World) -> None:
    world.call("one.host.status", 0, 1)
    vm_id = world.instantiate("waiting")
    world.tick()
    assert "<STATE>1<" in world.call("one.vm.info", vm_id)


def test_power_cycle(world: World) -> None:
    vm_id = world.run("cycled")
    world.call("one.vm.action", "poweroff", vm_id)
    world.wait("one.vm.info", vm_id, "<STATE>8<", "<LCM_STATE>0<")
    assert refusal(world, "one.vm.action", "reboot", vm_id).message.endswith("not available for state POWEROFF")
    world.call("one.vm.action", "resume", vm_id)
    world.wait("one.vm.info", vm_id, *RUNNING)


def test_machine_that_stops_by_itself_is_powered_off(world: World) -> None:
    vm_id = world.run("leaving")
    world.driver.poweroff(world.driver.deployed[vm_id], hard=True)
    world.tick()
    world.wait("one.vm.info", vm_id, "<STATE>8<")


def test_booting_machine_cannot_be_terminated_but_deleted(world: World) -> None:
    world.driver.free.clear()
    vm_id = world.instantiate("booting")
    world.tick()
    world.wait("one.vm.info", vm_id, "<LCM_STATE>2<")
    assert refusal(world, "one.vm.action", "terminate-hard", vm_id).code == 2048
    world.call("one.vm.recover", vm_id, 3)
    world.driver.free.set()
    world.wait("one.vm.info", vm_id, "<STATE>6<")
    assert world.driver.poll() == {}


def test_monitoring_shows_the_newest_sample(world: World) -> None:
    vm_id = world.run("measured")
    world.tick()
    assert text(world.call("one.vm.info", vm_id), "MONITORING").startswith("<CPU>")
    newest = world.call("one.vmpool.monitoring", -2, 0)
    world.tick()
    assert newest.count("<MONITORING>") == world.call("one.vmpool.monitoring", -2, 0).count("<MONITORING>") == 1
    assert world.call("one.vm.monitoring", vm_id).count("<MONITORING>") == 2


def test_ordinary_users_see_and_change_their_own(world: World) -> None:
    for method, *params in (
        ("one.host.delete", 0), ("one.host.update", 0, "A=1", 1), ("one.cluster.update", 0, "A=1", 1),
        ("one.vn.delete", 0), ("one.user.delete", 0), ("one.user.passwd", 0, "x"), ("one.user.quota", 2, "VM=[VMS=9]"),
        ("one.template.info", 0), ("one.user.allocate", "eve", "pw", "", []),
    ):
        assert refusal(world, method, *params, session=ALICE).code == 512, method
    assert "<ID>" not in world.call("one.templatepool.info", -2, -1, -1, session=ALICE)
    own = world.call("one.template.allocate", 'NAME="small"', session=ALICE)
    assert f"<ID>{own}</ID>" in world.call("one.templatepool.info", -3, -1, -1, session=ALICE)


def test_login_token_is_a_password_until_it_is_dropped(world: World) -> None:
    token = world.call("one.user.login", "alice", "", 3600, -1, session=ALICE)
    assert world.zone.core.authenticate(f"alice:{token}") == 2
    world.call("one.user.login", "alice", token, 0, -1, session=ALICE)
    with pytest.raises(OneError, match="couldn't be authenticated"):
        world.zone.core.authenticate(f"alice:{token}")


def test_wrong_parameters_are_a_fault(world: World) -> None:
    server = xmlrpc.client.ServerProxy(world.zone.xmlrpc_url)
    for params in (("x",), (True,), ()):
        with pytest.raises(xmlrpc.client.Fault) as caught:
            server.one.vm.info(ADMIN, *params)
        assert caught.value.faultCode == -501
    assert server.one.vm.info(ADMIN, 99, False, "surplus")[2] == 1024


def test_documents_may_share_a_name_and_are_listed_by_type(world: World) -> None:
    ids = [world.call("one.document.allocate", f'NAME="same"\nBODY="{{\\"n\\": {n}}}"', 100 + n) for n in (0, 1, 0)]
    pool = world.call("one.documentpool.info", -2, -1, -1, 100)
    assert re.findall(r"<ID>(\d+)</ID>", pool) == [str(ids[2]), str(ids[0])]
    assert '<BODY><![CDATA[{"n": 0}]]></BODY>' in pool


def test_pools_come_in_pages_and_ranges(world: World) -> None:
    for number in range(5):
        world.call("one.document.allocate", f'NAME="d{number}"', 100)

    def listed(start: int, end: int) -> list[str]:
        return re.findall(r"<ID>(\d+)</ID>", world.call("one.documentpool.info", -2, start, end, 100))

    assert listed(0, -2) == ["4", "3"]
    assert listed(4, -2) == ["0"]
    assert listed(9, -2) == []
    assert listed(1, 2) == ["2", "1"]


def test_official_client_reads_the_pools(world: World) -> None:
    world.run("read")
    one = pyone.OneServer(world.zone.xmlrpc_url, session=ADMIN)
    machine = one.vmpool.info(-2, -1, -1, -1).VM[0]
    assert (machine.STATE, machine.LCM_STATE, machine.TEMPLATE["NIC"]["IP"]) == (3, 3, "192.168.150.10")
    assert one.vm.info(machine.ID).USER_TEMPLATE["SITE"] == "north & south"
    assert one.vn.info(0).AR_POOL.AR[0].LEASES.LEASE[0].VM == machine.ID
    assert one.hostpool.info().HOST[0].HOST_SHARE.RUNNING_VMS == 1
    assert one.imagepool.info(-2, -1, -1).IMAGE[0].STATE == 2
    with pytest.raises(pyone.OneNoExistsException):
        one.template.info(99)


def test_restarted_zone_knows_everything(world: World) -> None:
    vm_id = world.run("lasting")
    stopped = world.run("stopped")
    world.call("one.vm.action", "poweroff", stopped)
    world.wait("one.vm.info", stopped, "<STATE>8<")
    before = world.call("one.vm.info", vm_id)
    token = world.zone.core.vm_token(vm_id)
    world.stop()
    world.start()
    world.tick()
    after = world.call("one.vm.info", vm_id)
    assert [text(after, name) for name in ("STATE", "LCM_STATE", "ETH0_IP")] == ["3", "3", text(before, "ETH0_IP")]
    assert world.zone.core.vm_of_token(vm_id, token)
    assert "<STATE>8<" in world.call("one.vm.info", stopped)
    assert world.instantiate("next", hold=True) == stopped + 1


def test_restarted_zone_ends_what_it_began(world: World) -> None:
    vm_id = world.run("ending")
    world.driver.free.clear()
    world.call("one.vm.action", "terminate-hard", vm_id)
    world.driver.reason = "interrupted"
    world.stop()
    assert world.driver.poll()
    world.start()
    world.call("one.vm.recover", vm_id, 3)
    world.wait("one.vm.info", vm_id, "<STATE>6<")
    assert world.driver.poll() == {}


def test_many_callers_get_different_machines(world: World) -> None:
    world.call("one.vn.add_ar", 0, 'AR=[TYPE="IP4",IP="192.168.150.100",SIZE="50"]')
    threads = [threading.Thread(target=world.instantiate, args=(f"vm{number}", "", True)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    pool = world.call("one.vmpool.info", -2, -1, -1, -1)
    addresses = re.findall(r"<IP><!\[CDATA\[(.*?)\]\]></IP>", pool)
    assert len(addresses) == len(set(addresses)) == 20


def test_hosts_move_between_clusters_and_others_belong_to_several(world: World) -> None:
    rack = world.call("one.cluster.allocate", "rack1")
    assert rack == 100
    world.call("one.cluster.addhost", rack, 0)
    world.call("one.cluster.adddatastore", rack, 1)
    world.call("one.cluster.addvnet", rack, 0)
    assert [text(world.call("one.host.info", 0), name) for name in ("CLUSTER_ID", "CLUSTER")] == ["100", "rack1"]
    assert text(world.call("one.datastore.info", 1), "CLUSTERS") == "<ID>0</ID><ID>100</ID>"
    document = world.call("one.cluster.info", rack)
    assert [text(document, name) for name in ("HOSTS", "DATASTORES", "VNETS")] == ["<ID>0</ID>", "<ID>1</ID>", "<ID>0</ID>"]
    for kind, reason in (("host", "1 hosts"), ("datastore", "1 datastores"), ("vnet", "1 vnets")):
        refused = refusal(world, "one.cluster.delete", rack)
        assert (refused.code, refused.message) == (
            2048, f"[one.cluster.delete] Cannot delete cluster. Cluster 100 is not empty, it contains {reason}.",
        )
        world.call(f"one.cluster.del{kind}", rack, 1 if kind == "datastore" else 0)
    assert text(world.call("one.host.info", 0), "CLUSTER") == "default"
    world.call("one.cluster.delete", rack)
    assert refusal(world, "one.cluster.delete", 0).message.endswith("System Clusters (ID < 100) cannot be deleted.")
    assert refusal(world, "one.cluster.addhost", 99, 0).code == 1024


def test_a_host_goes_offline_and_comes_back_with_its_drivers(world: World) -> None:
    world.call("one.host.status", 0, 2)
    offline = world.call("one.host.info", 0)
    assert [text(offline, name) for name in ("STATE", "TOTAL_CPU")] == ["8", "0"]
    assert "<TOTALCPU>" not in offline
    world.call("one.host.update", 0, 'RACK="1"', 0)
    world.call("one.host.status", 0, 0)
    assert text(world.call("one.host.info", 0), "STATE") == "0"
    world.tick()
    back = world.call("one.host.info", 0)
    assert [text(back, name) for name in ("STATE", "TOTAL_CPU", "RACK", "VM_MAD")] == ["2", "800", "1", "dummy"]
    assert refusal(world, "one.host.status", 0, 3).code == 8192


def test_a_datastore_keeps_its_drivers_and_gets_what_follows_from_them(world: World) -> None:
    number = world.call("one.datastore.allocate", 'NAME="ds"\nDS_MAD="dummy"\nTM_MAD="dummy"', -1)
    world.call("one.datastore.update", number, 'NOTE="x"', 0)
    document = world.call("one.datastore.info", number)
    assert [text(document, name) for name in ("TM_MAD", "LN_TARGET", "NOTE")] == ["dummy", "NONE", "x"]
    world.call("one.datastore.update", number, 'TM_MAD="ssh"', 1)
    assert text(world.call("one.datastore.info", number), "LN_TARGET") == "SYSTEM"
    refused = refusal(world, "one.datastore.update", number, 'TM_MAD="nfs"', 1)
    assert (refused.code, refused.message.endswith('TM_MAD named "nfs" is not defined in oned.conf')) == (8192, True)
    assert refusal(world, "one.datastore.enable", number, False).message.endswith("Only SYSTEM_DS can be disabled or enabled")


def test_security_groups_are_checked_and_not_removed_while_vms_have_them(world: World) -> None:
    rule = 'RULE=[RULE_TYPE="inbound",PROTOCOL="tcp",RANGE="{}"]'
    group = world.call("one.secgroup.allocate", f'NAME="web"\n{rule.format("80,443")}', session=ALICE)
    assert group == 100
    for ports, reason in (
        ("80-90", "Invalid RANGE specification."), ("70000", "RANGE out of bounds 0-65536."),
        (",".join(map(str, range(16))), "Not more than 15 ports can be specified in a RULE"),
    ):
        refused = refusal(world, "one.secgroup.update", group, rule.format(ports), 1, session=ALICE)
        assert (refused.code, refused.message.partition(". ")[2]) == (8192, reason), ports
    world.call("one.vm.allocate", f'CPU="0.1"\nMEMORY="64"\nNIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]', True)
    assert text(world.call("one.secgroup.info", group), "UPDATED_VMS") == "<ID>0</ID>"
    own = "<PROTOCOL><![CDATA[tcp]]></PROTOCOL><RANGE><![CDATA[{}]]></RANGE>"
    assert own.format("80,443") in world.call("one.vm.info", 0)
    of_network = 'RULE=[RULE_TYPE="inbound",PROTOCOL="tcp",RANGE="22",NETWORK_ID="0"]'
    world.call("one.secgroup.update", group, of_network, 1)
    document = world.wait("one.vm.info", 0, "<RANGE><![CDATA[22]]></RANGE>")
    rule = document[document.index("<SECURITY_GROUP_RULE><AR_ID>"):]
    assert [text(rule, name) for name in ("IP", "SIZE", "SECURITY_GROUP_NAME")] == ["192.168.150.10", "3", "web"]
    assert own.format("80,443") not in document
    for number, reason in ((group, "The security group has VMs using it"),
                           (0, "The default security group (ID 0) cannot be deleted.")):
        refused = refusal(world, "one.secgroup.delete", number)
        assert (refused.code, refused.message) == (
            2048, f"[one.secgroup.delete] Cannot delete security group. {reason}",
        )
    world.call("one.vm.action", "terminate", 0)
    world.call("one.secgroup.delete", group, session=ALICE)


def test_apps_are_made_where_the_marketplace_takes_them_and_become_images(world: World) -> None:
    for text_, reason in (
        ('NAME="m"', "No marketplace driver (MARKET_MAD) in template."),
        ('NAME="m"\nMARKET_MAD="ftp"', 'MARKET_MAD_CONF named "ftp" is not defined in oned.conf'),
        ('NAME="m"\nMARKET_MAD="http"', 'MarketPlace template is missing the "BASE_URL" attribute or it\'s empty.'),
    ):
        refused = refusal(world, "one.market.allocate", text_)
        assert (refused.code, refused.message) == (16384, f"[one.market.allocate] Error allocating a new marketplace. {reason}")
    market = world.call("one.market.allocate", 'NAME="m"\nMARKET_MAD="http"\nBASE_URL="http://m"\nPUBLIC_DIR="/srv"')
    assert market == 100
    public = refusal(world, "one.marketapp.allocate", 'NAME="app"\nORIGIN_ID="0"', 0)
    assert (public.code, public.message.partition("] ")[2]) == (2048, "Create disabled for market: OpenNebula Public")
    assert refusal(world, "one.marketapp.allocate", 'NAME="app"', market).message.endswith("Missing ORIGIN_ID for the MARKETPLACEAPP")
    app = world.call("one.marketapp.allocate", 'NAME="app"\nORIGIN_ID="0"\nSIZE="7"', market)
    document = world.wait("one.marketapp.info", app, "<STATE>1<")
    assert [text(document, name) for name in ("SIZE", "TYPE", "MARKETPLACE")] == ["10", "1", "m"]
    assert text(world.call("one.market.info", market), "MARKETPLACEAPPS") == f"<ID>{app}</ID>"
    assert refusal(world, "one.market.delete", market).code == 2048
    assert refusal(world, "one.image.allocate", 'NAME="i"\nFROM_APP="9"', 1, False).message.endswith("Cannot determine image SIZE.")
    image = world.call("one.image.allocate", f'NAME="i"\nFROM_APP="{app}"', 1, False)
    made = world.wait("one.image.info", image, "<STATE>1<")
    assert [text(made, name) for name in ("SIZE", "FROM_APP", "FROM_APP_NAME")] == ["10", str(app), "app"]
    assert text(made, "PATH").startswith("http://m/")


def test_an_image_in_the_making_is_deleted_by_force_alone(world: World) -> None:
    world.driver.free.clear()
    image = world.call("one.image.allocate", 'NAME="slow"\nPATH="/x"\nSIZE="10"', 1, False)
    with pytest.raises(OneError, match="Image locked, use --force flag to remove the image"):
        world.call("one.image.delete", image)
    assert world.call("one.image.delete", image, True) == image
    world.driver.free.set()
    world.wait_for(lambda: f"<ID>{image}</ID>" not in world.call("one.imagepool.info", -2, -1, -1), "the image to go")
