# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone: the core, its three servers, and the clock that drives them."""

from __future__ import annotations

import logging
import os
import socket
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from lab import oneflow, onegate, xmlrpc
from lab.core.api import Core, CoreConfig
from lab.driver import Driver, load_driver
from lab.releases import NEWEST, RELEASES
from lab.store import Store

_LOG = logging.getLogger(__name__)
_MB = 1024 * 1024
_BACKLOG = 128
#: how long a server may take to notice that it is to stop
_SHUTDOWN_SECONDS = 0.1


class ZoneError(Exception):
    """The zone cannot start; the text is one sentence for people."""


@dataclass
class ZoneConfig:
    """A zone's settings; port 0 takes a free one, interval in seconds, host_cpu in cores, host_memory in MB."""

    name: str
    state_dir: Path
    password: str = field(repr=False)
    driver: str = "dummy"
    version: str = NEWEST
    host: str = "127.0.0.1"
    port: int = 2633
    oneflow_port: int = 2474
    onegate_host: str = "127.0.0.1"
    onegate_port: int = 5030
    interval: float = 1.0
    monitor_interval: float = 10.0
    host_cpu: float = field(default_factory=lambda: os.cpu_count() or 1)
    host_memory: int = field(default_factory=lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MB)
    register_host: bool = True


class Zone:
    """A running zone; `driver` replaces the configured one, for tests."""

    def __init__(self, config: ZoneConfig, driver: Driver | None = None) -> None:
        self.config = config
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        driver = driver or load_driver(config.driver, config.name, config.state_dir)
        self.core = Core(
            Store(config.state_dir / "zone.sqlite"),
            driver,
            CoreConfig(
                zone=config.name, password=config.password, release=RELEASES[config.version],
                host_name=f"{config.name}-host01", host_cpu=config.host_cpu, host_memory=config.host_memory,
                register_host=config.register_host, monitor_interval=config.monitor_interval,
            ),
        )
        self._servers: list[BaseWSGIServer] = []
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.flow: oneflow.Flow | None = None
        self.xmlrpc_url = self.oneflow_url = self.onegate_url = ""

    def start(self) -> None:
        """Open the three ports and begin to work. Raises ZoneError when a port is taken."""
        config = self.config
        self.flow = flow = oneflow.Flow(self.core)
        self.xmlrpc_url = self._listen(config.host, config.port, xmlrpc.create_app(self.core)) + "/RPC2"
        self.oneflow_url = self._listen(config.host, config.oneflow_port, oneflow.create_app(self.core, flow))
        self.onegate_url = self._listen(config.onegate_host, config.onegate_port, onegate.create_app(self.core, flow))
        self.core.config.xmlrpc_endpoint = self.xmlrpc_url
        self.core.config.onegate_endpoint = self.onegate_url
        self.core.lifecycle.adopt()
        for server in self._servers:
            self._run(partial(server.serve_forever, poll_interval=_SHUTDOWN_SECONDS))
        self._run(partial(self._tick, flow))

    def stop(self) -> None:
        """Close the ports, let work in progress end, keep the state."""
        self._stopping.set()
        for server in self._servers:
            if self._threads:
                server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self.core.close()

    def _listen(self, host: str, port: int, application) -> str:
        try:
            listener = socket.create_server((host, port), backlog=_BACKLOG)
        except OSError as error:
            raise ZoneError(f"Port {port} on {host} cannot be opened: {os.strerror(error.errno)}.") from error
        # werkzeug ends the process when it cannot bind, so it gets a socket that is bound.
        with listener:
            server = make_server(
                host, port, application, threaded=True, request_handler=_Handler, fd=listener.fileno()
            )
        self._servers.append(server)
        return f"http://{host}:{server.port}"

    def _run(self, target) -> None:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _tick(self, flow) -> None:
        while not self._stopping.wait(self.config.interval):
            for part in (self.core, flow):
                try:
                    part.tick()
                except Exception:  # the zone must go on; the log says what went wrong
                    _LOG.exception("%s failed", type(part).__name__)


class _Handler(WSGIRequestHandler):
    """Keeps connections open, as the real servers do, and answers without waiting for a full packet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, *_args: object) -> None:
        """Requests are not logged: their bodies hold passwords, and there are many."""
