# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone that boots nothing, the modules run against it, and a count of what they ask of it."""

from __future__ import annotations

import importlib
import io
import json
import re
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import requests
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.tests.support.module_arguments import patch_module_args
from ansible_collections.opennebula.flower.tests.support.one_servers import running
from lab.driver import DriverError, ImageSpec, VmSpec
from lab.driver.dummy import DummyDriver
from lab.zone import Zone, ZoneConfig

MODULES = "ansible_collections.opennebula.flower.plugins.modules"
# With a colon, which parts user and password elsewhere.
PASSWORD = "sec:ret-of-the-zone"
READS = re.compile(r"(\.(info|infoextended|infoset|monitoring|raftstatus|version)|^GET /.*)$")


class FaultyDriver(DummyDriver):
    """Fails to boot and filter VMs, see hosts and publish images while an error is set, and to register /broken ones."""

    publish_error = ""

    def publish_image(self, image: ImageSpec) -> str:
        if self.publish_error:
            raise DriverError(self.publish_error)
        return super().publish_image(image)

    boot_error = ""
    filter_error = ""
    host_error = ""

    def filter(self, vm: VmSpec) -> bool:
        if self.filter_error:
            raise DriverError(self.filter_error)
        return True

    def devices(self) -> list[dict[str, str]]:
        if self.host_error:
            raise DriverError(self.host_error)
        return super().devices()

    def deploy(self, vm: VmSpec) -> None:
        if self.boot_error:
            raise DriverError(self.boot_error)
        super().deploy(vm)

    def register_image(self, image: ImageSpec) -> int:
        if image.path.startswith("/broken"):
            raise DriverError(f"{image.path} is not a disk image")
        return super().register_image(image)


class Recorder(ThreadingHTTPServer):
    """Passes requests on to a server and keeps what was asked: XML-RPC methods, or method and path."""

    daemon_threads = True

    def __init__(self, target: str, calls: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _RecorderHandler)
        self.target = target
        self.calls = calls

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _RecorderHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_call = self.path == "/RPC2"
        self.server.calls.append(xmlrpc.client.loads(body)[1] if is_call else f"{self.command} {self.path}")
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        answer = requests.request(self.command, self.server.target + self.path, data=body, headers=headers, timeout=600)
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = do_DELETE = _pass_on

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""


class ModuleZone:
    """A zone and the options that lead modules to it."""

    def __init__(self, zone: Zone, driver: FaultyDriver, api_url: str, oneflow_url: str, calls: list[str]) -> None:
        self.zone = zone
        self.driver = driver
        self.calls = calls
        self.session = f"oneadmin:{PASSWORD}"
        self.options = {
            "api_url": api_url, "oneflow_url": oneflow_url, "api_username": "oneadmin", "api_password": PASSWORD,
            "api_timeout": 120,
        }

    def run(self, module: str, check: bool = False, **options: object) -> dict:
        """Run a module and return its result."""
        return run_module(module, {**self.options, **options}, check)

    def changed(self, module: str, check: bool = False, **options: object) -> dict:
        """Run a module that has to succeed and to change something."""
        result = self.run(module, check, **options)
        assert not result.get("failed"), result["msg"]
        assert result["changed"]
        return result

    def unchanged(self, module: str, **options: object) -> dict:
        """Run a module that has to succeed, to change nothing and to write nothing."""
        self.calls.clear()
        result = self.run(module, **options)
        assert not result.get("failed"), result["msg"]
        assert not result["changed"]
        assert result.get("diff", {"before": {}, "after": {}}) == {"before": {}, "after": {}}
        assert self.writes == []
        return result

    def fails(self, module: str, **options: object) -> dict:
        """Run a module that has to fail with one sentence."""
        result = self.run(module, **options)
        assert result.get("failed"), result
        assert result["msg"].endswith(".") and "\n" not in result["msg"]
        assert "exception" not in result
        return result

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the zone has done something; fails with what that was."""
        deadline, pause = time.monotonic() + 300, threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"waited 300 s in vain for: {what}"
            pause.wait(0.02)

    def unplaced(self) -> None:
        """Wait until the scheduler has said of a VM why it finds no host for it."""
        self.wait(lambda: any(vm["user_template"].get("SCHED_MESSAGE") for vm in self._alive()), "a VM that is not placed")

    def running(self) -> None:
        """Wait until every VM is RUNNING."""
        self.wait(lambda: {(vm["state"], vm["lcm"]) for vm in self._alive()} == {(3, 3)}, "VMs that run")

    def _alive(self) -> list[dict]:
        return [vm for vm in self.zone.core.store.all("vm") if vm["state"] != 6]

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not READS.search(call)]

    def call(self, method: str, *arguments: object) -> object:
        """Call a method of the zone as oneadmin."""
        return self.zone.core.call(self.session, method, *arguments)


@contextmanager
def module_zone(directory: Path, **config: object) -> Iterator[ModuleZone]:
    """Run a zone with recorders before its API and its OneFlow."""
    driver = FaultyDriver("modules", str(directory))
    ports = {"port": 0, "oneflow_port": 0, "onegate_port": 0}
    settings = {"host_cpu": 8, "host_memory": 8192, "interval": 0.05, **config}
    zone = Zone(ZoneConfig(name="modules", state_dir=directory, password=PASSWORD, **ports, **settings), driver)
    zone.start()
    # The tests' images lie anywhere.
    for number in (1, 2):
        zone.core.call(f"oneadmin:{PASSWORD}", "one.datastore.update", number, 'SAFE_DIRS="/"', 1)
    calls: list[str] = []
    try:
        with (
            running(Recorder(zone.xmlrpc_url.removesuffix("/RPC2"), calls)) as api,
            running(Recorder(zone.oneflow_url, calls)) as flow,
        ):
            yield ModuleZone(zone, driver, f"{api.url}/RPC2", flow.url, calls)
    finally:
        zone.stop()


def changes(output: str) -> int:
    """Return how many changes ansible-playbook counted, on all hosts together."""
    recaps = re.findall(r"\bchanged=(\d+)", output)
    assert recaps, output
    return sum(map(int, recaps))


def run_module(module: str, options: dict, check: bool = False, secret: str = PASSWORD) -> dict:
    """Run a module in this process and return its result, warnings as texts. Its output must not contain the secret.

    It asks more often than in earnest how things stand, because a zone that boots nothing is quick.
    """
    output = io.StringIO()
    said: list[str] = []
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    # Where Ansible's controller is loaded too, as for other tests, warnings go to its display.
    warnings = patch.object(AnsibleModule, "warn", lambda _module, warning, **_options: said.append(warning))
    polls = patch.dict(wait_until.__kwdefaults__, interval=0.02, max_interval=0.2)
    with patch_module_args(arguments), redirect_stdout(output), warnings, polls, suppress(SystemExit):
        importlib.import_module(f"{MODULES}.{module}").main()
    assert secret not in output.getvalue()
    assert secret not in str(said)
    result = json.loads(output.getvalue())
    return {**result, "warnings": said} if said else result
