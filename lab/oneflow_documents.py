# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Services and service templates as OpenNebula documents."""

from __future__ import annotations

import json
from contextlib import suppress

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import items, section, to_dict
from lab.core.errors import NO_EXISTS, OneError

SERVICE_TYPE = 100
TEMPLATE_TYPE = 101
#: names of copies of VM templates are cut to this so that more can be added to them
LONGEST_CLONE = 119


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
        """All documents the session may see, newest first. Raises ValueError if the body of one is not JSON: OneFlow lists none then."""
        return [_with_body(document) for document in self._listed(session)]

    def readable(self, session: str) -> list[dict]:
        """Those documents the session may see whose body can be read."""
        found = []
        for document in self._listed(session):
            with suppress(ValueError):
                found.append(_with_body(document))
        return [document for document in found if isinstance(document["TEMPLATE"].get("BODY"), dict)]

    def _listed(self, session: str) -> list[dict]:
        return items(to_dict(self.core.call(session, "one.documentpool.info", -2, -1, -1, self.kind)), "DOCUMENT")

    def create(self, session: str, name: str, body: dict) -> int:
        """Store a new document. Returns its id."""
        return self.core.call(session, "one.document.allocate", _written(body, f"<NAME>{name}</NAME>"), self.kind)

    def clone(self, session: str, document_id: int, name: object, mode: object, template_key: str) -> int:
        """Copy a service template and return the id of the copy.

        mode: whether the VM templates of its roles are copied too: "none" for not, "all" with their images, and anything
        else without these. When one cannot be, those that could are gone; the copy stays.
        """
        self.get(session, document_id)
        copy_id = self.core.call(session, "one.document.clone", document_id, name)
        body = self.get(session, copy_id)["TEMPLATE"]["BODY"] | {"registration_time": self.core.now()}
        self.save(session, copy_id, body)
        if mode == "none":
            return copy_id
        copies: dict[int, int] = {}
        try:
            for role in body["roles"]:
                source = int(role[template_key])
                if source not in copies:
                    copies[source] = self._clone_template(session, source, str(name), mode == "all")
                role[template_key] = copies[source]
        except OneError:
            for number in copies.values():
                self.core.call(session, "one.template.delete", number, mode == "all")
            raise
        self.save(session, copy_id, body)
        return copy_id

    def _clone_template(self, session: str, template_id: int, name: str, with_images: bool) -> int:
        source = to_dict(self.core.call(session, "one.template.info", template_id, False, False))["NAME"]
        new_name = f"{source}-{name}"
        if len(new_name) > LONGEST_CLONE:
            new_name = f"{source[:LONGEST_CLONE + 1 - len(name)]}-{name}"
        return self.core.call(session, "one.template.clone", template_id, new_name, with_images)

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
    body = section(document, "TEMPLATE").get("BODY")
    return {**document, "TEMPLATE": {"BODY": json.loads(body)} if body else {}}
