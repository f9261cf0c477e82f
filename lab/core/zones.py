# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The zone itself: the only one of its federation, on one server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core.call import Call
from lab.core.errors import ACTION, ALLOCATE, INTERNAL, OneError
from lab.core.markup import attributes, element
from lab.core.method import Method
from lab.core.pools import generic_methods

if TYPE_CHECKING:
    from lab.core.api import Core

_THIS = 0
_ENABLED, _DISABLED = 0, 1
#: what a zone that is disabled goes on answering besides documents and pools, and the document that it does not show
_ALWAYS = ("one.system.version", "one.system.config", "one.zone.enable", "one.zone.raftstatus")
_NEVER = "one.cluster.info"


def check_enabled(core: Core, method_name: str) -> None:
    """Refuse what changes something while the zone is disabled. Raises OneError."""
    shows = method_name.endswith(".info") and method_name != _NEVER
    reads = shows or method_name.split(".")[1].endswith("pool") or method_name in _ALWAYS
    if not reads and core.store.get("zone", _THIS).get("state", _ENABLED) == _DISABLED:
        raise OneError(INTERNAL, "Cannot process request, zone disabled")


def _body(core: Core, zone: dict) -> dict:
    template = {"ENDPOINT": core.config.xmlrpc_endpoint} | zone["template"]
    return {
        "ID": zone["id"], "NAME": zone["name"], "STATE": zone.get("state", _ENABLED), "TEMPLATE": attributes(template),
        "SERVER_POOL": {},
    }


def _update(call: Call, _zone: dict, template: dict) -> dict:
    # An endpoint that is the zone's own follows it.
    own = {"ENDPOINT": call.core.config.xmlrpc_endpoint}
    return {name: value for name, value in template.items() if name != "SERVER" and (name, value) not in own.items()}


def _allocate(_call: Call, _text: str) -> int:
    raise OneError(ALLOCATE, "Error allocating a new zone. New zones can only be created at federation master")


def _enable(call: Call, zone_id: int, enable: bool) -> int:
    if zone_id != _THIS:
        raise OneError(ACTION, "Enable/disable mode have to be set through the target zone endpoints")
    zone = call.get("zone", zone_id, "ADMIN")
    zone["state"] = _ENABLED if enable else _DISABLED
    call.core.store.save("zone", zone)
    return zone_id


def _raft_status(call: Call) -> str:
    """Tell that this is the only server of its zone."""
    call.get("zone", _THIS, "ADMIN")
    return element("RAFT", {
        "SERVER_ID": -1, "STATE": 0, "TERM": 0, "VOTEDFOR": -1, "COMMIT": 0, "LOG_INDEX": -1, "LOG_TERM": -1,
        "FEDLOG_INDEX": -1,
    })


METHODS = generic_methods("zone", _body, updater=_update) | {
    "one.zone.allocate": Method(_allocate, "s"),
    "one.zone.enable": Method(_enable, "i b"),
    "one.zone.raftstatus": Method(_raft_status),
}
