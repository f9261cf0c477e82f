# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that an inventory source names, and the lists of their VMs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.opennebula.flower.plugins.module_utils.one import resources, services, xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import INVALID, OneException

from .vm_facts import vm_facts

SCOPES = {"all": -2, "own": -3, "own_and_groups": -1}
_PAGE_SIZE = 2000
_NOT_DONE = -1
_OPTIONS = (
    "name", "api_url", "api_username", "api_password", "auth_file", "api_timeout", "validate_certs", "ca_path",
    "oneflow_url",
)


@dataclass(frozen=True)
class Zone:
    """A zone and the identity to ask it with."""

    name: str
    api_url: str
    username: str
    password: str = field(repr=False)
    timeout: float
    validate_certs: bool
    ca_path: str | None
    oneflow_url: str | None

    def digest(self, *settings: object) -> str:
        """Return a text that changes whenever a list of VMs made with other settings might differ."""
        identity = [self.name, self.api_url, self.username, self.oneflow_url, *settings]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

    def client(self) -> Client:
        """Return a client for the zone."""
        return Client(
            self.api_url, self.username, self.password, self.timeout, self.validate_certs, self.ca_path,
            self.oneflow_url,
        )


def zone(entry: dict, defaults: dict) -> Zone:
    """Return the zone of an entry of the source; options it lacks come from the source's own.

    Raises OneException when name, endpoint or credentials do not make sense.
    """
    options = {name: defaults.get(name) if entry.get(name) is None else entry[name] for name in _OPTIONS}
    host = urlsplit(options["api_url"]).hostname
    if not host:
        raise OneException(INVALID, f"api_url is {options['api_url']!r}, it must look like http://HOST:2633/RPC2.")
    name = options["name"] or host
    if options["api_timeout"] <= 0:
        raise OneException(INVALID, f"Zone {name}: api_timeout is {options['api_timeout']:g}, it must be positive.")
    username, password = _credentials(name, options, own_file=entry.get("auth_file") is not None)
    return Zone(
        name, options["api_url"], username, password, options["api_timeout"], options["validate_certs"],
        options["ca_path"], options["oneflow_url"],
    )


def list_vms(zone: Zone, scope: str, names: bool, wanted: Callable[[str], bool]) -> list[dict]:
    """Return the facts of all VMs of a zone that are not DONE, newest first.

    One call for each 2,000 VMs, and with names two more that ask for the names of clusters and services.
    wanted: tells which attributes of the user template to keep. Raises OneException that names the zone.
    """
    try:
        client = zone.client()
        found: dict[int, dict] = {}
        offset, complete = 0, False
        while not complete:
            arguments = (SCOPES[scope], offset, -_PAGE_SIZE, _NOT_DONE)
            page = xml.items(client.call("one.vmpool.infoextended", *arguments), "VM")
            # A VM that is made between two calls shifts the pages, and the last of one is the first of the next.
            found |= {int(vm["ID"]): vm_facts(vm, wanted) for vm in page}
            offset, complete = offset + _PAGE_SIZE, len(page) < _PAGE_SIZE
        vms = list(found.values())
        if names:
            _name_clusters_and_services(client, vms)
    except OneException as error:
        raise OneException(error.kind, f"Zone {zone.name}: {error.message}") from None
    return vms


def _name_clusters_and_services(client: Client, vms: list[dict]) -> None:
    clusters = {int(cluster["ID"]): cluster["NAME"] for cluster in resources.pool(client, "cluster")}
    in_services = any(vm["service_id"] is not None for vm in vms)
    named = {int(service["ID"]): service["NAME"] for service in services.all_services(client)} if in_services else {}
    for vm in vms:
        vm["cluster"] = clusters.get(vm["cluster_id"], vm["cluster"])
        vm["service"] = named.get(vm["service_id"], vm["service"])


def _credentials(name: str, options: dict, own_file: bool) -> tuple[str, str]:
    username, password = options["api_username"], options["api_password"]
    if own_file or not (username or password):
        return _read_auth_file(name, Path(options["auth_file"] or "~/.one/one_auth").expanduser())
    if not (username and password):
        given, lacking = ("api_username", "api_password") if username else ("api_password", "api_username")
        raise OneException(INVALID, f"Zone {name}: {given} is given without {lacking}.")
    return username, password


def _read_auth_file(name: str, path: Path) -> tuple[str, str]:
    try:
        username, _colon, password = path.read_text(encoding="utf-8").strip().partition(":")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text file"
        raise OneException(
            INVALID,
            f"Zone {name}: there are no credentials: api_username and api_password are not given, and {path} "
            f"cannot be read: {reason}.",
        ) from None
    if not (username and password):
        raise OneException(INVALID, f"Zone {name}: {path} does not have the form USER:PASSWORD.")
    return username, password
