# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that an inventory source names, and the lists of their VMs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.answers import misread
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.client import Client
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.credentials import DEFAULT_AUTH_FILE, credentials, read_auth_file
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, MISREADINGS, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.http import check_timeout
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import facts as vm_facts

from .vm_facts import inventory_facts

SCOPES = {"all": -2, "own": -3, "own_and_groups": -1}
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

    def client(self, warn: Callable[[str], None]) -> Client:
        """Return a client for the zone. warn: is told what a person should know."""
        return Client(
            self.api_url, self.username, self.password, self.timeout, self.validate_certs, self.ca_path,
            self.oneflow_url, warn,
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
    check_timeout(options["api_timeout"], f"Zone {name}: api_timeout")
    auth_file = options["auth_file"] or DEFAULT_AUTH_FILE
    try:
        if entry.get("auth_file") is not None:
            # The zone's own file comes before the user that the source names for all zones.
            username, password = read_auth_file(auth_file)
        else:
            username, password = credentials(options["api_username"], options["api_password"], auth_file)
    except OneException as error:
        raise OneException(error.kind, f"Zone {name}: {error.message}") from None
    return Zone(
        name, options["api_url"], username, password, options["api_timeout"], options["validate_certs"],
        options["ca_path"], options["oneflow_url"],
    )


def list_vms(
    zone: Zone, scope: str, names: bool, wanted: Callable[[str], bool], warn: Callable[[str], None]
) -> list[dict]:
    """Return the facts of all VMs of a zone that are not DONE, newest first.

    One call for each 2,000 VMs, and with names two more that ask for the names of clusters and services.
    wanted: tells which attributes of the user template to keep. warn: is told of VMs with attributes that cannot be read.
    Raises OneException that names the zone.
    """
    client = zone.client(lambda text: warn(f"Zone {zone.name}: {text}"))
    try:
        found: dict[int, dict] = {}
        for page in client.pages("one.vmpool.infoextended", "VM", _NOT_DONE, who=SCOPES[scope]):
            # A VM that is made between two calls shifts the pages, and the last of one is the first of the next.
            found |= {int(vm["ID"]): inventory_facts(vm, wanted) for vm in page}
            vm_facts.warn_of_odd(client, page)
        vms = list(found.values())
        if names:
            _name_clusters_and_services(client, vms)
    except OneException as error:
        raise OneException(error.kind, f"Zone {zone.name}: {error.message}") from None
    except MISREADINGS as error:
        found_wrong = misread(error, client.place, client.asked)
        raise OneException(found_wrong.kind, f"Zone {zone.name}: {found_wrong.message}") from None
    return vms


def _name_clusters_and_services(client: Client, vms: list[dict]) -> None:
    clusters = {int(cluster["ID"]): cluster["NAME"] for cluster in lookup.pool(client, "cluster")}
    in_services = any(vm["service_id"] is not None for vm in vms)
    named = {int(service["ID"]): service["NAME"] for service in service_facts.all_services(client)} if in_services else {}
    for vm in vms:
        vm["cluster"] = clusters.get(vm["cluster_id"], vm["cluster"])
        vm["service"] = named.get(vm["service_id"], vm["service"])
