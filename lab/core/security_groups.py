# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Security groups: their rules, and bringing them to the VMs that have them."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from typing import TYPE_CHECKING

from lab.core import machines, networks
from lab.core.call import Call, as_list, parse_template, settle, vectors_of
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import attributes, ids
from lab.core.method import Method
from lab.core.pools import generic_methods, head
from lab.core.states import VmState

if TYPE_CHECKING:
    from lab.core.api import Core

_FIRST_ID = 100
_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
_PORTS = re.compile(r"(\d+(:\d+)?)(,\d+(:\d+)?)*")
_LAST_PORT = 65535
_MOST_PORTS = 15


def _vms(core: Core, group_id: int) -> list[int]:
    """Return the VMs with an interface in the group."""
    return [
        vm["id"] for vm in core.store.all("vm")
        if vm["state"] != VmState.DONE
        and any(str(group_id) in nic.get("SECURITY_GROUPS", "").split(",") for nic in as_list(vm["template"].get("NIC")))
    ]


def _body(core: Core, group: dict) -> dict:
    vms = _vms(core, group["id"])
    updating, failed, begun = ([vm for vm in group.get(name, ()) if vm in vms] for name in ("updating", "failed", "begun"))
    updated = [vm for vm in vms if vm not in (*updating, *failed)]
    # One that is on the way to its driver is in no list.
    updating = [vm for vm in updating if vm in begun]
    return head(core, group) | {
        "UPDATED_VMS": ids(updated), "OUTDATED_VMS": {}, "UPDATING_VMS": ids(updating), "ERROR_VMS": ids(failed),
        "TEMPLATE": attributes(group["template"]),
    }


def _apply(core: Core, group: dict, vms: list[int]) -> None:
    """Let the driver apply the rules to VMs, in the background, each for itself."""
    group["updating"], group["failed"] = vms, [vm for vm in group.get("failed", ()) if vm not in vms]
    group["begun"] = []

    def filtered(vm_id: int) -> object:
        with core.locked():
            group["begun"].append(vm_id)
            spec = machines.spec(core, core.store.get("vm", vm_id))
        return core.driver.filter(spec)

    def ended(vm_id: int, *, failed: bool) -> None:
        group["updating"].remove(vm_id)
        vm = core.store.get("vm", vm_id)
        if not failed:
            vm["template"]["SECURITY_GROUP_RULE"] = networks.rules(core, vm["template"]["NIC"])
            core.store.save("vm", vm)
        group["failed"] += [vm_id] if failed else []
        core.store.save("secgroup", group)

    for vm_id in list(vms):
        core.lifecycle.work(
            partial(filtered, vm_id), lambda _result, vm_id=vm_id: ended(vm_id, failed=False),
            lambda _reason, vm_id=vm_id: ended(vm_id, failed=True),
        )


def _check_rules(template: dict) -> None:
    for rule in vectors_of(template, "RULE"):
        reason = _fault(rule)
        if reason:
            raise OneError(INTERNAL, reason)


def _fault(rule: dict) -> str:
    """Return what the server finds wrong with a rule, empty if nothing."""
    protocol = rule.get("PROTOCOL", "").upper()
    if protocol not in _PROTOCOLS:
        return f"Wrong PROTOCOL in rule. Valid options: {', '.join(_PROTOCOLS)}."
    if rule.get("RANGE") and protocol not in ("TCP", "UDP"):
        return "RANGE is supported only for TCP and UDP protocols."
    for name, owner in (("ICMP_TYPE", "ICMP"), ("ICMPV6_TYPE", "ICMPV6")):
        if rule.get(name) and protocol != owner:
            return f"{name} is supported only for {owner} protocol."
        if not rule.get(name, "0").isdigit():
            return f"Wrong {name}, it must be integer"
    if rule.get("RULE_TYPE", "").upper() not in ("INBOUND", "OUTBOUND"):
        return "Wrong RULE_TYPE in rule. Valid options: INBOUND, OUTBOUND."
    return _port_fault(rule.get("RANGE", "")) or _target_fault(rule)


def _port_fault(ports: str) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", ports)]
    if ports and not _PORTS.fullmatch(ports):
        return "Invalid RANGE specification."
    if max(numbers, default=0) > _LAST_PORT:
        return "RANGE out of bounds 0-65536."
    return "Not more than 15 ports can be specified in a RULE" if len(numbers) > _MOST_PORTS else ""


def _target_fault(rule: dict) -> str:
    if not rule.get("IP"):
        return "" if rule.get("NETWORK_ID", "0").isdigit() else "Wrong NETWORK_ID."
    if not rule.get("SIZE", "").isdigit():
        return "Wrong or empty SIZE."
    try:
        ipaddress.ip_address(rule["IP"])
    except ValueError:
        return "Wrong format for IP value."
    return ""


def _update(call: Call, group: dict, template: dict) -> dict:
    try:
        _check_rules(template)
    except OneError as error:
        raise OneError(error.code, f"Cannot update template. {error.message}") from None
    _apply(call.core, group, _vms(call.core, group["id"]))
    return template


def _delete(call: Call, group: dict) -> bool:
    if group["id"] == 0:
        raise OneError(ACTION, "Cannot delete security group. The default security group (ID 0) cannot be deleted.")
    if _vms(call.core, group["id"]):
        raise OneError(ACTION, "Cannot delete security group. The security group has VMs using it")
    return True


def _add(call: Call, name: str, template: dict, _source: dict | None = None) -> dict:
    call.check_name("secgroup", name, INTERNAL)
    _check_rules(template)
    return call.new("secgroup", name, at_least=_FIRST_ID, template=template)


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "secgroup", None))
    group = _add(call, settle(template, ["NAME"]).pop("NAME", ""), template)
    call.core.store.save("secgroup", group)
    return group["id"]


def _commit(call: Call, group_id: int, recover: bool) -> int:
    """Apply the rules once more: to all VMs, or where they were not applied."""
    group = call.get("secgroup", group_id, "MANAGE")
    vms = _vms(call.core, group_id)
    failed = [vm for vm in group.get("failed", ()) if vm in vms]
    _apply(call.core, group, failed if recover else vms)
    call.core.store.save("secgroup", group)
    return group_id


METHODS = generic_methods("secgroup", _body, updater=_update, deleter=_delete, cloner=_add) | {
    "one.secgroup.allocate": Method(_allocate, "s"),
    "one.secgroup.commit": Method(_commit, "i b"),
}
