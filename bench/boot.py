# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the boots of a SuperLink and of a SuperNode cost, in a zone of its own on this machine: processor time from power-on to READY.

The VMs are containers of the appliances that the demo deploys, so that a kernel and a boot loader are not in it, but all that runs in the guest is:
systemd, the guest agent, the configuration by Ansible, the inner Docker engine, Flower. Each VM then restarts unchanged, and is measured again. On a busy
machine the same work takes more, and a node starts Flower more often before the SuperLink knows its key: compare what was measured side by side.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import uuid
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import requests

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.opennebula.flower.plugins.module_utils import vm_templates
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from lab.addresses import free_subnet
from lab.checkout import IMAGE_PREFIX
from lab.driver.docker import CpuUsage, machine_prefix
from lab.engine import docker, host_address
from lab.zone import Zone, ZoneConfig

PASSWORD = "password-of-the-zone"
NETWORK, SUPERLINK, SUPERNODE = "private", "superlink", "supernode"
# As inventories/lab names them; make bench-boot bakes them.
APPLIANCES = {SUPERLINK: f"{IMAGE_PREFIX}/flower-appliance-superlink", SUPERNODE: f"{IMAGE_PREFIX}/flower-appliance-supernode-sklearn"}
SECONDS, PAUSE = 1800, 0.5
POWEROFF = "8"
TASKS = re.compile(r"^(?:TASK|RUNNING HANDLER) \[", re.MULTILINE)


@dataclass(frozen=True)
class Boot:
    """Processor seconds of a boot, and how many tasks Ansible had in it."""

    processor: float
    tasks: int


