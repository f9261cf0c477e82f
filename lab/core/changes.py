# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Changing virtual machines that exist: their size, configuration, interfaces and disks."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy

from lab.core import devices, hosts, images, machine_rules, machines, networks, quotas, restricted
from lab.core.call import Call, as_list, parse_template
from lab.core.context import render_context
from lab.core.errors import ACTION, INTERNAL, REQUEST, OneError
from lab.core.registry import method
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
_OF_INTERFACE = re.compile(r"ETH\d+_\w+")
_RESIZABLE = (
    VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.POWEROFF, VmState.UNDEPLOYED, VmState.CLONING,
    VmState.CLONING_FAILURE,
)
_KB = 1024
_CONFIGURABLE = (
    VmState.PENDING, VmState.HOLD, VmState.POWEROFF, VmState.UNDEPLOYED, VmState.CLONING, VmState.CLONING_FAILURE,
)
_CONFIGURABLE_ACTIVE = (
    LcmState.LCM_INIT, LcmState.PROLOG, LcmState.RUNNING, LcmState.EPILOG, LcmState.SHUTDOWN,
    LcmState.SHUTDOWN_POWEROFF, LcmState.CLEANUP_DELETE, LcmState.BOOT_FAILURE, LcmState.EPILOG_FAILURE,
)
#: what can change of an interface that is there
_BANDWIDTH = tuple(f"{way}_{rate}" for way in ("INBOUND", "OUTBOUND") for rate in ("AVG_BW", "PEAK_BW", "PEAK_KB"))
_SIZES = {"CPU": machine_rules.real, "MEMORY": machine_rules.whole, "VCPU": machine_rules.whole}


def _nothing() -> None:
    """Nothing else has to be done."""


def _runs(vm: dict) -> bool:
    return vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING


def _demand_rest(vm: dict, what: str) -> None:
    """Refuse a change of a VM that neither runs nor is powered off. Raises OneError."""
    if not _runs(vm) and vm["state"] != VmState.POWEROFF:
        raise OneError(ACTION, f"Could not {what} VM {vm['id']}, wrong state {vm_state_name(vm)}.")


def _demand_no_router(vm: dict) -> None:
    """Refuse to change what a virtual router gives its VMs. Raises OneError."""
    if "VROUTER_ID" in vm["template"]:
        raise OneError(ACTION, "Action is not supported for virtual router VMs")


def _vector(template: dict, name: str) -> dict:
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


@method("one.vm.resize", "i s b?")
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
    if vm["state"] not in _RESIZABLE and not _runs(vm):
        raise OneError(ACTION, f"Cannot resize a VM in state {vm_state_name(vm)}")
    rests = vm["state"] not in (VmState.ACTIVE, VmState.POWEROFF)
    if not rests and not (call.core.driver.can_change and (not _runs(vm) or _have_room(vm["template"], wanted))):
        raise OneError(ACTION, f"Hotplug resize not supported by driver {call.core.driver.name}")
    if not rests and (enforce or not call.is_admin):
        _check_host(call, vm, wanted)
    if _runs(vm):
        _change(call, vm, wanted, LcmState.HOTPLUG_RESIZE)
    else:
        vm["template"] |= wanted
    call.core.store.save("vm", vm)
    return vm_id


def _check_host(call: Call, vm: dict, wanted: dict) -> None:
    """Refuse a size for which the host of a VM has no room. Raises OneError."""
    host, new = call.core.store.get("host", vm["host"]), vm["template"] | wanted
    if host is None:
        raise OneError(ACTION, "Could not update host")
    used_cpu, used_memory = hosts.usage(call.core, host["id"])
    cpu, memory = round(float(new["CPU"]) * 100), int(new["MEMORY"]) * _KB
    used_cpu -= round(float(vm["template"]["CPU"]) * 100)
    used_memory -= int(vm["template"]["MEMORY"]) * _KB
    for what, needed, free in (("CPU", cpu, host["cpu"] - used_cpu), ("memory", memory, host["memory"] - used_memory)):
        if needed > free:
            raise OneError(ACTION, f"Not enough {what}: {needed}/{free}")


@method("one.vm.updateconf", "i s i?")
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
    if changed and _runs(vm):
        _change(call, vm, {"CONTEXT": context}, LcmState.HOTPLUG)
    elif changed:
        vm["template"]["CONTEXT"] = context
    call.core.store.save("vm", vm)
    return vm_id


