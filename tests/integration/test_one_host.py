# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Hosts: what one_host changes and leaves alone, and what one_host_info tells."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, module_zone

HOST = {"im_mad": "dummy", "vm_mad": "dummy", "wait_timeout": 600}


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.call("one.cluster.allocate", "rack1")
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
        yield zone


@pytest.fixture
def host(zone: ModuleZone) -> Iterator[str]:
    """The name of a host that is gone after the test, whatever became of it."""
    yield "node1"
    zone.driver.host_error = ""
    assert not zone.run("one_host", name="node1", state="absent", wait_timeout=600).get("failed")


def test_a_host_is_added_changed_and_removed_exactly_once(zone, host):
    wanted = {**HOST, "name": host, "cluster": "rack1", "template": {"reserved_cpu": 100, "PIN_POLICY": "NONE"}}
    zone.calls.clear()
    zone.changed("one_host", check=True, **wanted)
    assert zone.writes == []
    made = zone.changed("one_host", **wanted)["host"]
    assert (made["state"], made["status"], made["cluster"], made["template"]["RESERVED_CPU"]) == (
        "MONITORED", "enabled", "rack1", "100",
    )
    zone.unchanged("one_host", **wanted)
    assert len(zone.calls) <= 4, zone.calls

    change = {**wanted, "status": "disabled", "cluster": 0, "template": {"RESERVED_CPU": 200}}
    zone.calls.clear()
    predicted = zone.changed("one_host", check=True, **change)
    assert zone.writes == []
    done = zone.changed("one_host", **change)
    assert predicted["diff"] == done["diff"] == {
        "before": {"status": "enabled", "cluster": "rack1", "template": {"RESERVED_CPU": "100"}},
        "after": {"status": "disabled", "cluster": "default", "template": {"RESERVED_CPU": "200"}},
    }
    zone.unchanged("one_host", **change)

    zone.calls.clear()
    zone.changed("one_host", check=True, name=host, state="absent")
    assert zone.writes == []
    zone.changed("one_host", name=host, state="absent")
    assert "node1" not in zone.call("one.hostpool.info")
    zone.unchanged("one_host", name=host, state="absent")


def test_what_a_task_does_not_name_stays_as_it_is(zone, host):
    zone.changed("one_host", name=host, cluster="rack1", status="disabled", template={"RACK": 1}, **HOST)
    left_alone = zone.unchanged("one_host", name=host)["host"]
    assert (left_alone["cluster"], left_alone["status"], left_alone["template"]["RACK"]) == ("rack1", "disabled", "1")


def test_replace_removes_what_was_set_but_not_what_monitoring_found(zone, host):
    zone.changed("one_host", name=host, template={"RACK": 1, "RESERVED_MEM": 1024}, **HOST)
    replaced = {"name": host, "template": {"ROW": 2}, "update": "replace", **HOST}
    done = zone.changed("one_host", **replaced)
    assert done["diff"]["before"]["template"] == {"RACK": "1", "RESERVED_MEM": "1024"}
    assert done["diff"]["after"]["template"] == {"ROW": "2"}
    assert done["host"]["template"]["HOSTNAME"] == host
    zone.unchanged("one_host", **replaced)


def test_what_monitoring_found_makes_no_difference(zone, host):
    made = zone.changed("one_host", name=host, template={"RACK": 1}, **HOST)["host"]
    zone.unchanged("one_host", name=host, template={**made["template"], "arch": "arm64"}, update="replace")


def test_drivers_are_changed_in_place(zone, host):
    number = zone.changed("one_host", name=host, **HOST)["host"]["id"]
    changed = zone.changed("one_host", name=host, vm_mad="qemu")
    assert changed["diff"] == {"before": {"vm_mad": "dummy"}, "after": {"vm_mad": "qemu"}}
    assert (changed["host"]["id"], changed["host"]["vm_mad"]) == (number, "qemu")
    zone.unchanged("one_host", name=host, vm_mad="qemu")


def test_each_status_can_follow_each_other(zone, host):
    zone.changed("one_host", name=host, **HOST)
    for status, state in (
        ("offline", "OFFLINE"), ("disabled", "DISABLED"), ("enabled", "MONITORED"), ("disabled", "DISABLED"),
        ("offline", "OFFLINE"), ("enabled", "MONITORED"),
    ):
        assert zone.changed("one_host", name=host, status=status, wait_timeout=600)["host"]["state"] == state
        zone.unchanged("one_host", name=host, status=status)


