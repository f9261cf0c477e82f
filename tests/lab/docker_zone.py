# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Looking into the machines of the Docker driver, and an OneGate that takes notes."""

from __future__ import annotations

import itertools
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab.addresses import free_subnet
from lab.driver import DiskSpec, NetSpec, NicSpec, VmSpec
from lab.driver.docker import DockerDriver, machine_prefix
from lab.engine import docker
from lab.images import SUITES

VM_IMAGE = SUITES["bookworm"].vm_image
SUBNET = free_subnet("10.213", first=os.getpid())
PREFIX = SUBNET.removesuffix(".0/24")
NETWORK = NetSpec(id=0, name="private", subnet=SUBNET, gateway=f"{PREFIX}.1")
TOKEN = "token-of-the-machine"


class OneGate:
    """Listens where the machines can reach it and keeps every PUT: path, VM id, token, body."""

    def __init__(self, address: str) -> None:
        self.puts: list[tuple[str, str, str, str]] = []
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gate.puts.append((self.path, self.headers["X-ONEGATE-VMID"], self.headers["X-ONEGATE-TOKEN"], body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.endpoint = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Machines:
    """Deploys machines through the driver and looks into them."""

    def __init__(self, driver: DockerDriver, zone: str, image: str) -> None:
        self.driver = driver
        self.zone = zone
        self.image = image
        self._ids = itertools.count()

    def spec(self, image: str | None = None, **context: str) -> VmSpec:
        vm_id = next(self._ids)
        nic = NicSpec(network_id=NETWORK.id, ip=f"{PREFIX}.{10 + vm_id}", mac=f"02:00:0a:d5:4d:{10 + vm_id:02x}")
        context = {"TOKEN": "YES", "VMID": str(vm_id), "ETH0_MAC": nic.mac, "ETH0_GATEWAY": NETWORK.gateway, **context}
        return VmSpec(vm_id, f"vm-{vm_id}", 0.5, 512, [DiskSpec(0, image or self.image)], [nic], context, TOKEN)

    def deploy(self, image: str | None = None, **context: str) -> VmSpec:
        vm = self.spec(image, **context)
        self.driver.deploy(vm)
        return vm

    def name(self, vm: VmSpec) -> str:
        return f"{machine_prefix(self.zone)}-{vm.id}"

    def run(self, vm: VmSpec, *command: str) -> str:
        return docker("exec", self.name(vm), *command)

    def script(self, vm: VmSpec, text: str) -> str:
        return self.run(vm, "sh", "-c", text)

    def log(self, vm: VmSpec) -> list[str]:
        """What the guest agent said in this boot, once it is through with all phases."""
        wait_until(lambda: self.agent_is_through(vm), f"the guest agent of VM {vm.id} to finish")
        return self.journal(vm)

    def journal(self, vm: VmSpec) -> list[str]:
        return self.script(vm, "journalctl --boot --identifier one-contextd --output cat").splitlines()

    def agent_is_through(self, vm: VmSpec) -> bool:
        state = self.script(vm, "systemctl show --property ActiveState --value one-context || true")
        return state in ("active", "failed")
