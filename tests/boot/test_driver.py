# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the zone does with VMs that QEMU boots, seen by its API, from this machine and from inside a small VM.

The tests build on each other: they boot as rarely as they can.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import tiny
from conftest import NAME, READY, BootZone
from vm import ACTIVE, Vm, request, wait_until

from lab import qemu
from lab.checkout import CHECKOUT
from lab.driver import DriverError
from lab.driver.qemu import QemuDriver

POWEROFF, BOOT_FAILURE, ERROR = 8, 36, 5
APP_READY = 1


def says(vm: Vm, script: str) -> str:
    """Return what a script prints in the VM."""
    said = request(vm.address, script)
    assert said is not None, f"VM {vm.id} does not answer; its console ends with:\n{vm.tail()}"
    return said


def is_off(vm: Vm) -> bool:
    """Whether the API says POWEROFF."""
    return vm.info().STATE == POWEROFF


def act(zone: BootZone, vm: Vm, action: str) -> None:
    """Begin something with a VM."""
    assert zone.api.vm.action(action, vm.id) == vm.id


def changed(vm: Vm, what: str) -> None:
    """Wait until a change of a VM that runs is through, which has to succeed."""
    wait_until(vm.runs, what, 120)
    assert vm.published().get("ERROR") is None


def resume(zone: BootZone, vm: Vm) -> None:
    """Start a VM again and wait until it answers."""
    act(zone, vm, "resume")
    wait_until(vm.runs, "the VM runs", 60)
    vm.until("its shell after a start", lambda: request(vm.address, "true") is not None)


def test_the_guest_finds_its_context_on_a_cd(small: Vm) -> None:
    assert small.runs()
    script = ". /cd/context.sh; echo $GREETING,$VMID,$ETH0_IP; cat /cd/token.txt; dd if=/dev/sr0 bs=1 skip=32808 count=7 2>/dev/null"
    first, token, label = says(small, script).splitlines()
    assert first == f"it's booted,{small.id},{small.address}"
    assert len(token) > 20
    assert label == "CONTEXT"


def test_disk_memory_and_processors_are_those_of_the_template(small: Vm) -> None:
    sectors, cores, memory = says(small, "cat /sys/block/sda/size; nproc; free | awk '/Mem/ {print $2}'").split()
    assert (int(sectors), int(cores)) == (512 * 2048, 2)
    assert 180_000 < int(memory) < 256 * 1024


def test_the_guest_reaches_this_machine_and_onegate(zone: BootZone, small: Vm) -> None:
    said = says(small, f"ping -c 1 -W 60 {zone.host} >/dev/null && echo pinged; . /cd/context.sh;"
                       "wget -q -O - --header \"X-ONEGATE-TOKEN: $(cat /cd/token.txt)\" --header \"X-ONEGATE-VMID: $VMID\" $ONEGATE_ENDPOINT/vm")
    assert said.startswith("pinged\n") and f'"ID": "{small.id}"' in said.replace('":"', '": "')


def test_the_zone_sees_how_busy_it_is(zone: BootZone, small: Vm) -> None:
    wait_until(lambda: int(getattr(small.info().MONITORING, "MEMORY", 0)) > 50_000, "the memory of the VM is monitored", 60)


def test_a_disk_comes_and_goes_while_it_runs(zone: BootZone, small: Vm) -> None:
    zone.api.vm.attach(small.id, 'DISK = [ TYPE = "fs", FORMAT = "qcow2", SIZE = "64" ]')
    changed(small, "the disk is attached")
    wait_until(lambda: says(small, "cat /sys/block/sdb/size").strip() == "131072", "the guest sees the disk", 60)
    disks = small.info().TEMPLATE["DISK"]
    zone.api.vm.diskresize(small.id, int(disks[1]["DISK_ID"]), "96")
    changed(small, "the disk is larger")
    zone.api.vm.detach(small.id, int(disks[1]["DISK_ID"]))
    changed(small, "the disk is detached")
    assert "sdb" not in says(small, "ls /sys/block")
    assert [path.name for path in small.directory.glob("disk-*")] == ["disk-0.qcow2"]


def test_a_disk_of_a_vm_that_runs_becomes_an_image_and_an_app_of_a_market(zone: BootZone, small: Vm) -> None:
    says(small, "echo saved | dd of=/dev/sda bs=1M seek=501 conv=notrunc,fsync 2>/dev/null")
    image = zone.api.vm.disksaveas(small.id, 0, "saved", "", -1)
    wait_until(lambda: zone.api.image.info(image).STATE == READY, "the disk is saved", 120)
    changed(small, "the VM is left alone again")
    assert zone.api.image.info(image).SIZE == 512
    assert content(zone.directory / "images" / f"{image}.qcow2").startswith(b"saved\n")

    market = zone.api.market.allocate('NAME = "apps"\nMARKET_MAD = "http"\nBASE_URL = "http://apps.example.org"\nPUBLIC_DIR = "/var/local/apps"')
    app = zone.api.marketapp.allocate(f'NAME = "saved"\nORIGIN_ID = "{image}"\nTYPE = "IMAGE"', market)
    wait_until(lambda: zone.api.marketapp.info(app).STATE == APP_READY, "the app is there", 120)
    source = zone.api.marketapp.info(app).SOURCE
    copy = zone.api.image.allocate(f'NAME = "exported"\nPATH = "{source}"', 1)
    wait_until(lambda: zone.api.image.info(copy).STATE == READY, "the app is an image again", 120)
    assert content(zone.directory / "images" / f"{copy}.qcow2").startswith(b"saved\n")


def content(disk: Path) -> bytes:
    """Return what a disk has after its first 501 MB."""
    raw = disk.with_suffix(".raw")
    qemu.run("qemu-img", "convert", "-O", "raw", str(disk), str(raw))
    with raw.open("rb") as file:
        file.seek(501 << 20)
        found = file.read(64)
    raw.unlink()
    return found


