# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""VM templates, and the VMs made from them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from lab.core import images, machine_rules, machines, restricted, rights
from lab.core.call import UNLOCKED, Call, as_list, parse_template, settle, text_of
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.kinds import KINDS
from lab.core.markup import attributes, element
from lab.core.method import Method
from lab.core.pools import check_clone, chmod, generic_methods, head, merged

if TYPE_CHECKING:
    from lab.core.api import Core


def _body(core: Core, template: dict) -> dict:
    return head(core, template) | {"REGTIME": template["regtime"], "TEMPLATE": attributes(template["template"])}


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "template", None))
    restricted.check_new(call, "template", template)
    return _add(call, settle(template, ["NAME"]).pop("NAME", ""), template)


def _clone(call: Call, template_id: int, name: str, clone_images: bool = False) -> int:
    return _copy(call, template_id, name, {}, clone_images, persistent=False)


def _copy(call: Call, template_id: int, name: str, changes: dict, clone_images: bool, persistent: bool) -> int:
    """Copy a VM template with changes, and its images too if wanted; when one cannot be, nothing is left."""
    source = call.find("template", template_id)
    restricted.check_extra(call, changes, source["template"])
    check_clone(call, "template", source)
    with call.making("template", copying=True):
        new_id = _add(call, name, merged(deepcopy(source["template"]), changes))
    if not clone_images:
        return new_id
    template, made = call.core.store.get("template", new_id), []
    disks = [dict(disk) for disk in as_list(template["template"].get("DISK"))]
    try:
        for number, disk in enumerate(disks):
            image = machines.image_of(call, disk)
            if image:
                made.append(images.clone(call, image["id"], f"{name}-disk-{number}", persistent=persistent))
                for part in ("IMAGE", "IMAGE_UNAME", "IMAGE_UID", "OPENNEBULA_MANAGED"):
                    disk.pop(part, None)
                disk["IMAGE_ID"] = str(made[-1])
    except OneError as error:
        for number in made:
            images.remove(call.core, number)
        call.core.store.remove("template", new_id)
        raise OneError(ACTION, f"Failed to clone images: {error.message}") from error
    if disks:
        template["template"]["DISK"] = disks if len(disks) > 1 else disks[0]
    call.core.store.save("template", template)
    return new_id


def _info(call: Call, template_id: int, extended: bool = False, _decrypt: bool = False) -> str:
    """Show a VM template, extended by what its disks would have."""
    template = call.find("template", template_id)
    shown_template = template["template"]
    demands = machines.uses(call, shown_template) if extended else []
    call.authorize(*((right + UNLOCKED, kind, item) for right, kind, item in (("USE", "template", template), *demands)))
    if extended:
        disks = [machines.extended_disk(call, number, disk) for number, disk in enumerate(as_list(shown_template.get("DISK")))]
        shown_template = shown_template | ({"DISK": disks} if disks else {})
    return element("VMTEMPLATE", _body(call.core, {**template, "template": shown_template}))


def _delete(call: Call, template_id: int, with_images: bool = False) -> int:
    template = call.get("template", template_id, "MANAGE")
    found = [machines.image_of(call, disk) for disk in as_list(template["template"].get("DISK"))] if with_images else []
    call.core.store.remove("template", template_id)
    rights.forget_object(call.core, KINDS["template"], template_id)
    # Images that stay, because somebody uses or does not own them, are no reason to fail.
    for image in {image["id"]: image for image in found if image}.values():
        if call.may("MANAGE", "image", image) and not image["vms"]:
            images.remove(call.core, image["id"])
    return template_id


def _chmod(call: Call, template_id: int, *parameters: int) -> int:
    """Change permissions, those of the images too if the last parameter says so."""
    bits, with_images = parameters[:9], parameters[9:] == (True,)
    chmod(KINDS["template"], call, template_id, *bits)
    template = call.find("template", template_id)
    found = [machines.image_of(call, disk) for disk in as_list(template["template"].get("DISK"))] if with_images else []
    for image in found:
        if image:
            chmod(KINDS["image"], call, image["id"], *bits)
    return template_id


def _add(call: Call, name: str, attributes_: dict) -> int:
    call.check_name("template", name, INTERNAL)
    template = call.new("template", name, regtime=call.core.now(), template=attributes_)
    call.core.store.save("template", template)
    return template["id"]


def _instantiate(
    call: Call, template_id: int, name: str, hold: bool = False, extra: str = "", persistent: bool = False
) -> int:
    source = call.find("template", template_id)
    if machine_rules.switch(source["template"].get("VROUTER", "")) == "YES":
        raise OneError(ACTION, "Virtual router templates cannot be instantiated")
    if persistent:
        copy_id = _copy(
            call, template_id, name or f"{source['name']}-copy", parse_template(extra), clone_images=True, persistent=True
        )
        return _instantiate(call, copy_id, name, hold, f"CLONING_TEMPLATE_ID={template_id}\n")
    changes = parse_template(extra)
    restricted.check_extra(call, changes, source["template"])
    template = merged(deepcopy(source["template"]), changes) | {"TEMPLATE_ID": str(template_id)}
    demands = [("USE", "template", source)]
    # Whoever adds to a template makes one of his own, whatever he adds.
    demands += [("CREATE", "template", None)] if extra else []
    return machines.allocate(call, template, name, hold, source["name"], tuple(demands))


def _allocate_vm(call: Call, text: str, hold: bool = False) -> int:
    template = parse_template(text)
    restricted.check_new(call, "vm", template)
    return machines.allocate(call, template, text_of(template, "NAME"), hold, "one", (("CREATE", "vm", None),), machines.VM)


METHODS = generic_methods("template", _body) | {
    "one.template.allocate": Method(_allocate, "s"),
    "one.template.clone": Method(_clone, "i s b?"),
    "one.template.info": Method(_info, "i b? b?"),
    "one.template.delete": Method(_delete, "i b?"),
    "one.template.chmod": Method(_chmod, "i" + " i" * 9 + " b?"),
    "one.template.instantiate": Method(_instantiate, "i s b? s? b?"),
    "one.vm.allocate": Method(_allocate_vm, "s b?"),
}
