# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passing devices through takes, and why it is refused."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.vfio import host, pci
from ansible_collections.opennebula.flower.plugins.module_utils.vfio.plan import Machine, Plan, make_plan

GPU, SOUND, SECOND_GPU, SATA, BRIDGE, SMBUS = "0000:e1:00.0", "0000:e1:00.1", "0000:e2:00.0", "0000:00:1f.2", "0000:00:1f.0", "0000:00:1f.3"


def plan(tree, *addresses: str, identities=(), configured=(), kept=None, in_vms=None, parameters=None, boot_loader="grub2") -> Plan:
    hardware = host.hardware(tree.root)
    machine = Machine(hardware, pci.devices(tree.root), kept or {}, in_vms or {}, host.running_parameters(tree.root), boot_loader)
    return make_plan(machine, addresses, identities, configured, parameters)


@pytest.fixture
def ready(tree):
    """A machine with its IOMMU on, a GPU with sound, another GPU, and a chipset whose functions share a group."""
    tree.file("sys/firmware/acpi/tables/DMAR")
    tree.file("proc/cmdline", "ro intel_iommu=on iommu=pt\n")
    tree.device(GPU, "10de:26b9", "0302", group=42, numa_node=1)
    tree.device(SOUND, "10de:22ba", "0403", "snd_hda_intel", group=42)
    tree.device("0000:e0:01.0", "8086:347a", "0604", "pcieport", group=42)
    tree.device(SECOND_GPU, "10de:26b9", "0302", "vfio-pci", group=43)
    tree.device(BRIDGE, "8086:2918", "0601", "lpc_ich", group=5)
    tree.device(SATA, "8086:2922", "0106", "ahci", group=5)
    tree.device(SMBUS, "8086:2930", "0c05", group=5)
    return tree


@pytest.fixture
def fresh(tree):
    """A machine whose IOMMU nobody has switched on yet."""
    tree.file("sys/firmware/acpi/tables/DMAR")
    tree.device(GPU, "10de:26b9", "0302", "nouveau")
    tree.device(SOUND, "10de:22ba", "0403", "snd_hda_intel")
    tree.device("0000:03:00.0", "8086:1572", "0200", "i40e")
    tree.device("0000:03:00.1", "8086:1572", "0200", "i40e")
    return tree


def test_the_functions_of_a_card_go_together(ready) -> None:
    made = plan(ready, GPU)
    assert [device.address for device in made.devices] == made.bind == [GPU, SOUND]
    assert (made.problems, made.reboot, made.release) == ([], [], [])


def test_an_address_may_be_short_and_in_capitals(ready) -> None:
    assert plan(ready, "E1:00.0").bind == [GPU, SOUND]


def test_what_is_bound_already_stays_as_it_is(ready) -> None:
    made = plan(ready, SECOND_GPU, configured=[SECOND_GPU])
    assert (made.bind, made.release, made.reboot, made.problems) == ([], [], [], [])


def test_a_device_that_is_not_wanted_any_more_goes_back_to_its_driver(ready) -> None:
    assert plan(ready, GPU, configured=[GPU, SECOND_GPU, "0000:99:00.0"]).release == [SECOND_GPU]
    assert plan(ready, configured=[SECOND_GPU]).release == [SECOND_GPU]


def test_ids_mean_every_device_of_the_kind(ready) -> None:
    assert [device.address for device in plan(ready, identities=["10DE:26B9"]).devices] == [GPU, SOUND, SECOND_GPU]
    assert plan(ready, identities=["1002:73bf"]).problems == ["there is no PCI device with the vendor and device id 1002:73bf"]


@pytest.mark.parametrize(("address", "problem"), [
    ("0000:aa:00.0", "there is no PCI device 0000:aa:00.0"),
    ("gpu", "'gpu' is not a PCI address, expected one such as 0000:e1:00.0 or e1:00.0"),
    ("e1:00.8", "'e1:00.8' is not a PCI address, expected one such as 0000:e1:00.0 or e1:00.0"),
])
def test_an_address_that_means_no_device_is_refused(ready, address: str, problem: str) -> None:
    assert plan(ready, address).problems == [problem]


