# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Services and service templates as OpenNebula documents."""

from __future__ import annotations

import json

from ansible_collections.opennebula.flower.plugins.module_utils.one.xml import items, to_dict
from lab.core import OneError
from lab.core.errors import NO_EXISTS

SERVICE_TYPE = 100
TEMPLATE_TYPE = 101


class Documents:
    """Documents of one type, read and written with the identity of the session given to each method.

    Every method raises lab.core.OneError as the API call behind it does.
    """

    def __init__(self, core, kind: int):
        self.core = core
        self.kind = kind

    def get(self, session: str, document_id: int) -> dict:
        """The document as OneFlow shows it: {"ID": "6", ..., "TEMPLATE": {"BODY": {...}}}."""
        document = to_dict(self.core.call(session, "one.document.info", document_id, False))
        if int(document["TYPE"]) != self.kind:
            raise OneError(NO_EXISTS, f"[DocumentInfo] Error getting document [{document_id}].", document_id)
        return _with_body(document)

    def pool(self, session: str) -> list[dict]:
        """All documents the session may see, newest first."""
        pool = self.core.call(session, "one.documentpool.info", -2, -1, -1, self.kind)
        return [_with_body(document) for document in items(to_dict(pool), "DOCUMENT")]

    def create(self, session: str, name: str, body: dict) -> int:
        """Store a new document. Returns its id."""
        return self.core.call(session, "one.document.allocate", _written(body, f"<NAME>{name}</NAME>"), self.kind)

    def save(self, session: str, document_id: int, body: dict) -> None:
        """Replace the body."""
        self.core.call(session, "one.document.update", document_id, _written(body), 0)

    def delete(self, session: str, document_id: int) -> None:
        """Remove the document."""
        self.core.call(session, "one.document.delete", document_id)


def _written(body: dict, name: str = "") -> str:
    """A document as OneFlow writes it, without looking at what the name and the body contain."""
    return f"<TEMPLATE>{name}<BODY><![CDATA[{json.dumps(body, ensure_ascii=False)}]]></BODY></TEMPLATE>"


def _with_body(document: dict) -> dict:
    return {**document, "TEMPLATE": {"BODY": json.loads(document["TEMPLATE"]["BODY"])}}
