# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The core: one lock, one store, one driver, and the table of methods in front of them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xmlrpc.client import Fault

from lab.core import (
    acls,
    backups,
    bootstrap,
    changes,
    clusters,
    datastores,
    disk_sizes,
    disk_snapshots,
    groups,
    hooks,
    hosts,
    images,
    interfaces,
    leases,
    markets,
    network_templates,
    networks,
    operations,
    routers,
    schedules,
    security_groups,
    showback,
    system,
    templates,
    users,
    vdcs,
    vm_groups,
    vms,
    zones,
)
from lab.core.call import Call
from lab.core.errors import NO_SUCH_METHOD, OneError
from lab.core.lifecycle import Lifecycle
from lab.driver import Driver
from lab.releases import NEWEST, RELEASES, Release
from lab.store import Store

#: the modules that have methods
RESOURCES = (
    acls, backups, changes, clusters, datastores, disk_sizes, disk_snapshots, groups, hooks, hosts, images, interfaces, leases,
    markets, network_templates, networks, operations, routers, schedules, security_groups, showback, system, templates, users,
    vdcs, vm_groups, vms, zones,
)
#: all methods by name
METHODS = {name: method for resource in RESOURCES for name, method in resource.METHODS.items()}


@dataclass
class CoreConfig:
    """What a zone needs to know; host_cpu in cores, host_memory in MB, intervals in seconds."""

    zone: str
    password: str = field(repr=False)
    release: Release = RELEASES[NEWEST]
    xmlrpc_endpoint: str = "http://localhost:2633/RPC2"
    #: empty: the zone has no OneGate, and refuses TOKEN=YES
    onegate_endpoint: str = ""
    host_name: str = "host01"
    host_cpu: float = 4
    host_memory: int = 16384
    #: whether the zone begins with a host
    register_host: bool = True
    monitor_interval: float = 10


class Core:
    """A zone's state and everything that may be asked of it; safe to use from several threads."""

    def __init__(self, store: Store, driver: Driver, config: CoreConfig) -> None:
        self.store = store
        self.driver = driver
        self.config = config
        self.methods = {name: method for name, method in METHODS.items() if name not in config.release.without_methods}
        self._lock = threading.RLock()
        self._internal_password = secrets.token_hex(32)
        self.lifecycle = Lifecycle(self)
        with self.locked():
            bootstrap.prepare(self)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the zone still; what was changed is durable afterwards."""
        with self._lock:
            try:
                yield
            finally:
                self.store.commit()

    def call(self, session: str, method: str, *params: object) -> object:
        """Answer an API call with its payload.

        Raises OneError for an error answer and xmlrpc.client.Fault for an unknown method or wrong parameters.
        """
        if method not in self.methods:
            raise Fault(NO_SUCH_METHOD, f"Method '{method}' not defined")
        try:
            with self.locked():
                call = Call(self, users.authenticate(self, session))
                zones.check_enabled(self, method)
                found = self.methods[method]
                return found.handler(call, *found.arguments(params))
        except OneError as error:
            raise OneError(error.code, f"[{method}] {error.message}", error.object_id) from None

    def authenticate(self, session: str) -> int:
        """Return the id of the user a session "name:password" belongs to. Raises OneError."""
        with self.locked():
            return users.authenticate(self, session)["id"]

    def session_for(self, user_id: int) -> str:
        """Return a session with a user's identity, good inside this process only."""
        with self.locked():
            return f"{self.store.get('user', user_id)['name']}:{self._internal_password}"

    def is_internal_password(self, password: str) -> bool:
        return secrets.compare_digest(password.encode(), self._internal_password.encode())

    def vm_token(self, vm_id: int) -> str:
        """Return the OneGate token of a VM."""
        with self.locked():
            return self.store.get("vm", vm_id)["token"]

    def vm_of_token(self, vm_id: int, token: str) -> bool:
        """Whether the token is that of the VM."""
        with self.locked():
            vm = self.store.get("vm", vm_id)
            return vm is not None and secrets.compare_digest(vm["token"].encode(), token.encode())

    def now(self) -> int:
        """Return the time in whole seconds since the epoch."""
        return int(time.time())

    def tick(self) -> None:
        """Do what is due: watch machines and hosts, place pending machines."""
        self.lifecycle.tick()

    def close(self) -> None:
        """Let work in progress finish and close the store."""
        self.lifecycle.close()
        with self._lock:
            self.store.close()
