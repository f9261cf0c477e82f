# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual routers: their interfaces, the floating addresses of these, and the VMs that do the work."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from lab.core import interfaces, machine_rules, machines, networks, restricted
from lab.core.call import Call, as_list, parse_template, settle
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.kinds import KINDS
from lab.core.markup import attributes, ids
from lab.core.method import Method
from lab.core.pools import chmod, generic_methods, head, merged
from lab.core.states import VmState

if TYPE_CHECKING:
    from lab.core.api import Core

#: addresses that belong to a router and not to the one VM of it that has them
_FLOATING = ("IP", "IP6", "IP6_GLOBAL", "IP6_LINK", "IP6_ULA", "MAC")
_KEEPALIVED_IDS = 255


def _vms(core: Core, router_id: int) -> list[dict]:
    return [
        vm for vm in core.store.all("vm")
        if vm["state"] != VmState.DONE and vm["template"].get("VROUTER_ID") == str(router_id)
    ]


def _body(core: Core, router: dict) -> dict:
    template = router["template"] | ({"NIC": router["nics"]} if router["nics"] else {})
    vms = [vm["id"] for vm in _vms(core, router["id"])]
    return head(core, router) | {"VMS": ids(vms), "TEMPLATE": attributes(template)}


def _holder(router_id: int) -> str:
    return f"VROUTER:{router_id}"


def _interface(call: Call, router_id: int, number: int, wanted: dict) -> dict:
    """Return an interface of a router, with the lease of its floating address if it has one. Raises OneError."""
    if wanted.get("NETWORK_MODE", "").upper() == "AUTO":
        raise OneError(INTERNAL, "Virtual Router is incompatible with auto mode")
    network, problem = machines.named_network(call, wanted)
    if problem:
        raise OneError(INTERNAL, problem)
    nic = wanted | {"NIC_ID": str(number)}
    if network is None:
        return nic
    nic |= {"NETWORK": network["name"], "NETWORK_ID": str(network["id"])}
    if not _is_set(nic, "FLOATING_IP"):
        return nic
    given = networks.lease(call.core, network, _holder(router_id), wanted)
    if given is None:
        raise OneError(INTERNAL, f"Cannot get IP/MAC lease from virtual network {network['id']}.")
    nic = {name: value for name, value in nic.items() if name not in _FLOATING}
    return nic | {f"VROUTER_{name}" if name in _FLOATING else name: value for name, value in given.items()}


def _is_set(nic: dict, name: str) -> bool:
    return machine_rules.switch(nic.get(name, "")) == "YES"


def _release(core: Core, router_id: int, nics: list[dict]) -> None:
    for nic in nics:
        if nic.get("NETWORK_ID", "").isdigit() and "VROUTER_MAC" in nic:
            networks.release(core, int(nic["NETWORK_ID"]), _holder(router_id), nic["VROUTER_MAC"])


def _uses(call: Call, template: dict) -> list[tuple[str, str, dict | None]]:
    return [demand for demand in machines.uses(call, {"NIC": template.get("NIC", [])}) if demand[1] == "vn"]


def _update(_call: Call, _router: dict, template: dict) -> dict:
    return {name: value for name, value in template.items() if name != "NIC"}


def _delete(call: Call, router: dict) -> bool:
    """Let a router go, and its VMs with it."""
    _release(call.core, router["id"], router["nics"])
    for vm in _vms(call.core, router["id"]):
        call.core.lifecycle.delete(vm)
    return True


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "vrouter", None), *_uses(call, template))
    name = settle(template, ["NAME"]).pop("NAME", "")
    call.check_name("vrouter", name, INTERNAL, unique=False)
    wanted = [nic for nic in as_list(template.pop("NIC", None)) if isinstance(nic, dict)]
    router = call.new("vrouter", name, nics=[], template=template)
    try:
        for number, nic in enumerate(wanted):
            router["nics"].append(_interface(call, router["id"], number, nic))
    except OneError:
        _release(call.core, router["id"], router["nics"])
        call.core.store.give_back_id("vrouter", router["id"])
        raise
    call.core.store.save("vrouter", router)
    return router["id"]