class Machines:
    """A zone whose VMs are containers, with one SuperLink and one SuperNode as OneFlow deploys them."""

    def __init__(self, place: Path) -> None:
        config = ZoneConfig(
            name=f"b{uuid.uuid4().hex[:8]}", state_dir=place, password=PASSWORD, driver="docker", port=0, oneflow_port=0, onegate_host=host_address(),
            onegate_port=0, host_cpu=8,
        )  # fmt: skip
        self._zone, self._usage = Zone(config), CpuUsage()
        self._zone.start()
        self._api = xmlrpc.client.ServerProxy(self._zone.xmlrpc_url, allow_none=True)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_problem: object) -> None:
        self._zone.stop()
        self._zone.core.driver.clean()

    def deploy(self, tag: str) -> dict[str, int]:
        """Start the service; return the VM of each role."""
        prefix = free_subnet("10.215").removesuffix(".0/24")
        network = {
            "NAME": NETWORK, "VN_MAD": "bridge", "BRIDGE": "b0", "NETWORK_ADDRESS": f"{prefix}.0", "NETWORK_MASK": "255.255.255.0",
            "GATEWAY": f"{prefix}.1", "AR": {"TYPE": "IP4", "IP": f"{prefix}.10", "SIZE": "9"},
        }  # fmt: skip
        self._call("one.vn.allocate", render(network), 0)
        roles = []
        for role, image in APPLIANCES.items():
            self._call("one.image.allocate", f'NAME="{role}"\nPATH="container:{image}:{tag}"', 1, False)
            template = vm_templates.vm_template(role, {}, image=role, cpu=0.5, memory=1536, network=NETWORK, service="bench")
            number = self._call("one.template.allocate", render({"NAME": role, **template}))
            roles.append({"name": role, "type": "vm", "cardinality": 1, "template_id": number, "parents": [] if role == SUPERLINK else [SUPERLINK]})
        body = {"name": "bench", "deployment": "straight", "ready_status_gate": True, "roles": roles}
        template = self._flow("POST", "/service_template", body)["ID"]
        service = self._flow("POST", f"/service_template/{template}/action", {"action": {"perform": "instantiate"}})["ID"]
        found: dict[str, int] = {}

        def all_there() -> bool:
            now = self._flow("GET", f"/service/{service}")["TEMPLATE"]["BODY"]["roles"]
            found.update({role["name"]: int(node["deploy_id"]) for role in now for node in role["nodes"]})
            return found.keys() == APPLIANCES.keys()

        self._wait("the VMs of the service", all_there)
        return found

    def booted(self, vm: int) -> Boot:
        """Wait until a VM is READY and nothing of its boot goes on; return what it took since power-on."""

        def ready() -> bool:
            self._counted(vm)
            shown = self._shown(vm)
            if "FL_ERROR" in shown:
                sys.exit(f"VM {vm} does not boot: {self._inside(vm, 'tail -n 20 /var/log/one-appliance/flower-ansible.log')}")
            return shown.get("READY") == "YES" and self._inside(vm, "systemctl show --property ActiveState --value one-context") == "active"

        self._wait(f"READY of VM {vm}", ready)
        log = self._inside(vm, "cat /var/log/one-appliance/flower-ansible.log 2>/dev/null || true")
        return Boot(self._counted(vm), len(TASKS.findall(log)))

    def restarted(self, vm: int) -> Boot:
        """Power a VM off and on again; return what it took since then."""
        self._inside(vm, "rm -f /var/log/one-appliance/flower-ansible.log")
        self._call("one.vm.action", "poweroff", vm)
        self._wait(f"VM {vm} to be off", lambda: self._vm(vm).findtext("STATE") == POWEROFF)
        self._call("one.vm.update", vm, 'READY="NO"', 1)
        self._call("one.vm.action", "resume", vm)
        return self.booted(vm)

    def _counted(self, vm: int) -> float:
        """Processor seconds of a VM since power-on; its control group is a new one each time."""
        container = docker("container", "inspect", "--format", "{{.Id}}", self._name(vm))
        return self._usage.seconds(container)

    def _vm(self, vm: int) -> ElementTree.Element:
        return ElementTree.fromstring(self._call("one.vm.info", vm))

    def _shown(self, vm: int) -> dict[str, str]:
        """What a VM shows its owner."""
        return {attribute.tag: attribute.text or "" for attribute in self._vm(vm).find("USER_TEMPLATE")}

    def _inside(self, vm: int, script: str) -> str:
        return docker("exec", self._name(vm), "sh", "-c", script)

    def _name(self, vm: int) -> str:
        return f"{machine_prefix(self._zone.config.name)}-{vm}"

    def _call(self, name: str, *arguments: object) -> object:
        done, answer = getattr(self._api, name)(f"oneadmin:{PASSWORD}", *arguments)[:2]
        if not done:
            sys.exit(str(answer))
        return answer

    def _flow(self, method: str, path: str, body: dict | None = None) -> dict:
        answer = requests.request(method, self._zone.oneflow_url + path, json=body, auth=("oneadmin", PASSWORD), timeout=60)
        if not answer.ok:
            sys.exit(f"{method} {path}: {answer.text}")
        return answer.json()["DOCUMENT"]

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                sys.exit(f"waited {SECONDS} s for {what}")
            time.sleep(PAUSE)


def measure(tag: str) -> dict[str, dict[str, Boot]]:
    """Return the first boot and a restart, by role."""
    with tempfile.TemporaryDirectory() as place, Machines(Path(place)) as machines:
        vms = machines.deploy(tag)
        first = {role: machines.booted(vm) for role, vm in vms.items()}
        # One after the other: a node is ready when its SuperLink is.
        again = {role: machines.restarted(vm) for role, vm in vms.items()}
    return {"first boot": first, "restart": again}


def main() -> None:
    """Print what the boots took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="how often to measure")
    parser.add_argument("--tag", default="0.1.0", help="tag of the appliances' images (%(default)s)")
    given = parser.parse_args()
    for number in range(1, given.times + 1):
        for what, boots in measure(given.tag).items():
            for role, boot in boots.items():
                print(f"{number}: {role}, {what}: {boot.processor:.1f} s of processor time, {boot.tasks} tasks of Ansible", flush=True)


if __name__ == "__main__":
    main()
