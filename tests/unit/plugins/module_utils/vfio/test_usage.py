# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which devices the machine itself needs, and which its VMs have."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.vfio import usage

DISK, OTHER, NIC = "0000:00:1f.2", "0000:01:00.0", "0000:03:00.0"


def test_a_partition_leads_to_the_controller_of_its_disk(tree) -> None:
    tree.disk(tree.device(DISK, "8086:2922", "0106"), "sda", "8:0", ("sda1", "8:1"))
    tree.disk(tree.device(OTHER, "1b36:0010", "0108"), "sdb", "8:16")
    tree.mount("8:1", "/boot")
    tree.mount("8:1", "/")
    assert usage.disks(tree.root) == {DISK: "carries the file system that is mounted at /"}


def test_logical_volumes_on_raid_lead_to_every_controller(tree) -> None:
    tree.disk(tree.device(DISK, "8086:2922", "0106"), "sda", "8:0", ("sda2", "8:2"))
    tree.disk(tree.device(OTHER, "1b36:0010", "0108"), "sdb", "8:16", ("sdb2", "8:18"))
    tree.block(Path("sys/devices/virtual/block/md0"), "9:0", "sda2", "sdb2")
    tree.block(Path("sys/devices/virtual/block/dm-0"), "253:0", "md0")
    tree.mount("253:0", "/var/lib/one")
    assert set(usage.disks(tree.root)) == {DISK, OTHER}


def test_btrfs_leads_to_all_disks_that_it_is_spread_over(tree) -> None:
    tree.disk(tree.device(DISK, "8086:2922", "0106"), "sda", "8:0")
    tree.disk(tree.device(OTHER, "1b36:0010", "0108"), "sdb", "8:16")
    for name in ("sda", "sdb"):
        tree.link(f"sys/fs/btrfs/uuid/devices/{name}", Path("sys/class/block", name))
    tree.file("dev/sda")
    tree.mount("0:31", "/", "btrfs", "/dev/sda")
    assert set(usage.disks(tree.root)) == {DISK, OTHER}


def test_with_zfs_no_disk_is_given_away(tree) -> None:
    tree.disk(tree.device(DISK, "8086:2922", "0106"), "sda", "8:0")
    tree.mount("0:24", "/", "zfs", "rpool/root")
    assert set(usage.disks(tree.root)) == {DISK}


def test_an_nvme_disk_with_several_ways_leads_to_its_controllers(tree) -> None:
    controller = tree.device(OTHER, "144d:a80a", "0108") / "nvme/nvme0"
    (tree.root / controller).mkdir(parents=True)
    subsystem = Path("sys/devices/virtual/nvme-subsystem/nvme-subsys0")
    tree.block(subsystem / "nvme0n1", "259:0")
    tree.block(subsystem / "nvme0n1/nvme0n1p1", "259:1")
    tree.file(f"{subsystem}/nvme0n1/nvme0n1p1/partition", "1\n")
    tree.link(f"{subsystem}/nvme0", controller)
    tree.mount("259:1", "/")
    assert set(usage.disks(tree.root)) == {OTHER}


def test_swap_counts_as_use(tree) -> None:
    tree.disk(tree.device(DISK, "8086:2922", "0106"), "sda", "8:0", ("sda3", "8:3"))
    tree.file("dev/sda3")
    tree.file("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3  partition\t1\t0\t-2\n")
    assert usage.disks(tree.root) == {DISK: "carries the swap space /dev/sda3"}


def test_the_management_card_is_found_below_vlan_bridge_and_bond(tree) -> None:
    tree.interface("eno1", tree.device(NIC, "8086:1572", "0200"))
    tree.interface("eno2", tree.device("0000:03:00.1", "8086:1572", "0200"))
    tree.interface("bond0", lower=("eno1", "eno2"))
    tree.interface("br0", lower=("bond0",))
    tree.interface("br0.7", lower=("br0",))
    tree.interface("eno3", tree.device(OTHER, "8086:1572", "0200"))
    assert usage.network_cards(tree.root, {"br0.7": "reason"}) == {NIC: "reason", "0000:03:00.1": "reason"}


