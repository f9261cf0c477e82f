# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual networks as bridges in a network namespace of the zone, which a cable connects with this machine."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from lab.addresses import free_subnet, is_free
from lab.checkout import CHECKOUT
from lab.driver import DriverError, NetSpec, NicSpec
from lab.qemu import QemuError, run

_NAMESPACES = Path("/run/netns")
_LINK_PREFIX = "10.89"
_KILL_SECONDS = 10


class Bridges:
    """The networks of a zone: its VMs reach each other and this machine, and nothing else.

    A network has an address on its bridge, and a route from this machine, if it has a gateway. ``directory`` remembers them, for the time after
    a restart of this machine.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._namespace = name
        # Names of interfaces have at most 15 characters.
        self._cable = f"one{hashlib.sha256(name.encode()).hexdigest()[:10]}"
        self._kept = directory / "networks.json"
        self._link = directory / "link"
        self._lock = threading.Lock()

    def address(self) -> str:
        """Return the address of this machine at its end of the cable; raises DriverError."""
        with self._lock:
            return self._ends()[0]

    def within(self, command: list[str]) -> list[str]:
        """Return a command that runs in the namespace."""
        return ["nsenter", f"--net={_NAMESPACES / self._namespace}", *command]

    def create(self, net: NetSpec) -> None:
        """Make a network, unless it is there; raises DriverError."""
        what = f"Network {net.name} {net.subnet} cannot be made"
        with self._lock:
            self._ends()
            known = self._known()
            if str(net.id) in known:
                return
            if net.subnet and not is_free(net.subnet):
                raise DriverError(f"{what}: a route of this machine overlaps with it.")
            try:
                self._make(net)
            except DriverError as error:
                with suppress(DriverError):
                    self._inside(what, "link", "delete", _bridge(net.id))
                raise DriverError(f"{what}: {error}") from error
            self._keep(known | {str(net.id): asdict(net)})

    def delete(self, net: NetSpec) -> None:
        """Remove a network; one that is gone is no error. Raises DriverError."""
        with self._lock:
            known = self._known()
            if known.pop(str(net.id), None) is None:
                return
            what = f"Network {net.name} cannot be removed"
            if self._exists():
                self._inside(what, "link", "delete", _bridge(net.id))
                with suppress(DriverError):
                    _ip(what, "route", "delete", net.subnet, "dev", self._cable)
            self._keep(known)

    def plug(self, vm_id: int, nic: NicSpec) -> str:
        """Put the end of a VM's interface into its network and return the name of that end; raises DriverError."""
        what = f"VM {vm_id} cannot be connected with network {nic.network_id}"
        name = self.end(vm_id, nic)
        if name not in self.ends(vm_id):
            self._inside(what, "tuntap", "add", "dev", name, "mode", "tap")
        try:
            self._inside(what, "link", "set", name, "master", _bridge(nic.network_id), "up")
        except DriverError:
            self.unplug(vm_id, name)
            raise
        return name

    def unplug(self, vm_id: int, name: str) -> None:
        """Remove the end of a VM's interface; raises DriverError."""
        self._inside(f"VM {vm_id} cannot be disconnected", "link", "delete", name)

    def end(self, vm_id: int, nic: NicSpec) -> str:
        """Return the name of the end of an interface, by its hardware address, of which the last four bytes are the address in the network."""
        return f"{_ends_of(vm_id)}{nic.mac.replace(':', '').lower()[-8:]}"

    def ends(self, vm_id: int) -> list[str]:
        """Return the names of the ends of all interfaces of a VM."""
        if not self._exists():
            return []
        listed = json.loads(self._inside("Networks cannot be listed", "-json", "link") or "[]")
        return [link["ifname"] for link in listed if link["ifname"].startswith(_ends_of(vm_id))]

    def clean(self) -> None:
        """End every process in the namespace and remove it with all that is in it; raises DriverError."""
        if not self._exists():
            return
        deadline = time.monotonic() + _KILL_SECONDS
        while pids := _ip("The processes of the zone cannot be listed", "netns", "pids", self._namespace).split():
            if time.monotonic() > deadline:
                raise DriverError(f"Processes {', '.join(pids)} did not end within {_KILL_SECONDS} seconds.")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.1)
        # The kernel takes its time to remove a namespace, but one end of a cable at once, with the other end and its routes.
        _ip("The zone's cable cannot be removed", "link", "delete", self._cable)
        _ip("The zone's namespace cannot be removed", "netns", "delete", self._namespace)

    def _ends(self) -> tuple[str, str]:
        """Return the addresses of both ends of the cable, of this machine and of the namespace, which is made if it is not there."""
        if not self._link.exists():
            try:
                subnet = free_subnet(_LINK_PREFIX, first=int(CHECKOUT, 16))
            except OSError as error:
                raise DriverError(f"The zone cannot be reached: {error}.") from error
            self._link.parent.mkdir(parents=True, exist_ok=True)
            self._link.write_text(subnet, encoding="ascii")
        subnet = ipaddress.ip_network(self._link.read_text(encoding="ascii"))
        here, there = str(subnet[1]), str(subnet[2])
        if not self._exists():
            what = "The zone's namespace cannot be made"
            _ip(what, "netns", "add", self._namespace)
            try:
                _ip(what, "link", "add", self._cable, "type", "veth", "peer", "name", "zone", "netns", self._namespace)
                _ip(what, "address", "add", f"{here}/{subnet.prefixlen}", "dev", self._cable)
                _ip(what, "link", "set", self._cable, "up")
                for command in (
                    ("address", "add", f"{there}/{subnet.prefixlen}", "dev", "zone"), ("link", "set", "zone", "up"), ("link", "set", "lo", "up"),
                    ("route", "add", "default", "via", here),
                ):
                    self._inside(what, *command)
                _run(what, *self.within(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]))
                for kept in self._known().values():
                    self._make(NetSpec(**kept))
            except DriverError:
                _ip(what, "netns", "delete", self._namespace)
                raise
        return here, there

    def _make(self, net: NetSpec) -> None:
        what = f"Bridge {_bridge(net.id)}"
        self._inside(what, "link", "add", _bridge(net.id), "type", "bridge")
        self._inside(what, "link", "set", _bridge(net.id), "up")
        if net.subnet and net.gateway:
            there = str(ipaddress.ip_network(self._link.read_text(encoding="ascii"))[2])
            self._inside(what, "address", "add", f"{net.gateway}/{net.subnet.partition('/')[2]}", "dev", _bridge(net.id))
            _ip(what, "route", "add", net.subnet, "via", there, "dev", self._cable)

    def _exists(self) -> bool:
        return (_NAMESPACES / self._namespace).exists()

    def _known(self) -> dict[str, dict]:
        return json.loads(self._kept.read_text(encoding="utf-8")) if self._kept.exists() else {}

    def _keep(self, known: dict[str, dict]) -> None:
        new = self._kept.with_suffix(".new")
        new.write_text(json.dumps(known), encoding="utf-8")
        new.replace(self._kept)

    def _inside(self, what: str, *arguments: str) -> str:
        return _ip(what, "-netns", self._namespace, *arguments)


def _bridge(network_id: int) -> str:
    return f"net{network_id}"


def _ends_of(vm_id: int) -> str:
    return f"v{vm_id}-"


def _ip(what: str, *arguments: str) -> str:
    return _run(what, "ip", *arguments)


def _run(what: str, *command: str) -> str:
    try:
        return run(*command)
    except QemuError as error:
        raise DriverError(f"{what}: {str(error).rstrip('.')}.") from error
