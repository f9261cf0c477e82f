# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Datastores, and what follows from their drivers."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from lab.core.call import Call, parse_template, settle
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import Data, attributes, element, ids, shown
from lab.core.method import Method
from lab.core.pools import FAILED_UPDATE, generic_methods, head

if TYPE_CHECKING:
    from lab.core.api import Core


def _driver(link: str, clone: str, shared: str, migrate: str, live: str, snapshots: str, **more: str) -> dict[str, str]:
    return {
        "LN_TARGET": link, "CLONE_TARGET": clone, "SHARED": shared, "DS_MIGRATE": migrate, "DS_LIVE_MIGRATE": live,
        "DS_MIGRATE_SNAP": snapshots, **more,
    }


_OVER_SSH = {"TM_MAD_SYSTEM": "ssh", "LN_TARGET_SSH": "SYSTEM", "CLONE_TARGET_SSH": "SYSTEM", "DISK_TYPE_SSH": "FILE"}
#: what oned's configuration says about the transfer drivers
TRANSFER_DRIVERS = {
    "dummy": _driver("NONE", "SYSTEM", "YES", "YES", "YES", "YES"),
    "shared": _driver("NONE", "SYSTEM", "YES", "YES", "YES", "YES", ALLOW_ORPHANS="FORMAT", **_OVER_SSH),
    "lvm": _driver("NONE", "SELF", "YES", "YES", "NO", "NO", DRIVER="raw", DISK_TYPE="BLOCK", ALLOW_ORPHANS="YES"),
    "fs_lvm": _driver("SYSTEM", "SYSTEM", "YES", "YES", "NO", "NO", DRIVER="raw", DISK_TYPE="BLOCK"),
    "fs_lvm_ssh": _driver(
        "SYSTEM", "SYSTEM", "YES", "YES", "YES", "NO", DRIVER="raw", DISK_TYPE="BLOCK", PERSISTENT_SNAPSHOTS="NO",
        ALLOW_ORPHANS="YES",
    ),
    "qcow2": _driver("NONE", "SYSTEM", "YES", "YES", "YES", "YES", DRIVER="qcow2", ALLOW_ORPHANS="FORMAT", **_OVER_SSH),
    "ssh": _driver("SYSTEM", "SYSTEM", "NO", "YES", "YES", "YES", ALLOW_ORPHANS="YES"),
    "local": _driver("SYSTEM", "SYSTEM", "NO", "YES", "YES", "YES", ALLOW_ORPHANS="FORMAT"),
    "ceph": _driver("NONE", "SELF", "YES", "NO", "NO", "NO", DRIVER="raw", ALLOW_ORPHANS="mixed", **_OVER_SSH),
    "iscsi_libvirt": _driver("NONE", "SELF", "YES", "NO", "NO", "NO", DRIVER="raw"),
    "dev": _driver("NONE", "NONE", "YES", "NO", "NO", "NO", DRIVER="raw"),
    "netapp": _driver("NONE", "SELF", "YES", "NO", "NO", "NO", DRIVER="raw", DISK_TYPE="BLOCK", ALLOW_ORPHANS="LINEAR"),
    "purefa": _driver("NONE", "SELF", "YES", "NO", "NO", "NO", DRIVER="raw", DISK_TYPE="BLOCK", ALLOW_ORPHANS="YES"),
    "virtiofs": _driver("NONE", "NONE", "YES", "NO", "NO", "NO", DRIVER="virtiofs", DISK_TYPE="filesystem"),
}
#: the drivers of datastores, with the attributes each cannot do without
_DRIVERS = {
    "dummy": (), "fs": (), "lvm": (), "virtiofs": (), "interactive": (), "ceph": ("DISK_TYPE", "BRIDGE_LIST"),
    "dev": ("DISK_TYPE",), "iscsi_libvirt": ("DISK_TYPE", "ISCSI_HOST"), "restic": ("RESTIC_PASSWORD",),
    "rsync": ("RSYNC_HOST", "RSYNC_USER"), "purefa": ("PUREFA_HOST", "PUREFA_API_TOKEN", "PUREFA_TARGET"),
    "netapp": ("NETAPP_HOST", "NETAPP_USER", "NETAPP_PASS", "NETAPP_AGGREGATES", "NETAPP_SVM", "NETAPP_IGROUP",
               "NETAPP_TARGET"),
}
_NOT_CHECKED = ("virtiofs", "interactive")
#: drivers of datastores whose images are all persistent
PERSISTENT_ONLY = ("dev", "iscsi_libvirt", "restic", "rsync")
DATASTORE_TYPES = {"IMAGE_DS": 0, "SYSTEM_DS": 1, "FILE_DS": 2, "BACKUP_DS": 3}
_DISK_TYPES = {
    "FILE": 0, "CDROM": 1, "BLOCK": 2, "RBD": 3, "RBD_CDROM": 4, "GLUSTER": 5, "GLUSTER_CDROM": 6, "SHEEPDOG": 7,
    "SHEEPDOG_CDROM": 8, "ISCSI": 9, "FILESYSTEM": 10,
}
_OF_IMAGES = ("FILE", "BLOCK", "ISCSI", "RBD", "GLUSTER", "SHEEPDOG", "FILESYSTEM")
_OF_SYSTEMS = ("FILE", "RBD", "BLOCK", "FILESYSTEM")
_SYSTEM_ONLY = ("SHARED", "DS_MIGRATE", "DS_LIVE_MIGRATE", "DS_MIGRATE_SNAP")
_IMAGES_ONLY = ("LN_TARGET", "CLONE_TARGET")
#: attributes that are kept encrypted
_SECRETS = ("NETAPP_PASS", "PUREFA_API_TOKEN", "RESTIC_PASSWORD")
# What oned reads as texts of a datastore's template.
_TEXTS = ("TYPE", "DS_MAD", "TM_MAD", "DISK_TYPE")
_MB = 1024 * 1024
_SYSTEM_ID = 0


