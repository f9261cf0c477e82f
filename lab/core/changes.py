# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Changing virtual machines that exist: their size, configuration, interfaces and disks."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from lab.core import devices, hosts, images, machines, networks, quotas
from lab.core.call import Call, parse_template
from lab.core.context import render_context
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.registry import method
from lab.core.states import VM_ACTIONS, LcmState, VmState, vm_state_name
from lab.core.templates import check_restricted

#: what updateconf takes; attributes of other names are ignored, as the server does
_CONFIGURATION = ("CPU_MODEL", "FEATURES", "GRAPHICS", "INPUT", "OS", "RAW", "VIDEO")
_RESIZABLE = (VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.POWEROFF)
_CONFIGURABLE = (VmState.PENDING, VmState.HOLD, VmState.POWEROFF)
_CONFIGURABLE_ACTIVE = (
    LcmState.LCM_INIT, LcmState.PROLOG, LcmState.RUNNING, LcmState.EPILOG, LcmState.SHUTDOWN,
    LcmState.SHUTDOWN_POWEROFF, LcmState.CLEANUP_DELETE, LcmState.BOOT_FAILURE, LcmState.EPILOG_FAILURE,
)
_SIZES = {"CPU": float, "MEMORY": int, "VCPU": int}


def _nothing() -> None:
    """Nothing else has to be done."""


def _runs(vm: dict) -> bool:
    return vm["state"] == VmState.ACTIVE and vm["lcm"] == LcmState.RUNNING


def _demand_rest(vm: dict, what: str) -> None:
    """Refuse a change of a VM that neither runs nor is powered off. Raises OneError."""
    if not _runs(vm) and vm["state"] != VmState.POWEROFF:
        raise OneError(ACTION, f"Could not {what} VM {vm['id']}, wrong state {vm_state_name(vm)}.")


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


@method("one.vm.resize", "i s b")
def _resize(call: Call, vm_id: int, text: str, _enforce: bool) -> int:
    """Give a VM another CPU, MEMORY or VCPU; one that runs only up to the limits it was made with."""
    vm = call.get("vm", vm_id, "MANAGE")
    wanted = {name: value for name, value in parse_template(text).items() if name in _SIZES}
    can_grow = _runs(vm) and _have_room(vm["template"], wanted)
    changeable = vm["state"] in (VmState.PENDING, VmState.HOLD) or call.core.driver.can_change
    if not (vm["state"] in _RESIZABLE or can_grow) or not changeable:
        raise OneError(ACTION, f"Resize action is not available for state {vm_state_name(vm)}")
    for name, value in wanted.items():
        try:
            valid = _SIZES[name](value) > 0
        except ValueError:
            valid = False
        if not valid:
            raise OneError(INTERNAL, f"{name} must be a positive value.")
    limited = [name for name in ("CPU", "MEMORY") if name in wanted]
    quotas.check_resize(call, vm, {name: _SIZES[name](wanted[name]) - float(vm["template"][name]) for name in limited})
    if can_grow:
        _change(call, vm, wanted, LcmState.HOTPLUG_RESIZE)
    else:
        vm["template"] |= wanted
    call.core.store.save("vm", vm)
    return vm_id


@method("one.vm.updateconf", "i s i?")
def _update_configuration(call: Call, vm_id: int, text: str, append: int = 0) -> int:
    """Replace the configuration (0) or merge into it (1), inside vectors too; a VM that runs gets its CONTEXT anew."""
    vm = call.get("vm", vm_id, "MANAGE")
    wanted = parse_template(text)
    check_restricted(call, wanted)
    if vm["state"] not in _CONFIGURABLE and not (vm["state"] == VmState.ACTIVE and vm["lcm"] in _CONFIGURABLE_ACTIVE):
        raise OneError(INTERNAL, f"configuration cannot be updated in state {vm_state_name(vm)}")
    if "CONTEXT" in wanted and "CONTEXT" not in vm["template"]:
        raise OneError(INTERNAL, "Virtual machine does not have context, cannot add a new one.")
    before = {name: value for name, value in vm["template"].items() if append or name not in _CONFIGURATION}
    vm["template"] = before | {name: before.get(name, {}) | wanted[name] for name in _CONFIGURATION if name in wanted}
    if "CONTEXT" in wanted:
        rendered = render_context(call.core, vm, wanted["CONTEXT"])
        context = (before["CONTEXT"] if append else {}) | rendered | _kept(before["CONTEXT"])
        if _runs(vm) and context != before["CONTEXT"]:
            _change(call, vm, {"CONTEXT": context}, LcmState.HOTPLUG)
        else:
            vm["template"]["CONTEXT"] = context
    call.core.store.save("vm", vm)
    return vm_id


