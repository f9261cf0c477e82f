# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A OneGate for two VMs of one service, and VMs that boot with a context."""

import http.server
import json
import pathlib
import re
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import testinfra
from testing import container

TOKEN = "a-token"
ROLES = {"superlink": "10", "supernode": "11"}


@dataclass
class OneGate:
    """What the VMs published, by VM id, and where they reach it."""

    url: str = ""
    attributes: dict = field(default_factory=dict)
    lies: dict = field(default_factory=dict)  # shown of every VM that published the attribute, whatever it publishes

    def vm(self, vm_id):
        """Return a VM as OneGate shows it."""
        published = self.attributes.get(vm_id, {})
        shown = {name: self.lies.get(name, value) for name, value in published.items()}
        return {"ID": vm_id, "NAME": f"vm-{vm_id}", "USER_TEMPLATE": {name: value for name, value in shown.items() if value is not None}}

    @contextmanager
    def lie(self, name, value):
        """Show another value of an attribute than the one that was published, or hide it with None. VMs publish at any time, so that to
        change what they published would last until then.
        """
        self.lies[name] = value
        try:
            yield
        finally:
            del self.lies[name]

    def service(self):
        """Return the service both VMs belong to, with the attributes of its VMs."""
        roles = [
            {"name": role, "nodes": [{"deploy_id": int(vm_id), "vm_info": {"VM": self.vm(vm_id)}}]}
            for role, vm_id in ROLES.items()
        ]
        return {"id": "1", "name": "flower", "roles": roles}


def _handler(gate):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.headers["X-ONEGATE-TOKEN"] != TOKEN:
                self._answer(401, "Not authorized")
            elif self.path.startswith("/service"):
                self._answer(200, json.dumps({"SERVICE": gate.service()}))
            else:
                self._answer(200, json.dumps({"VM": gate.vm(self.headers["X-ONEGATE-VMID"])}))

        def do_PUT(self):
            lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
            attributes = gate.attributes.setdefault(self.headers["X-ONEGATE-VMID"], {})
            for line in lines:
                name, _equals, value = line.partition("=")
                if self.path.endswith("type=2"):
                    attributes.pop(name, None)
                else:
                    attributes[name] = value
            self._answer(200, "")

        def _answer(self, status, text):
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments):
            pass

    return Handler


@pytest.fixture(scope="session")
def onegate():
    template = "{{(index .IPAM.Config 0).Subnet}}"
    subnet = subprocess.check_output(["docker", "network", "inspect", "--format", template, "bridge"], text=True)
    gateway = re.sub(r"\.\d+/\d+\s*$", ".1", subnet)
    gate = OneGate()
    with http.server.ThreadingHTTPServer((gateway, 0), _handler(gate)) as server:
        gate.url = f"http://{gateway}:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield gate
        server.shutdown()


def _docker(*arguments):
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


@dataclass
class Machine:
    """A baked appliance and the VM it is."""

    role: str
    onegate: OneGate

    @property
    def name(self):
        return container(f"mol-appliance-{self.role}")

    @property
    def host(self):
        return testinfra.get_host(f"docker://{self.name}")

    @property
    def published(self):
        return self.onegate.attributes.get(ROLES[self.role], {})

    def boot(self, **context):
        """Boot the VM with this context; returns as soon as the machine runs, before it is configured."""
        address = self.host.interface("eth0").addresses[0]
        values = {
            "ETH0_IP": address,
            "VMID": ROLES[self.role],
            "ONEGATE_ENDPOINT": self.onegate.url,
            "REPORT_READY": "YES",
            "READY_SCRIPT_PATH": "/opt/flower/bin/health-check",
            **context,
        }
        lines = "".join(f"{name}='{value}'\n" for name, value in values.items())
        self.host.check_output("rm -rf /context /var/log/one-appliance/flower-boot.log /etc/one-appliance/status")
        # A machine that runs would take the change for a changed CD.
        _docker("stop", "--time", "20", self.name)
        self.onegate.attributes[ROLES[self.role]] = {}
        with tempfile.TemporaryDirectory() as directory:
            cd = pathlib.Path(directory, "context")
            cd.mkdir()
            (cd / "context.sh").write_text(f"# Context variables generated by OpenNebula\n{lines}")
            (cd / "token.txt").write_text(f"{TOKEN}\n")
            _docker("cp", str(cd), f"{self.name}:/")
        _docker("start", self.name)

    def boot_log(self):
        """Return the lines of the boot log."""
        return self.host.file("/var/log/one-appliance/flower-boot.log").content_string.splitlines()


@pytest.fixture(scope="session")
def superlink(onegate):
    return Machine("superlink", onegate)


@pytest.fixture(scope="session")
def supernode(onegate):
    return Machine("supernode", onegate)
