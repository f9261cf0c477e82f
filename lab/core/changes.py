# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Changing virtual machines that exist: their size, configuration, interfaces and disks."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy

from lab.core import devices, hosts, images, machine_rules, machines, quotas, restricted
from lab.core.call import Call, as_list, parse_template
from lab.core.context import render_context
from lab.core.errors import ACTION, INTERNAL, REQUEST, OneError
from lab.core.method import Method
from lab.core.states import VM_ACTIONS, LcmState, VmState, vm_state_name

#: what updateconf changes in which vectors; of other names nothing counts
_CONFIGURATION = {
    "OS": ("ARCH", "MACHINE", "KERNEL", "INITRD", "BOOTLOADER", "BOOT", "KERNEL_CMD", "ROOT", "SD_DISK_BUS", "UUID",
           "FIRMWARE", "FIRMWARE_FORMAT"),
    "FEATURES": ("PAE", "ACPI", "APIC", "LOCALTIME", "HYPERV", "GUEST_AGENT", "VIRTIO_SCSI_QUEUES", "VIRTIO_BLK_QUEUES",
                 "IOTHREADS", "GIC", "RAS", "MIGRATE_AUTO_CONVERGE", "MIGRATE_COMPRESSED"),
    "INPUT": ("TYPE", "BUS"),
    "GRAPHICS": ("TYPE", "LISTEN", "PASSWD", "KEYMAP", "COMMAND"),
    "VIDEO": ("IOMMU", "ATS", "TYPE", "VRAM", "RESOLUTION"),
    "RAW": ("TYPE", "DATA", "VALIDATE", "DATA_VMX"),
    "CPU_MODEL": ("MODEL", "FEATURES"),
}
_UPDATED = (*_CONFIGURATION, "CONTEXT", "BACKUP_CONFIG")
#: attributes of a context that belong to interfaces
OF_INTERFACE = re.compile(r"ETH\d+_\w+")
_RESIZABLE = (
    VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.POWEROFF, VmState.UNDEPLOYED, VmState.CLONING,
    VmState.CLONING_FAILURE,
)
_CONFIGURABLE = (
    VmState.PENDING, VmState.HOLD, VmState.POWEROFF, VmState.UNDEPLOYED, VmState.CLONING, VmState.CLONING_FAILURE,
)
_CONFIGURABLE_ACTIVE = (
    LcmState.LCM_INIT, LcmState.PROLOG, LcmState.RUNNING, LcmState.EPILOG, LcmState.SHUTDOWN,
    LcmState.SHUTDOWN_POWEROFF, LcmState.CLEANUP_DELETE, LcmState.BOOT_FAILURE, LcmState.EPILOG_FAILURE,
)
_SIZES = {"CPU": machine_rules.real, "MEMORY": machine_rules.whole, "VCPU": machine_rules.whole}


def nothing() -> None:
    """Nothing else has to be done."""


def runs(vm: dict) -> bool:
    return vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING


def demand_rest(vm: dict, what: str) -> None:
    """Refuse a change of a VM that neither runs nor is powered off. Raises OneError."""
    if not runs(vm) and vm["state"] != VmState.POWEROFF:
        raise OneError(ACTION, f"Could not {what} VM {vm['id']}, wrong state {vm_state_name(vm)}.")


def demand_no_router(vm: dict) -> None:
    """Refuse to change what a virtual router gives its VMs. Raises OneError."""
    if "VROUTER_ID" in vm["template"]:
        raise OneError(ACTION, "Action is not supported for virtual router VMs")


def vector(template: dict, name: str) -> dict:
    value = template.get(name)
    if not isinstance(value, dict):
        raise OneError(INTERNAL, f"Internal error parsing {name} attribute")
    return value


def _have_room(template: dict, wanted: dict) -> bool:
    """Whether a VM was made with room for another size."""
    limits = {name: template[f"{name}_MAX"] for name in ("MEMORY", "VCPU") if f"{name}_MAX" in template}
    grown = [name for name in ("MEMORY", "VCPU") if name in wanted]
    return bool(limits) and all(
        name in limits and wanted[name].isdigit() and int(wanted[name]) <= int(limits[name]) for name in grown
    )