@method("one.vm.attachnic", "i s")
def _attach_nic(call: Call, vm_id: int, text: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _demand_rest(vm, "add a new NIC to")
    template = parse_template(text)
    check_restricted(call, template)
    nic = machines.new_nic(call, vm, _vector(template, "NIC"))
    if "NETWORK_ID" in nic:
        _within_quota(lambda: quotas.check_nic(call, vm, int(nic["NETWORK_ID"])), lambda: _release_lease(call, vm, nic))
    _change_nics(call, vm, [*vm["template"]["NIC"], nic], undo=lambda: _release_lease(call, vm, nic))
    return vm_id


@method("one.vm.detachnic", "i i")
def _detach_nic(call: Call, vm_id: int, nic_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _demand_rest(vm, "detach NIC from")
    nics = vm["template"]["NIC"]
    nic = next((nic for nic in nics if nic["NIC_ID"] == str(nic_id)), None)
    if nic is None:
        raise OneError(ACTION, f"Could not detach NIC with NIC_ID {nic_id}, it does not exist.")
    _change_nics(call, vm, [other for other in nics if other is not nic], done=lambda: _release_lease(call, vm, nic))
    return vm_id


@method("one.vm.attachsg", "i i i")
def _attach_security_group(call: Call, vm_id: int, nic_id: int, group_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    call.get("secgroup", group_id)
    _demand_rest(vm, "attach security group to")
    nics = deepcopy(vm["template"]["NIC"])
    nic = next((nic for nic in nics if nic["NIC_ID"] == str(nic_id)), None)
    if nic is None:
        raise OneError(ACTION, f"Could not attach security group to NIC {nic_id}, it does not exist.")
    nic["SECURITY_GROUPS"] = networks.security_groups({"SECURITY_GROUPS": str(group_id)}, nic)
    _change_nics(call, vm, nics)
    return vm_id


@method("one.vm.attach", "i s")
def _attach_disk(call: Call, vm_id: int, text: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _demand_rest(vm, "add a new disk to")
    template = parse_template(text)
    check_restricted(call, template)
    disk = machines.new_disk(call, vm, _vector(template, "DISK"))
    _within_quota(lambda: quotas.check_disk(call, vm, disk), lambda: _release_image(call, vm, disk))
    passing = LcmState.HOTPLUG if _runs(vm) else LcmState.HOTPLUG_PROLOG_POWEROFF
    disks = [*vm["template"]["DISK"], disk]
    _change(call, vm, {"DISK": disks}, passing, undo=lambda: _release_image(call, vm, disk))
    return vm_id


@method("one.vm.detach", "i i")
def _detach_disk(call: Call, vm_id: int, disk_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    _demand_rest(vm, "detach disk from")
    disks = vm["template"]["DISK"]
    disk = next((disk for disk in disks if disk["DISK_ID"] == str(disk_id)), None)
    if disk is None:
        raise OneError(ACTION, f"Could not detach disk with DISK_ID {disk_id}, it does not exist.")
    passing = LcmState.HOTPLUG if _runs(vm) else LcmState.HOTPLUG_EPILOG_POWEROFF
    left = [other for other in disks if other is not disk]
    _change(call, vm, {"DISK": left}, passing, done=lambda: _release_image(call, vm, disk))
    return vm_id


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
    check_restricted(call, template)
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


def _change_nics(call: Call, vm: dict, nics: list[dict], done: Callable = _nothing, undo: Callable = _nothing) -> None:
    changed = {"NIC": nics, "SECURITY_GROUP_RULE": networks.rules(call.core, nics)}
    context = vm["template"].get("CONTEXT")
    if context:
        # The addresses in the context are those of the interfaces there are.
        own = {name: value for name, value in context.items() if not name.startswith("ETH")}
        with_nics = {**vm, "template": vm["template"] | changed}
        changed["CONTEXT"] = render_context(call.core, with_nics, own) | _kept(context)
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
