# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Changing VMs that exist: in which states the zone allows what, and that a change that fails leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import RUNNING, World

from lab.core.errors import OneError
from lab.driver import DriverError

NETWORK = 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nNETWORK_ADDRESS="10.1.0.0"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="2"]'
TEMPLATE = 'NAME="small"\nCPU="0.1"\nMEMORY="128"\nOS=[BOOT="nic0"]\nNIC=[NETWORK_ID="0"]\nCONTEXT=[NETWORK="YES",A="1"]'
POWEROFF = ("<STATE>8<",)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A zone with a network of two addresses, an image, and a VM template with an interface."""
    world = World(tmp_path)
    world.call("one.vn.allocate", NETWORK, 0)
    world.call("one.image.allocate", 'NAME="disk"\nPATH="/x"\nSIZE="10"', 1, False)
    world.call("one.secgroup.allocate", 'NAME="web"')
    world.wait("one.vn.info", 0, "<STATE><![CDATA[1]]>")
    world.wait("one.image.info", 0, "<STATE>1<")
    world.call("one.template.allocate", TEMPLATE)
    world.tick()
    yield world
    world.stop()


def machine(world: World, vm_id: int) -> ElementTree.Element:
    return ElementTree.fromstring(world.call("one.vm.info", vm_id)).find("TEMPLATE")


def break_driver(world: World) -> None:
    def change(spec) -> None:
        raise DriverError("no room")

    world.driver.change = change


def power_off(world: World, vm_id: int) -> None:
    world.call("one.vm.action", "poweroff", vm_id)
    world.wait("one.vm.info", vm_id, *POWEROFF)


CHANGES = [
    ("one.vm.attachnic", ('NIC=[NETWORK_ID="0"]',), "Could not add a new NIC to VM {}, wrong state HOLD."),
    ("one.vm.detachnic", (0,), "Could not detach NIC from VM {}, wrong state HOLD."),
    ("one.vm.attachsg", (0, 100), "VM {} is in wrong state HOLD"),
    ("one.vm.attach", ('DISK=[IMAGE_ID="0"]',), "VM is not running in any host"),
    ("one.vm.detach", (0,), "VM disk does not exist"),
]


@pytest.mark.parametrize(("method", "arguments", "words"), CHANGES)
def test_parts_change_only_in_a_vm_that_runs_or_is_powered_off(world: World, method, arguments, words) -> None:
    vm_id = world.instantiate("held", hold=True)
    with pytest.raises(OneError) as caught:
        world.call(method, vm_id, *arguments)
    assert (caught.value.code, caught.value.message) == (2048, f"[{method}] {words.format(vm_id)}")


@pytest.mark.parametrize("off", [False, True])
def test_an_interface_comes_with_a_lease_and_its_context_and_goes_with_both(world: World, off: bool) -> None:
    vm_id = world.run("first")
    end = RUNNING
    if off:
        power_off(world, vm_id)
        end = POWEROFF
    world.call("one.vm.attachnic", vm_id, 'NIC=[NETWORK_ID="0"]')
    world.wait("one.vm.info", vm_id, *end)
    assert machine(world, vm_id).findtext("CONTEXT/ETH1_IP") == "10.1.0.11"
    assert "<USED_LEASES>2<" in world.call("one.vn.info", 0)
    world.call("one.vm.detachnic", vm_id, 0)
    world.wait("one.vm.info", vm_id, *end)
    left = machine(world, vm_id)
    assert [nic.findtext("NIC_ID") for nic in left.findall("NIC")] == ["1"]
    assert left.findtext("CONTEXT/ETH1_IP") == "10.1.0.11" and left.find("CONTEXT/ETH0_IP") is None
    assert "<USED_LEASES>1<" in world.call("one.vn.info", 0)


def test_a_disk_uses_its_image_while_it_is_attached(world: World) -> None:
    vm_id = world.run("first")
    world.call("one.vm.attach", vm_id, 'DISK=[IMAGE_ID="0"]')
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert f"<VMS><ID>{vm_id}</ID></VMS>" in world.call("one.image.info", 0)
    disk = machine(world, vm_id).findtext("DISK/DISK_ID")
    world.call("one.vm.detach", vm_id, int(disk))
    world.wait("one.vm.info", vm_id, *RUNNING)
    assert "<VMS></VMS>" in world.call("one.image.info", 0)
    with pytest.raises(OneError, match="VM disk does not exist"):
        world.call("one.vm.detach", vm_id, int(disk))


@pytest.mark.parametrize(("method", "arguments"), [(method, arguments) for method, arguments, _words in CHANGES[:4]])
def test_a_change_that_fails_leaves_the_vm_as_it_was_with_the_reason(world: World, method, arguments) -> None:
    vm_id = world.run("first")
    before = ElementTree.tostring(machine(world, vm_id))
    break_driver(world)
    world.call(method, vm_id, *arguments)
    world.wait("one.vm.info", vm_id, *RUNNING, "no room")
    assert ElementTree.tostring(machine(world, vm_id)) == before
    assert "<USED_LEASES>1<" in world.call("one.vn.info", 0)
    assert "<VMS></VMS>" in world.call("one.image.info", 0)


def test_a_size_changes_unless_the_vm_runs(world: World) -> None:
    vm_id = world.run("first")
    with pytest.raises(OneError, match="Hotplug resize not supported by driver dummy") as caught:
        world.call("one.vm.resize", vm_id, 'MEMORY="256"', True)
    assert caught.value.code == 2048
    power_off(world, vm_id)
    for text, words in (
        ('MEMORY="-1"', "MEMORY must be a positive integer value."), ('CPU="-1"', "CPU must be a positive float or integer value."),
        ('CPU="1000"', "Not enough CPU: 100000/"),
    ):
        with pytest.raises(OneError) as caught:
            world.call("one.vm.resize", vm_id, text)
        assert words in caught.value.message
    world.call("one.vm.resize", vm_id, 'MEMORY="0"')
    assert machine(world, vm_id).findtext("MEMORY") == "128"
    world.call("one.vm.resize", vm_id, 'MEMORY="256"\nVCPU="2"', True)
    assert [machine(world, vm_id).findtext(name) for name in ("CPU", "MEMORY", "VCPU")] == ["0.1", "256", "2"]


@pytest.mark.parametrize(("append", "expected"), [(1, ("x86_64", "nic0", "1", "2")), (0, ("x86_64", None, None, "2"))])
def test_a_configuration_is_merged_or_replaced(world: World, append: int, expected: tuple) -> None:
    vm_id = world.run("first")
    world.call("one.vm.updateconf", vm_id, 'OS=[ARCH="x86_64"]\nCONTEXT=[B="2",NETWORK="YES"]\nMEMORY="1"', append)
    world.wait("one.vm.info", vm_id, *RUNNING)
    template = machine(world, vm_id)
    found = tuple(template.findtext(name) for name in ("OS/ARCH", "OS/BOOT", "CONTEXT/A", "CONTEXT/B"))
    assert found == expected
    assert template.findtext("CONTEXT/ETH0_IP") == "10.1.0.10" and template.findtext("MEMORY") == "128"


def test_a_vm_without_context_cannot_get_one(world: World) -> None:
    world.call("one.template.allocate", 'NAME="bare"\nCPU="0.1"\nMEMORY="64"')
    vm_id = world.call("one.template.instantiate", 1, "bare", True)
    with pytest.raises(OneError, match="Virtual machine does not have context, cannot add a new one"):
        world.call("one.vm.updateconf", vm_id, 'CONTEXT=[A="1"]', 1)


def owners(world: World) -> list[str]:
    """The VMs that have the GPU and the USB controller of the host, -1 for nobody."""
    host = ElementTree.fromstring(world.call("one.host.info", 0))
    return [device.findtext("VMID") for device in host.findall("HOST_SHARE/PCI_DEVICES/PCI")][:2]


def test_a_suspended_vm_goes_on_where_it_was(world: World) -> None:
    vm_id = world.run("first")
    world.call("one.vm.action", "suspend", vm_id)
    world.wait("one.vm.info", vm_id, "<STATE>5<")
    for action in ("suspend", "poweroff", "hold"):
        with pytest.raises(OneError, match=f'"{action}": This action is not available for state SUSPENDED'):
            world.call("one.vm.action", action, vm_id)
    world.stop()
    world.start()
    world.call("one.vm.action", "resume", vm_id)
    world.wait("one.vm.info", vm_id, *RUNNING)


def test_a_vm_that_the_driver_cannot_suspend_runs_on_with_the_reason(world: World) -> None:
    vm_id = world.run("first")

    def suspend(spec) -> None:
        raise DriverError("no room")

    world.driver.suspend = suspend
    world.call("one.vm.action", "suspend", vm_id)
    world.wait("one.vm.info", vm_id, *RUNNING, "no room")


def test_a_pci_device_has_one_owner_until_it_is_detached_or_the_vm_ends(world: World) -> None:
    first, second = world.run("first", 'PCI=[SHORT_ADDRESS="00:06.1"]'), world.run("second")
    assert owners(world) == ["-1", str(first)]
    with pytest.raises(OneError, match="VM in wrong state, it has to be in poweroff") as caught:
        world.call("one.vm.attachpci", second, 'PCI=[VENDOR="10de"]')
    assert caught.value.code == 2048
    power_off(world, second)
    world.call("one.vm.attachpci", second, 'PCI=[VENDOR="10DE",CLASS="302"]')
    assert owners(world) == [str(second), str(first)]
    assert machine(world, second).findtext("PCI/ADDRESS") == "0000:02:00:0"
    with pytest.raises(OneError, match="Cannot assign PCI device in host. Check address and free devices"):
        world.call("one.vm.attachpci", second, 'PCI=[VENDOR="10de"]')
    with pytest.raises(OneError, match="PCI device not found"):
        world.call("one.vm.detachpci", second, 5)
    world.call("one.vm.detachpci", second, 0)
    world.call("one.vm.action", "terminate-hard", first)
    world.wait("one.vm.info", first, "<STATE>6<")
    assert owners(world) == ["-1", "-1"] and machine(world, second).find("PCI") is None


@pytest.mark.parametrize(("device", "words"), [
    ('VENDOR="xyz"', "Wrong Hex value for PCI attribute VENDOR"),
    ('PROFILE="1"', "SHORT_ADDRESS, DEVICE, VENDOR or CLASS must be defined for PCI."),
    ('SHORT_ADDRESS="02:00.0",CLASS="0302"', "SHORT_ADDRESS cannot be set with DEVICE, VENDOR or CLASS"),
])
def test_a_pci_attribute_that_means_nothing_is_refused(world: World, device: str, words: str) -> None:
    with pytest.raises(OneError, match=words):
        world.call("one.vm.attachpci", 0, f"PCI=[{device}]")
    with pytest.raises(OneError, match=words):
        world.instantiate("first", f"PCI=[{device}]")


def test_a_vm_waits_until_its_pci_devices_are_free(world: World) -> None:
    first = world.run("first", 'PCI=[CLASS="0302"]')
    waiting = world.instantiate("second", 'PCI=[CLASS="0302"]')
    world.tick()
    world.wait("one.vm.info", waiting, "<STATE>1<", "Unavailable PCI devices on hosts: 0")
    world.call("one.vm.action", "terminate-hard", first)
    world.wait("one.vm.info", first, "<STATE>6<")
    world.tick()
    world.wait("one.vm.info", waiting, *RUNNING)


def test_a_vm_that_was_being_changed_when_the_zone_stopped_runs_afterwards(world: World) -> None:
    vm_id = world.run("first")
    with world.zone.core.locked():
        vm = world.zone.core.store.get("vm", vm_id)
        vm["lcm"] = 25
        world.zone.core.store.save("vm", vm)
    world.stop()
    world.start()
    world.wait("one.vm.info", vm_id, *RUNNING)
