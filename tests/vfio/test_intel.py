# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A hypervisor with Intel's IOMMU, which is off at first: from no groups to devices that VMs may have, and back.

The tests build on each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from conftest import NAME, Hypervisor, changes, failed, listed, succeeded
from disk import INTEL

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone

ROOT_DISK, NETWORK_CARD, SATA, ISA_BRIDGE, SOUND_CARD = "0000:00:04.0", "0000:00:05.0", "0000:00:1f.2", "0000:00:1f.0", "0000:00:11.0"
SPARE_DISK, SPARE_CARDS, LATE_CARD = "0000:01:00.0", ("0000:02:00.0", "0000:03:00.0"), "0000:04:00.0"
CARDS = "8086:10d3"
# The disk by its address, the cards by their kind.
WANTED = {"devices": ["01:00.0"], "ids": [CARDS]}
RESTART = {"vfio_host_devices": WANTED["devices"], "vfio_host_ids": WANTED["ids"], "vfio_host_reboot": True}
# No device of the machine: OpenNebula only knows of it.
ELSEWHERE = "0000:05:00.0"


@pytest.fixture(scope="module")
def host(booted: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    with booted(INTEL, tmp_path_factory.mktemp("intel")) as host:
        yield host


def known(zone: ModuleZone) -> dict:
    """What OpenNebula knows about the host."""
    return zone.run("one_host_info", name=NAME)["hosts"][0]


@contextmanager
def watched(zone: ModuleZone) -> Iterator[list[tuple[float, str, list[int]]]]:
    """Everything that the host goes through meanwhile in OpenNebula: since when, its status and the VMs on it."""
    seen: list[tuple[float, str, list[int]]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            host = known(zone)
            if not seen or seen[-1][1:] != (host["status"], host["vms"]):
                seen.append((time.time(), host["status"], host["vms"]))
            ended.wait(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def booted_at(host: Hypervisor) -> float:
    """When the machine's kernel started."""
    return float(host.ssh("awk '/^btime/ {print $2}' /proc/stat"))


def guest(zone: ModuleZone, name: str, *addresses: str) -> int:
    """A VM that runs on the machine, with these devices of it. Returns its id."""
    zone.run("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
    devices = {"pcis": [{"SHORT_ADDRESS": address.partition(":")[2]} for address in addresses]} if addresses else {}
    vm = zone.changed("one_vm", name=name, vm_template="small", state="running", wait_timeout=30, **devices)["vms"][0]
    assert vm["host"] == NAME
    return vm["id"]


def test_what_the_machine_needs_is_refused_at_once_and_together(host: Hypervisor) -> None:
    message = host.refuses(devices=[NETWORK_CARD, "0000:aa:00.0"], ids=["1b36:0010"])
    # The root disk has the same vendor and device id as the spare one.
    assert f"{ROOT_DISK} (NVMe disk 1b36:0010, driver nvme) carries the file system that is mounted at /" in message
    assert f"{NETWORK_CARD} (Ethernet controller 1af4:1000, driver virtio-pci) is the management network card" in message
    assert "there is no PCI device 0000:aa:00.0" in message
    assert SPARE_DISK not in message


def test_a_kind_is_refused_that_the_machine_needs_a_device_of_or_has_none_of(host: Hypervisor) -> None:
    message = host.refuses(ids=["1af4:1000", "10de:26b9"])
    assert f"{NETWORK_CARD} (Ethernet controller 1af4:1000, driver virtio-pci) is the management network card" in message
    assert "there is no PCI device with the vendor and device id 10de:26b9" in message


def test_check_mode_shows_what_would_change_and_writes_nothing(host: Hypervisor, zone: ModuleZone) -> None:
    before = host.files()
    zone.calls.clear()
    shown = succeeded(host.playbook(zone, "--check", "--diff", **RESTART)).stdout
    assert host.files() == before
    assert (zone.writes, host.commands.read_text()) == ([], "")
    assert host.driver(SPARE_DISK) == "nvme"
    assert '"intel_iommu=on"' in shown and f"+{SPARE_CARDS[1]}" in shown and "+  - '1b36:0010'" in shown
    assert f"ids={CARDS}" in shown


def test_a_device_that_a_vm_has_is_refused_before_anything_is_changed(host: Hypervisor, zone: ModuleZone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone.driver, "devices", lambda: listed(SPARE_DISK))
    wait_until(lambda: known(zone)["pci_devices"] or None, lambda: "it is not listed", 10)
    vm = guest(zone, "trainer", SPARE_DISK)
    before = host.files()
    zone.calls.clear()
    message = failed(host.playbook(zone, **RESTART, gpu_hosts_flush=True))
    assert f"hypervisor stays as it is: VM {vm} of OpenNebula has 01:00.0, whose driver would change" in message
    assert zone.writes == [] and host.files() == before
    zone.changed("one_vm", name="trainer", state="absent", wait_timeout=30)


def test_a_host_with_vms_is_restarted_only_after_they_have_left(host: Hypervisor, zone: ModuleZone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone.driver, "devices", lambda: listed(ELSEWHERE))
    wait_until(lambda: known(zone)["pci_devices"] or None, lambda: "it is not listed", 10)
    before = host.files()
    vms = [guest(zone, "light"), guest(zone, "heavy", ELSEWHERE)]
    zone.changed("one_host", name="modules-host01", status="enabled", wait_timeout=30)
    zone.calls.clear()
    assert f"has to be restarted, and VMs {vms[0]}, {vms[1]} are on it" in failed(host.playbook(zone, **RESTART))
    assert zone.writes == []

    # One that runs with a device cannot be saved.
    message = failed(host.playbook(zone, **RESTART, gpu_hosts_flush=True, gpu_hosts_flush_timeout=5))
    assert f"Host '{NAME}' (id {known(zone)['id']}) is not empty after 5 seconds: VM 'heavy' (id {vms[1]}) is RUNNING with PCI devices" in message
    assert f" while it runs. Host {NAME} stays disabled in OpenNebula until a run succeeds." in message
    assert (known(zone)["vms"], known(zone)["status"]) == ([vms[1]], "disabled")
    assert host.files() == before
    # But it leaves when it is powered off, in the next test.
    zone.changed("one_vm", name="heavy", state="poweroff", wait_timeout=30)


def test_from_no_groups_to_devices_that_opennebula_lists(host: Hypervisor, zone: ModuleZone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.groups() == []
    boot = host.machine.boot_id()
    # As the monitoring does: it lists what its filter says once it has the new one.
    monkeypatch.setattr(
        zone.driver, "devices",
        lambda: listed(ELSEWHERE, *((SPARE_DISK, *SPARE_CARDS) if "sync" in host.commands.read_text() else ())),
    )
    vm = known(zone)["vms"][0]
    with watched(zone) as seen:
        done = succeeded(host.playbook(zone, **RESTART, gpu_hosts_flush=True))
    print(done.stdout)
    assert host.machine.boot_id() != boot
    assert host.groups() != []
    bound = (SPARE_DISK, *SPARE_CARDS)
    assert {address: host.driver(address) for address in bound} == dict.fromkeys(bound, "vfio-pci")
    assert (host.driver(ROOT_DISK), host.driver(NETWORK_CARD)) == ("nvme", "virtio-pci")
    overrides = host.ssh(f"cat /sys/bus/pci/devices/{SOUND_CARD}/driver_override /sys/bus/pci/devices/{NETWORK_CARD}/driver_override")
    assert overrides.split() == ["(null)", "(null)"] and host.driver(SOUND_CARD) != "vfio-pci"
    for address in bound:
        assert host.ssh(f"stat -c '%a %U %G' /dev/vfio/{host.group(address)}").strip() == "660 root kvm"
    assert host.ssh("systemctl --failed --no-legend") == ""

    assert f":filter:\n  - '1b36:0010'\n  - '{CARDS}'\n" in host.pci_conf.read_text()
    assert host.commands.read_text() == "sync --force\n"
    # It was empty when it was restarted, and is enabled only after OpenNebula has looked again.
    assert [stage[1:] for stage in seen] == [
        ("disabled", [vm]), ("disabled", []), ("offline", []), ("disabled", []), ("enabled", []),
    ]
    assert seen[1][0] < booted_at(host) < seen[2][0]
    assert {vm["name"]: (vm["state"], vm["host"]) for vm in zone.run("one_vm_info")["vms"]} == {
        "light": ("RUNNING", "modules-host01"), "heavy": ("POWEROFF", "modules-host01"),
    }

    done = host.playbook(zone, **RESTART)
    assert changes(done) == 0, done.stdout


def test_a_device_of_the_kind_that_is_plugged_in_later_is_bound_too(host: Hypervisor) -> None:
    host.machine.plug_in_card()
    wait_until(lambda: host.driver(LATE_CARD) == "vfio-pci" or None, lambda: f"its driver is {host.driver(LATE_CARD)!r}", 60)


def test_a_group_that_holds_other_devices_is_refused_with_their_names(host: Hypervisor) -> None:
    message = host.refuses(**{**WANTED, "devices": [*WANTED["devices"], SATA]})
    assert f"of {SATA} (SATA controller" in message and f"also holds {ISA_BRIDGE} (ISA bridge" in message


def test_a_device_that_a_program_has_open_is_not_taken_away(host: Hypervisor) -> None:
    host.ssh(f"systemd-run --unit=vm sh -c 'exec sleep 600 3<>/dev/vfio/{host.group(SPARE_DISK)}'")
    assert f"{SPARE_DISK} (NVMe disk 1b36:0010, driver vfio-pci) is in use by process" in host.refuses(state="absent")
    host.ssh("systemctl stop vm")


def test_undone_the_devices_are_with_their_drivers_again_after_a_restart_without_vms(host: Hypervisor, zone: ModuleZone) -> None:
    boot = host.machine.boot_id()
    with watched(zone) as seen:
        succeeded(host.playbook(zone, vfio_host_state="absent", vfio_host_reboot=True))
    assert host.machine.boot_id() != boot
    assert [stage[1] for stage in seen] == ["enabled", "disabled", "enabled"]
    assert seen[1][0] < booted_at(host) < seen[2][0]
    assert [host.driver(address) for address in (SPARE_DISK, *SPARE_CARDS, LATE_CARD)] == ["nvme", "", "", ""]
    assert host.ssh("find /etc /usr/local -name '*vfio*'") == ""
    assert host.groups() == []
    done = host.playbook(zone, vfio_host_state="absent", vfio_host_reboot=True)
    assert changes(done) == 0, done.stdout