def _replace_vector(new: dict, wanted: dict, name: str, known: tuple[str, ...], append: bool) -> None:
    """Take over what can change in a vector; of one that is new everything counts."""
    vector = next((value for value in as_list(wanted.get(name)) if isinstance(value, dict)), None)
    old = next((value for value in as_list(new.get(name)) if isinstance(value, dict)), None)
    if vector is None and not append:
        new.pop(name, None)
    elif vector is not None and old is None:
        new[name] = dict(vector)
    elif vector is not None:
        kept = {part: value for part, value in old.items() if append or part not in known}
        new[name] = kept | {part: value for part, value in vector.items() if part in known}


def _new_context(call: Call, vm: dict, wanted: dict, append: bool) -> dict:
    """Return the context of a VM after a wish. Raises OneError when it changes what its interfaces say."""
    before = vm["template"]["CONTEXT"]
    for name, value in wanted.items():
        if _OF_INTERFACE.fullmatch(name) and before.get(name) != value:
            how = "update" if name in before else "add"
            raise OneError(INTERNAL, f"Unable to {how} {name}, update NIC to update network context")
    own = {name: value for name, value in wanted.items() if before.get(name) != value or (name == "NETWORK" and not append)}
    equal = {name: value for name, value in wanted.items() if before.get(name) == value}
    rendered = render_context(call.core, vm, own)
    return (before if append else {}) | rendered | equal | _kept(before)


@method("one.vm.attachnic", "i s")
def _attach_nic(call: Call, vm_id: int, text: str) -> int:
    vm = call.find("vm", vm_id)
    _demand_no_router(vm)
    template = parse_template(text)
    call.authorize(("MANAGE", "vm", vm), *machines.uses(call, template))
    restricted.check_new(call, "vm", template, "NIC")
    return attach_nic(call, vm, template)


def attach_nic(call: Call, vm: dict, template: dict) -> int:
    """Give a VM the NIC of a template. Raises OneError."""
    _demand_rest(vm, "add a new NIC to")
    kind = next((name for name in ("NIC", "NIC_ALIAS", "PCI") if name in template), "NIC")
    device = _device_nic(call, vm, _vector(template, kind)) if kind == "PCI" else {}
    nic = device | _with_code(ACTION, lambda: machines.new_nic(call, vm, _vector(template, kind) | device, kind == "NIC_ALIAS"))
    if "NETWORK_ID" in nic:
        _within_quota(lambda: quotas.check_nic(call, vm, int(nic["NETWORK_ID"])), lambda: _release_lease(call, vm, nic))
    there = vm["template"].get(kind, [])
    _change_nics(call, vm, kind, [*there, nic], undo=lambda: _release_lease(call, vm, nic))
    return vm["id"]


def _device_nic(call: Call, vm: dict, request: dict) -> dict:
    """Return a PCI device of the VM's host that becomes an interface. Raises OneError."""
    if request.get("TYPE") != "NIC":
        raise OneError(ACTION, "PCI device is not of type NIC")
    if wrong := devices.problem(request):
        raise OneError(ACTION, wrong)
    host = call.core.store.get("host", vm["host"])
    chosen = devices.choose(host, hosts.machines_on(call.core, host["id"]), [request])
    if chosen is None:
        raise OneError(ACTION, "Cannot assign PCI device in host. Check address and free devices")
    there = vm["template"].get("PCI", [])
    device = {"PCI_ID": str(1 + max((int(pci["PCI_ID"]) for pci in there), default=-1))}
    devices.give([device], chosen)
    return device


@method("one.vm.detachnic", "i i")
def _detach_nic(call: Call, vm_id: int, nic_id: int) -> int:
    vm = call.find("vm", vm_id)
    _demand_no_router(vm)
    call.authorize(("MANAGE", "vm", vm))
    return detach_nic(call, vm, nic_id)


def detach_nic(call: Call, vm: dict, nic_id: int) -> int:
    """Take an interface away, with its aliases; or an alias. Raises OneError."""
    _demand_rest(vm, "detach NIC from")
    kind, nic = _find_nic(vm, nic_id)
    if nic is None:
        raise OneError(ACTION, f"Could not detach NIC with NIC_ID {nic_id}, it does not exist.")
    left = [other for other in vm["template"][kind] if other is not nic]
    gone, aliases = [nic], list(vm["template"].get("NIC_ALIAS", ()))
    if kind == "NIC":
        gone += [alias for alias in aliases if alias["PARENT_ID"] == nic["NIC_ID"]]
        more = {"NIC_ALIAS": [alias for alias in aliases if alias not in gone]} if aliases else {}
    else:
        more = {"NIC": [_without_alias(parent, nic) for parent in vm["template"]["NIC"]]} if kind == "NIC_ALIAS" else {}

    def done() -> None:
        for each in gone:
            _release_lease(call, vm, each)

    _change_nics(call, vm, kind, left, done=done, more=more)
    return vm["id"]


