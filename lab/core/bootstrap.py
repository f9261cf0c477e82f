# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a zone has from the start, as OpenNebula makes it at its first boot."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from lab.core import rights, vdcs
from lab.core.datastores import datastore_template
from lab.core.groups import new_group
from lab.core.hosts import new_host
from lab.core.kinds import KINDS
from lab.core.users import ONEADMIN, hashed, new_user

if TYPE_CHECKING:
    from lab.core.api import Core

_DATASTORES = {
    "system": {"TYPE": "SYSTEM_DS", "DS_LIVE_MIGRATE": "YES", "DS_MIGRATE_SNAP": "YES"},
    "default": {"TYPE": "IMAGE_DS", "DS_MAD": "fs"},
    "files": {"TYPE": "FILE_DS", "DS_MAD": "fs"},
}
_MARKETPLACES = (
    ("OpenNebula Public", 0, {"MARKET_MAD": "one", "DESCRIPTION": "Appliances of OpenNebula Systems"}),
    ("Linux Containers", 1, {"MARKET_MAD": "linuxcontainers", "DESCRIPTION": "Images of linuxcontainers.org"}),
)
_DEFAULT_SECURITY_GROUP = {
    "DESCRIPTION": "Added to every network; lets everything through",
    "RULE": [{"PROTOCOL": "ALL", "RULE_TYPE": "OUTBOUND"}, {"PROTOCOL": "ALL", "RULE_TYPE": "INBOUND"}],
}


def prepare(core: Core) -> None:
    """Fill a new zone; in one that exists only set oneadmin's password, which the caller knows."""
    oneadmin = core.store.get("user", ONEADMIN)
    if oneadmin is None:
        _fill(core)
        oneadmin = core.store.get("user", ONEADMIN)
    oneadmin["password"] = hashed(core.config.password)
    core.store.save("user", oneadmin)


def _fill(core: Core) -> None:
    def add(kind: str, **fields: object) -> None:
        item = {"id": core.store.new_id(kind), **fields}
        if KINDS[kind].permissions:
            item = {"uid": ONEADMIN, "gid": ONEADMIN, "permissions": KINDS[kind].permissions} | item
        core.store.save(kind, item)

    for name in ("oneadmin", "users"):
        core.store.save("group", new_group(core.store.new_id("group"), name))
    for name, driver in (("oneadmin", "core"), ("serveradmin", "server_cipher")):
        user = new_user(core.store.new_id("user"), name, secrets.token_hex(32), ONEADMIN, driver)
        core.store.save("user", user)
    add("zone", name="OpenNebula", template={"ENDPOINT_GRPC": "localhost:2634"})
    add("cluster", name="default", template={"RESERVED_CPU": "", "RESERVED_MEM": ""})
    for name, template in _DATASTORES.items():
        template["TM_MAD"] = core.config.release.transfer
        add("datastore", name=name, clusters=[0], template=datastore_template(template))
    add("secgroup", name="default", template=_DEFAULT_SECURITY_GROUP, permissions="111100100")
    for name, state, template in _MARKETPLACES:
        add("market", name=name, state=state, template=template, permissions="111100100")
    rights.fill(core)
    vdcs.fill(core)
    if core.config.register_host:
        new_host(core, core.config.host_name, core.driver.name, core.driver.name, cluster_id=0)
