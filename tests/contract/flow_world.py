# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A small zone as the recordings were made on: two users, one network, one image, one VM template, no real machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from flow_recordings import Answer, load

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import section, to_dict
from lab import oneflow_engine
from lab.driver import DriverError, VmSpec
from lab.releases import NEWEST
from lab.zone import Zone, ZoneConfig

ADMIN, ALICE = "oneadmin:opennebula", "alice:alicepw"
DEADLINE = 300.0

NETWORK = """NAME="private"
VN_MAD="dummy"
BRIDGE="br0"
NETWORK_ADDRESS="192.168.150.0"
NETWORK_MASK="255.255.255.0"
GATEWAY="192.168.150.1"
DNS="192.168.150.1"
AR=[TYPE="IP4",IP="192.168.150.10",SIZE="100"]"""
IMAGE = 'NAME="disk0"\nPATH="/var/tmp/disk.img"\nTYPE="OS"\nSIZE="1024"'
TEMPLATE = """NAME="tmpl0"
CPU="0.5"
VCPU="1"
MEMORY="128"
FLAVOUR="a & b <c>"
DISK=[IMAGE_ID="0"]
NIC=[NETWORK_ID="0"]
CONTEXT=[NETWORK="YES",TOKEN="YES",REPORT_READY="YES",START_SCRIPT_BASE64="ZWNobyBoaQ=="]"""