def _resize(call: Call, vm_id: int, text: str, enforce: bool = True) -> int:
    """Give a VM another CPU, MEMORY or VCPU; one that runs only up to the limits it was made with.

    enforce: whether its host must have room for it, as it must for who is no administrator.
    """
    template = parse_template(text)
    vm = call.get("vm", vm_id, "MANAGE")
    restricted.check_new(call, "vm", template, "Template")
    sizes = {name: read(template.get(name)) or 0 for name, read in _SIZES.items()}
    for name, size in sizes.items():
        if size < 0:
            raise OneError(INTERNAL, f"{name} must be a positive {'float or ' if name == 'CPU' else ''}integer value.")
    # What is 0, or no number, stays as it is.
    wanted = {name: template[name].strip() for name, size in sizes.items() if size}
    limited = [name for name in ("CPU", "MEMORY") if name in wanted]
    quotas.check_resize(call, vm, {name: sizes[name] - float(vm["template"][name]) for name in limited})
    if vm["state"] not in _RESIZABLE and not runs(vm):
        raise OneError(ACTION, f"Cannot resize a VM in state {vm_state_name(vm)}")
    rests = vm["state"] not in (VmState.ACTIVE, VmState.POWEROFF)
    if not rests and not (call.core.driver.can_change and (not runs(vm) or _have_room(vm["template"], wanted))):
        raise OneError(ACTION, f"Hotplug resize not supported by driver {call.core.driver.name}")
    if not rests and (enforce or not call.is_admin):
        _check_host(call, vm, wanted)
    if runs(vm):
        change(call, vm, wanted, LcmState.HOTPLUG_RESIZE)
    else:
        vm["template"] |= wanted
    call.core.store.save("vm", vm)
    return vm_id


def _check_host(call: Call, vm: dict, wanted: dict) -> None:
    """Refuse a size for which the host of a VM has no room. Raises OneError."""
    host, new = call.core.store.get("host", vm["host"]), vm["template"] | wanted
    if host is None:
        raise OneError(ACTION, "Could not update host")
    lacking = hosts.lacking(call.core, host, new, vm["template"])
    if lacking:
        raise OneError(ACTION, lacking)


def _update_configuration(call: Call, vm_id: int, text: str, append: int = 0) -> int:
    """Replace the configuration (0) or merge into it (1), inside vectors too; a VM that runs gets its CONTEXT anew."""
    if append not in (0, 1):
        raise OneError(REQUEST, "Wrong update type")
    wanted = parse_template(text)
    vm = call.get("vm", vm_id, "MANAGE")
    restricted.check_new(call, "vm", {name: wanted[name] for name in _UPDATED if name in wanted}, "Template")
    if vm["state"] not in _CONFIGURABLE and not (vm["state"] == VmState.ACTIVE and vm["lcm"] in _CONFIGURABLE_ACTIVE):
        raise OneError(INTERNAL, f"configuration cannot be updated in state {vm_state_name(vm)}")
    new = deepcopy(vm["template"])
    for name, known in _CONFIGURATION.items():
        _replace_vector(new, wanted, name, known, bool(append))
    machine_rules.configuration(new)
    machine_rules.boot_order(new)
    if "CONTEXT" in wanted and "CONTEXT" not in new:
        raise OneError(INTERNAL, "Virtual machine does not have context, cannot add a new one.")
    context = _new_context(call, {**vm, "template": new}, wanted["CONTEXT"], bool(append)) if "CONTEXT" in wanted else None
    backup = machine_rules.backup(vm.get("backup", {}), wanted.get("BACKUP_CONFIG"), bool(append))
    changed = context is not None and context != vm["template"]["CONTEXT"]
    vm["template"], vm["backup"] = new, backup
    if changed and runs(vm):
        change(call, vm, {"CONTEXT": context}, LcmState.HOTPLUG)
    elif changed:
        vm["template"]["CONTEXT"] = context
    call.core.store.save("vm", vm)
    return vm_id


def _replace_vector(new: dict, wanted: dict, name: str, known: tuple[str, ...], append: bool) -> None:
    """Take over what can change in a vector; of one that is new everything counts."""
    given = next((value for value in as_list(wanted.get(name)) if isinstance(value, dict)), None)
    old = next((value for value in as_list(new.get(name)) if isinstance(value, dict)), None)
    if given is None and not append:
        new.pop(name, None)
    elif given is not None and old is None:
        new[name] = dict(given)
    elif given is not None:
        kept = {part: value for part, value in old.items() if append or part not in known}
        new[name] = kept | {part: value for part, value in given.items() if part in known}


def _new_context(call: Call, vm: dict, wanted: dict, append: bool) -> dict:
    """Return the context of a VM after a wish. Raises OneError when it changes what its interfaces say."""
    before = vm["template"]["CONTEXT"]
    for name, value in wanted.items():
        if OF_INTERFACE.fullmatch(name) and before.get(name) != value:
            how = "update" if name in before else "add"
            raise OneError(INTERNAL, f"Unable to {how} {name}, update NIC to update network context")
    own = {name: value for name, value in wanted.items() if before.get(name) != value or (name == "NETWORK" and not append)}
    equal = {name: value for name, value in wanted.items() if before.get(name) == value}
    rendered = render_context(call.core, vm, own)
    return (before if append else {}) | rendered | equal | _kept(before)


