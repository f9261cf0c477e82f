# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is to scrape: the VMs of every zone that offer metrics, as files for its file-based service discovery.

A timer starts this again and again. Zones are asked side by side. A zone has a file of its own, which is replaced in one step; that of a zone that does
not answer stays. Files of others in the directory stay, too.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.targets --config FILE``
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..one.core import states
from ..one.transport import xml
from ..one.transport.answers import misread
from ..one.transport.client import Client
from ..one.transport.errors import MISREADINGS, OneException
from ..one.vm.facts import interfaces
from ..scalars import boolean
from . import unit_log
from .untrusted import sentence

LOGGER = logging.getLogger("flower-targets")

SCOPES = {"own": -3, "own_and_groups": -1, "all": -2}
ROLES = ("superlink", "supernode", "edge")
ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?")
# What was put away on purpose is not missed, and what does not run yet has nothing to say.
_NOT_SCRAPED = frozenset({"INIT", "PENDING", "HOLD", "CLONING", "LCM_INIT", "PROLOG", "BOOT", "STOPPED", "SUSPENDED", "UNDEPLOYED"})
_NOT_DONE = -1
_PORT = 9101
_PORTS = range(1024, 65536)
_LABEL_CHARACTERS = 80
# Zones that are asked side by side: those that do not answer keep nobody waiting, so that a VM that is gone leaves within a minute.
_AT_A_TIME = 32
# In the directory of the targets: the zones whose files this program wrote there.
_WRITTEN = ".written"
# Only the context of a SuperLink has this.
_OF_A_SUPERLINK = "ONEAPP_FL_FLEET_API_ADDRESS"


@dataclass(frozen=True)
class Zone:
    """A zone, the identity to ask it with, whose VMs count (own, own_and_groups, all), and the network that they are scraped in, empty for any."""

    name: str
    api_url: str
    username: str
    password: str = field(repr=False)
    timeout: float = 10
    validate_certs: bool = True
    ca_path: str | None = None
    scope: str = "own"
    network: str = ""

    def __post_init__(self) -> None:
        if not ZONE.fullmatch(self.name):
            raise ValueError(f"{sentence(repr(self.name), 80)} is not a name for a zone, expected up to 64 letters, digits and the characters . _ -")
        if self.scope not in SCOPES:
            raise ValueError(f"zone {self.name}: {sentence(repr(self.scope), 80)} is not a scope, expected one of: {', '.join(SCOPES)}")


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a zone of a playbook, whose keys are those of an inventory, as the settings of a zone. Raises ValueError."""
    renamed = {"api_username": "username", "api_password": "password", "api_timeout": "timeout"}
    known = {item.name for item in fields(Zone)} - set(renamed.values()) | renamed.keys()
    name = sentence(given.get("name", ""), 80)
    # Only VMs are asked for, so that it does not matter where OneFlow is.
    unknown = sorted(given.keys() - known - {"oneflow_url"})
    missing = sorted(key for key in ("name", "api_url", "api_username", "api_password") if given.get(key) in (None, ""))
    if unknown:
        raise ValueError(f"flower_monitoring_zones: zone '{name}' has '{sentence(unknown[0], 80)}', expected some of: {', '.join(sorted(known))}")
    if missing:
        raise ValueError(f"flower_monitoring_zones: zone '{name}' has no {missing[0]}")
    zone = {renamed.get(key, key): value for key, value in given.items() if key in known and value is not None}
    Zone(**zone)
    return zone


def machine(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the target that an existing machine is: it is in no zone of OpenNebula, and the federation counts it as one by its name. Raises ValueError."""
    known, name = {"name", "address", "port", "scheme"}, sentence(given.get("name", ""), 80)
    title = f"flower_monitoring_machines: machine '{name}'"
    unknown, missing = sorted(given.keys() - known), sorted({"name", "address"} - given.keys())
    if unknown:
        raise ValueError(f"{title} has '{sentence(unknown[0], 80)}', expected some of: {', '.join(sorted(known))}")
    if missing:
        raise ValueError(f"{title} has no {missing[0]}")
    address, port, scheme = str(given["address"]), _port(str(given.get("port", ""))), given.get("scheme", "http")
    if not _HOST.fullmatch(address) and not _is_address(address):
        raise ValueError(f"{title}: address {sentence(repr(address), 80)} is not valid, expected a name or an IP address")
    if not port:
        raise ValueError(f"{title}: port {sentence(repr(given['port']), 80)} is not valid, expected a number from {_PORTS.start} to {_PORTS.stop - 1}")
    if scheme not in ("http", "https"):
        raise ValueError(f"{title}: scheme {sentence(repr(scheme), 80)} is not valid, expected http or https")
    labels = {"zone": name, "name": name, "role": "edge"} | ({"__scheme__": "https"} if scheme == "https" else {})
    return {"targets": [f"[{address}]:{port}" if ":" in address else f"{address}:{port}"], "labels": labels}