def test_a_host_that_cannot_be_monitored_ends_the_wait_at_once_with_the_reason(zone, host):
    zone.driver.host_error = "ssh: connect to host node1 port 22: no route"
    result = zone.fails("one_host", name=host, **{**HOST, "wait_timeout": 600})
    assert result["error"]["kind"] == "wrong_state"
    assert "Host 'node1'" in result["msg"] and "is in state ERROR" in result["msg"]
    assert "ssh: connect to host node1 port 22: no route" in result["msg"]
    # Who does not ask for the host to be enabled learns about it, and nothing fails.
    seen = zone.unchanged("one_host", name=host)["host"]
    assert seen["state"] == "ERROR" and "no route" in seen["reason"]
    assert zone.fails("one_host", name=host, status="enabled")["error"]["kind"] == "wrong_state"


def test_a_host_that_is_not_monitored_in_time_is_reported_with_its_state(zone, host, monkeypatch):
    seen = threading.Event()
    monkeypatch.setattr(zone.driver, "devices", lambda: [] if seen.wait(600) else [])
    result = zone.fails("one_host", name=host, **{**HOST, "wait_timeout": 1})
    assert result["error"]["kind"] == "timeout"
    assert "is not MONITORED after 1 seconds: its state is INIT" in result["msg"]
    seen.set()
    # The next run goes on waiting where this one gave up.
    assert zone.unchanged("one_host", name=host, **HOST)["host"]["state"] == "MONITORED"


def test_an_unknown_cluster_is_an_error_before_anything_is_made(zone):
    zone.calls.clear()
    result = zone.fails("one_host", name="node1", cluster="nowhere", **HOST)
    assert result["error"]["kind"] == "missing"
    assert "no cluster with the name 'nowhere'" in result["msg"]
    assert zone.writes == []
    # In check mode an earlier task may be the one that makes it.
    assert zone.changed("one_host", check=True, name="node1", cluster="nowhere", **HOST)["host"]["cluster"] == "nowhere"


def test_a_host_with_vms_is_not_removed_and_the_server_says_why(zone):
    zone.changed("one_vm", name="guest", vm_template="small", state="running", wait_timeout=600)
    result = zone.fails("one_host", name="modules-host01", state="absent")
    assert "Can not remove a host with running VMs" in result["msg"]
    zone.changed("one_vm", name="guest", state="absent", wait_timeout=600)


def test_an_id_is_as_good_as_a_name_also_0(zone):
    assert zone.unchanged("one_host", name=0, status="enabled", cluster="0")["host"]["name"] == "modules-host01"
    assert zone.fails("one_host", name="99")["error"]["kind"] == "missing"


def test_the_drivers_have_options_of_their_own(zone):
    result = zone.fails("one_host", name="modules-host01", template={"vm_mad": "kvm"})
    assert result["msg"] == "The template has vm_mad; use the option vm_mad for it."


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/opennebula.flower.one:
      api_url: "{{ api_url }}"
      api_username: oneadmin
      api_password: "{{ lookup('ansible.builtin.env', 'ZONE_PASSWORD') }}"
  tasks:
    - opennebula.flower.one_host:
        name: node1
        wait_timeout: 1
      ignore_errors: true
    - opennebula.flower.one_host_info:
        name: node1
      register: found
    - ansible.builtin.debug:
        msg: "found {{ found.hosts[0].name }} in {{ found.hosts[0].cluster }}"
"""


def test_a_playbook_shows_what_a_host_waits_for(zone, host, tmp_path, monkeypatch):
    seen = threading.Event()
    monkeypatch.setattr(zone.driver, "devices", lambda: [] if seen.wait(60) else [])
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local",
         "-e", f"ansible_python_interpreter={sys.executable}", "-e", f"api_url={zone.options['api_url']}", playbook],
        env={**os.environ, "ZONE_PASSWORD": PASSWORD}, capture_output=True, text=True, timeout=900, check=True,
    )
    seen.set()
    assert "one_host node1: its state is INIT" in done.stdout + done.stderr
    assert "is not MONITORED after 1 seconds" in done.stdout
    assert "found node1 in default" in done.stdout


# ---- Moving VMs off --------------------------------------------------------------------------------


@pytest.fixture
def guests(zone: ModuleZone) -> Iterator[Callable[..., int]]:
    """Makes VMs on the zone's own host, a second host being there for them to go to."""
    made = []

    def make(name: str, state: str = "running", **options: object) -> int:
        made.append(name)
        zone.changed("one_host", name="node1", status="disabled", **HOST)
        vm = zone.changed("one_vm", name=name, vm_template="small", wait_timeout=600, **options)["vms"][0]
        if state != "running":
            zone.changed("one_vm", name=name, state=state, wait_timeout=600)
        zone.changed("one_host", name="node1", status="enabled", **HOST)
        assert vm["host"] == "modules-host01"
        return vm["id"]

    yield make
    for name in made:
        zone.run("one_vm", name=name, state="absent", wait_timeout=600)
    zone.run("one_host", name="modules-host01", status="enabled")


