# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of resource kinds, from which pools, permissions and messages follow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What OpenNebula calls a kind of resource, and what holds for all of them."""

    #: in method names (one.NAME.info, one.NAMEpool.info) and in the store
    name: str
    #: root element of its document
    tag: str
    #: in "Error getting LABEL [1]."
    label: str
    #: in "Not authorized to perform USE AUTH [1]."
    auth: str
    #: rights of owner, group and others at birth, each use, manage, admin; empty if it has no owner
    permissions: str = "110000000"
    #: whose names it must differ from: those of the same owner, of the whole zone, or nobody's
    unique: str = ""
    #: end of "NAME is already taken by ", with {} for the id; empty: what `auth` says, the id and a full stop
    taken: str = ""
    #: whether its pool takes filter and range
    paged: bool = True
    #: whether it is listed by one.NAMEpool.info
    pool: bool = True
    #: the right to update and rename it; empty: the release says
    change: str = "MANAGE"
    #: the generic methods it has
    methods: tuple[str, ...] = ()


_OWNED = ("info", "update", "delete", "chmod", "chown", "rename")
_LOCK = ("lock", "unlock")
_CLONE = ("clone",)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("vm", "VM", "virtual machine", "VM", methods=("info", "chmod", "chown", "rename", *_LOCK)),
        Kind("template", "VMTEMPLATE", "virtual machine template", "TEMPLATE", unique="owner", methods=_OWNED + _LOCK),
        Kind("image", "IMAGE", "image", "IMAGE", unique="owner", methods=_OWNED + _LOCK),
        Kind("vn", "VNET", "virtual network", "NET", unique="owner", methods=_OWNED + _LOCK),
        Kind("document", "DOCUMENT", "document", "DOCUMENT", methods=_OWNED + _LOCK + _CLONE),
        Kind("user", "USER", "user", "USER", "", "zone", paged=False, methods=("info", "update", "delete")),
        Kind("group", "GROUP", "group", "GROUP", "", "zone", paged=False, change="",
             methods=("info", "update", "delete")),
        Kind("vdc", "VDC", "VDC", "VDC", "", "zone", "Vdc {}.", paged=False, methods=("info", "update", "delete", "rename")),
        Kind("acl", "ACL", "ACL", "ACL", "", pool=False),
        Kind("host", "HOST", "host", "HOST", "", "zone", paged=False, change="ADMIN",
             methods=("info", "update", "delete", "rename")),
        Kind("cluster", "CLUSTER", "cluster", "CLUSTER", "", "zone", paged=False,
             methods=("info", "update", "delete", "rename")),
        Kind("datastore", "DATASTORE", "datastore", "DATASTORE", "110100000", "zone", paged=False, methods=_OWNED),
        Kind("zone", "ZONE", "zone", "ZONE", "", "zone", "Zone {}.", paged=False,
             methods=("info", "update", "rename")),
        Kind("secgroup", "SECURITY_GROUP", "security group", "SECGROUP", unique="owner", taken="SecurityGroup {}.",
             methods=_OWNED + _CLONE),
        Kind("vmgroup", "VM_GROUP", "vm group", "VMGROUP", unique="owner", taken="VMGroup {}.", methods=_OWNED + _LOCK),
        Kind("vntemplate", "VNTEMPLATE", "virtual network template", "VNTEMPLATE", unique="owner", taken="VN TEMPLATE {}.",
             methods=_OWNED + _LOCK + _CLONE),
        Kind("vrouter", "VROUTER", "virtual router", "VROUTER", methods=_OWNED + _LOCK),
        Kind("backupjob", "BACKUPJOB", "backup job", "BACKUPJOB", unique="owner", taken="BACKUP JOB {}.", methods=_OWNED + _LOCK),
        Kind("market", "MARKETPLACE", "marketplace", "MARKETPLACE", unique="zone", taken="MARKETPLACE {}", paged=False,
             methods=_OWNED),
        Kind("marketapp", "MARKETPLACEAPP", "marketplaceapp", "MARKETPLACEAPP", unique="owner", taken="MARKETPLACEAPP {}",
             methods=_OWNED + _LOCK),
        Kind("hook", "HOOK", "hook", "HOOK", unique="zone", taken="Hook {}.", paged=False,
             methods=("info", "update", "delete", "rename", *_LOCK)),
    )
}