def datastore_template(template: dict) -> dict:
    """Return a new datastore's template with what the server adds to it. Raises OneError for one that cannot be."""
    kind = settle(template, _TEXTS).get("TYPE", "").upper()
    template = {**template, "TYPE": kind if kind in DATASTORE_TYPES else "IMAGE_DS"}
    if template["TYPE"] == "SYSTEM_DS" and template.get("DS_MAD"):
        raise OneError(INTERNAL, "SYSTEM datastores cannot have DS_MAD defined.")
    if template["TYPE"] != "SYSTEM_DS" and not template.get("DS_MAD"):
        raise OneError(INTERNAL, "No DS_MAD in template.")
    template = _with_driver(template)
    template = _with_transfer(template)
    template = _with_disk_type(template)
    if not template.get("SAFE_DIRS") and not template.get("RESTRICTED_DIRS"):
        template |= {"SAFE_DIRS": "/var/tmp", "RESTRICTED_DIRS": "/"}
    return {name: value for name, value in template.items() if name != "BASE_PATH"}


def _with_driver(template: dict) -> dict:
    """Return a template with what its DS_MAD adds. Raises OneError when it lacks what the driver needs."""
    if template["TYPE"] == "SYSTEM_DS":
        return template
    driver = template["DS_MAD"]
    if driver not in _DRIVERS:
        raise OneError(INTERNAL, f'DS_MAD named "{driver}" is not defined in oned.conf')
    for name in _DRIVERS[driver]:
        if not template.get(name):
            raise OneError(INTERNAL, f'Datastore template is missing the "{name}" attribute or it\'s empty.')
    return template | ({"DATASTORE_CAPACITY_CHECK": "NO"} if driver in _NOT_CHECKED else {})


def _with_transfer(template: dict) -> dict:
    """Return a template with what its TM_MAD adds. Raises OneError for one there is not."""
    if template["TYPE"] == "BACKUP_DS":
        return template
    driver = template.get("TM_MAD")
    if not driver:
        raise OneError(INTERNAL, "No TM_MAD in template.")
    if driver not in TRANSFER_DRIVERS:
        raise OneError(INTERNAL, f'TM_MAD named "{driver}" is not defined in oned.conf')
    known = TRANSFER_DRIVERS[driver]
    common = {
        "ALLOW_ORPHANS": known.get("ALLOW_ORPHANS", "NO"), "PERSISTENT_SNAPSHOTS": known.get("PERSISTENT_SNAPSHOTS", "YES"),
    }
    if template["TYPE"] == "SYSTEM_DS":
        added, dropped = {name: known[name] for name in _SYSTEM_ONLY}, _IMAGES_ONLY
    else:
        added, dropped = {name: value for name, value in known.items() if name not in _SYSTEM_ONLY}, ("SHARED",)
    return {name: value for name, value in template.items() if name not in dropped} | added | common


def _with_disk_type(template: dict, default: str = "FILE") -> dict:
    """Return a template with its DISK_TYPE, which only datastores of images and VMs have. Raises OneError."""
    wanted = template.get("DISK_TYPE") or default
    template = {name: value for name, value in template.items() if name != "DISK_TYPE"}
    if template["TYPE"] in ("FILE_DS", "BACKUP_DS") or not wanted:
        return template
    wanted = wanted.upper()
    if wanted not in _DISK_TYPES:
        raise OneError(INTERNAL, "Unknown DISK_TYPE in template.")
    possible, what = (_OF_IMAGES, "an Image") if template["TYPE"] == "IMAGE_DS" else (_OF_SYSTEMS, "a System")
    if wanted not in possible:
        raise OneError(INTERNAL, f"Invalid DISK_TYPE for {what} Datastore.")
    return template | {"DISK_TYPE": wanted}