def test_the_vms_of_a_host_go_on_on_another_one(zone, host, guests):
    running, off = guests("guest"), guests("sleeper", "poweroff")
    wanted = {"name": "modules-host01", "status": "disabled", "flush": True, "wait_timeout": 600}
    zone.calls.clear()
    predicted = zone.changed("one_host", check=True, **wanted)
    assert zone.writes == []
    done = zone.changed("one_host", **wanted)
    assert predicted["diff"] == done["diff"] == {
        "before": {"status": "enabled", "vms": [running, off]}, "after": {"status": "disabled", "vms": []},
    }
    assert zone.writes[0] == "one.host.status"
    assert zone.run("one_host_info", name="node1")["hosts"][0]["vms"] == [running, off]
    found = {vm["id"]: (vm["state"], vm["host"]) for vm in zone.run("one_vm_info")["vms"]}
    assert found == {running: ("RUNNING", "node1"), off: ("POWEROFF", "node1")}
    assert zone.unchanged("one_host", **wanted)["host"]["vms"] == []


def test_a_vm_that_runs_with_a_pci_device_is_named_when_it_does_not_leave(zone, host, guests):
    guests("guest")
    number = guests("trainer", pcis=[{"SHORT_ADDRESS": "02:00.0"}])
    zone.fails("one_host", name="0", status="disabled", flush=True, wait_timeout=1)
    wait_until(lambda: zone.run("one_host_info", name="0")["hosts"][0]["vms"] == [number] or None, lambda: "the other VM is still there", 600)
    result = zone.fails("one_host", name="0", status="disabled", flush=True, wait_timeout=1)
    assert result["error"]["kind"] == "timeout"
    assert f"Host 'modules-host01' (id 0) is not empty after 1 seconds: VM 'trainer' (id {number}) is RUNNING with PCI devices" in result["msg"]
    assert "guest" not in result["msg"]
    assert zone.run("one_host_info", name="0")["hosts"][0]["vms"] == [number]


def test_a_vm_that_is_still_being_booted_is_moved_once_it_runs(zone, host, monkeypatch):
    waits = threading.Event()
    deploy = zone.driver.deploy
    monkeypatch.setattr(zone.driver, "deploy", lambda vm: waits.wait(600) and deploy(vm))
    zone.changed("one_host", name=host, status="disabled", **HOST)
    zone.changed("one_vm", name="guest", vm_template="small", wait=False)
    wait_until(lambda: zone.run("one_host_info", name="0")["hosts"][0]["vms"] or None, lambda: "it is not placed", 600)
    zone.changed("one_host", name=host, status="enabled")
    zone.calls.clear()

    def end_boot() -> None:
        # The module looks whether the host is empty after it has asked for the first time.
        wait_until(lambda: "one.host.info" in zone.calls or None, lambda: "it does not wait", 600)
        waits.set()

    boot = threading.Thread(target=end_boot)
    boot.start()
    zone.changed("one_host", name="modules-host01", status="disabled", flush=True, wait_timeout=600)
    boot.join()
    assert zone.run("one_vm_info", name="guest")["vms"][0]["host"] == host
    zone.changed("one_vm", name="guest", state="absent", wait_timeout=600)
    zone.changed("one_host", name="modules-host01", status="enabled")


def test_a_vm_that_cannot_be_moved_is_refused_before_anything_is_changed(zone, host, guests):
    number = guests("guest", "suspended")
    zone.calls.clear()
    result = zone.fails("one_host", name="modules-host01", status="disabled", flush=True)
    assert f"VM 'guest' (id {number}) is SUSPENDED: OpenNebula moves only VMs that run or are powered off." in result["msg"]
    assert "Host 'modules-host01' with status enabled gets new VMs" in zone.fails("one_host", name="modules-host01", flush=True)["msg"]
    assert zone.writes == []


# ---- Reading ---------------------------------------------------------------------------------------