@method("one.vm.updatenic", "i i s i?")
def _update_nic(call: Call, vm_id: int, nic_id: int, text: str, append: int = 0) -> int:
    """Change the bandwidth of an interface; what else a template says of it counts for nothing."""
    vm = call.find("vm", vm_id)
    _demand_no_router(vm)
    kind, nic = _find_nic(vm, nic_id)
    if nic is None:
        raise OneError(ACTION, f"VM {vm_id}: NIC {nic_id} does not exists")
    if kind == "NIC_ALIAS":
        raise OneError(ACTION, "Action not supported for NIC_ALIAS")
    template = parse_template(text)
    call.authorize(("MANAGE", "vm", vm), *machines.uses(call, template))
    restricted.check_new(call, "vm", template, "NIC")
    failed = f"Error updating NIC ({nic_id}) for VM {vm_id}: "
    if vm["state"] == VmState.ACTIVE and vm["lcm"] != LcmState.RUNNING:
        raise OneError(ACTION, f"{failed}Wrong state {vm_state_name(vm)}")
    wanted = next((value for value in as_list(template.get("NIC")) if isinstance(value, dict)), None)
    if wanted is None:
        raise OneError(ACTION, f"{failed}Wrong NIC definition, attribute is missing")
    kept = {name: value for name, value in nic.items() if append or name not in _BANDWIDTH}
    changed = kept | {name: value for name, value in wanted.items() if name in _BANDWIDTH}
    nics = [changed if other is nic else other for other in vm["template"][kind]]
    if changed == nic:
        return vm_id
    if _runs(vm):
        _change_nics(call, vm, kind, nics)
    else:
        vm["template"][kind] = nics
        call.core.store.save("vm", vm)
    return vm_id


def _find_nic(vm: dict, nic_id: int) -> tuple[str, dict | None]:
    for kind in ("NIC", "NIC_ALIAS", "PCI"):
        for nic in vm["template"].get(kind, ()):
            if nic.get("NIC_ID") == str(nic_id):
                return kind, nic
    return "NIC", None


def _without_alias(nic: dict, alias: dict) -> dict:
    left = [number for number in nic.get("ALIAS_IDS", "").split(",") if number and number != alias["NIC_ID"]]
    return {name: value for name, value in nic.items() if name != "ALIAS_IDS"} | ({"ALIAS_IDS": ",".join(left)} if left else {})


@method("one.vm.attachsg", "i i i")
def _attach_security_group(call: Call, vm_id: int, nic_id: int, group_id: int) -> int:
    vm = call.find("vm", vm_id)
    _kind, nic = _find_nic(vm, nic_id)
    if nic is None:
        raise OneError(INTERNAL, f"VM {vm_id} doesn't have NIC id {nic_id}")
    group = call.core.store.get("secgroup", group_id)
    call.authorize(("MANAGE", "vm", vm), *([("USE", "secgroup", group)] if group else []))
    if group is None:
        raise OneError(ACTION, f"Could not attach SG {group_id} to VM, SG does not exist")
    _demand_security_state(vm)
    if str(group_id) in nic.get("SECURITY_GROUPS", "").split(","):
        raise OneError(ACTION, f"VM {vm_id} SG {group_id} already in NIC {nic_id}")
    return _set_security_groups(call, vm, nic, networks.security_groups({"SECURITY_GROUPS": str(group_id)}, nic))


