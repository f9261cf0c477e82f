# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""VM templates, and the VMs made from them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from lab.core import machines
from lab.core.call import Call, as_list, parse_template
from lab.core.errors import ACTION, AUTHORIZATION, INTERNAL, OneError
from lab.core.markup import attributes
from lab.core.pools import BODIES, UPDATERS, head
from lab.core.registry import method

if TYPE_CHECKING:
    from lab.core.api import Core

#: attributes only the group oneadmin may set, by the vector they are in ("": not in one)
_RESTRICTED = {
    "": ("CPU_COST", "DISK_COST", "EMULATOR", "MEMORY_COST", "PCI", "RAW", "USER_PRIORITY"),
    "CONTEXT": ("FILES",),
    "DISK": ("OPENNEBULA_MANAGED", "ORIGINAL_SIZE", "SIZE_PREV"),
    "NIC": ("BRIDGE", "FILTER", "MAC", "VLAN_ID"),
    "OS": ("INITRD_DS", "KERNEL_DS"),
}


def check_restricted(call: Call, template: dict) -> None:
    """Refuse restricted attributes of ordinary users. Raises OneError."""
    if call.is_admin:
        return
    used = [name for name in _RESTRICTED[""] if name in template]
    for vector, names in _RESTRICTED.items():
        used += [name for item in as_list(template.get(vector)) if vector for name in names if name in item]
    if used:
        raise OneError(
            AUTHORIZATION, f"User [{call.user['id']}] : VM Template includes a restricted attribute {used[0]}."
        )


def _body(core: Core, template: dict) -> dict:
    return head(core, template) | {"REGTIME": template["regtime"], "TEMPLATE": attributes(template["template"])}


def _update(call: Call, _item: dict, template: dict) -> dict:
    check_restricted(call, template)
    return template


BODIES["template"] = _body
UPDATERS["template"] = _update


@method("one.template.allocate", "s")
def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "template", None))
    check_restricted(call, template)
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
    source = call.get("template", template_id)
    if persistent:
        raise OneError(ACTION, "Cannot instantiate template. Copies of images are not supported")
    changes = parse_template(extra)
    check_restricted(call, changes)
    template = deepcopy(source["template"]) | changes | {"TEMPLATE_ID": str(template_id)}
    return machines.allocate(call, template, name or template.get("NAME", ""), hold, fallback_name=source["name"])


@method("one.vm.allocate", "s b?")
def _allocate_vm(call: Call, text: str, hold: bool = False) -> int:
    template = parse_template(text)
    check_restricted(call, template)
    return machines.allocate(call, template, template.get("NAME", ""), hold, fallback_name="one")
