# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Templates of virtual networks, and the networks made from them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from lab.core import networks, restricted
from lab.core.call import Call, as_list, parse_template, settle, text_of
from lab.core.errors import ALLOCATE, INTERNAL, OneError
from lab.core.markup import attributes
from lab.core.method import Method
from lab.core.pools import generic_methods, head, merged

if TYPE_CHECKING:
    from lab.core.api import Core

_DEFAULT_CLUSTER = 0
_FAILED = "Error allocating a new virtual network template. "


def _body(core: Core, template: dict) -> dict:
    return head(core, template) | {"REGTIME": template["regtime"], "TEMPLATE": attributes(template["template"])}


def _add(call: Call, name: str, template: dict, _source: dict | None = None) -> dict:
    call.check_name("vntemplate", name, INTERNAL)
    if not template.get("VN_MAD"):
        raise OneError(INTERNAL, "Error inserting Template in DB. VN_MAD is mandatory")
    return call.new("vntemplate", name, regtime=call.core.now(), template=template)


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "vntemplate", None))
    item = _add(call, settle(template, ["NAME"]).pop("NAME", ""), template)
    call.core.store.save("vntemplate", item)
    return item["id"]


def _instantiate(call: Call, template_id: int, name: str, text: str) -> int:
    """Make a network; the ranges of the caller come on top of the template's, other attributes instead of them."""
    source = call.find("vntemplate", template_id)
    extra = parse_template(text)
    added = as_list(extra.pop("AR", None))
    restricted.check_extra(call, extra, source["template"], kind="vn", where="Extra Template")
    template = merged(deepcopy(source["template"]), extra)
    ranges = [*as_list(template.get("AR")), *added]
    template |= {"AR": ranges} if ranges else {}
    template.pop("NAME", None)
    owners = networks.owner_wanted(call, template)
    call.authorize(("USE", "vntemplate", source))
    known = {cluster["id"] for cluster in call.core.store.all("cluster")}
    named = [int(number) for number in text_of(template, "CLUSTER_IDS").split(",") if number.strip().isdigit()]
    clusters = [number for number in named if number in known] if text_of(template, "CLUSTER_IDS") else [_DEFAULT_CLUSTER]
    try:
        return networks.add(call, name, template, clusters, source=source, **owners)
    except OneError as error:
        raise OneError(ALLOCATE if error.code == INTERNAL else error.code, f"{_FAILED}{error.message}") from error


METHODS = generic_methods("vntemplate", _body, cloner=_add) | {
    "one.vntemplate.allocate": Method(_allocate, "s"),
    "one.vntemplate.instantiate": Method(_instantiate, "i s s"),
}
