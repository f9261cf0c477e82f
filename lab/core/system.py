# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The version, datastores, the zone itself, and the kinds a zone only lists."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from lab.core.call import LONGEST_NAME, Call, parse_template
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import Data, attributes, element, ids
from lab.core.pools import BODIES, DELETERS, UPDATERS, head, page, pool_document, simple_body, visible
from lab.core.registry import method
from lab.releases import shown

if TYPE_CHECKING:
    from lab.core.api import Core

#: what oned's configuration says about the transfer drivers
TRANSFER_DRIVERS = {
    "local": {
        "ALLOW_ORPHANS": "FORMAT", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "SYSTEM", "DS_MIGRATE": "YES", "SHARED": "NO",
    },
    "ssh": {
        "ALLOW_ORPHANS": "YES", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "SYSTEM", "DS_MIGRATE": "YES", "SHARED": "NO",
    },
    "shared": {
        "ALLOW_ORPHANS": "YES", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "NONE", "DS_MIGRATE": "YES", "SHARED": "YES",
    },
    "dummy": {"CLONE_TARGET": "SYSTEM", "LN_TARGET": "NONE", "DS_MIGRATE": "YES", "SHARED": "YES"},
}
DATASTORE_TYPES = {"IMAGE_DS": 0, "SYSTEM_DS": 1, "FILE_DS": 2, "BACKUP_DS": 3}
#: attributes of datastores that are kept encrypted
_SECRETS = ("NETAPP_PASS", "PUREFA_API_TOKEN", "RESTIC_PASSWORD")
_MB = 1024 * 1024
_DEFAULTS = {
    "PERSISTENT_SNAPSHOTS": "YES", "RESTRICTED_DIRS": "/", "SAFE_DIRS": "/var/tmp",
}


@method("one.system.version")
def _version(call: Call) -> str:
    return call.core.config.release.number


def datastore_template(template: dict) -> dict:
    """Return a new datastore's template with what the server adds to it."""
    return _DEFAULTS | _transfer_attributes(template) | {"TYPE": "IMAGE_DS"} | template


def _transfer_attributes(template: dict) -> dict:
    """Return what follows from the transfer driver of a datastore."""
    transfer = TRANSFER_DRIVERS.get(template.get("TM_MAD", ""), {})
    if template.get("TYPE") == "SYSTEM_DS":
        added = {"DS_MIGRATE": transfer.get("DS_MIGRATE", "NO"), "SHARED": transfer.get("SHARED", "NO")}
    else:
        added = {name: transfer.get(name, "NONE") for name in ("CLONE_TARGET", "LN_TARGET")}
    if template.get("TYPE") != "FILE_DS":
        added["DISK_TYPE"] = "FILE"
    return added | {"ALLOW_ORPHANS": transfer.get("ALLOW_ORPHANS", "NO")}


@method("one.datastore.allocate", "s i")
def _datastore_allocate(call: Call, text: str, cluster_id: int) -> int:
    cluster = call.find("cluster", max(cluster_id, 0))
    call.authorize(("CREATE", "datastore", None), ("ADMIN", "cluster", cluster))
    template = datastore_template(parse_template(text))
    name = template.pop("NAME", "")
    call.check_name("datastore", name, INTERNAL)
    _check_drivers(template)
    datastore = call.new("datastore", name, at_least=100, state=0, clusters=[cluster["id"]], template=template)
    call.core.store.save("datastore", datastore)
    return datastore["id"]


def _check_drivers(template: dict) -> None:
    """Refuse a datastore without the drivers its type needs. Raises OneError."""
    if template["TYPE"] == "SYSTEM_DS" and template.get("DS_MAD"):
        raise OneError(INTERNAL, "SYSTEM datastores cannot have DS_MAD defined.")
    if "DS_MAD" not in template and template["TYPE"] != "SYSTEM_DS":
        raise OneError(INTERNAL, "No DS_MAD in template.")
    if template["TYPE"] != "BACKUP_DS":
        if "TM_MAD" not in template:
            raise OneError(INTERNAL, "No TM_MAD in template.")
        if template["TM_MAD"] not in TRANSFER_DRIVERS:
            raise OneError(INTERNAL, f'TM_MAD named "{template["TM_MAD"]}" is not defined in oned.conf')


def _update_datastore(_call: Call, datastore: dict, template: dict) -> dict:
    """Keep type and drivers that the new template does not name, and add what follows from them."""
    kept = {name: datastore["template"][name] for name in ("DS_MAD", "TM_MAD", "TYPE") if name in datastore["template"]}
    template = kept | template
    _check_drivers(template)
    return template | _transfer_attributes(template)