class World:
    """The zone under test, spoken to over HTTP; the clock of the zone can be moved on."""

    def __init__(self, zone: Zone):
        self.zone = zone
        self.release = zone.config.version
        self.core = zone.core
        self._advanced = 0
        real_now = zone.core.now
        zone.core.now = lambda: real_now() + self._advanced

    def prepare(self) -> None:
        """Make the network, image, VM template and user the recorded zone had."""
        self.call("one.vn.allocate", NETWORK, 0)
        self.call("one.image.allocate", IMAGE, 1, False)
        self.wait("the image", lambda: to_dict(self.call("one.image.info", 0, False))["STATE"] == "1")
        self.call("one.template.allocate", TEMPLATE)
        self.call("one.user.allocate", *ALICE.split(":"), "core")

    def call(self, method: str, *params: object) -> object:
        """An OpenNebula API call as oneadmin."""
        return self.core.call(ADMIN, method, *params)

    def advance(self, seconds: int) -> None:
        """Let the zone's clock go on."""
        self._advanced += seconds

    @contextmanager
    def broken(self, step: str) -> Iterator[None]:
        """Let the driver fail at "deploy" or "shutdown" of any machine meanwhile."""
        def fail(_vm: object, *_hard: bool) -> None:
            raise DriverError("The machine does not obey.")

        with self._replaced(step, fail):
            yield

    @contextmanager
    def held(self, step: str, roles: tuple[str, ...] = (), fail: bool = False) -> Iterator[Callable[[], bool]]:
        """Let the driver's "deploy" or "shutdown" last until the end of the block, and then perhaps fail; yields what says whether one has begun.

        roles: hold only the VMs of these roles.
        """
        begun, free, work = threading.Event(), threading.Event(), getattr(self.core.driver, step)

        def wait(vm: VmSpec, *hard: bool) -> None:
            begun.set()
            if not roles or vm.name.startswith(roles):
                free.wait(DEADLINE)
            if fail:
                raise DriverError("The machine does not obey.")
            work(vm, *hard)

        with self._replaced(step, wait):
            try:
                yield begun.is_set
            finally:
                free.set()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let the zone look at no service meanwhile."""
        flow = self.zone.flow
        flow.tick, tick = (lambda: None), flow.tick
        try:
            yield
        finally:
            flow.tick = tick

    @contextmanager
    def policies(self) -> Iterator[None]:
        """Let the zone evaluate elasticity and scheduled policies at every look at a service meanwhile."""
        oneflow_engine.AUTOSCALER_SECONDS = 0
        try:
            yield
        finally:
            oneflow_engine.AUTOSCALER_SECONDS = float("inf")

    @contextmanager
    def _replaced(self, step: str, function: Callable) -> Iterator[None]:
        before = getattr(self.core.driver, step)
        setattr(self.core.driver, step, function)
        try:
            yield
        finally:
            setattr(self.core.driver, step, before)

    def flow(self, method: str, path: str, body: object = None, session: str | None = ADMIN) -> requests.Response:
        """A request to OneFlow; body is JSON data, or text sent as it is."""
        content = {"data": body} if isinstance(body, str) else {"json": body}
        auth = tuple(session.split(":")) if session else None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        url = self.zone.oneflow_url + path
        return requests.request(method, url, auth=auth, headers=headers, timeout=DEADLINE, **content)

    def gate(
        self, method: str, path: str, vm_id: int, body: str | None = None, headers: dict | None = None
    ) -> requests.Response:
        """A request to OneGate as a VM, or with other headers."""
        if headers is None:
            headers = self.gate_headers(vm_id)
        headers = {"Content-Type": "text/plain", **headers}
        return requests.request(method, self.zone.onegate_url + path, data=body, headers=headers, timeout=DEADLINE)

    def gate_headers(self, vm_id: int) -> dict[str, str]:
        """What a VM tells OneGate who it is with."""
        return {"X-ONEGATE-TOKEN": self.core.vm_token(vm_id), "X-ONEGATE-VMID": str(vm_id)}

    def replay(self, name: str, path: str | None = None, body: object = None, session: str | None = ADMIN) -> Answer:
        """Send the recorded OneFlow request again, to our own ids where `path` or `body` say so."""
        recording = load(self.release, "oneflow", name)
        return answer(self.flow(recording.method, path or recording.path, body or recording.body or None, session))

    def replay_gate(self, name: str, vm_id: int, path: str | None = None, headers: dict | None = None) -> Answer:
        """Send the recorded OneGate request again."""
        recording = load(self.release, "onegate", name)
        return answer(self.gate(recording.method, path or recording.path, vm_id, recording.body or None, headers))

    def vm_role(self, name: str = "a", template: int = 0, context: bool = False, **options: object) -> dict:
        """A role of one VM, perhaps with a context of its own, in the words of the zone's release."""
        role = {"name": name, "cardinality": 1, **options}
        if self.release == "6.10":
            contents = {"vm_template_contents": 'CONTEXT=[TOKEN="YES",REPORT_READY="YES"]'} if context else {}
            return {**role, "vm_template": template, **contents}
        contents = {"template_contents": {"CONTEXT": {"TOKEN": "YES", "REPORT_READY": "YES"}}} if context else {}
        return {**role, "type": "vm", "template_id": template, **contents}

    def create(self, **template: object) -> int:
        """Register a service template and return its id."""
        response = self.flow("POST", "/service_template", {"deployment": "straight", **template})
        assert response.status_code == 201, response.text
        return int(response.json()["DOCUMENT"]["ID"])

    def instantiate(self, template_id: int, **merge: object) -> int:
        """Start a service and return its id."""
        action = {"action": {"perform": "instantiate", "params": {"merge_template": merge}}}
        response = self.flow("POST", f"/service_template/{template_id}/action", action)
        assert response.status_code == 201, response.text
        return int(response.json()["DOCUMENT"]["ID"])

    def act(self, path: str, action: str, **params: object) -> requests.Response:
        """An action on a service, a role or a service template."""
        return self.flow("POST", f"{path}/action", {"action": {"perform": action, "params": params}})

    def body(self, service_id: int) -> dict:
        """The body of a service."""
        return self.flow("GET", f"/service/{service_id}").json()["DOCUMENT"]["TEMPLATE"]["BODY"]

    def role(self, service_id: int, name: str) -> dict:
        """A role of a service."""
        return next(role for role in self.body(service_id)["roles"] if role["name"] == name)

    def vms(self, service_id: int, role: str) -> list[int]:
        """The VM ids of a role, oldest first."""
        return [node["deploy_id"] for node in self.role(service_id, role)["nodes"]]

    def vm(self, vm_id: int) -> dict:
        """The document of a VM."""
        return to_dict(self.call("one.vm.info", vm_id, False))

    def user_template(self, vm_id: int) -> dict:
        """The attributes OneGate writes to."""
        return section(self.vm(vm_id), "USER_TEMPLATE")

    def running(self, vm_id: int) -> bool:
        """Whether a VM is up."""
        vm = self.vm(vm_id)
        return (vm["STATE"], vm["LCM_STATE"]) == ("3", "3")

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; fails after the deadline, saying what it waited for."""
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"waited {DEADLINE} s in vain for {what}"
            pause.wait(0.02)

    def wait_state(self, service_id: int, state: int) -> None:
        """Wait for a service's state number."""
        def reached() -> bool:
            seen.append(self.body(service_id)["state"])
            return seen[-1] == state

        seen: list[int] = []
        self.wait(f"state {state} of service {service_id}", reached)

    def wait_gone(self, service_id: int) -> None:
        """Wait until a service does not exist any more."""
        path = f"/service/{service_id}"
        self.wait(f"the end of service {service_id}", lambda: self.flow("GET", path).status_code == 404)

    def ready(self, *vm_ids: int) -> None:
        """Report READY=YES from VMs, once they run."""
        for vm_id in vm_ids:
            self.wait(f"VM {vm_id} to run", lambda vm_id=vm_id: self.running(vm_id))
            assert self.gate("PUT", "/vm", vm_id, "READY=YES").status_code == 200


def answer(response: requests.Response) -> Answer:
    """A response as far as it is compared."""
    return Answer(response.status_code, response.headers.get("Content-Type", ""), response.text)


@contextmanager
def started_world(state_dir: Path, prepare: bool = True, release: str = NEWEST) -> Iterator[World]:
    """A zone of its own for a test, stopped afterwards.

    The 30 s poll for failed VMs is made quick, and policies are evaluated inside of World.policies() only.
    """
    poll, autoscaler = oneflow_engine.FAILURE_POLL_SECONDS, oneflow_engine.AUTOSCALER_SECONDS
    oneflow_engine.FAILURE_POLL_SECONDS, oneflow_engine.AUTOSCALER_SECONDS = 0.0, float("inf")
    settings = {"name": "contract", "driver": "dummy", "state_dir": state_dir, "password": ADMIN.split(":")[1],
                "port": 0, "oneflow_port": 0, "onegate_port": 0, "interval": 0.05, "host_cpu": 64, "version": release}
    zone = Zone(ZoneConfig(**settings))
    zone.start()
    try:
        world = World(zone)
        if prepare:
            world.prepare()
        yield world
    finally:
        zone.stop()
        oneflow_engine.FAILURE_POLL_SECONDS, oneflow_engine.AUTOSCALER_SECONDS = poll, autoscaler
