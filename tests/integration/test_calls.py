# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What modules ask of a zone when nothing has to change, and when there are many objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

VM_TEMPLATE = {"CPU": 0.01, "MEMORY": 1}
#: module, options, and how many calls it takes to find the object and those that the options name
MODULES = [
    ("one_cluster", {"name": "thing"}, 1),
    ("one_host", {"name": "thing", "im_mad": "dummy", "vm_mad": "dummy", "cluster": "thing"}, 2),
    ("one_datastore", {"name": "thing", "ds_mad": "fs", "tm_mad": "shared", "clusters": ["thing"]}, 2),
    ("one_virtual_network", {"name": "thing", "template": {"VN_MAD": "bridge", "BRIDGE": "br0"}}, 1),
    ("one_security_group", {"name": "thing", "rules": [{"RULE_TYPE": "inbound", "PROTOCOL": "tcp", "RANGE": 22}]}, 1),
    ("one_image", {"name": "thing", "path": "/images/thing", "size": 10, "datastore": "default"}, 2),
    ("one_template", {"name": "thing", "template": VM_TEMPLATE}, 1),
    ("one_service_template", {"name": "thing", "template": {"roles": [{"name": "a", "vm_template": "thing", "cardinality": 1}]}}, 2),
    ("one_service", {"name": "thing", "service_template": "thing"}, 1),
    ("one_group", {"name": "thing"}, 1),
    ("one_user", {"name": "thing", "password": "secret", "group": "thing"}, 2),
    ("one_quota", {"user": "thing", "vm": {"VMS": 5}}, 1),
    ("one_acl", {"rules": [{"group": "thing", "resources": ["VM"], "rights": ["CREATE"]}]}, 2),
    ("one_vdc", {"name": "thing", "groups": ["thing"]}, 2),
    ("one_vm", {"name": "thing", "vm_template": "thing"}, 1),
]
INFORMATION = ["one_host_info", "one_service_info", "one_vm_info", "one_zone_info"]
MANY = 300


@pytest.fixture(scope="module", params=["7.4", "6.10"])
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A zone in which every module has made its thing, and in which there is much else."""
    with module_zone(tmp_path_factory.mktemp("zone"), version=request.param) as zone:
        for module, options, _lookup in MODULES:
            zone.changed(module, **options)
        for number in range(MANY):
            template = zone.call("one.template.allocate", f'NAME="other-{number}"\nCPU="0.01"\nMEMORY="1"')
            zone.call("one.template.instantiate", template, f"other-{number}", True, "", False)
        yield zone


@pytest.mark.parametrize(("module", "options", "lookup"), MODULES, ids=[module for module, _options, _lookup in MODULES])
def test_a_run_without_change_takes_two_calls_beyond_its_lookup_at_most(zone, module, options, lookup):
    zone.unchanged(module, **options)
    assert len(zone.calls) <= lookup + 2, zone.calls


@pytest.mark.parametrize("module", INFORMATION)
def test_a_listing_takes_few_calls_however_many_objects_there_are(zone, module):
    zone.unchanged(module)
    assert len(zone.calls) <= 3, zone.calls


def test_listing_many_vms_is_one_call(zone):
    assert len(zone.unchanged("one_vm_info")["vms"]) > MANY
    assert zone.calls == ["one.vmpool.infoextended"]
