# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Security groups: rules compared by what they mean, and brought to the VMs that have them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

OUT = {"RULE_TYPE": "outbound", "PROTOCOL": "all"}
WEB = {"rule_type": "inbound", "protocol": "tcp", "range": "443, 80"}
FROM_PRIVATE = {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": 22, "NETWORK": "private"}


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.call("one.vn.allocate", 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.9.0.10",SIZE="9"]', -1)
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
        yield zone


@pytest.fixture
def group(zone: ModuleZone) -> Iterator[str]:
    """The name of a security group that is gone after the test, whatever became of it."""
    yield "web"
    zone.driver.filter_error = ""
    assert not zone.run("one_security_group", name="web", state="absent").get("failed")


@pytest.fixture
def vm(zone: ModuleZone, group: str) -> Iterator[int]:
    """A VM that has the security group."""
    number = zone.changed("one_security_group", name=group, rules=[OUT])["security_group"]["id"]
    nic = {"NIC": {"NETWORK": "private", "SECURITY_GROUPS": str(number)}}
    zone.changed("one_template", name="filtered", template={"CPU": 0.1, "MEMORY": 64, **nic})
    yield zone.changed("one_vm", name="guest", vm_template="filtered", state="running", wait_timeout=600)["vms"][0]["id"]
    zone.changed("one_vm", name="guest", state="absent", wait_timeout=600)


def test_a_group_is_made_changed_and_removed_exactly_once(zone):
    wanted = {"name": "web", "rules": [WEB, OUT, FROM_PRIVATE], "template": {"description": "web servers"}}
    zone.calls.clear()
    predicted = zone.changed("one_security_group", check=True, **wanted)
    assert zone.writes == []
    made = zone.changed("one_security_group", **wanted)
    assert predicted["diff"] == made["diff"]
    assert made["security_group"]["rules"] == [
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "22", "NETWORK_ID": "0"},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "80,443"},
        {"RULE_TYPE": "OUTBOUND", "PROTOCOL": "ALL"},
    ]
    zone.unchanged("one_security_group", **wanted)
    assert len(zone.calls) <= 4, zone.calls

    change = {**wanted, "rules": [OUT, WEB], "template": {"NOTE": 1}, "update": "replace"}
    zone.calls.clear()
    predicted = zone.changed("one_security_group", check=True, **change)
    assert zone.writes == []
    done = zone.changed("one_security_group", **change)
    assert predicted["diff"] == done["diff"] == {
        "before": {"rules": {"INBOUND TCP RANGE=22 NETWORK_ID=0": made["security_group"]["rules"][0]}, "template": {"DESCRIPTION": "web servers"}},
        "after": {"rules": {}, "template": {"NOTE": "1"}},
    }
    zone.unchanged("one_security_group", **change)
    # No rule at all is something else than nothing said about rules.
    zone.unchanged("one_security_group", name="web")
    assert zone.changed("one_security_group", name="web", rules=[])["security_group"]["rules"] == []
    zone.unchanged("one_security_group", name="web", rules=[])

    zone.calls.clear()
    zone.changed("one_security_group", check=True, name="web", state="absent")
    assert zone.writes == []
    zone.changed("one_security_group", name="web", state="absent")
    zone.unchanged("one_security_group", name="web", state="absent")


@pytest.mark.parametrize(
    "same",
    [
        [OUT, WEB], [{"Protocol": "ALL", "Rule_Type": "OUTBOUND"}, {**WEB, "range": "80,443"}], [WEB, OUT, WEB, OUT],
        [OUT, {**WEB, "range": "443:443,80,80"}], [OUT, {**WEB, "ip": "", "icmp_type": None}],
    ],
)
def test_rules_that_mean_the_same_are_the_same(zone, web, same):
    zone.unchanged("one_security_group", name=web, rules=same)


@pytest.fixture(scope="module")
def web(zone: ModuleZone) -> Iterator[str]:
    zone.changed("one_security_group", name="same", rules=[WEB, OUT])
    yield "same"
    zone.changed("one_security_group", name="same", state="absent")


