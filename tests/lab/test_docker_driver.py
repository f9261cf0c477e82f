# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a machine of the Docker driver is, seen from inside it and from the engine."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_zone import NETWORK, PREFIX, TOKEN, VM_IMAGE, Machines, OneGate

from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab.addresses import free_subnet
from lab.driver import DriverError, ImageSpec, NetSpec, NicSpec, VmSpec
from lab.driver.docker import DockerDriver, machine_prefix
from lab.engine import EngineError, docker

pytestmark = pytest.mark.docker


@pytest.fixture
def vm(machines: Machines) -> Iterator[VmSpec]:
    vm = machines.deploy()
    machines.log(vm)
    yield vm
    machines.driver.shutdown(vm, hard=True)


@pytest.fixture
def leftovers(zone: str) -> object:
    """Names of everything the engine holds for the zone, apart from its network."""

    def names() -> list[str]:
        selection = ("--filter", f"label=opennebula.zone={zone}", "--format")
        return [
            *docker("ps", "--all", *selection, "{{.Names}}").split(),
            *docker("volume", "ls", *selection, "{{.Name}}").split(),
        ]

    return names


@pytest.fixture
def appliance() -> Iterator[tuple[str, str]]:
    """An image with a prepared volume for its inner Docker engine, as an appliance has: image, volume."""
    name = f"onelab-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    docker(
        "run", "--rm", "--network", "none", "--volume", f"{name}:/v", VM_IMAGE, "sh", "-c",
        "cd /v && mkdir -p image/overlay2/layerdb/sha256/abc overlay2/layer1/diff && echo inner >overlay2/layer1/diff/file"
        " && printf layer1 >image/overlay2/layerdb/sha256/abc/cache-id && echo prepared >state.db",
    )  # fmt: skip
    docker("build", "--quiet", "--tag", name, "-", stdin=f"FROM {VM_IMAGE}\nLABEL opennebula.volume=/var/lib/docker={name}\n")
    yield name, name
    docker("image", "rm", "--force", name)
    docker("volume", "rm", "--force", name)


def test_machine_has_its_lease_as_address(machines: Machines, vm: VmSpec) -> None:
    assert f"inet {vm.nics[0].ip}/24" in machines.run(vm, "ip", "address", "show", "eth0")
    assert f"default via {NETWORK.gateway}" in machines.run(vm, "ip", "route")
    assert vm.nics[0].mac in machines.run(vm, "ip", "link", "show", "eth0")


def test_systemd_is_up_with_nothing_failed(machines: Machines, vm: VmSpec) -> None:
    assert machines.script(vm, "systemctl is-system-running --wait") == "running"


def test_agent_leaves_context_and_token_for_root_alone_and_no_cd(machines: Machines) -> None:
    vm = machines.deploy(FL_NODE_CONFIG='site="berlin"', MOTTO="it's $5; `id`")
    machines.log(vm)
    assert sorted(machines.script(vm, "stat -c '%n %a %U' /run/one-context /run/one-context/*").splitlines()) == [
        "/run/one-context 700 root",
        *(f"/run/one-context/{name} 400 root" for name in ("context.sh.local", "context.sh.network", "context.sh.online", "one_env")),
    ]
    environment = machines.run(vm, "cat", "/run/one-context/one_env").splitlines()
    assert environment[0] == f'export TOKENTXT="{TOKEN}"'
    assert f'export VMID="{vm.id}"' in environment
    assert 'export FL_NODE_CONFIG="site="berlin""' in environment
    assert 'export MOTTO="it\'s $5; `id`"' in environment
    assert "mount." not in machines.script(vm, "findmnt --list --noheadings --output TARGET")
    machines.driver.shutdown(vm, hard=True)


def test_a_machine_gets_a_token_only_when_its_context_asks_for_one(machines: Machines) -> None:
    vm = machines.deploy(TOKEN="NO")
    machines.log(vm)
    assert machines.run(vm, "cat", "/run/one-context/one_env").splitlines()[0] == 'export TOKENTXT=""'
    assert machines.run(vm, "ls", "/context") == "context.sh"
    machines.driver.shutdown(vm, hard=True)


def test_context_cannot_be_changed_from_inside(machines: Machines, vm: VmSpec) -> None:
    with pytest.raises(EngineError, match="Read-only file system"):
        machines.run(vm, "touch", "/context/context.sh")