def test_what_the_machine_needs_is_refused_also_as_a_companion(ready) -> None:
    made = plan(ready, GPU, kept={SOUND: "carries the file system that is mounted at /"})
    assert made.problems == [
        "0000:e1:00.1 (audio device 10de:22ba, driver snd_hda_intel) carries the file system that is mounted at /; it is never passed through"
    ]


def test_a_group_with_other_devices_is_refused_with_their_names(ready) -> None:
    assert plan(ready, SATA).problems == [
        "IOMMU group 5 of 0000:00:1f.2 (SATA controller 8086:2922, driver ahci) also holds 0000:00:1f.0 (ISA bridge 8086:2918, driver lpc_ich); "
        "list these too, or move the card to another slot"
    ]


def test_other_cards_in_a_group_are_taken_when_they_are_listed(tree) -> None:
    tree.file("proc/cmdline", "intel_iommu=on iommu=pt\n")
    tree.device(GPU, "10de:26b9", "0302", group=1)
    tree.device("0000:e3:00.0", "14e4:165f", "0200", "tg3", group=1)
    assert "also holds 0000:e3:00.0 (Ethernet controller 14e4:165f, driver tg3)" in plan(tree, GPU).problems[0]
    assert plan(tree, GPU, "0000:e3:00.0").problems == []


def test_a_bridge_is_refused(ready) -> None:
    assert "0000:00:1f.0 (ISA bridge 8086:2918, driver lpc_ich) is a bridge, which cannot be passed through" in plan(ready, BRIDGE).problems


def test_a_device_that_a_vm_uses_is_neither_taken_nor_given_back(ready) -> None:
    used = {SECOND_GPU: "is in use by process 4711 (qemu, VM one-12)"}
    label = "0000:e2:00.0 (3D controller 10de:26b9, driver vfio-pci)"
    assert plan(ready, configured=[SECOND_GPU], in_vms=used).problems == [
        f"{label} is in use by process 4711 (qemu, VM one-12); it cannot be given back to its driver now"
    ]
    assert plan(ready, SECOND_GPU, configured=[SECOND_GPU], in_vms=used).problems == []


def test_a_fresh_machine_has_to_boot_and_the_reasons_are_named(fresh) -> None:
    made = plan(fresh, GPU)
    assert made.problems == []
    assert made.parameters == ["intel_iommu=on", "iommu=pt"]
    assert made.deferred == [GPU]
    assert made.reboot == [
        "the running kernel was started without intel_iommu=on iommu=pt", "there are no IOMMU groups",
        "0000:e1:00.0 (3D controller 10de:26b9, driver nouveau) is in its driver's hands, which may hang instead of letting go",
    ]


def test_without_groups_only_the_functions_of_a_graphics_card_go_together(fresh) -> None:
    assert plan(fresh, GPU).bind == [GPU, SOUND]
    assert plan(fresh, "0000:03:00.1").bind == ["0000:03:00.1"]


def test_amd_needs_no_parameter_to_switch_its_iommu_on(tree) -> None:
    tree.file("sys/firmware/acpi/tables/IVRS")
    tree.file("proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t: svm\n")
    tree.device(GPU, "10de:26b9", "0302", group=1)
    made = plan(tree, GPU)
    assert (made.parameters, made.warnings) == (["iommu=pt"], [])
    assert made.reboot == ["the running kernel was started without iommu=pt"]


@pytest.mark.parametrize(("vendor", "table", "setting"), [
    ("GenuineIntel", "DMAR", "Intel VT for Directed I/O (VT-d)"), ("AuthenticAMD", "IVRS", "IOMMU (AMD-Vi)"),
])
def test_missing_firmware_settings_are_named(tree, vendor: str, table: str, setting: str) -> None:
    tree.file("proc/cpuinfo", f"vendor_id\t: {vendor}\nflags\t: fpu\n")
    tree.device(GPU, "10de:26b9", "0302")
    made = plan(tree, GPU)
    assert made.problems == [f"the IOMMU is off in the firmware (no ACPI table {table}); switch '{setting}' on in the BIOS settings"]
    assert made.warnings == ["the CPU shows neither vmx nor svm: switch virtualization (VT-x, SVM) on in the BIOS settings, or no VM will run"]


