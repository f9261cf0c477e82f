# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""VM templates, and the VMs made from them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from lab.core import machines, restricted
from lab.core.call import Call, parse_template
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import attributes
from lab.core.pools import BODIES, head, merged
from lab.core.registry import method

if TYPE_CHECKING:
    from lab.core.api import Core


def _body(core: Core, template: dict) -> dict:
    return head(core, template) | {"REGTIME": template["regtime"], "TEMPLATE": attributes(template["template"])}


BODIES["template"] = _body


@method("one.template.allocate", "s")
def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "template", None))
    restricted.check_new(call, "template", template)
    return _add(call, template.pop("NAME", ""), template)


@method("one.template.clone", "i s b?")
def _clone(call: Call, template_id: int, name: str, clone_images: bool = False) -> int:
    source = call.get("template", template_id)
    if clone_images:
        raise OneError(ACTION, "Cannot clone template. Copies of images are not supported")
    call.authorize(("CREATE", "template", None))
    return _add(call, name, deepcopy(source["template"]))


def _add(call: Call, name: str, attributes_: dict) -> int:
    call.check_name("template", name, INTERNAL)
    template = call.new("template", name, regtime=call.core.now(), template=attributes_)
    call.core.store.save("template", template)
    return template["id"]


@method("one.template.instantiate", "i s b? s? b?")
def _instantiate(
    call: Call, template_id: int, name: str, hold: bool = False, extra: str = "", persistent: bool = False
) -> int:
    source = call.find("template", template_id)
    if persistent:
        raise OneError(ACTION, "Cannot instantiate template. Copies of images are not supported")
    changes = parse_template(extra)
    restricted.check_extra(call, changes, source["template"])
    template = merged(deepcopy(source["template"]), changes) | {"TEMPLATE_ID": str(template_id)}
    demands = [("USE", "template", source)]
    # Whoever adds to a template makes one of his own, whatever he adds.
    demands += [("CREATE", "template", None)] if extra else []
    return machines.allocate(call, template, name, hold, source["name"], tuple(demands))


@method("one.vm.allocate", "s b?")
def _allocate_vm(call: Call, text: str, hold: bool = False) -> int:
    template = parse_template(text)
    restricted.check_new(call, "vm", template)
    return machines.allocate(call, template, template.get("NAME", ""), hold, "one", (("CREATE", "vm", None),))