@method("one.vm.detachsg", "i i i")
def _detach_security_group(call: Call, vm_id: int, nic_id: int, group_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _demand_security_state(vm)
    _kind, nic = _find_nic(vm, nic_id)
    if nic is None:
        raise OneError(ACTION, f"VM {vm_id} doesn't have NIC id {nic_id}")
    numbers = nic.get("SECURITY_GROUPS", "").split(",")
    if str(group_id) not in numbers:
        raise OneError(ACTION, f"VM {vm_id} NIC {nic_id} doesn't contain SG {group_id}")
    return _set_security_groups(call, vm, nic, ",".join(number for number in numbers if number != str(group_id)))


def _demand_security_state(vm: dict) -> None:
    if not _runs(vm) and vm["state"] != VmState.POWEROFF:
        raise OneError(ACTION, f"VM {vm['id']} is in wrong state {vm_state_name(vm)}")


def _set_security_groups(call: Call, vm: dict, nic: dict, numbers: str) -> int:
    kind, _nic = _find_nic(vm, int(nic["NIC_ID"]))
    nics = [other | {"SECURITY_GROUPS": numbers} if other is nic else other for other in vm["template"][kind]]
    _change_nics(call, vm, kind, nics)
    return vm["id"]


@method("one.vm.attach", "i s")
def _attach_disk(call: Call, vm_id: int, text: str) -> int:
    vm = call.find("vm", vm_id)
    if not vm["history"]:
        raise OneError(ACTION, "VM is not running in any host")
    _demand_no_router(vm)
    template = parse_template(text)
    call.authorize(("MANAGE", "vm", vm), *machines.uses(call, template))
    restricted.check_new(call, "vm", template, "DISK")
    _demand_rest(vm, "attach a new disk to")
    disk = _with_code(ACTION, lambda: machines.new_disk(call, vm, _vector(template, "DISK")))
    _within_quota(lambda: quotas.check_disk(call, vm, disk), lambda: _release_image(call, vm, disk))
    passing = LcmState.HOTPLUG if _runs(vm) else LcmState.HOTPLUG_PROLOG_POWEROFF
    disks = [*vm["template"]["DISK"], disk]
    _change(call, vm, {"DISK": disks}, passing, undo=lambda: _release_image(call, vm, disk))
    return vm_id


@method("one.vm.detach", "i i")
def _detach_disk(call: Call, vm_id: int, disk_id: int) -> int:
    vm = call.find("vm", vm_id)
    _demand_no_router(vm)
    call.authorize(("MANAGE", "vm", vm))
    disks = vm["template"]["DISK"]
    disk = next((disk for disk in disks if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None:
        raise OneError(ACTION, "VM disk does not exist")
    _demand_rest(vm, "detach disk from")
    passing = LcmState.HOTPLUG if _runs(vm) else LcmState.HOTPLUG_EPILOG_POWEROFF
    left = [other for other in disks if other is not disk]
    _change(call, vm, {"DISK": left}, passing, done=lambda: _release_image(call, vm, disk))
    return vm_id


def _with_code(code: int, act: Callable[[], dict]) -> dict:
    """Do something that refuses with another code than oned does here. Raises OneError."""
    try:
        return act()
    except OneError as error:
        raise OneError(code if error.code == INTERNAL else error.code, error.message, error.object_id) from error


@method("one.vm.attachpci", "i s")
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


@method("one.vm.detachpci", "i i")
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


def _within_quota(check: Callable[[], None], undo: Callable[[], None]) -> None:
    """Undo what was taken already when a quota does not allow it. Raises OneError."""
    try:
        check()
    except OneError:
        undo()
        raise


def _release_lease(call: Call, vm: dict, nic: dict) -> None:
    if "NETWORK_ID" in nic:
        networks.release(call.core, int(nic["NETWORK_ID"]), vm["id"], nic["MAC"])


def _release_image(call: Call, vm: dict, disk: dict) -> None:
    if "IMAGE_ID" in disk:
        images.release(call.core, int(disk["IMAGE_ID"]), vm["id"])


def _change_nics(
    call: Call, vm: dict, kind: str, nics: list[dict], done: Callable = _nothing, undo: Callable = _nothing,
    more: dict | None = None,
) -> None:
    changed = {kind: nics} | (more or {})
    changed["SECURITY_GROUP_RULE"] = networks.rules(call.core, machines.interfaces(vm["template"] | changed))
    context = vm["template"].get("CONTEXT")
    if context:
        # The addresses in the context are those of the interfaces there are.
        own = {name: value for name, value in context.items() if not _OF_INTERFACE.fullmatch(name)}
        with_nics = {**vm, "template": vm["template"] | changed}
        addresses = render_context(call.core, with_nics, {"NETWORK": context.get("NETWORK", "")})
        changed["CONTEXT"] = own | {name: value for name, value in addresses.items() if _OF_INTERFACE.fullmatch(name)}
    passing = LcmState.HOTPLUG_NIC if _runs(vm) else LcmState.HOTPLUG_NIC_POWEROFF
    _change(call, vm, changed, passing, done, undo)


def _change(call: Call, vm: dict, changed: dict, passing: LcmState, done: Callable = _nothing,
            undo: Callable = _nothing) -> None:
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