def _instantiate(call: Call, router_id: int, count: int, template_id: int, name: str, hold: bool, text: str) -> int:
    """Make VMs of a router from a template for such; when one cannot be, there is none."""
    router = call.find("vrouter", router_id)
    if template_id == -1:
        number = router["template"].get("TEMPLATE_ID", "")
        template_id = int(number) if number.isdigit() else -1
    if template_id == -1:
        reason = "A template ID was not provided, and the virtual router does not have a default one"
        raise OneError(ACTION, reason)
    call.authorize(("MANAGE", "vrouter", router))
    source = call.find("template", template_id)
    if not _is_set(source["template"], "VROUTER"):
        raise OneError(ACTION, "Only virtual router templates are allowed")
    extra = parse_template(text)
    restricted.check_extra(call, extra, source["template"])
    made: list[int] = []
    try:
        for step in range(count):
            template = merged(deepcopy(source["template"]), extra) | _of_vms(router) | {"TEMPLATE_ID": str(template_id)}
            demands = [("USE", "template", source)] + ([("CREATE", "template", None)] if text else [])
            called = (name or f"vr-{router['name']}-%i").replace("%i", str(step))
            made.append(machines.allocate(call, template, called, True, source["name"], tuple(demands), machines.ROUTER))
    except OneError:
        for number in made:
            call.core.lifecycle.delete(call.core.store.get("vm", number))
        raise
    router["template"]["TEMPLATE_ID"] = str(template_id)
    call.core.store.save("vrouter", router)
    for number in made if not hold else ():
        vm = call.core.store.get("vm", number)
        if vm["state"] == VmState.HOLD:
            call.core.lifecycle.set_state(vm, VmState.PENDING)
    return router_id


def _of_vms(router: dict) -> dict:
    """Return the attributes that a router gives its VMs."""
    own = router["template"]
    keepalived = {"VROUTER_KEEPALIVED_ID": own.get("KEEPALIVED_ID") or str(router["id"] % _KEEPALIVED_IDS + 1)}
    if own.get("KEEPALIVED_PASSWORD"):
        keepalived["VROUTER_KEEPALIVED_PASSWORD"] = own["KEEPALIVED_PASSWORD"]
    return {"VROUTER_ID": str(router["id"]), **keepalived, "NIC": [_of_vm(nic) for nic in router["nics"]]}


def _of_vm(nic: dict) -> dict:
    # Where the floating address is from says nothing about the VM's own.
    return {name: value for name, value in nic.items() if name not in ("NIC_ID", "AR_ID")}


def _attach_nic(call: Call, router_id: int, text: str) -> int:
    template = parse_template(text)
    router = call.find("vrouter", router_id)
    call.authorize(("MANAGE", "vrouter", router), *_uses(call, template))
    if "NIC_ALIAS" in template:
        raise OneError(ACTION, "Alias can't be attached to virtual router.")
    wanted = [nic for nic in as_list(template.get("NIC")) if isinstance(nic, dict)]
    if len(wanted) != 1:
        raise OneError(ACTION, "The template must contain one NIC attribute")
    number = 1 + max((int(nic["NIC_ID"]) for nic in router["nics"]), default=-1)
    try:
        nic = _interface(call, router_id, number, wanted[0])
    except OneError as error:
        raise OneError(ACTION, error.message) from error
    router["nics"].append(nic)
    call.core.store.save("vrouter", router)
    for vm in _vms(call.core, router_id):
        interfaces.attach_nic(call, vm, {"NIC": _of_vm(nic)})
    return router_id


def _detach_nic(call: Call, router_id: int, nic_id: int) -> int:
    router = call.get("vrouter", router_id, "MANAGE")
    nic = next((nic for nic in router["nics"] if nic["NIC_ID"] == str(nic_id)), None)
    if nic is None:
        raise OneError(ACTION, f"NIC with NIC_ID {nic_id} does not exist.")
    _release(call.core, router_id, [nic])
    router["nics"].remove(nic)
    call.core.store.save("vrouter", router)
    for vm in _vms(call.core, router_id):
        interfaces.detach_nic(call, vm, nic_id)
    return router_id


def _chmod(call: Call, router_id: int, *bits: int) -> int:
    """Change the permissions of a router and of its VMs."""
    chmod(KINDS["vrouter"], call, router_id, *bits)
    for vm in _vms(call.core, router_id):
        chmod(KINDS["vm"], call, vm["id"], *bits)
    return router_id


METHODS = generic_methods("vrouter", _body, updater=_update, deleter=_delete) | {
    "one.vrouter.allocate": Method(_allocate, "s"),
    "one.vrouter.instantiate": Method(_instantiate, "i i i s b s"),
    "one.vrouter.attachnic": Method(_attach_nic, "i s"),
    "one.vrouter.detachnic": Method(_detach_nic, "i i"),
    "one.vrouter.chmod": Method(_chmod, "i" + " i" * 9),
}
