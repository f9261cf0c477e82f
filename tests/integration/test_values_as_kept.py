# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Wishes that the server keeps otherwise than they are written, or decides by itself: no change for ever, and nothing half-made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

NETWORK = {"VN_MAD": "bridge", "BRIDGE": "br0"}


@pytest.fixture(scope="module", params=["7.4", "6.10"])
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone"), version=request.param) as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
        yield zone


@pytest.mark.parametrize(("asked", "again"), [
    ({"AUTOMATIC_VLAN_ID": "no"}, {"AUTOMATIC_VLAN_ID": False}),
    ({"VN_MAD": "802.1Q", "PHYDEV": "eth0", "AUTOMATIC_VLAN_ID": "yes"}, {"automatic_vlan_id": True}),
])
def test_a_vlan_id_that_is_or_is_not_automatic_is_settled_once(zone, asked, again):
    zone.changed("one_virtual_network", name="net", template={**NETWORK, **asked})
    for template in (asked, again):
        zone.unchanged("one_virtual_network", name="net", template=template)
    zone.changed("one_virtual_network", name="net", state="absent")


@pytest.mark.parametrize(("address_range", "lacking"), [
    ({"SIZE": 3}, "needs IP or the TYPE ETHER"), ({"TYPE": "ip4", "MAC": "02:00:0a:00:00:01", "SIZE": 3}, "needs IP or the TYPE ETHER"),
    ({"TYPE": "IP4_6", "SIZE": 3, "ULA_PREFIX": "fd00::"}, "needs IP."), ({"TYPE": "IP6_STATIC", "SIZE": 3, "IP6": "fd00::1"}, "needs PREFIX_LENGTH."),
])
def test_a_range_without_the_address_that_its_type_needs_makes_no_broken_network(zone, address_range, lacking):
    zone.calls.clear()
    failed = zone.fails("one_virtual_network", name="net", template=NETWORK, address_ranges=[address_range])
    assert failed["error"]["kind"] == "invalid" and lacking in failed["msg"]
    assert zone.writes == []


@pytest.mark.parametrize(("module", "options", "words"), [
    ("one_template", {"template": {"CPU": 1, "Name": "other"}}, "The template has Name; use the option name for it."),
    ("one_group", {"template": {"NAME": "other"}}, "The template has NAME; use the option name for it."),
    ("one_vdc", {"template": {"name": "other"}}, "The template has name; use the option name for it."),
    ("one_virtual_network", {"template": {**NETWORK, "name": "other"}}, "The template has name; use the option name for it."),
    ("one_virtual_network", {"template": 'VN_MAD="bridge"\nBRIDGE="br0"\nAR=[TYPE="IP4", IP="10.0.0.1", SIZE="9"]'},
     "The template has AR; use the option address_ranges for it."),
    ("one_virtual_network", {"template": NETWORK, "address_ranges": [{"IP": "10.0.0.1", "SIZE": 9, "AR_ID": 3}]},
     "AR_ID of address range {'IP': '10.0.0.1', 'SIZE': '9', 'AR_ID': '3'}: the server decides it by itself."),
    ("one_image", {"path": "/x", "size": 5, "template": {"DRIVER": "qcow2"}}, "The template has DRIVER; use the option format for it."),
    ("one_vm", {"vm_template": "small", "template": {"TEMPLATE_ID": 3}}, "TEMPLATE_ID in template: the server decides it by itself."),
    ("one_vm", {"vm_template": "small", "template": {"vmid": 3}}, "VMID in template: the server decides it by itself."),
])
def test_what_the_server_would_not_keep_is_refused(zone, module, options, words):
    zone.calls.clear()
    failed = zone.fails(module, name="thing", **options)
    assert (failed["error"]["kind"], failed["msg"]) == ("invalid", words)
    assert zone.writes == []
