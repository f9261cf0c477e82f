# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenNebula is told about devices: VM templates of several releases, and the filters of its monitoring."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.filter.vfio import gpu_vm_template, pci_monitoring

GPU = {"vendor": "10de", "device": "26b9", "class": "0302", "short_address": "e1:00.0", "numa_node": 1}
OTHER = {**GPU, "short_address": "21:00.0", "numa_node": 0}
CARD = {"vendor": "14e4", "device": "165f", "class": "0200", "short_address": "04:00.1", "numa_node": None}
SHIPPED = "# a comment\n:filter: '0:0'\n\n:short_address: []\n"


def test_a_vm_with_a_gpu_of_a_kind() -> None:
    assert gpu_vm_template([GPU], "7.4", cores=8) == {
        "CPU": 8, "VCPU": 8,
        "OS": {"ARCH": "x86_64", "MACHINE": "q35", "FIRMWARE": "UEFI"},
        "CPU_MODEL": {"MODEL": "host-passthrough"},
        "PCI": [{"VENDOR": "10de", "DEVICE": "26b9", "CLASS": "0302"}],
        "TOPOLOGY": {"PIN_POLICY": "CORE", "SOCKETS": 1, "CORES": 8, "THREADS": 1},
    }


def test_devices_at_addresses_are_asked_for_by_nothing_else() -> None:
    template = gpu_vm_template([GPU, CARD], "7.4", pick="address")
    assert template["PCI"] == [{"SHORT_ADDRESS": "e1:00.0"}, {"SHORT_ADDRESS": "04:00.1"}]


@pytest.mark.parametrize(("release", "firmware"), [
    ("6.8", "/usr/share/OVMF/OVMF_CODE.fd"), ("6.10.2", "/usr/share/OVMF/OVMF_CODE.fd"), ("7.0", "/usr/share/OVMF/OVMF_CODE.fd"),
    ("7.2.1", "/usr/share/OVMF/OVMF_CODE.fd"), ("7.4", "UEFI"), ("8.0", "UEFI"),
])
def test_the_firmware_is_what_the_release_takes(release: str, firmware: str) -> None:
    assert gpu_vm_template([GPU], release)["OS"]["FIRMWARE"] == firmware
    assert gpu_vm_template([GPU], release, firmware="/opt/ovmf.fd")["OS"]["FIRMWARE"] == "/opt/ovmf.fd"


def test_an_unpinned_vm_has_no_topology_and_may_have_devices_of_several_nodes() -> None:
    template = gpu_vm_template([GPU, OTHER], "7.4", pin_policy="NONE")
    assert "TOPOLOGY" not in template and len(template["PCI"]) == 2


@pytest.mark.parametrize(("devices", "options", "problem"), [
    ([GPU, OTHER], {}, r"different NUMA nodes \(21:00.0 on node 0, e1:00.0 on node 1\)"),
    ([], {}, "there is no device for the VM"),
    ([GPU], {"cores": 0}, "a VM with 0 cores cannot be"),
    ([GPU], {"release": "6.6"}, "OpenNebula 6.6 is too old, expected 6.8 or newer"),
    ([GPU], {"release": 6.1}, "the release 6.1 is not a text: write it in quotes, as YAML reads 6.10 without them as 6.1"),
    ([GPU], {"cores": "many"}, "a VM with many cores cannot be"),
    ([GPU], {"cores": True}, "a VM with True cores cannot be"),
    (["e1:00.0"], {}, "is not a list of devices"),
    ([{"vendor": "10de"}], {}, "has no device, expected what vfio_info and one_host_info return"),
    ([{**GPU, "vendor": 4318}], {}, "4318 is a number, not a hexadecimal id of up to 4 digits; write it in quotes"),
    ([{**GPU, "short_address": 2460.0}], {"pick": "address"}, "2460.0 is a number, not a PCI address; write it in quotes"),
    ([GPU], {"release": "latest"}, "'latest' is not a release of OpenNebula"),
    ([GPU], {"pick": "name"}, "'name' is not a way to pick devices, expected one of kind, address"),
    ([GPU], {"pin_policy": "core"}, "'core' is not a pin policy, expected one of CORE, THREAD, SHARED, NONE"),
])
def test_what_opennebula_would_not_take_is_refused(devices: list[dict], options: dict, problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=problem):
        gpu_vm_template(devices, **{"release": "7.4", **options})


def test_monitoring_gets_to_see_devices_and_nothing_else_changes() -> None:
    text = pci_monitoring(SHIPPED, [GPU, OTHER, CARD])
    assert text == "# a comment\n:filter:\n  - '10de:26b9'\n  - '14e4:165f'\n\n:short_address: []\n"
    assert pci_monitoring(text, [GPU, CARD]) == text


@pytest.mark.parametrize("setting", ["'10de:*'", "'10DE:'", "'8086:*, 10de:26b9'", "\n  - '10de:*'\n  - '14e4:165f'", "'::0302'", "'*:*'"])
def test_filters_that_let_devices_be_seen_stay_as_they_are(setting: str) -> None:
    text = f":filter: {setting}\n:device_name: []\n"
    assert pci_monitoring(text, [GPU]) == text


@pytest.mark.parametrize("setting", ["'8086:*'", "\n  - '8086:*'", "\n- '8086:*'"])
def test_filters_of_somebody_else_are_kept(setting: str) -> None:
    text = pci_monitoring(f":filter: {setting}\n:device_name: []\n", [GPU])
    assert text == ":filter:\n  - '8086:*'\n  - '10de:26b9'\n:device_name: []\n"


def test_a_file_without_a_filter_gets_one() -> None:
    assert pci_monitoring(":device_name: []", [GPU]) == ":device_name: []\n:filter:\n  - '10de:26b9'\n"


def test_a_file_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="pci.conf is not YAML"):
        pci_monitoring(":filter: [", [GPU])


def test_values_of_devices_have_one_form() -> None:
    written = {**GPU, "vendor": "0x10DE", "device": "26B9", "class": "302", "short_address": "0000:E1:00.0"}
    assert gpu_vm_template([written], "7.4", cores="2")["PCI"] == gpu_vm_template([GPU], "7.4")["PCI"]
    assert gpu_vm_template([written], "7.4", pick="address")["PCI"] == [{"SHORT_ADDRESS": "e1:00.0"}]


@pytest.mark.parametrize(("text", "problem"), [
    (":filter:\n  - 10:20\n", "the filter 620 is not a text: write it in quotes"),
    ("[]x", "is not YAML"), ("just text", "holds 'just text', expected settings"),
])
def test_a_configuration_that_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=problem):
        pci_monitoring(text, [GPU])