def _allocate(call: Call, text: str, cluster_id: int) -> int:
    template = parse_template(text)
    cluster = call.find("cluster", 0 if cluster_id == -1 else cluster_id)
    call.authorize(("CREATE", "datastore", None), ("ADMIN", "cluster", cluster))
    name = settle(template, ["NAME"]).pop("NAME", "")
    call.check_name("datastore", name, INTERNAL)
    template = datastore_template(template)
    datastore = call.new("datastore", name, at_least=100, state=0, clusters=[cluster["id"]], template=template)
    call.core.store.save("datastore", datastore)
    return datastore["id"]


def _update(_call: Call, datastore: dict, template: dict) -> dict:
    """Keep type and drivers that the new template does not name, and add what follows from them."""
    before = datastore["template"]
    kind = settle(template, _TEXTS).get("TYPE", "").upper()
    if datastore["id"] == _SYSTEM_ID or before["TYPE"] == "BACKUP_DS" or not kind:
        kind = before["TYPE"]
    template = {**template, "TYPE": kind if kind in DATASTORE_TYPES else "IMAGE_DS"}
    for name in ("DS_MAD", "TM_MAD"):
        if not template.get(name) and name in before:
            template[name] = before[name]
    if template["TYPE"] == "SYSTEM_DS":
        template.pop("DS_MAD", None)
    try:
        return _with_driver(_with_transfer(_with_disk_type(template, default="")))
    except OneError as error:
        raise OneError(error.code, f"{FAILED_UPDATE}{error.message}") from None


def _enable(call: Call, datastore_id: int, enable: bool) -> int:
    datastore = call.get("datastore", datastore_id, "MANAGE")
    if datastore["template"]["TYPE"] != "SYSTEM_DS":
        raise OneError(INTERNAL, "Only SYSTEM_DS can be disabled or enabled")
    datastore["state"] = 0 if enable else 1
    call.core.store.save("datastore", datastore)
    return datastore_id


def check_room(datastore: dict, size_mb: int) -> None:
    """Refuse an image that is larger than what its datastore has free. Raises OneError."""
    is_checked = datastore["template"].get("DATASTORE_CAPACITY_CHECK", "YES").upper() != "NO"
    if is_checked and size_mb > shutil.disk_usage("/").free // _MB:
        raise OneError(ACTION, "Not enough space in datastore")


def _body(core: Core, datastore: dict) -> dict:
    template = datastore["template"]
    kind = DATASTORE_TYPES[template["TYPE"]]
    total, used, free = (0, 0, 0) if kind == DATASTORE_TYPES["SYSTEM_DS"] else shutil.disk_usage("/")
    images = [image["id"] for image in core.store.all("image") if image["datastore"] == datastore["id"]]
    return head(core, datastore) | {
        "DS_MAD": Data(template.get("DS_MAD", "-")),
        "TM_MAD": Data("-" if template["TYPE"] == "BACKUP_DS" else template.get("TM_MAD", "-")),
        "BASE_PATH": Data(f"/var/lib/one/datastores/{datastore['id']}"), "TYPE": kind,
        "DISK_TYPE": _DISK_TYPES[template.get("DISK_TYPE", "FILE").upper()], "STATE": datastore.get("state", 0),
        "CLUSTERS": ids(datastore["clusters"]),
        "TOTAL_MB": total // _MB, "FREE_MB": free // _MB, "USED_MB": used // _MB,
        "IMAGES": ids(images), "TEMPLATE": attributes(template | _encrypted(template)),
    }


def _encrypted(template: dict) -> dict:
    return {name: hashlib.sha256(template[name].encode()).hexdigest() for name in _SECRETS if name in template}


def _info(call: Call, datastore_id: int, decrypt: bool = False) -> str:
    """Return the document of a datastore, to administrators with its secrets if they want them."""
    datastore = call.get("datastore", datastore_id)
    body = _body(call.core, datastore)
    if decrypt and call.is_admin:
        body["TEMPLATE"] = attributes(datastore["template"])
    return element("DATASTORE", shown(call.core.config.release, "DATASTORE", body))


def _delete(call: Call, datastore: dict) -> bool:
    if any(image["datastore"] == datastore["id"] for image in call.core.store.all("image")):
        raise OneError(ACTION, f"Cannot delete datastore. Datastore {datastore['id']} is not empty.")
    return True


METHODS = generic_methods("datastore", _body, updater=_update, deleter=_delete) | {
    "one.datastore.allocate": Method(_allocate, "s i"),
    "one.datastore.enable": Method(_enable, "i b"),
    "one.datastore.info": Method(_info, "i b?"),
}
