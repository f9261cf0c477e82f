# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules for a zone's infrastructure against a zone that answers as OpenNebula 6.10."""

from __future__ import annotations

from ansible_collections.opennebula.flower.tests.support.one_zone import module_zone

MADE_IN_THIS_ORDER = (
    ("one_cluster", {"name": "rack1", "template": {"RESERVED_CPU": 100}}),
    ("one_host", {"name": "node1", "im_mad": "dummy", "vm_mad": "dummy", "cluster": "rack1", "template": {"RACK": 1}}),
    ("one_datastore", {"name": "images", "ds_mad": "dummy", "tm_mad": "dummy", "clusters": ["rack1"]}),
    ("one_security_group", {"name": "web", "rules": [{"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": 80}]}),
    ("one_image", {"name": "disk", "path": "/images/disk", "size": 10, "datastore": "images"}),
    ("one_marketplace_app", {"name": "app", "marketplace": "ours", "image": "disk", "vm_attributes": {"MEMORY": 64}}),
    ("one_marketplace_app", {"name": "app", "state": "exported", "datastore": "images", "image_name": "copy"}),
)


def test_everything_is_made_once_and_removed(tmp_path):
    with module_zone(tmp_path, version="6.10") as zone:
        zone.call("one.market.allocate", 'NAME="ours"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
        for module, options in MADE_IN_THIS_ORDER:
            zone.changed(module, **options)
            zone.unchanged(module, **options)
        assert zone.unchanged("one_zone_info")["server"]["version"] == "6.10.5"
        (node,) = zone.unchanged("one_host_info", name="node1", pci_device={"vendor": "10de"})["hosts"]
        assert (node["cluster"], node["cpu"]["total"], node["pci_devices"][0]["interface"]) == ("rack1", 8.0, "")
        zone.changed("one_image", name="copy", state="absent")
        for module, options in reversed(MADE_IN_THIS_ORDER[:-1]):
            zone.changed(module, name=options["name"], state="absent")


def test_configuration_of_a_vm_that_came_with_later_releases_is_refused_and_nothing_changes(tmp_path):
    with module_zone(tmp_path, version="6.10") as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64, "FEATURES": {"ACPI": True}, "CPU_MODEL": {"MODEL": "host-model"}})
        zone.changed("one_vm", name="web", vm_template="small", state="hold", template={"BACKUP_CONFIG": {"KEEP_LAST": 2, "MODE": "full"}})
        zone.unchanged("one_vm", name="web", template={"BACKUP_CONFIG": {"KEEP_LAST": "2", "FS_FREEZE": "none", "BACKUP_VOLATILE": False}})
        for name, key, value, since in (
            ("BACKUP_CONFIG", "DISK_IDS", [0], "7.4"), ("FEATURES", "RAS", True, "7.4"), ("CPU_MODEL", "FEATURES", "avx", "7.0"),
        ):
            zone.calls.clear()
            failed = zone.fails("one_vm", name="web", template={name: {key: value}})
            assert failed["error"]["kind"] == "conflict"
            assert f"has {name}/{key} none, which cannot become " in failed["msg"]
            assert failed["msg"].endswith(f"OpenNebula 6.10.5 does not change it, {since} and later do.")
            assert zone.writes == []