def test_all_hosts_are_listed_with_one_call_with_their_capacity_and_devices(zone, host):
    zone.changed("one_host", name=host, cluster="rack1", template={"LABELS": "gpu,fast"}, **HOST)
    hosts = zone.unchanged("one_host_info")["hosts"]
    assert zone.calls == ["one.hostpool.info"]
    assert [item["name"] for item in hosts] == ["modules-host01", host]
    first = hosts[0]
    assert (first["state"], first["status"], first["cluster"], first["cpu"], first["memory"]) == (
        "MONITORED", "enabled", "default", {"total": 8.0, "usable": 8.0, "used": 0.0, "free": 8.0},
        {"total": 8192, "usable": 8192, "used": 0, "free": 8192},
    )
    gpu = first["pci_devices"][0]
    assert (gpu["address"], gpu["short_address"], gpu["vendor"], gpu["vendor_name"], gpu["class"], gpu["numa_node"]) == (
        "0000:02:00:0", "02:00.0", "10de", "NVIDIA Corporation", "0302", 0,
    )
    assert (gpu["vm_id"], gpu["vm"], gpu["owner"]) == (None, "", "")


def test_devices_that_are_seen_later_are_listed_also_of_a_disabled_host(zone, host, monkeypatch):
    def lists(number: int) -> bool | None:
        return [len(item["pci_devices"]) for item in zone.run("one_host_info")["hosts"]] == [number, number] or None

    zone.changed("one_host", name=host, **HOST)
    zone.changed("one_host", name=host, status="disabled")
    devices = zone.driver.devices()
    monkeypatch.setattr(zone.driver, "devices", lambda: devices[:1])
    wait_until(lambda: lists(1), lambda: "the other devices are still listed", 600)
    monkeypatch.undo()
    wait_until(lambda: lists(3), lambda: "the devices that came back are not listed", 600)


def test_a_device_says_which_vm_has_it(zone):
    zone.changed("one_template", name="gpu", template={"CPU": 0.1, "MEMORY": 64, "PCI": {"SHORT_ADDRESS": "02:00.0"}})
    vm = zone.changed("one_vm", name="guest", vm_template="gpu", state="running", wait_timeout=600)["vms"][0]["id"]
    try:
        found = zone.unchanged("one_host_info", name="modules-*")["hosts"][0]
        assert sorted(zone.calls) == ["one.hostpool.info", "one.vmpool.info"]
        used = {item["address"]: (item["vm_id"], item["vm"], item["owner"]) for item in found["pci_devices"]}
        assert used["0000:02:00:0"] == (vm, "guest", "oneadmin")
        assert used["0000:04:00:1"] == (None, "", "")
        assert (found["vms"], found["cpu"]["used"], found["memory"]["used"]) == ([vm], 0.1, 64)
    finally:
        zone.changed("one_vm", name="guest", state="absent", wait_timeout=600)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"name": "node1"}, ["node1"]), ({"name": "~^node[0-9]$"}, ["node1"]), ({"name": "0"}, ["modules-host01"]),
        ({"name": "nobody"}, []), ({"cluster": "rack1"}, ["node1"]), ({"cluster": 0}, ["modules-host01"]),
        ({"cluster": "rack*"}, ["node1"]), ({"states": ["disabled"]}, ["node1"]), ({"states": ["MONITORED"]}, ["modules-host01"]),
        ({"attributes": {"rack": 7}}, ["node1"]), ({"attributes": {"RACK": "8"}}, []),
        ({"pci_device": {"vendor": "10DE", "class": "03*"}}, ["modules-host01", "node1"]), ({"pci_device": {"vendor": "8086"}}, []),
        ({"pci_device": {"vendor": "0x10DE", "class": "302"}}, ["modules-host01", "node1"]),
    ],
)
def test_hosts_are_found_by(zone, rack_host, wanted, names):
    assert [item["name"] for item in zone.unchanged("one_host_info", **wanted)["hosts"]] == names


@pytest.fixture(scope="module")
def rack_host(zone: ModuleZone) -> Iterator[None]:
    zone.changed("one_host", name="node1", cluster="rack1", template={"RACK": 7}, **HOST)
    zone.changed("one_host", name="node1", status="disabled")
    yield
    zone.changed("one_host", name="node1", state="absent")


def test_a_filter_that_cannot_hold_is_an_error(zone):
    assert "'SLEEPING' is not a state of a host" in zone.fails("one_host_info", states=["SLEEPING"])["msg"]
    assert "write it in quotes" in zone.fails("one_host_info", pci_device={"vendor": 0x10DE})["msg"]
    assert "'colour' is nothing a PCI device has" in zone.fails("one_host_info", pci_device={"colour": "red"})["msg"]