def test_units_of_the_phases_ran_and_the_log_is_the_journal(machines: Machines, vm: VmSpec) -> None:
    units = ("one-context-local", "one-context-online", "one-context")
    assert machines.script(vm, "systemctl is-active " + " ".join(units)).splitlines() == ["active"] * 3
    began = [line.split()[1] for line in machines.log(vm) if line.startswith("phase ")]
    assert began == ["local", "online", "network"]
    assert "one-context.log" not in machines.run(vm, "ls", "/var/log")


def test_journal_has_exit_status_and_output_of_a_failing_hook_and_the_next_one_still_runs(machines: Machines) -> None:
    vm = machines.deploy(START_SCRIPT="echo broken; exit 3", REPORT_READY="NO")
    log = machines.log(vm)
    failed = log.index("net-97-start-script ended with exit status 3")
    assert log[failed - 1] == "net-97-start-script said: broken"
    assert "net-99-report-ready ended with exit status 0" in log[failed:]
    machines.driver.shutdown(vm, hard=True)


def test_a_changed_cd_starts_the_phases_again(machines: Machines, vm: VmSpec) -> None:
    changed = VmSpec(**{**vars(vm), "context": {**vm.context, "SET_HOSTNAME": "changed"}})
    machines.driver.change_context(changed)
    wait_until(lambda: machines.run(vm, "hostname") == "changed", "the changed context to be applied")
    assert "called for phase all to reconfigure" in machines.journal(vm)


def test_host_name_and_ssh_key_come_from_the_context(machines: Machines) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample operator@example"
    vm = machines.deploy(SET_HOSTNAME="super-link", SSH_PUBLIC_KEY=key)
    machines.log(vm)
    assert machines.run(vm, "hostname") == "super-link"
    assert machines.run(vm, "getent", "hosts", "super-link")
    assert machines.run(vm, "cat", "/root/.ssh/authorized_keys") == key
    assert machines.script(vm, "stat -c %a /root/.ssh/authorized_keys") == "600"
    machines.driver.shutdown(vm, hard=True)


def test_two_machines_have_different_ssh_host_keys(machines: Machines, vm: VmSpec) -> None:
    other = machines.deploy()
    keys = []
    for machine in (vm, other):
        wait_until(lambda: machines.script(machine, "systemctl is-active ssh || true") == "active", "sshd")  # noqa: B023
        keys.append(machines.run(machine, "cat", "/etc/ssh/ssh_host_ed25519_key.pub"))
    assert keys[0] != keys[1]
    machines.driver.shutdown(other, hard=True)


def test_ready_is_reported_to_onegate_with_the_machines_token(machines: Machines, onegate: OneGate) -> None:
    vm = machines.deploy(REPORT_READY="YES", READY_SCRIPT_PATH="/bin/true", ONEGATE_ENDPOINT=onegate.endpoint)
    wait_until(lambda: onegate.puts, "READY to arrive")
    assert onegate.puts == [("/vm", str(vm.id), TOKEN, "READY=YES")]
    machines.driver.shutdown(vm, hard=True)


@pytest.mark.parametrize(("script", "reason"), [("/bin/false", "not ready, 0 tries left"), ("/no/such/script", "/no/such/script does not exist")])
def test_ready_is_not_reported_while_the_ready_script_fails(machines: Machines, onegate: OneGate, script: str, reason: str) -> None:
    vm = machines.deploy(REPORT_READY="YES", READY_SCRIPT_PATH=script, ONEGATE_ENDPOINT=onegate.endpoint)
    assert reason in "\n".join(machines.log(vm))
    assert onegate.puts == []
    assert onegate.puts == []
    machines.driver.shutdown(vm, hard=True)


def test_machines_of_a_network_reach_each_other(machines: Machines, vm: VmSpec) -> None:
    other = machines.deploy()
    assert " 0% packet loss" in machines.run(vm, "ping", "-c", "1", "-W", "5", other.nics[0].ip)
    machines.driver.shutdown(other, hard=True)


def test_machine_reaches_nothing_beyond_its_network(machines: Machines, vm: VmSpec) -> None:
    """Neither a container of another network nor the gateway that leads this machine out."""
    stranger = docker("run", "--detach", "--rm", VM_IMAGE, "sleep", "60")
    try:
        addresses = [
            docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", stranger),
            docker("run", "--rm", "--network", "host", VM_IMAGE, "ip", "route", "show", "default").split()[2],
        ]
        for address in addresses:
            assert " 100% packet loss" in machines.script(vm, f"ping -c 1 -W 1 {address} || true")
    finally:
        docker("rm", "--force", stranger)


def test_unknown_name_is_refused_at_once(machines: Machines, vm: VmSpec) -> None:
    assert machines.script(vm, "timeout 2 getent hosts no-such-name.example; echo $?") == "2"