def test_addresses_and_numbers_are_compared_by_value(zone, group):
    rule = {"RULE_TYPE": "INBOUND", "PROTOCOL": "UDP", "IP": "2001:DB8:0::1", "SIZE": "016"}
    zone.changed("one_security_group", name=group, rules=[rule])
    zone.unchanged("one_security_group", name=group, rules=[{**rule, "IP": "2001:db8::1", "SIZE": 16}])
    icmp = {"RULE_TYPE": "INBOUND", "PROTOCOL": "ICMP", "ICMP_TYPE": 8}
    zone.changed("one_security_group", name=group, rules=[icmp])
    zone.unchanged("one_security_group", name=group, rules=[{**icmp, "ICMP_TYPE": "8"}])


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"PROTOCOL": "TCP"}, "Security rule [PROTOCOL=TCP] needs RULE_TYPE, one of INBOUND, OUTBOUND."),
        ({**OUT, "PROTOCOL": "SCTP"}, "needs PROTOCOL, one of TCP, UDP, ICMP, ICMPV6, IPSEC, ALL."),
        ({**OUT, "PORT": 22}, "has PORT; it can have RULE_TYPE, PROTOCOL, RANGE"),
        ({**OUT, "RANGE": 22}, "has RANGE, which is for TCP and UDP only."),
        ({**WEB, "range": "90:80"}, "has RANGE '90:80'; it takes ports and ranges such as 22,80:90."),
        ({**WEB, "range": "70000"}, "has RANGE '70000'"),
        ({**WEB, "range": "22-80"}, "has RANGE '22-80'"),
        ({**WEB, "icmp_type": 8}, "has ICMP_TYPE, which is for ICMP only."),
        ({**OUT, "IP": "10.0.0.1"}, "needs both IP and SIZE"),
        ({**OUT, "IP": "10.0.0.256", "SIZE": 1}, "has IP '10.0.0.256', which is not a valid address."),
        ({**OUT, "IP": "10.0.0.1", "SIZE": "many"}, "has SIZE 'many', which is not a number."),
        ({**FROM_PRIVATE, "NETWORK_ID": 0}, "has both NETWORK private and NETWORK_ID."),
        ({**FROM_PRIVATE, "IP": "10.0.0.1", "SIZE": 1}, "has both IP and a network"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_before_anything_is_made(zone, rule, sentence):
    zone.calls.clear()
    result = zone.fails("one_security_group", name="web", rules=[OUT, rule])
    assert (result["error"]["kind"], zone.writes) == ("invalid", [])
    assert sentence in result["msg"]


def test_a_network_there_is_not_is_an_error_except_before_it_is_made(zone):
    rules = [{**FROM_PRIVATE, "NETWORK": "nowhere"}]
    result = zone.fails("one_security_group", name="web", rules=rules)
    assert (result["error"]["kind"], "no virtual network with the name 'nowhere'" in result["msg"]) == ("missing", True)
    zone.changed("one_security_group", check=True, name="web", rules=rules)


def test_rules_belong_into_their_option(zone):
    result = zone.fails("one_security_group", name="web", template={"rule": {"PROTOCOL": "ALL"}})
    assert result["msg"] == "The template has rule; use the option rules for it."


def test_a_group_in_use_is_not_removed_and_the_server_says_why(zone, group, vm):
    assert "The security group has VMs using it" in zone.fails("one_security_group", name=group, state="absent")["msg"]
    assert "ID 0) cannot be deleted" in zone.fails("one_security_group", name="0", state="absent")["msg"]


def test_new_rules_are_waited_for_until_every_vm_has_them(zone, group, vm, monkeypatch):
    applied = threading.Event()
    monkeypatch.setattr(zone.driver, "filter", lambda _vm: applied.wait(600))
    result = zone.fails("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=1)
    assert result["error"]["kind"] == "timeout"
    assert f"is not applied after 1 seconds: VM {vm} has the old rules" in result["msg"]
    applied.set()
    # The next run goes on waiting where this one gave up.
    there = zone.unchanged("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=600)["security_group"]
    assert there["vms"] == {"updated": [vm], "outdated": [], "updating": [], "error": []}


@pytest.fixture
def on_the_way(zone, monkeypatch) -> threading.Event:
    """Keep rules on their way to the drivers until the event."""
    arrived, work = threading.Event(), zone.zone.core.lifecycle.work

    def later(task, succeeded, failed) -> None:
        def begin() -> object:
            arrived.wait(60)
            return task()

        work(begin, succeeded, failed)

    monkeypatch.setattr(zone.zone.core.lifecycle, "work", later)
    return arrived


def test_a_vm_that_is_in_no_list_while_its_rules_are_on_the_way_is_waited_for(zone, group, vm, on_the_way):
    result = zone.fails("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=1)
    assert result["error"]["kind"] == "timeout" and f"VM {vm} has the old rules" in result["msg"]
    on_the_way.set()
    zone.changed("one_security_group", name=group, rules=[OUT], wait_timeout=60)


def test_a_driver_that_fails_for_a_vm_in_no_list_is_noticed_by_the_same_run(zone, group, vm, on_the_way):
    zone.driver.filter_error = "iptables: no such chain"
    threading.Timer(0.5, on_the_way.set).start()
    result = zone.fails("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=60)
    assert result["error"]["kind"] == "wrong_state" and f"could not be applied to VM {vm}" in result["msg"]


def test_a_vm_that_goes_meanwhile_is_not_waited_for(zone, group, vm, on_the_way):
    threading.Timer(0.5, lambda: zone.call("one.vm.action", "terminate-hard", vm)).start()
    threading.Timer(1, on_the_way.set).start()
    zone.changed("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=60)
    zone.changed("one_template", name="filtered", template={"NOTE": "used"})
    zone.run("one_vm", name="guest", state="absent", wait_timeout=60)
    zone.changed("one_vm", name="guest", vm_template="small", wait_timeout=60)


def test_rules_that_cannot_be_applied_end_the_wait_at_once_and_are_applied_by_the_next_run(zone, group, vm):
    zone.driver.filter_error = "iptables: no such chain"
    result = zone.fails("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=600)
    assert result["error"]["kind"] == "wrong_state"
    assert f"could not be applied to VM {vm}" in result["msg"]
    zone.driver.filter_error = ""
    zone.calls.clear()
    zone.changed("one_security_group", check=True, name=group, rules=[OUT, WEB])
    assert zone.writes == []
    done = zone.changed("one_security_group", name=group, rules=[OUT, WEB], wait_timeout=600)
    assert done["diff"] == {"before": {"vms_without_rules": [vm]}, "after": {"vms_without_rules": []}}
    zone.unchanged("one_security_group", name=group, rules=[OUT, WEB])


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("one_security_group", {}), ("one_datastore", {"ds_mad": "dummy", "tm_mad": "dummy"}),
        ("one_marketplace_app", {"marketplace": "ours", "image": "disk"}),
    ],
)
def test_what_has_an_owner_is_given_to_another_one_with_its_permissions(zone, tenant, module, options):
    owned = {"name": "owned", **options, "group": "tenants", "mode": "640"}
    zone.calls.clear()
    zone.changed(module, check=True, **owned)
    assert zone.writes == []
    made = zone.changed(module, **owned)
    (there,) = (value for value in made.values() if isinstance(value, dict) and "id" in value)
    assert (there["owner"], there["group"], there["mode"]) == ("oneadmin", "tenants", "640")
    zone.unchanged(module, **owned)
    predicted = zone.changed(module, check=True, **{**owned, "owner": "alice", "mode": "600"})
    done = zone.changed(module, **{**owned, "owner": "alice", "mode": "600"})
    assert predicted["diff"] == done["diff"] == {
        "before": {"owner": "oneadmin", "mode": "640"}, "after": {"owner": "alice", "mode": "600"},
    }
    zone.unchanged(module, **{**owned, "owner": "alice", "mode": "600"})
    zone.calls.clear()
    assert zone.fails(module, **{**owned, "owner": "nobody"})["error"]["kind"] == "missing"
    assert zone.writes == []
    zone.changed(module, name="owned", state="absent")


@pytest.fixture(scope="module")
def tenant(zone: ModuleZone) -> None:
    """A user and a group, and what apps are made of and go to."""
    zone.call("one.user.allocate", "alice", "alicepw", "", [])
    zone.call("one.group.allocate", "tenants")
    zone.call("one.market.allocate", 'NAME="ours"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
    zone.changed("one_image", name="disk", path="/images/disk", size=10)