def _attach_disk(call: Call, vm_id: int, text: str) -> int:
    vm = call.find("vm", vm_id)
    if not vm["history"]:
        raise OneError(ACTION, "VM is not running in any host")
    demand_no_router(vm)
    template = parse_template(text)
    call.authorize(("MANAGE", "vm", vm), *machines.uses(call, template))
    restricted.check_new(call, "vm", template, "DISK")
    demand_rest(vm, "attach a new disk to")
    disk = with_code(ACTION, lambda: machines.new_disk(call, vm, vector(template, "DISK")))
    within_quota(lambda: quotas.check_disk(call, vm, disk), lambda: _release_image(call, vm, disk))
    passing = LcmState.HOTPLUG if runs(vm) else LcmState.HOTPLUG_PROLOG_POWEROFF
    disks = [*vm["template"]["DISK"], disk]
    change(call, vm, {"DISK": disks}, passing, undo=lambda: _release_image(call, vm, disk))
    return vm_id


def _detach_disk(call: Call, vm_id: int, disk_id: int) -> int:
    vm = call.find("vm", vm_id)
    demand_no_router(vm)
    call.authorize(("MANAGE", "vm", vm))
    disks = vm["template"]["DISK"]
    disk = next((disk for disk in disks if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None:
        raise OneError(ACTION, "VM disk does not exist")
    demand_rest(vm, "detach disk from")
    passing = LcmState.HOTPLUG if runs(vm) else LcmState.HOTPLUG_EPILOG_POWEROFF
    left = [other for other in disks if other is not disk]
    change(call, vm, {"DISK": left}, passing, done=lambda: _release_image(call, vm, disk))
    return vm_id


def with_code(code: int, act: Callable[[], dict]) -> dict:
    """Do something that refuses with another code than oned does here. Raises OneError."""
    try:
        return act()
    except OneError as error:
        raise OneError(code if error.code == INTERNAL else error.code, error.message, error.object_id) from error


def _attach_pci(call: Call, vm_id: int, text: str) -> int:
    template = parse_template(text)
    request = template.get("PCI")
    if not isinstance(request, dict):
        raise OneError(ACTION, "PCI attribute not found")
    if request.get("TYPE") == "NIC":
        raise OneError(ACTION, "Use one.vm.attachnic to attach this PCI device")
    if wrong := devices.problem(request):
        raise OneError(ACTION, wrong)
    vm = call.get("vm", vm_id, "MANAGE")
    restricted.check_new(call, "vm", template, "PCI")
    host = _host_at_rest(call, vm)
    there = vm["template"].get("PCI", [])
    request = {**request, "PCI_ID": str(1 + max((int(pci["PCI_ID"]) for pci in there), default=-1))}
    chosen = devices.choose(host, hosts.machines_on(call.core, host["id"]), [request])
    if chosen is None:
        raise OneError(ACTION, "Cannot assign PCI device in host. Check address and free devices")
    devices.give([request], chosen)
    _keep_pcis(call, vm, [*there, request], "attachpci")
    return vm_id


def _detach_pci(call: Call, vm_id: int, pci_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _host_at_rest(call, vm)
    there = vm["template"].get("PCI", [])
    pci = next((pci for pci in there if pci["PCI_ID"] == str(pci_id)), None)
    if pci is None:
        raise OneError(ACTION, "PCI device not found")
    _keep_pcis(call, vm, [other for other in there if other is not pci], "detachpci")
    return vm_id


def _host_at_rest(call: Call, vm: dict) -> dict:
    """Return the host of a VM that is powered off. Raises OneError for one that is not."""
    if vm["state"] != VmState.POWEROFF:
        raise OneError(ACTION, "VM in wrong state, it has to be in poweroff")
    return call.core.store.get("host", vm["host"])


def _keep_pcis(call: Call, vm: dict, pcis: list[dict], action: str) -> None:
    vm["template"]["PCI"] = pcis
    call.core.lifecycle.note_action(vm, call.user, VM_ACTIONS[action])
    call.core.store.save("vm", vm)


def within_quota(check: Callable[[], None], undo: Callable[[], None]) -> None:
    """Undo what was taken already when a quota does not allow it. Raises OneError."""
    try:
        check()
    except OneError:
        undo()
        raise


def _release_image(call: Call, vm: dict, disk: dict) -> None:
    if "IMAGE_ID" in disk:
        images.release(call.core, int(disk["IMAGE_ID"]), vm["id"])


def change(call: Call, vm: dict, changed: dict, passing: LcmState, done: Callable = nothing,
            undo: Callable = nothing) -> None:
    """Put attributes into the VM's template and let the driver take them over; when it fails all is as before."""
    before = vm["template"]
    vm["template"] = before | changed

    def failed() -> None:
        vm["template"] = before
        undo()

    call.core.lifecycle.change(vm, passing, done, failed, context_only=list(changed) == ["CONTEXT"])


def _kept(context: dict) -> dict:
    """What a context keeps when the disks change."""
    return {name: context[name] for name in ("DISK_ID", "TARGET")}


METHODS = {
    "one.vm.resize": Method(_resize, "i s b?"),
    "one.vm.updateconf": Method(_update_configuration, "i s i?"),
    "one.vm.attach": Method(_attach_disk, "i s"),
    "one.vm.detach": Method(_detach_disk, "i i"),
    "one.vm.attachpci": Method(_attach_pci, "i s"),
    "one.vm.detachpci": Method(_detach_pci, "i i"),
}
