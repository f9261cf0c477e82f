# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""VM templates of a federation and the rules of their security groups, from settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import vm_templates

DOCS = Path(__file__).resolve().parents[4] / "docs/machines.md"


def template(role: str = "supernode", **settings: Any) -> dict[str, Any]:
    return vm_templates.vm_template(role, settings, image="node", cpu=1.5, memory=2048, network="private", service="flower")


def test_without_settings_a_vm_has_what_its_role_needs_and_nothing_else() -> None:
    made = template()
    assert made.pop("CONTEXT")["TOKEN"] == "YES"
    assert made == {
        "CPU": 1.5, "VCPU": 2, "MEMORY": 2048, "DISK": {"IMAGE": "node"}, "NIC": {"NETWORK": "private"}, "DESCRIPTION": "Flower supernode of flower",
    }  # fmt: skip


def test_settings_become_attributes_of_opennebula() -> None:
    made = template(
        cpu_model="host-passthrough", machine="q35", firmware="UEFI", secure_boot=True, graphics="vnc", virtio_queues=4, placement="FREE_CPU > 100",
        placement_rank="FREE_CPU", disk_size=20480, disk_prefix="sd", disk={"cache": "none"}, nic_model="virtio",
        nics=["storage", {"network": "edge", "MODEL": "e1000"}], pci=[{"vendor": "10de", "class": "0302"}],
    )  # fmt: skip
    assert made["CPU_MODEL"] == {"MODEL": "host-passthrough"}
    assert made["OS"] == {"MACHINE": "q35", "FIRMWARE": "UEFI", "FIRMWARE_SECURE": True}
    assert made["GRAPHICS"] == {"TYPE": "VNC", "LISTEN": "127.0.0.1"}
    assert made["FEATURES"] == {"VIRTIO_BLK_QUEUES": 4, "VIRTIO_SCSI_QUEUES": 4}
    assert (made["SCHED_REQUIREMENTS"], made["SCHED_RANK"]) == ("FREE_CPU > 100", "FREE_CPU")
    assert made["DISK"] == {"IMAGE": "node", "SIZE": 20480, "DEV_PREFIX": "sd", "CACHE": "none"}
    assert made["PCI"] == [{"VENDOR": "10de", "CLASS": "0302"}]
    assert made["NIC"] == [
        {"NETWORK": "private", "MODEL": "virtio", "VIRTIO_QUEUES": 4},
        {"NETWORK": "storage", "MODEL": "virtio", "VIRTIO_QUEUES": 4},
        {"NETWORK": "edge", "MODEL": "e1000", "VIRTIO_QUEUES": 4},
    ]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cpu": 3}, "there is no setting cpu of a VM, expected some of: cpu_model, machine, "),
        ({"virtio_queues": "many"}, "virtio_queues of a VM: 'many' is not valid, expected auto, for as many as the VM has CPUs, or a number from 1 to 99"),
        ({"virtio_queues": True}, "virtio_queues of a VM: True is not valid"),
        ({"firmware": "OVMF"}, "firmware of a VM: 'OVMF' is not valid, expected BIOS, UEFI, or the path of a firmware on the hosts"),
        ({"secure_boot": True}, "secure_boot of a VM: True is not valid, expected false unless firmware is UEFI or a path"),
        ({"secure_boot": "yes"}, "secure_boot of a VM: 'yes' is not valid, expected true or false"),
        ({"graphics": "off"}, "graphics of a VM: 'off' is not valid, expected one of: none, vnc, spice"),
        ({"pci": {"vendor": "10de"}}, "is not valid, expected a list of dictionaries in OpenNebula's terms, one for each device"),
        ({"pci": [{"type": "gpu"}]}, "pci of a VM: [{'type': 'gpu'}] is not valid, expected a VENDOR, DEVICE, CLASS or SHORT_ADDRESS in each"),
        ({"disk_size": "20G"}, "disk_size of a VM: '20G' is not valid, expected a whole number of MB"),
        ({"disk_size": 0}, "disk_size of a VM: 0 is not valid, expected a whole number of MB"),
        ({"disk_prefix": "xvd"}, "disk_prefix of a VM: 'xvd' is not valid, expected one of: nothing, vd, sd, hd"),
        ({"nics": "storage"}, "nics of a VM: 'storage' is not valid, expected a list of networks' names"),
        ({"nics": [{"MODEL": "virtio"}]}, "expected a NETWORK, a NETWORK_ID or NETWORK_MODE auto in each"),
        ({"placement": "A\nB"}, "expected a text of one line"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_value(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        template(**settings)


def test_a_superlink_is_reached_at_the_fleet_port_and_by_ssh_only_from_where_said() -> None:
    rules = vm_templates.security_rules("superlink", "0.0.0.0:9443", ["private"], ["192.0.2.5/28", "0.0.0.0/0", "2001:db8::/120"])
    assert rules == [
        {"RULE_TYPE": "OUTBOUND", "PROTOCOL": "ALL"},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "22", "IP": "192.0.2.0", "SIZE": 16},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "22"},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "22", "IP": "2001:db8::", "SIZE": 256},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "9443", "NETWORK": "private"},
    ]


def test_a_supernode_takes_no_connection_but_ssh() -> None:
    assert vm_templates.security_rules("supernode", "0.0.0.0:9092", ["private"], []) == [{"RULE_TYPE": "OUTBOUND", "PROTOCOL": "ALL"}]


@pytest.mark.parametrize("role", ["superlink", "supernode"])
def test_the_metrics_are_read_only_from_where_said(role: str) -> None:
    opened = vm_templates.security_rules(role, "0.0.0.0:9092", [], [], 9200, ["10.20.0.0/16", "monitoring"])
    assert opened == [
        {"RULE_TYPE": "OUTBOUND", "PROTOCOL": "ALL"},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "9200", "IP": "10.20.0.0", "SIZE": 65536},
        {"RULE_TYPE": "INBOUND", "PROTOCOL": "TCP", "RANGE": "9200", "NETWORK": "monitoring"},
    ]


@pytest.mark.parametrize("where", ["10.0.0.0/33", "2001:db8::/32", "", 7])
def test_a_place_that_cannot_be_is_named(where: Any) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(str(where))}.* is not valid, expected "):
        vm_templates.security_rules("supernode", "0.0.0.0:9092", [], [where])


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE))
    assert set(vm_templates.SETTINGS) <= documented


def test_the_port_of_tunnels_is_open_at_the_superlink_alone():
    given = {"tunnel_port": 51820, "tunnel_from": ["203.0.113.16/28", "0.0.0.0/0"]}
    udp = [rule for rule in vm_templates.security_rules("superlink", "0.0.0.0:9092", [], [], **given) if rule["PROTOCOL"] == "UDP"]
    rule = {"RULE_TYPE": "INBOUND", "PROTOCOL": "UDP", "RANGE": "51820"}
    assert udp == [{**rule, "IP": "203.0.113.16", "SIZE": 16}, rule]
    assert [rule["PROTOCOL"] for rule in vm_templates.security_rules("supernode", "0.0.0.0:9092", [], [], **given)] == ["ALL"]
