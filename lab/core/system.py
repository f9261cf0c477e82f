# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The version, the zone itself, documents, and the kinds a zone only lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core.call import LONGEST_NAME, Call, parse_template
from lab.core.errors import INTERNAL, OneError
from lab.core.markup import attributes, element
from lab.core.pools import BODIES, head, page, pool_document, simple_body, visible
from lab.core.registry import method

if TYPE_CHECKING:
    from lab.core.api import Core


@method("one.system.version")
def _version(call: Call) -> str:
    return call.core.config.release.number


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
    "zone": _zone_body,
    "document": _document_body, "vmgroup": simple_body, "hook": simple_body,
}
