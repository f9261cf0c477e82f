# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones of a federation, and the server that answers."""

from __future__ import annotations

from ..transport import xml
from ..transport.client import Client
from ..transport.errors import AUTHORIZATION, OneException
from . import states

# What the server says instead of a number it has not.
_NONE = -1


def facts(zone: dict) -> dict:
    """Return what is told of a zone."""
    template = xml.section(zone, "TEMPLATE")
    return {
        "id": int(zone["ID"]),
        "name": zone["NAME"],
        # OpenNebula before 6.4 had no states.
        "state": states.name(states.ZONE, zone.get("STATE", "0")),
        "endpoint": template.get("ENDPOINT", ""),
        "servers": [
            {"id": int(server["ID"]), "name": server.get("NAME", ""), "endpoint": server.get("ENDPOINT", "")}
            for server in xml.items(xml.section(zone, "SERVER_POOL"), "SERVER")
        ],
        "template": template,
    }


def server_facts(client: Client) -> dict:
    """Return what is told of the server that answers, as far as the user may know."""
    try:
        raft = client.call("one.zone.raftstatus")
    except OneException as error:
        if error.kind != AUTHORIZATION:
            raise
        raft = {}
    return {
        "version": ".".join(str(number) for number in client.version),
        "id": _number(raft, "SERVER_ID"),
        "state": states.name(states.RAFT, raft["STATE"]) if raft else "",
        "term": _number(raft, "TERM"),
        "log_index": _number(raft, "LOG_INDEX"),
    }


def _number(raft: dict, name: str) -> int | None:
    number = int(raft.get(name) or _NONE)
    return None if number == _NONE else number