@pytest.mark.parametrize("parameter", ["iommu=off", "amd_iommu=off"])
def test_a_parameter_that_no_other_undoes_is_refused(fresh, parameter: str) -> None:
    fresh.file("proc/cmdline", f"ro {parameter}\n")
    assert plan(fresh, GPU).problems == [
        f"the kernel was started with {parameter}, which no parameter after it undoes; remove it from the boot loader's configuration"
    ]


def test_a_boot_that_did_not_help_is_not_tried_again(fresh) -> None:
    fresh.file("proc/cmdline", "intel_iommu=on iommu=pt\n")
    assert plan(fresh, GPU).problems == [
        "there are no IOMMU groups although the kernel was started with intel_iommu=on iommu=pt; see `dmesg | grep -i iommu`"
    ]


def test_an_unknown_boot_loader_is_refused_only_if_it_has_to_be_told_something(ready) -> None:
    assert plan(ready, SECOND_GPU, boot_loader="").problems == []
    ready.file("proc/cmdline", "ro\n")
    assert plan(ready, SECOND_GPU, boot_loader="").problems == ["no boot loader was found that could be told intel_iommu=on iommu=pt"]


@pytest.fixture
def sliced(ready):
    """A network card, driven by the host, with two virtual functions."""
    ready.device("0000:c1:00.0", "8086:1572", "0200", "i40e", group=50)
    for number in (1, 2):
        path = ready.device(f"0000:c1:02.{number}", "8086:154c", "0200", "vfio-pci", group=50 + number)
        ready.link(f"{path}/physfn", "../0000:c1:00.0")
    return ready


CARD = "0000:c1:00.0 (Ethernet controller 8086:1572, driver i40e)"


def test_a_device_whose_virtual_function_a_vm_uses_keeps_its_driver(sliced) -> None:
    used = {"0000:c1:02.1": "is in use by process 4711 (qemu-system-x86_64, VM one-12)"}
    problem = f"{CARD} cannot change drivers: its virtual function 0000:c1:02.1 is in use by process 4711 (qemu-system-x86_64, VM one-12)"
    assert plan(sliced, "c1:00.0", in_vms=used).problems == [problem]
    assert plan(sliced, identities=["8086:1572"], in_vms=used).problems == [problem]


def test_a_device_whose_virtual_function_the_machine_needs_keeps_its_driver(sliced) -> None:
    problems = plan(sliced, "c1:00.0", kept={"0000:c1:02.2": "carries the swap space /dev/nvme1n1"}).problems
    assert problems == [f"{CARD} cannot change drivers: its virtual function 0000:c1:02.2 carries the swap space /dev/nvme1n1"]


def test_a_device_and_its_virtual_function_are_not_passed_through_both(sliced) -> None:
    assert "0000:c1:02.1, which would go, is wanted as well" in plan(sliced, "c1:00.0", "c1:02.1").problems[0]
    assert plan(sliced, "c1:02.1").problems == []


def test_a_device_loses_virtual_functions_that_nobody_uses_and_says_so(sliced) -> None:
    made = plan(sliced, "c1:00.0")
    assert made.problems == []
    assert made.warnings == [f"{CARD} loses its virtual functions 0000:c1:02.1, 0000:c1:02.2"]


@pytest.mark.parametrize("written", ["0x10DE:0x26B9", "10De:26b9", "010de:026b9"])
def test_an_id_is_one_however_it_is_written(ready, written: str) -> None:
    made = plan(ready, identities=[written])
    assert [device.address for device in made.devices] == [GPU, SOUND, SECOND_GPU]
    assert made.ids == ["10de:26b9"]


@pytest.mark.parametrize("written", ["10de", "10de:26b9:0302", "gpu", "10de:26b9\n options evil", "147600", ":"])
def test_an_id_that_is_none_is_refused_with_the_form_that_is(ready, written: str) -> None:
    assert plan(ready, identities=[written]).problems == [f"{written!r} is not a valid vendor and device id, expected one such as 10de:26b9, in quotes"]


def test_parameters_that_switch_the_iommu_off_are_refused(ready) -> None:
    assert "iommu=off among the kernel parameters switches the IOMMU off" in plan(ready, GPU, parameters=["iommu=off"]).problems