@method("one.datastore.enable", "i b")
def _datastore_enable(call: Call, datastore_id: int, enable: bool) -> int:
    datastore = call.get("datastore", datastore_id, "MANAGE")
    if datastore["template"]["TYPE"] != "SYSTEM_DS":
        raise OneError(INTERNAL, "Only SYSTEM_DS can be disabled or enabled")
    datastore["state"] = 0 if enable else 1
    call.core.store.save("datastore", datastore)
    return datastore_id


def _datastore_body(core: Core, datastore: dict) -> dict:
    template = datastore["template"]
    kind = DATASTORE_TYPES[template["TYPE"]]
    total, used, free = (0, 0, 0) if kind == DATASTORE_TYPES["SYSTEM_DS"] else shutil.disk_usage("/")
    images = [image["id"] for image in core.store.all("image") if image["datastore"] == datastore["id"]]
    return head(core, datastore) | {
        "DS_MAD": Data(template.get("DS_MAD", "-")), "TM_MAD": Data(template.get("TM_MAD", "-")),
        "BASE_PATH": Data(f"/var/lib/one/datastores/{datastore['id']}"),
        "TYPE": kind, "DISK_TYPE": 0, "STATE": datastore.get("state", 0), "CLUSTERS": ids(datastore["clusters"]),
        "TOTAL_MB": total // _MB, "FREE_MB": free // _MB, "USED_MB": used // _MB,
        "IMAGES": ids(images), "TEMPLATE": attributes(template | _encrypted(template)),
    }


def _encrypted(template: dict) -> dict:
    return {name: hashlib.sha256(template[name].encode()).hexdigest() for name in _SECRETS if name in template}


@method("one.datastore.info", "i b?")
def _datastore_info(call: Call, datastore_id: int, decrypt: bool = False) -> str:
    """Return the document of a datastore, to administrators with its secrets if they want them."""
    datastore = call.get("datastore", datastore_id)
    body = _datastore_body(call.core, datastore)
    if decrypt and call.is_admin:
        body["TEMPLATE"] = attributes(datastore["template"])
    return element("DATASTORE", shown(call.core.config.release, "DATASTORE", body))


def _delete_datastore(call: Call, datastore: dict) -> bool:
    if any(image["datastore"] == datastore["id"] for image in call.core.store.all("image")):
        raise OneError(ACTION, f"Cannot delete datastore. Datastore {datastore['id']} is not empty.")
    return True


def _zone_body(core: Core, zone: dict) -> dict:
    template = zone["template"] | {"ENDPOINT": core.config.xmlrpc_endpoint}
    return {"ID": zone["id"], "NAME": zone["name"], "STATE": 0, "TEMPLATE": attributes(template), "SERVER_POOL": {}}


@method("one.zone.raftstatus")
def _raft_status(call: Call) -> str:
    """Tell that this is the only server of its zone."""
    call.get("zone", 0, "ADMIN")
    return element("RAFT", {
        "SERVER_ID": -1, "STATE": 0, "TERM": 0, "VOTEDFOR": -1, "COMMIT": 0, "LOG_INDEX": -1, "LOG_TERM": -1,
        "FEDLOG_INDEX": -1,
    })


@method("one.document.allocate", "s i")
def _document_allocate(call: Call, text: str, document_type: int) -> int:
    call.authorize(("CREATE", "document", None))
    template = parse_template(text)
    document = call.new("document", "", type=document_type, regtime=call.core.now(), template=template)
    document["name"] = template.pop("NAME", "") or f"document-{document['id']}"
    if len(document["name"].encode()) > LONGEST_NAME:
        raise OneError(INTERNAL, f"NAME is too long; max length is {LONGEST_NAME} chars.")
    call.core.store.save("document", document)
    return document["id"]


@method("one.documentpool.info", "i i i i")
def _document_pool_info(call: Call, which: int, start: int, end: int, document_type: int) -> str:
    documents = [item for item in visible(call, "document", which) if item["type"] == document_type]
    return pool_document(call, "document", page(documents, start, end))


def _document_body(core: Core, document: dict) -> dict:
    return head(core, document, TYPE=document["type"]) | {"TEMPLATE": attributes(document["template"])}


BODIES |= {
    "datastore": _datastore_body, "zone": _zone_body,
    "document": _document_body, "vmgroup": simple_body, "hook": simple_body,
}
DELETERS["datastore"] = _delete_datastore
UPDATERS["datastore"] = _update_datastore
