# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Interfaces of virtual machines that exist: giving and taking them, their bandwidth and their security groups."""

from __future__ import annotations

from collections.abc import Callable

from lab.core import devices, hosts, machines, networks, quotas, restricted
from lab.core.call import Call, as_list, parse_template
from lab.core.changes import (
    OF_INTERFACE,
    change,
    demand_no_router,
    demand_rest,
    nothing,
    runs,
    vector,
    with_code,
    within_quota,
)
from lab.core.context import render_context
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.method import Method
from lab.core.states import LcmState, VmState, vm_state_name

#: what can change of an interface that is there
_BANDWIDTH = tuple(f"{way}_{rate}" for way in ("INBOUND", "OUTBOUND") for rate in ("AVG_BW", "PEAK_BW", "PEAK_KB"))


def _attach_nic(call: Call, vm_id: int, text: str) -> int:
    vm = call.find("vm", vm_id)
    demand_no_router(vm)
    template = parse_template(text)
    call.authorize(("MANAGE", "vm", vm), *machines.uses(call, template))
    restricted.check_new(call, "vm", template, "NIC")
    return attach_nic(call, vm, template)


def attach_nic(call: Call, vm: dict, template: dict) -> int:
    """Give a VM the NIC of a template. Raises OneError."""
    demand_rest(vm, "add a new NIC to")
    kind = next((name for name in ("NIC", "NIC_ALIAS", "PCI") if name in template), "NIC")
    device = _device_nic(call, vm, vector(template, kind)) if kind == "PCI" else {}
    nic = device | with_code(ACTION, lambda: machines.new_nic(call, vm, vector(template, kind) | device, kind == "NIC_ALIAS"))
    if "NETWORK_ID" in nic:
        within_quota(lambda: quotas.check_nic(call, vm, int(nic["NETWORK_ID"])), lambda: _release_lease(call, vm, nic))
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


def _detach_nic(call: Call, vm_id: int, nic_id: int) -> int:
    vm = call.find("vm", vm_id)
    demand_no_router(vm)
    call.authorize(("MANAGE", "vm", vm))
    return detach_nic(call, vm, nic_id)


def detach_nic(call: Call, vm: dict, nic_id: int) -> int:
    """Take an interface away, with its aliases; or an alias. Raises OneError."""
    demand_rest(vm, "detach NIC from")
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


def _update_nic(call: Call, vm_id: int, nic_id: int, text: str, append: int = 0) -> int:
    """Change the bandwidth of an interface; what else a template says of it counts for nothing."""
    vm = call.find("vm", vm_id)
    demand_no_router(vm)
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
    if runs(vm):
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
    if not runs(vm) and vm["state"] != VmState.POWEROFF:
        raise OneError(ACTION, f"VM {vm['id']} is in wrong state {vm_state_name(vm)}")


def _set_security_groups(call: Call, vm: dict, nic: dict, numbers: str) -> int:
    kind, _nic = _find_nic(vm, int(nic["NIC_ID"]))
    nics = [other | {"SECURITY_GROUPS": numbers} if other is nic else other for other in vm["template"][kind]]
    _change_nics(call, vm, kind, nics)
    return vm["id"]


def _release_lease(call: Call, vm: dict, nic: dict) -> None:
    if "NETWORK_ID" in nic:
        networks.release(call.core, int(nic["NETWORK_ID"]), vm["id"], nic["MAC"])


def _change_nics(
    call: Call, vm: dict, kind: str, nics: list[dict], done: Callable = nothing, undo: Callable = nothing,
    more: dict | None = None,
) -> None:
    changed = {kind: nics} | (more or {})
    changed["SECURITY_GROUP_RULE"] = networks.rules(call.core, machines.interfaces(vm["template"] | changed))
    context = vm["template"].get("CONTEXT")
    if context:
        # The addresses in the context are those of the interfaces there are.
        own = {name: value for name, value in context.items() if not OF_INTERFACE.fullmatch(name)}
        with_nics = {**vm, "template": vm["template"] | changed}
        addresses = render_context(call.core, with_nics, {"NETWORK": context.get("NETWORK", "")})
        changed["CONTEXT"] = own | {name: value for name, value in addresses.items() if OF_INTERFACE.fullmatch(name)}
    passing = LcmState.HOTPLUG_NIC if runs(vm) else LcmState.HOTPLUG_NIC_POWEROFF
    change(call, vm, changed, passing, done, undo)


METHODS = {
    "one.vm.attachnic": Method(_attach_nic, "i s"),
    "one.vm.detachnic": Method(_detach_nic, "i i"),
    "one.vm.updatenic": Method(_update_nic, "i i s i?"),
    "one.vm.attachsg": Method(_attach_security_group, "i i i"),
    "one.vm.detachsg": Method(_detach_security_group, "i i i"),
}