def test_all_cards_below_open_vswitch_stay_when_its_port_is_the_way_in(tree) -> None:
    tree.interface("eno1", tree.device(NIC, "8086:1572", "0200"))
    tree.interface("ovs-system", lower=("eno1",))
    tree.interface("br-ex")
    assert set(usage.network_cards(tree.root, {"br-ex": "reason"})) == {NIC}


def test_the_card_of_a_virtual_function_stays_with_it(tree) -> None:
    function = tree.device("0000:03:02.0", "8086:154c", "0200")
    tree.device(NIC, "8086:1572", "0200")
    tree.link(f"{function}/physfn", f"../{NIC}")
    tree.interface("vf0", function)
    assert set(usage.network_cards(tree.root, {"vf0": "reason"})) == {NIC, "0000:03:02.0"}


def test_the_ways_in_are_the_default_routes_and_the_end_of_the_ssh_connection() -> None:
    routes = [{"dst": "default", "nexthops": [{"dev": "eno1"}, {"dev": "eno2"}]}, {"dst": "default", "dev": "eno4"}]
    addresses = [{"ifname": "eno3", "addr_info": [{"local": "192.0.2.7"}]}, {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]}]
    found = usage.management_interfaces(routes, addresses, "192.0.2.7")
    assert set(found) == {"eno1", "eno2", "eno3", "eno4"}
    assert found["eno3"] == "is the management network card: eno3 has 192.0.2.7, where Ansible is connected"


def test_the_ssh_connection_is_found_behind_sudo(tree) -> None:
    tree.process(10, "sh", environment="SSH_CONNECTION=198.51.100.1 50000 ::ffff:192.0.2.7 22\0PATH=/bin", parent=2)
    tree.process(11, "sudo", environment="PATH=/bin", parent=10)
    tree.process(12, "python3", environment="PATH=/bin", parent=11)
    assert usage.ssh_address(tree.root, 12) == "192.0.2.7"
    tree.process(20, "cron", parent=1)
    assert usage.ssh_address(tree.root, 20) == ""


def test_devices_of_vms_are_named_with_process_and_vm(tree) -> None:
    tree.device(DISK, "10de:26b9", "0302", group=7)
    tree.process(4711, "/usr/bin/qemu-system-x86_64", "-name", "guest=one-12,debug-threads=on", files=("/dev/vfio/vfio", "/dev/vfio/7"))
    assert usage.machines(tree.root) == {DISK: "is in use by process 4711 (qemu-system-x86_64, VM one-12)"}


def test_devices_that_a_vm_has_one_by_one_are_found_too(tree) -> None:
    device = tree.device(OTHER, "10de:26b9", "0302", group=7)
    tree.device(DISK, "10de:26b9", "0302", group=8)
    (tree.root / device / "vfio-dev/vfio3").mkdir(parents=True)
    tree.link("sys/class/vfio-dev/vfio3", device / "vfio-dev/vfio3")
    tree.process(4711, "qemu", files=("/dev/vfio/devices/vfio3", "socket:[1]"))
    assert usage.machines(tree.root) == {OTHER: "is in use by process 4711 (qemu)"}


def test_a_mediated_device_of_a_vm_is_a_part_of_its_card(tree) -> None:
    card = tree.device("0000:41:00.0", "10de:26b9", "0302", "nvidia", group=7)
    part = card / "0b5e7ad4-1b2c-4b4e-9f0e-2f3c0f5d6a7b"
    tree.file(f"{part}/mdev_type", "")
    tree.link(f"sys/kernel/iommu_groups/60/devices/{part.name}", part)
    tree.process(4711, "/usr/bin/qemu-system-x86_64", "-name", "guest=one-12", files=("/dev/vfio/60",))
    assert usage.machines(tree.root) == {"0000:41:00.0": "is in use by process 4711 (qemu-system-x86_64, VM one-12)"}
