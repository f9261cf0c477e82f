# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A hypervisor with Intel's IOMMU, which is off at first: from no groups to devices that VMs may have, and back.

The tests build on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import NAME, Hypervisor, changes, failed, listed, succeeded
from disk import INTEL

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone

ROOT_DISK, NETWORK_CARD, SATA, ISA_BRIDGE = "0000:00:04.0", "0000:00:05.0", "0000:00:1f.2", "0000:00:1f.0"
SPARE_DISK, SPARE_CARD = "0000:01:00.0", "0000:02:00.0"
WANTED = [SPARE_DISK, "02:00.0"]
RESTART = {"vfio_host_devices": WANTED, "vfio_host_reboot": True}


@pytest.fixture(scope="module")
def host(booted: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    with booted(INTEL, tmp_path_factory.mktemp("intel")) as host:
        yield host


def known(zone: ModuleZone) -> dict:
    """What OpenNebula knows about the host."""
    return zone.run("one_host_info", name=NAME)["hosts"][0]


def test_what_the_machine_needs_is_refused_at_once_and_together(host: Hypervisor) -> None:
    message = host.refuses(devices=[NETWORK_CARD, "0000:aa:00.0"], ids=["1b36:0010"])
    # The root disk has the same vendor and device id as the spare one.
    assert f"{ROOT_DISK} (NVMe disk 1b36:0010, driver nvme) carries the file system that is mounted at /" in message
    assert f"{NETWORK_CARD} (Ethernet controller 1af4:1000, driver virtio-pci) is the management network card" in message
    assert "there is no PCI device 0000:aa:00.0" in message
    assert SPARE_DISK not in message


def test_check_mode_shows_what_would_change_and_writes_nothing(host: Hypervisor, zone: ModuleZone) -> None:
    before = host.files()
    zone.calls.clear()
    shown = succeeded(host.playbook(zone, "--check", "--diff", **RESTART)).stdout
    assert host.files() == before
    assert (zone.writes, host.commands.read_text()) == ([], "")
    assert host.driver(SPARE_DISK) == "nvme"
    assert '"intel_iommu=on"' in shown and f"+{SPARE_CARD}" in shown and "+  - '1b36:0010'" in shown


def test_a_host_with_vms_is_restarted_only_after_they_have_left(host: Hypervisor, zone: ModuleZone) -> None:
    before = host.files()
    zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
    vm = zone.changed("one_vm", name="guest", vm_template="small", state="running", wait_timeout=30)["vms"][0]["id"]
    zone.calls.clear()
    assert f"has to be restarted, and VMs {vm} are on it" in failed(host.playbook(zone, **RESTART))
    assert zone.writes == []

    # The command that would move them is only a stand-in.
    message = failed(host.playbook(zone, **RESTART, gpu_hosts_flush=True, gpu_hosts_flush_timeout=5))
    assert f"VMs {vm} are still on {NAME} after 5 seconds. Host {NAME} stays disabled in OpenNebula until a run succeeds." in message
    assert host.commands.read_text() == f"flush {known(zone)['id']}\n" and known(zone)["status"] == "disabled"
    assert host.files() == before
    zone.changed("one_vm", name="guest", state="absent", wait_timeout=30)
    host.commands.write_text("")


def test_from_no_groups_to_devices_that_opennebula_lists(host: Hypervisor, zone: ModuleZone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.groups() == []
    boot = host.machine.boot_id()
    # As the monitoring does: it lists what its filter says once it was told to look again.
    monkeypatch.setattr(
        zone.driver, "devices", lambda: listed(SPARE_DISK, SPARE_CARD) if "forceupdate" in host.commands.read_text() else []
    )
    done = succeeded(host.playbook(zone, **RESTART))
    print(done.stdout)
    assert host.machine.boot_id() != boot
    assert host.groups() != []
    assert (host.driver(SPARE_DISK), host.driver(SPARE_CARD), host.driver(ROOT_DISK)) == ("vfio-pci", "vfio-pci", "nvme")
    for address in (SPARE_DISK, SPARE_CARD):
        assert host.ssh(f"stat -c '%a %U %G' /dev/vfio/{host.group(address)}").strip() == "660 root kvm"
    assert host.ssh("systemctl --failed --no-legend") == ""

    assert ":filter:\n  - '1b36:0010'\n  - '8086:10d3'\n" in host.pci_conf.read_text()
    assert host.commands.read_text() == f"sync --force\nforceupdate {known(zone)['id']}\n"
    assert known(zone)["status"] == "enabled"

    done = host.playbook(zone, **RESTART)
    assert changes(done) == 0, done.stdout


def test_a_group_that_holds_other_devices_is_refused_with_their_names(host: Hypervisor) -> None:
    message = host.refuses(devices=[*WANTED, SATA])
    assert f"of {SATA} (SATA controller" in message and f"also holds {ISA_BRIDGE} (ISA bridge" in message


def test_a_device_that_a_program_has_open_is_not_taken_away(host: Hypervisor) -> None:
    host.ssh(f"systemd-run --unit=vm sh -c 'exec sleep 600 3<>/dev/vfio/{host.group(SPARE_DISK)}'")
    assert f"{SPARE_DISK} (NVMe disk 1b36:0010, driver vfio-pci) is in use by process" in host.refuses(state="absent")
    host.ssh("systemctl stop vm")


def test_undone_the_devices_are_with_their_drivers_again_also_after_a_boot(host: Hypervisor) -> None:
    assert "has to be restarted" in host.succeeds(state="absent").stdout
    assert (host.driver(SPARE_DISK), host.driver(SPARE_CARD)) == ("nvme", "")
    assert host.ssh("find /etc /usr/local -name '*vfio*'") == ""
    host.machine.reboot()
    assert (host.driver(SPARE_DISK), host.driver(SPARE_CARD)) == ("nvme", "")
    assert host.groups() == []
    assert changes(host.role(state="absent")) == 0
