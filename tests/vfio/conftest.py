# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The role vfio_host on machines of its own, and a zone that has them as hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disk import Platform, Unavailable, need_tools
from machine import Machine, running

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone
from lab.driver.dummy import DummyDriver

ROOT = Path(__file__).parents[2]
NAME = "hypervisor"
ROLE = """\
- hosts: gpu_hosts
  gather_facts: false
  roles: [opennebula.flower.vfio_host]
"""
# In the place of OpenNebula's command: says what it was asked for.
ONEHOST = """\
#!/bin/sh
echo "$@" >>"{log}"
"""
PCI_CONF = "# The kinds of devices that are monitored\n:filter: '0:0'\n\n:short_address: []\n"
RUN_SECONDS = 600


class Hypervisor:
    """A machine that runs, and what is run on it."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.ssh = machine.ssh
        self._directory = directory
        self.commands = directory / "commands"
        self.pci_conf = directory / "pci.conf"
        self.pci_conf.write_text(PCI_CONF)
        self.commands.touch()
        directory.joinpath("bin").mkdir()
        directory.joinpath("bin/onehost").write_text(ONEHOST.format(log=self.commands))
        directory.joinpath("bin/onehost").chmod(0o755)
        directory.joinpath("role.yml").write_text(ROLE)
        host = {
            "ansible_host": "127.0.0.1", "ansible_port": machine.port, "ansible_user": "root", "ansible_ssh_private_key_file": str(machine.key),
            # Connections through QEMU's network do not end when the machine restarts.
            "ansible_ssh_common_args": "-F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
            "-o ServerAliveInterval=10 -o ServerAliveCountMax=3",
            "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False,
        }
        frontend = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
        groups = {"gpu_hosts": {"hosts": {NAME: host}}, "frontend": {"hosts": {"front": frontend}}}
        directory.joinpath("inventory.json").write_text(json.dumps({"all": {"children": groups}}))

    def role(self, *options: str, **variables: object) -> subprocess.CompletedProcess:
        """Run the role with variables vfio_host_... and return what became of it."""
        return self._run("role.yml", options, {f"vfio_host_{name}": value for name, value in variables.items()})

    def playbook(self, zone: ModuleZone, *options: str, **variables: object) -> subprocess.CompletedProcess:
        """Run gpu_hosts.yml for a host of the zone."""
        api = {f"one_{name}": value for name, value in zone.options.items() if name.startswith("api_")}
        mine = {"one_admin": "root", "one_pci_file": str(self.pci_conf), "gpu_hosts_monitoring_timeout": 60}
        return self._run(str(ROOT / "playbooks/gpu_hosts.yml"), options, {**api, **mine, **variables})

    def succeeds(self, *options: str, **variables: object) -> subprocess.CompletedProcess:
        """Run the role, which has to end well."""
        return succeeded(self.role(*options, **variables))

    def refuses(self, **variables: object) -> str:
        """Run the role, which has to fail with one message before it changes anything, and return that."""
        before = self.files()
        message = failed(self.role(**variables))
        assert self.files() == before
        return message

    def files(self) -> str:
        """Everything that configures the machine: names, times and sizes."""
        return self.ssh("find /etc /boot /usr/local /usr/lib/systemd -printf '%p %T@ %s\\n' | sort")

    def driver(self, address: str) -> str:
        """What holds a device, empty for nothing."""
        return self.ssh(f"readlink /sys/bus/pci/devices/{address}/driver || true").strip().rpartition("/")[2]

    def group(self, address: str) -> str:
        """The IOMMU group of a device."""
        return self.ssh(f"readlink /sys/bus/pci/devices/{address}/iommu_group").strip().rpartition("/")[2]

    def groups(self) -> list[str]:
        """All IOMMU groups."""
        return self.ssh("ls /sys/kernel/iommu_groups").split()

    def _run(self, playbook: str, options: tuple[str, ...], variables: dict) -> subprocess.CompletedProcess:
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventory.json", "-e", json.dumps(variables), *options, playbook]
        settings = {
            "ANSIBLE_PIPELINING": "true", "ANSIBLE_NOCOLOR": "true", "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_TIMEOUT": "60",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._directory / "ssh"), "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
            "PATH": f"{self._directory / 'bin'}:{os.environ['PATH']}",
        }
        return subprocess.run(
            command, cwd=self._directory, env={**os.environ, **settings}, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )


def succeeded(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """Return a run that has to have ended well."""
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return done


def failed(done: subprocess.CompletedProcess) -> str:
    """Return the last message of a run that has to have failed."""
    messages = re.findall(r"^fatal: .*?\"msg\": (\".*?[^\\]\")", done.stdout, re.MULTILINE | re.DOTALL)
    assert done.returncode == 2 and messages, done.stdout[-4000:]
    return json.loads(messages[-1])


def changes(done: subprocess.CompletedProcess) -> int:
    """How many tasks changed something."""
    return int(re.search(r"changed=(\d+)", succeeded(done).stdout).group(1))


@pytest.fixture(scope="session")
def booted() -> Callable:
    """Boots machines; tests are skipped, with the reason, where there can be none."""

    @contextmanager
    def boot(platform: Platform, directory: Path) -> Iterator[Hypervisor]:
        try:
            need_tools()
        except Unavailable as reason:
            pytest.skip(f"vfio_host on {platform.name} was not tested: {reason}")
        with running(platform, directory) as machine:
            yield Hypervisor(machine, directory)

    return boot


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A zone with the machine as its only enabled host. It lists no devices."""
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.driver.devices = list
        zone.changed("one_host", name="modules-host01", status="disabled")
        zone.changed("one_host", name=NAME, im_mad="dummy", vm_mad="dummy", wait_timeout=30)
        yield zone


def listed(*addresses: str) -> list[dict[str, str]]:
    """Devices as the monitoring lists them."""
    template = DummyDriver.devices(None)[0]
    return [
        {**template, "ADDRESS": address.replace(".", ":"), "SHORT_ADDRESS": address.partition(":")[2], "VENDOR": "1b36", "DEVICE": "0010"}
        for address in addresses
    ]