def test_name_servers_come_from_the_context(machines: Machines) -> None:
    vm = machines.deploy(ETH0_DNS="192.0.2.1 192.0.2.2")
    machines.log(vm)
    assert machines.run(vm, "cat", "/etc/resolv.conf") == "nameserver 192.0.2.1\nnameserver 192.0.2.2"
    machines.driver.shutdown(vm, hard=True)


def test_poll_sees_states_and_load(machines: Machines, vm: VmSpec) -> None:
    driver = machines.driver
    seen = driver.poll()[vm.id]
    assert seen.state == "running"
    assert 1_000 < seen.memory_kb < 512 * 1024
    begin = time.monotonic()
    driver.poll()
    machines.run(vm, "python3", "-c", "import time\nwhile time.process_time() < 0.5: pass")
    busy = driver.poll()[vm.id].cpu
    # At least the 0.5 s of the loop, spread over no more than the time between these two calls.
    assert busy >= 100 * 0.5 / (time.monotonic() - begin) - 0.1
    driver.poweroff(vm, hard=True)
    assert driver.poll()[vm.id].state == "poweroff"


def test_machine_that_powers_itself_off_is_seen_as_powered_off(machines: Machines, vm: VmSpec) -> None:
    machines.script(vm, "systemctl poweroff")
    wait_until(lambda: machines.driver.poll()[vm.id].state == "poweroff", "the machine to be off")


def test_disk_survives_a_power_cycle_and_the_agent_runs_again(machines: Machines, vm: VmSpec) -> None:
    machines.script(vm, "echo kept >/var/tmp/file")
    machines.driver.poweroff(vm, hard=False)
    assert machines.driver.poll()[vm.id].state == "poweroff"
    changed = VmSpec(**{**vars(vm), "context": {**vm.context, "SET_HOSTNAME": "renamed"}})
    machines.driver.resume(changed)
    machines.log(vm)
    assert machines.run(vm, "cat", "/var/tmp/file") == "kept"
    assert machines.run(vm, "hostname") == "renamed"
    assert f"inet {vm.nics[0].ip}/24" in machines.run(vm, "ip", "address", "show", "eth0")


def test_machine_cannot_be_suspended_and_runs_on(machines: Machines, vm: VmSpec) -> None:
    with pytest.raises(DriverError, match="the driver docker cannot keep a machine's memory"):
        machines.driver.suspend(vm)
    assert machines.driver.poll()[vm.id].state == "running"


def test_memory_of_the_template_is_a_limit(machines: Machines, vm: VmSpec) -> None:
    with pytest.raises(EngineError):
        machines.run(vm, "python3", "-c", "bytearray(700 << 20)")
    assert machines.driver.poll()[vm.id].state == "running"


@pytest.mark.parametrize("hard", [True, False])
def test_terminated_machine_leaves_nothing(machines: Machines, leftovers, state_dir: Path, hard: bool) -> None:
    vm = machines.deploy()
    machines.log(vm)
    assert leftovers() == [machines.name(vm), f"{machines.name(vm)}-0"]
    machines.driver.shutdown(vm, hard=hard)
    assert leftovers() == []
    assert vm.id not in machines.driver.poll()
    assert not (state_dir / "context" / str(vm.id)).exists()
    machines.driver.shutdown(vm, hard=hard)


def test_every_machine_gets_its_own_copy_of_the_prepared_volume(machines: Machines, appliance) -> None:
    image, volume = appliance
    first, second = machines.deploy(image), machines.deploy(image)
    machines.script(first, "echo mine >/var/lib/docker/state.db; rm -r /var/lib/docker/overlay2/layer1")
    assert machines.run(second, "cat", "/var/lib/docker/state.db", "/var/lib/docker/overlay2/layer1/diff/file") == "prepared\ninner"
    machines.driver.shutdown(first, hard=True)
    machines.driver.shutdown(second, hard=True)
    kept = docker("run", "--rm", "--network", "none", "--volume", f"{volume}:/v", VM_IMAGE, "cat", "/v/state.db", "/v/overlay2/layer1/diff/file")
    assert kept == "prepared\ninner"


def test_registered_image_is_pinned_and_measured(driver: DockerDriver) -> None:
    image = ImageSpec(1, "debian", f"container:{VM_IMAGE}")
    size = driver.register_image(image)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image.source)
    assert 50 < size < 500


