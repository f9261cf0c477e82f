# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Clusters and what belongs to them: a host to one, datastores and networks to any number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.core.call import Call
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import attributes, ids
from lab.core.method import Method
from lab.core.pools import generic_methods

if TYPE_CHECKING:
    from lab.core.api import Core

DEFAULT_CLUSTER = 0
#: the first id that is not the zone's own
_FIRST_ID = 100
#: kind, element of the document, and what messages call it
_MEMBERS = (("host", "HOSTS", "hosts"), ("datastore", "DATASTORES", "datastores"), ("vn", "VNETS", "vnets"))


#: what the settings of the scheduler can be
_DRS = {"POLICY": "pack|balance", "AUTOMATION": "manual|partial|full", "MIGRATION_THRESHOLD": r"-1||\d+(\.\d+)?"}


def _members(core: Core, cluster: dict, kind: str) -> list[int]:
    return [item["id"] for item in core.store.all(kind) if cluster["id"] in item["clusters"]]


def _body(core: Core, cluster: dict) -> dict:
    members = {tag: ids(_members(core, cluster, kind)) for kind, tag, _noun in _MEMBERS}
    return {"ID": cluster["id"], "NAME": cluster["name"], **members, "TEMPLATE": attributes(cluster["template"])}


def _delete(call: Call, cluster: dict) -> bool:
    if cluster["id"] < _FIRST_ID:
        raise OneError(ACTION, "Cannot delete cluster. System Clusters (ID < 100) cannot be deleted.")
    for kind, _tag, noun in _MEMBERS:
        number = len(_members(call.core, cluster, kind))
        if number:
            reason = f"Cluster {cluster['id']} is not empty, it contains {number} {noun}."
            raise OneError(ACTION, f"Cannot delete cluster. {reason}")
    return True


def _update(_call: Call, _cluster: dict, template: dict) -> dict:
    """Check the scheduler's settings, and write them in small letters."""
    settings = template.get("ONE_DRS")
    if not isinstance(settings, dict):
        return template
    settings = {name: value.strip().lower() for name, value in settings.items()}
    for name, pattern in _DRS.items():
        if not re.fullmatch(pattern, settings.get(name, "")):
            raise OneError(INTERNAL, f"Cannot update template. Error cluster template contains invalid {name}")
    return template | {"ONE_DRS": settings}


def _allocate(call: Call, name: str) -> int:
    call.authorize(("CREATE", "cluster", None))
    with call.making("cluster"):
        call.check_name("cluster", name, INTERNAL)
    cluster = call.new("cluster", name, at_least=_FIRST_ID, template={"RESERVED_CPU": "", "RESERVED_MEM": ""})
    call.core.store.save("cluster", cluster)
    return cluster["id"]


def _member(call: Call, cluster_id: int, kind: str, object_id: int) -> dict:
    """Return the object. Raises OneError unless the user administers it and the cluster."""
    cluster, item = call.find("cluster", cluster_id), call.find(kind, object_id)
    call.authorize(("ADMIN", "cluster", cluster), ("ADMIN", kind, item))
    return item


def _set_clusters(call: Call, kind: str, item: dict, clusters: list[int]) -> None:
    item["clusters"] = clusters
    call.core.store.save(kind, item)


def _add_host(call: Call, cluster_id: int, host_id: int) -> int:
    _set_clusters(call, "host", _member(call, cluster_id, "host", host_id), [cluster_id])
    return cluster_id


def _del_host(call: Call, cluster_id: int, host_id: int) -> int:
    """Put the host into the default cluster, whichever one it is in."""
    _add_host(call, DEFAULT_CLUSTER, host_id)
    return cluster_id


def _add(call: Call, cluster_id: int, kind: str, object_id: int) -> int:
    item = _member(call, cluster_id, kind, object_id)
    _set_clusters(call, kind, item, sorted({*item["clusters"], cluster_id}))
    return cluster_id


def _remove(call: Call, cluster_id: int, kind: str, object_id: int) -> int:
    item = _member(call, cluster_id, kind, object_id)
    _set_clusters(call, kind, item, [number for number in item["clusters"] if number != cluster_id])
    return cluster_id


def _add_datastore(call: Call, cluster_id: int, datastore_id: int) -> int:
    return _add(call, cluster_id, "datastore", datastore_id)


def _del_datastore(call: Call, cluster_id: int, datastore_id: int) -> int:
    return _remove(call, cluster_id, "datastore", datastore_id)


def _add_network(call: Call, cluster_id: int, network_id: int) -> int:
    return _add(call, cluster_id, "vn", network_id)


def _del_network(call: Call, cluster_id: int, network_id: int) -> int:
    return _remove(call, cluster_id, "vn", network_id)


METHODS = generic_methods("cluster", _body, updater=_update, deleter=_delete) | {
    "one.cluster.allocate": Method(_allocate, "s"),
    "one.cluster.addhost": Method(_add_host, "i i"),
    "one.cluster.delhost": Method(_del_host, "i i"),
    "one.cluster.adddatastore": Method(_add_datastore, "i i"),
    "one.cluster.deldatastore": Method(_del_datastore, "i i"),
    "one.cluster.addvnet": Method(_add_network, "i i"),
    "one.cluster.delvnet": Method(_del_network, "i i"),
}
