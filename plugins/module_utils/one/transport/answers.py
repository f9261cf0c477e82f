# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer has to be to be understood. Nothing else counts, and least of all as "there is nothing".

Checked is what everything relies on: the kind of the document, that every object in it has an id and a name, and the parts
of it that nothing would read as "none of them" if they were not there. What the owner of an object wrote is read with care
where it is used; whatever else is broken ends in ``misread``.
"""

from __future__ import annotations

import json
import re

from . import values, xml
from .errors import PROTOCOL, OneException

# OpenNebula's own documents have about ten levels.
_MOST_LEVELS = 50
_TOO_DEEP = f"it has more than {_MOST_LEVELS} brackets in each other"

# Elements of the objects that XML-RPC methods are about.
_ELEMENTS = {
    "vm": "VM", "image": "IMAGE", "vn": "VNET", "template": "VMTEMPLATE", "datastore": "DATASTORE", "cluster": "CLUSTER",
    "secgroup": "SECURITY_GROUP", "market": "MARKETPLACE", "marketapp": "MARKETPLACEAPP", "zone": "ZONE", "host": "HOST",
    "user": "USER", "group": "GROUP", "vdc": "VDC", "document": "DOCUMENT",
}
# What every object has of which a method shows all, with OpenNebula 6.8 to 7.4, and whose absence would go unnoticed.
_PARTS = {
    "VM": {"STATE", "LCM_STATE", "TEMPLATE", "USER_TEMPLATE"},
    "IMAGE": {"STATE", "TEMPLATE"},
    "VNET": {"AR_POOL", "TEMPLATE"},
    "VMTEMPLATE": {"TEMPLATE"},
    "DATASTORE": {"CLUSTERS", "TEMPLATE"},
    "SECURITY_GROUP": {"UPDATED_VMS", "OUTDATED_VMS", "UPDATING_VMS", "ERROR_VMS", "TEMPLATE"},
    "MARKETPLACE": {"TEMPLATE"},
    "MARKETPLACEAPP": {"STATE", "TEMPLATE"},
    "CLUSTER": {"HOSTS", "DATASTORES", "VNETS", "TEMPLATE"},
    "HOST": {"STATE", "CLUSTER_ID", "HOST_SHARE", "VMS", "TEMPLATE"},
    "USER": {"GID", "GROUPS", "TEMPLATE"},
    "GROUP": {"USERS", "ADMINS", "TEMPLATE"},
    "VDC": {"GROUPS", "CLUSTERS", "HOSTS", "DATASTORES", "VNETS", "TEMPLATE"},
    "ZONE": {"SERVER_POOL", "TEMPLATE"},
    "ACL": {"USER", "RESOURCE", "RIGHTS", "ZONE"},
}
# Of these pools a method shows parts only.
_SHORT_POOLS = frozenset({"vmpool", "imagepool", "vnpool", "templatepool", "userpool", "grouppool", "documentpool"})
_NUMBERS = frozenset({"STATE", "LCM_STATE", "GID", "CLUSTER_ID"})
_TEXTS = frozenset({"USER", "RESOURCE", "RIGHTS", "ZONE"})
_DOCUMENTS = ("info", "infoextended", "infoset", "monitoring", "accounting", "showback", "config")
_POOL = "_POOL"
_VERSION = r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}\b"


def of_call(place: str, method: str, value: object, arguments: tuple) -> object:
    """Return what an XML-RPC method answered: a document as dictionary, the version's text, or the number of an object.

    arguments: what was asked; the document of an object begins with its id. Raises OneException of kind protocol for anything else.
    """
    _one, subject, verb = method.split(".", 2)
    if verb in _DOCUMENTS or verb == "raftstatus":
        document = _document(place, method, "RAFT" if verb == "raftstatus" else _root(subject), value)
        # Below 0 is whoever asks.
        if "ID" in document and arguments and arguments[0] >= 0 and int(document["ID"]) != arguments[0]:
            raise not_understood(place, f"{method} for {arguments[0]}", f"the object {document['ID']}")
        return document
    if verb == "version":
        if isinstance(value, str) and re.match(_VERSION, value):
            return value
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise not_understood(place, method, _shown(value))


def of_json(content: str | bytes) -> object:
    """Return a JSON document. Raises ValueError for what is none, and for one that is nested deeper than those of OpenNebula are."""
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_levels(document, _MOST_LEVELS)
    return document


def _check_levels(value: object, levels: int) -> None:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not levels and parts:
        raise ValueError(_TOO_DEEP)
    for part in parts:
        if isinstance(part, (dict, list)):
            _check_levels(part, levels - 1)


def of_flow(place: str, request: str, answer: object) -> dict:
    """Return OneFlow's answer to a request (GET /service/3): a document, or a pool where a list is asked for.

    Raises OneException of kind protocol for anything else.
    """
    content = answer if isinstance(answer, dict) else {}
    method, _slash, path = request.partition(" /")
    number = path.partition("/")[2]
    if method == "GET" and not number:
        if not isinstance(content.get("DOCUMENT_POOL"), dict):
            raise not_understood(place, request, "JSON that has no DOCUMENT_POOL")
        _check_objects(place, request, "DOCUMENT", xml.items(content["DOCUMENT_POOL"], "DOCUMENT"))
        return content
    _check_objects(place, request, "DOCUMENT", [content.get("DOCUMENT")])
    found = content["DOCUMENT"]["ID"]
    if number.isdigit() and str(found) != number:
        raise not_understood(place, request, f"the document {found}")
    return content


def not_understood(place: str, asked: str, what: str) -> OneException:
    """Return the exception for an answer that is something else than was asked for."""
    return OneException(PROTOCOL, f"{place} answered {asked} with {what}.")


def misread(error: Exception, place: str, asked: str) -> OneException:
    """Return the exception for a document that lacks what it has to have, or has something else in that place.

    error: one of MISREADINGS. asked: the last request. The position in the code is for those who are asked for help.
    """
    file, line = "", 0
    at = error.__traceback__
    while at:
        name = at.tb_frame.f_code.co_filename
        if "opennebula/flower/plugins/" in name or not file:
            file, line = name.rpartition("/")[2], at.tb_lineno
        at = at.tb_next
    where = f"{file} line {line}"
    what = f"{type(error).__name__} {str(error)[:80]}, {where}"
    return OneException(PROTOCOL, f"What {place} says cannot be understood, last its answer to {asked} ({what}).")


def _root(subject: str) -> str | None:
    if subject == "acl":
        return "ACL_POOL"
    element = _ELEMENTS.get(subject.removesuffix("pool"))
    return f"{element}{_POOL}" if element and subject.endswith("pool") else element


def _document(place: str, method: str, root: str | None, value: object) -> dict:
    if not isinstance(value, str) or not value.lstrip().startswith("<"):
        raise not_understood(place, method, _shown(value))
    try:
        found, document = xml.read(value)
    except OneException as error:
        raise OneException(error.kind, f"{place} answered {method}: {error.message}") from None
    if root and found != root:
        raise not_understood(place, method, f"the document {found[:40]!r} instead of {root}")
    if not found.endswith(_POOL):
        if found in _PARTS:
            _check_objects(place, method, found, [document], whole=True)
        return document
    element = found.removesuffix(_POOL)
    # Pools of users and groups have the default quotas beside them.
    strange = [name for name in document if name != element and not name.endswith("QUOTAS")]
    if strange:
        raise not_understood(place, method, f"a pool that has {strange[0][:40]!r} in it")
    is_whole = not method.endswith(".info") or method.split(".")[1] not in _SHORT_POOLS
    _check_objects(place, method, element, xml.items(document, element), is_whole)
    return document


def _check_objects(place: str, asked: str, element: str, documents: list, whole: bool = False) -> None:
    needed = _PARTS.get(element, frozenset()) if whole else frozenset()
    for document in documents:
        if not isinstance(document, dict):
            what = f"no {element}" if document is None else f"a {element} that is {_shown(document)}"
            raise not_understood(place, asked, what)
        number = document.get("ID")
        if not isinstance(number, (str, int)) or values.number(str(number)) is None:
            raise not_understood(place, asked, f"a {element} whose ID is {_shown(number)}")
        wrong = next((name for name in needed if not _fits(name, document.get(name))), None)
        if wrong is None and element != "ACL" and not isinstance(document.get("NAME"), str):
            wrong = "NAME"
        if wrong:
            raise not_understood(place, asked, f"a {element} (id {number}) whose {wrong} is {_shown(document.get(wrong))}")


def _fits(name: str, value: object) -> bool:
    if name in _NUMBERS:
        return values.number(value) is not None
    # A part of which there is nothing is a text, of white space at most.
    return isinstance(value, str) if name in _TEXTS else isinstance(value, dict) or (isinstance(value, str) and not value.strip())


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value[:60] if isinstance(value, str) else value)
    return f"{text[:60]}... ({type(value).__name__})" if len(text) > 60 else text