@pytest.mark.parametrize("path", ["container:no-such-image:1", "/var/tmp/disk.qcow2"])
def test_unusable_image_path_is_named(driver: DockerDriver, path: str) -> None:
    with pytest.raises(DriverError, match=f"Image broken.*{path.removeprefix('container:')}"):
        driver.register_image(ImageSpec(2, "broken", path))


def test_machine_that_cannot_boot_says_why_and_leaves_nothing(machines: Machines, leftovers) -> None:
    vm = machines.spec()
    astray = VmSpec(**{**vars(vm), "nics": [NicSpec(99, f"{PREFIX}.5", "02:00:0a:d5:63:05")]})
    with pytest.raises(DriverError, match=rf"^VM {vm.id} cannot boot: .*{machine_prefix(machines.zone)}-net-99 not found\.$"):
        machines.driver.deploy(astray)
    assert leftovers() == []


def test_machine_without_an_image_is_refused(machines: Machines) -> None:
    vm = VmSpec(**{**vars(machines.spec()), "disks": []})
    with pytest.raises(DriverError, match=f"VM {vm.id} .*no disk"):
        machines.driver.deploy(vm)


def test_address_in_use_is_named_and_the_owner_keeps_running(machines: Machines, vm: VmSpec) -> None:
    twin = VmSpec(**{**vars(machines.spec()), "nics": vm.nics})
    with pytest.raises(DriverError, match=f"^VM {twin.id} cannot boot: .*[Aa]ddress already in use"):
        machines.driver.deploy(twin)
    assert machines.driver.poll()[vm.id].state == "running"


def test_token_is_not_to_be_seen_at_the_engine(machines: Machines, vm: VmSpec) -> None:
    assert TOKEN not in docker("inspect", machines.name(vm))


def test_network_with_an_overlapping_subnet_is_refused_by_name(driver: DockerDriver) -> None:
    with pytest.raises(DriverError, match=rf"^Network twin {PREFIX}\.0/25 cannot be made: .*overlap"):
        driver.create_network(NetSpec(id=1, name="twin", subnet=f"{PREFIX}.0/25", gateway=f"{PREFIX}.2"))


def test_networks_can_be_made_and_removed_twice(driver: DockerDriver) -> None:
    spare = NetSpec(id=2, name="spare", subnet=free_subnet("10.213", first=os.getpid() + 1), gateway="")
    for action in (driver.create_network, driver.create_network, driver.delete_network, driver.delete_network):
        action(spare)


def test_clean_removes_what_no_one_remembers(zone: str, tmp_path: Path, machines: Machines) -> None:
    forgotten_zone = f"{zone}x"
    first = DockerDriver(forgotten_zone, str(tmp_path))
    subnet = free_subnet("10.213", first=os.getpid() + 1)
    address = subnet.replace(".0/24", ".9")
    first.create_network(NetSpec(id=0, name="private", subnet=subnet, gateway=""))
    vm = machines.spec()
    first.deploy(VmSpec(**{**vars(vm), "nics": [NicSpec(0, address, "")]}))
    DockerDriver(forgotten_zone, str(tmp_path)).clean()
    selection = ("--quiet", "--filter", f"label=opennebula.zone={forgotten_zone}")
    assert [docker(*what, *selection) for what in (("ps", "--all"), ("volume", "ls"), ("network", "ls"))] == ["", "", ""]
    assert not (tmp_path / "context").exists()
    assert docker("network", "ls", "--quiet", "--filter", f"name={machine_prefix(zone)}-net-{NETWORK.id}$") != ""


def test_a_saved_disk_holds_what_was_written_and_is_published_and_removed(machines: Machines, vm: VmSpec, zone: str) -> None:
    machines.script(vm, "echo outer >/root/kept; echo inner >/var/lib/docker/kept")
    machines.driver.poweroff(vm, hard=False)
    with pytest.raises(DriverError, match="has no other disk than 0"):
        machines.driver.save_disk(vm, 1, ImageSpec(7, "saved", ""))
    image = ImageSpec(7, "saved", "")
    assert machines.driver.save_disk(vm, 0, image) > 1
    exported = ImageSpec(8, "exported", f"http://market/{machines.driver.publish_image(image)}")
    machines.driver.register_image(exported)
    assert exported.source == image.source
    copy = machines.deploy(image.source)
    assert machines.script(copy, "cat /root/kept /var/lib/docker/kept").split() == ["outer", "inner"]
    machines.driver.shutdown(copy, hard=True)
    machines.driver.delete_image(image)
    saved = f"{machine_prefix(zone)}-image-7"
    assert docker("image", "ls", "--quiet", saved) == docker("volume", "ls", "--quiet", "--filter", f"name={saved}") == ""
