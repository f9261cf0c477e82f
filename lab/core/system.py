# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The version, the settings, and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core import restricted
from lab.core.call import LONGEST_NAME, Call, parse_template, settle
from lab.core.datastores import TRANSFER_DRIVERS
from lab.core.errors import INTERNAL, OneError
from lab.core.markup import attributes, element
from lab.core.method import Method
from lab.core.pools import generic_methods, head, page, pool_document, visible

if TYPE_CHECKING:
    from lab.core.api import Core


def _version(call: Call) -> str:
    return call.core.config.release.number


def _config(_call: Call) -> str:
    """Show those settings of oned that hold in this zone."""
    transfers = [{"NAME": name} | conf for name, conf in TRANSFER_DRIVERS.items()]
    values = {
        "DEFAULT_COST": {"CPU_COST": "0", "DISK_COST": "0", "MEMORY_COST": "0"}, "DEFAULT_IMAGE_TYPE": "OS",
        "DEFAULT_DEVICE_PREFIX": "sd", "IMAGE_RESTRICTED_ATTR": restricted.names("image"), "MAC_PREFIX": "02:00",
        "NETWORK_SIZE": "254", "TM_MAD_CONF": transfers, "VLAN_IDS": {"START": "2"},
        "VM_RESTRICTED_ATTR": restricted.names("vm"), "VNET_RESTRICTED_ATTR": restricted.names("vn"),
    }
    return element("OPENNEBULA_CONFIGURATION", attributes(values))


def _document_copy(call: Call, name: str, template: dict, source: dict) -> dict:
    if len(name.encode()) > LONGEST_NAME:
        raise OneError(INTERNAL, f"NAME is too long; max length is {LONGEST_NAME} chars.")
    copy = call.new("document", name, type=source["type"], regtime=call.core.now(), template=template)
    copy["name"] = name or f"document-{copy['id']}"
    return copy


def _document_allocate(call: Call, text: str, document_type: int) -> int:
    call.authorize(("CREATE", "document", None))
    template = parse_template(text)
    document = _document_copy(call, settle(template, ["NAME"]).pop("NAME", ""), template, {"type": document_type})
    call.core.store.save("document", document)
    return document["id"]


def _document_pool_info(call: Call, which: int, start: int, end: int, document_type: int) -> str:
    documents = [item for item in visible(call, "document", which) if item["type"] == document_type]
    return pool_document(call, "document", _document_body, page(documents, start, end))


def _document_body(core: Core, document: dict) -> dict:
    return head(core, document, TYPE=document["type"]) | {"TEMPLATE": attributes(document["template"])}


METHODS = generic_methods("document", _document_body, cloner=_document_copy) | {
    "one.system.version": Method(_version),
    "one.system.config": Method(_config),
    "one.document.allocate": Method(_document_allocate, "s i"),
    "one.documentpool.info": Method(_document_pool_info, "i i i i"),
}