def targets(zone: Zone) -> list[dict[str, Any]]:
    """Return the targets of a zone, by VM. It takes one call for each 2,000 VMs. Raises OneException."""
    client = Client(zone.api_url, zone.username, zone.password, zone.timeout, zone.validate_certs, zone.ca_path)
    try:
        vms = client.pool("one.vmpool.infoextended", "VM", _NOT_DONE, who=SCOPES[zone.scope])
        found = {int(vm["ID"]): list(_targets(zone, vm)) for vm in vms}
    except MISREADINGS as error:
        raise misread(error, client.place, client.asked) from None
    return [target for number in sorted(found) for target in found[number]]


def _targets(zone: Zone, vm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the target that a VM is, nothing for one that offers no metrics. Whoever owns it wrote its context and attributes."""
    template, attributes = xml.section(vm, "TEMPLATE"), xml.section(vm, "USER_TEMPLATE")
    context = {name: value for name, value in xml.section(template, "CONTEXT").items() if isinstance(value, str)}
    address = _address(vm, zone.network)
    port = _port(context.get("ONEAPP_FL_METRICS_PORT", ""))
    if not (_is_true(context.get("ONEAPP_FL_METRICS_ENABLED", "")) and address and port) or states.vm_state(vm) in _NOT_SCRAPED:
        return
    role = attributes.get("ROLE_NAME")
    labels = {
        "zone": zone.name,
        "vm": str(int(vm["ID"])),
        "name": sentence(vm.get("NAME") or "", _LABEL_CHARACTERS),
        "role": role if role in ROLES else "superlink" if _OF_A_SUPERLINK in context else "supernode",
    }
    service = attributes.get("SERVICE_ID")
    if isinstance(service, str) and service.isascii() and service.isdigit():
        labels["service"] = service[:20]
    if context.get("ONEAPP_FL_METRICS_CERTFILE", "").strip():
        labels["__scheme__"] = "https"
    yield {"targets": [f"{address}:{port}"], "labels": labels}


def _is_true(text: str) -> bool:
    try:
        return boolean(text)
    except ValueError:
        return False


def _port(text: str) -> int:
    """Return the port, 0 for what is none."""
    text = text.strip()
    if not text:
        return _PORT
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) in _PORTS else 0


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _address(vm: dict[str, Any], network: str) -> str:
    """Return the first address in the network, IPv4 before IPv6, as it stands before a port."""
    nics = [nic for nic in interfaces(vm) if not network or nic.get("NETWORK") == network]
    for name in ("IP", "IP6", "IP6_GLOBAL", "IP6_ULA"):
        for nic in nics:
            try:
                address = ipaddress.ip_address(str(nic.get(name, "")))
            except ValueError:
                continue
            return f"[{address}]" if address.version == 6 else str(address)
    return ""


def write(directory: Path, zone: str, found: list[dict[str, Any]]) -> None:
    """Put the file of a zone in place in one step; its time says when the zone answered last. Raises OSError."""
    path, text = directory / f"{zone}.json", json.dumps(found, indent=1)
    try:
        same = path.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        same = False
    if same:
        os.utime(path)
        return
    partial = directory / f".{zone}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def discover(directory: Path, zones: list[Zone]) -> list[str]:
    """Write the files of all zones and remove those that it wrote of others; return what went wrong, a sentence for each zone. Raises OSError."""
    names = {zone.name for zone in zones}
    left = _written(directory) - names
    _remember(directory, left | names)
    with ThreadPoolExecutor(_AT_A_TIME) as workers:
        problems = list(workers.map(lambda zone: _discover(directory, zone), zones))
    for name in left:
        (directory / f"{name}.json").unlink(missing_ok=True)
    _remember(directory, names)
    return [problem for problem in problems if problem]


def _discover(directory: Path, zone: Zone) -> str:
    """Write the file of a zone; return what went wrong, nothing if all went well."""
    try:
        write(directory, zone.name, targets(zone))
    except OneException as problem:
        return f"Zone {zone.name} keeps its last targets: {sentence(problem.message)}"
    return ""


def _written(directory: Path) -> set[str]:
    """Return the zones whose files this program wrote."""
    try:
        lines = (directory / _WRITTEN).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return set()
    return {line for line in lines if ZONE.fullmatch(line)}


def _remember(directory: Path, names: set[str]) -> None:
    """Keep which zones' files this program writes, before it writes the first. Raises OSError."""
    if _written(directory) != names:
        partial = directory / f"{_WRITTEN}.partial"
        partial.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
        partial.replace(directory / _WRITTEN)


def main() -> int:
    """Look at all zones once; return the exit status, 1 when one of them did not answer."""
    parser = argparse.ArgumentParser(description="Writes what Prometheus is to scrape.")
    parser.add_argument("--config", required=True, help="JSON file with directory and zones")
    path = parser.parse_args().config
    unit_log.set_up("flower-targets")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        zones = [Zone(**zone) for zone in content["zones"]]
        problems = discover(Path(content["directory"]), zones)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        problems = [f"The targets cannot be written: {sentence(problem)}."]
    for problem in problems:
        LOGGER.error("%s", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