def test_an_interface_comes_and_goes_while_it_runs(zone: BootZone, small: Vm) -> None:
    zone.add_network("other")
    zone.api.vm.attachnic(small.id, 'NIC = [ NETWORK = "other" ]')
    changed(small, "the interface is attached")
    wait_until(lambda: "eth1" in says(small, "ls /sys/class/net"), "the guest sees the interface", 60)
    nic = small.info().TEMPLATE["NIC"][1]
    says(small, f"ip link set eth1 up; ip address add {nic['IP']}/24 dev eth1")
    wait_until(lambda: request(nic["IP"], "true") is not None, "the guest answers there", 60)
    zone.api.vm.detachnic(small.id, int(nic["NIC_ID"]))
    changed(small, "the interface is detached")
    assert "eth1" not in says(small, "ls /sys/class/net")


def test_a_changed_context_is_on_the_cd_of_a_vm_that_runs(zone: BootZone, small: Vm) -> None:
    zone.api.vm.updateconf(small.id, 'CONTEXT = [ GREETING = "changed" ]', 1)
    changed(small, "the context is changed")
    script = "umount /cd 2>/dev/null; mount -t iso9660 -o ro /dev/sr0 /cd && . /cd/context.sh && echo $GREETING"
    wait_until(lambda: "changed" in says(small, script), "the guest sees another CD", 60)


def test_suspended_it_is_silent_and_goes_on_where_it_was(zone: BootZone, small: Vm) -> None:
    says(small, "echo kept >/tmp/memory")
    act(zone, small, "suspend")
    wait_until(lambda: small.info().STATE == 5, "the VM is suspended", 60)
    act(zone, small, "resume")
    wait_until(small.runs, "the VM runs", 60)
    assert says(small, "cat /tmp/memory") == "kept\n"


def test_powered_off_by_its_button_it_starts_again_with_its_disk(zone: BootZone, small: Vm) -> None:
    # Behind the last partition nothing but a copy of the table lies.
    says(small, "echo kept | dd of=/dev/sda bs=1M seek=500 conv=notrunc,fsync 2>/dev/null")
    act(zone, small, "poweroff")
    wait_until(lambda: is_off(small), "the VM is off", 300)
    assert list(small.directory.glob("disk-0.qcow2"))
    resume(zone, small)
    assert says(small, "dd if=/dev/sda bs=1M skip=500 count=1 2>/dev/null | head -n 1") == "kept\n"


def test_a_vm_whose_process_ends_is_off(zone: BootZone, small: Vm) -> None:
    os.kill(small.pid(), signal.SIGKILL)
    wait_until(lambda: is_off(small), "the zone sees that the VM is off", 60)


def test_terminated_it_leaves_nothing(zone: BootZone, small: Vm) -> None:
    resume(zone, small)
    pid = small.pid()
    zone.terminate(small)
    assert not small.directory.exists()
    assert not Path(f"/proc/{pid}/cmdline").exists() or Path(f"/proc/{pid}/cmdline").read_bytes() == b""
    ends = subprocess.run(["ip", "-netns", f"one-{CHECKOUT}-{NAME}", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    assert "net0" in ends and f"v{small.id}-" not in ends


def test_a_file_that_is_no_image_is_refused(zone: BootZone, tmp_path: Path) -> None:
    backing, overlay = tmp_path / "secret", tmp_path / "overlay.qcow2"
    backing.write_bytes(bytes(1024))
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", "raw", str(overlay))
    for path, reason in ((tmp_path / "missing.qcow2", "is not a file of this machine"), (overlay, "is only an overlay of another image")):
        image = zone.api.image.allocate(f'NAME = "{path.stem}"\nPATH = "{path}"', 1)
        wait_until(lambda image=image: zone.api.image.info(image).STATE == ERROR, "the image is refused", 60)
        assert reason in zone.api.image.info(image).TEMPLATE["ERROR"]


def test_a_vm_that_cannot_boot_says_why_and_leaves_nothing(zone: BootZone) -> None:
    vm = zone.allocate(zone.add_image(tiny.image()), 64, 512, {}, OS={"MACHINE": "no-such-board"})
    wait_until(lambda: (vm.info().STATE, vm.info().LCM_STATE) == (ACTIVE, BOOT_FAILURE), "the boot fails", 60)
    assert vm.published()["ERROR"].endswith(f"VM {vm.id} cannot boot: unsupported machine type.")
    assert not vm.directory.exists()
    zone.terminate(vm)


def test_a_network_that_overlaps_with_another_one_is_refused(zone: BootZone) -> None:
    network = zone.api.vn.allocate(f'NAME = "astray"\nVN_MAD = "bridge"\nNETWORK_ADDRESS = "{zone.host}"\nGATEWAY = "{zone.host}"', -1)
    wait_until(lambda: "ERROR" in zone.api.vn.info(network).TEMPLATE, "the network is refused", 60)
    assert "a route of this machine overlaps with it" in zone.api.vn.info(network).TEMPLATE["ERROR"]


def test_clean_removes_what_no_one_remembers(tmp_path: Path) -> None:
    driver = QemuDriver("forgotten", str(tmp_path))
    address = driver.host_address()
    assert address in subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=True).stdout
    QemuDriver("forgotten", str(tmp_path)).clean()
    assert address not in subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=True).stdout
    assert "forgotten" not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert not (tmp_path / "qemu").exists()


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "TOOLS", {"no-such-program": ("package",)})
    with pytest.raises(DriverError, match=r"^no-such-program missing on this machine: run `python -m lab.qemu ensure`"):
        QemuDriver("x", str(tmp_path))
