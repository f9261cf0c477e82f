# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""VM groups: their roles, the rules between them, and the VMs in them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lab.core.call import Call, as_list, parse_template, settle
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.markup import attributes
from lab.core.method import Method
from lab.core.pools import FAILED_UPDATE, generic_methods, head
from lab.core.states import VmState

if TYPE_CHECKING:
    from lab.core.api import Core

_AFFINED, _ANTI_AFFINED = "AFFINED", "ANTI_AFFINED"


def join(call: Call, vm: dict, template: dict) -> None:
    """Put a new VM into the group that its template names. Raises OneError."""
    wanted = next((value for value in as_list(template.get("VMGROUP")) if isinstance(value, dict)), None)
    vm["template"].pop("VMGROUP", None)
    if wanted:
        vm["template"]["VMGROUP"] = _membership(call, vm["uid"], wanted, INTERNAL)


def named(core: Core, template: dict, owner: int) -> dict | None:
    """Return the group that the VMGROUP of a template means, None if there is none."""
    wanted = template.get("VMGROUP")
    wanted = wanted[0] if isinstance(wanted, list) else wanted
    if not isinstance(wanted, dict):
        return None
    if name := wanted.get("VMGROUP_NAME"):
        uid = wanted.get("VMGROUP_UID", "")
        owner = int(uid) if uid.isdigit() else owner
        return next((group for group in core.store.all("vmgroup") if (group["name"], group["uid"]) == (name, owner)), None)
    number = wanted.get("VMGROUP_ID", "")
    return core.store.get("vmgroup", int(number)) if number.isdigit() else None


def allows(core: Core, vm: dict, host_id: int) -> bool:
    """Whether the group of a VM lets it run on a host."""
    group = named(core, vm["template"], vm["uid"])
    role = _role(group, vm["template"]["VMGROUP"].get("ROLE", "")) if group else None
    if role is None:
        return True
    if not _host_fits(role, host_id):
        return False
    return not _conflict(core, group, role, vm["id"], host_id)


def _membership(call: Call, owner: int, wanted: dict, code: int) -> dict:
    if not wanted.get("ROLE"):
        raise OneError(code, "Missing role name in VM Group definition")
    group = named(call.core, {"VMGROUP": wanted}, owner)
    if group is None:
        raise OneError(code, "Cannot find VM Group to associate the VM")
    if _role(group, wanted["ROLE"]) is None:
        raise OneError(code, "Role does not exist in VM Group")
    return wanted | {"VMGROUP_ID": str(group["id"])}


def _role(group: dict, name: str) -> dict | None:
    return next((role for role in group["roles"] if role["NAME"] == name), None)


def _members(core: Core, group: dict, role: dict) -> list[int]:
    """Return the VMs of a role."""
    meant = (str(group["id"]), role["NAME"])
    memberships = ((vm, vm["template"].get("VMGROUP", {})) for vm in core.store.all("vm") if vm["state"] != VmState.DONE)
    return [vm["id"] for vm, membership in memberships if (membership.get("VMGROUP_ID"), membership.get("ROLE")) == meant]


def _body(core: Core, group: dict) -> dict:
    roles = []
    for role in group["roles"]:
        vms = ",".join(map(str, _members(core, group, role)))
        roles.append(attributes(role | ({"VMS": vms} if vms else {})))
    return head(core, group) | {"ROLES": {"ROLE": roles}, "TEMPLATE": attributes(group["template"])}


def _add_role(group: dict, role: dict, code: int) -> None:
    if not role.get("NAME"):
        raise OneError(code, "Missing NAME in VM group role")
    if _role(group, role["NAME"]) is not None:
        raise OneError(code, "Role already exists")
    number = 1 + max((int(other["ID"]) for other in group["roles"]), default=-1)
    group["roles"].append({name: value for name, value in role.items() if name != "VMS"} | {"ID": str(number)})


def _rules(group: dict, policy: str) -> list[frozenset[str]]:
    """Return the names of the roles of each rule of a policy."""
    values = [value for value in as_list(group["template"].get(policy)) if isinstance(value, str)]
    return [frozenset(name.strip() for name in value.split(",") if name.strip()) for value in values]


def _check_rules(group: dict, code: int, prefix: str = "") -> None:
    """Refuse rules about roles that are not there or contradict each other. Raises OneError."""
    known = {role["NAME"]: role for role in group["roles"]}
    for policy in (_AFFINED, _ANTI_AFFINED):
        for value, names in zip(as_list(group["template"].get(policy)), _rules(group, policy), strict=False):
            if not names <= set(known):
                raise OneError(code, f"{prefix}Some roles used in {policy} attribute ({value}) are not defined")
    for policy in (_AFFINED, _ANTI_AFFINED):
        counted = Counter(_rules(group, policy))
        for value, names in zip(as_list(group["template"].get(policy)), _rules(group, policy), strict=False):
            if counted[names] > 1:
                raise OneError(code, f"{prefix}Duplicated {policy} rule ({value}) detected.")
    together = frozenset().union(*_rules(group, _AFFINED))
    for name, role in known.items():
        if name in together and role.get("POLICY", "").upper() == _ANTI_AFFINED:
            raise OneError(code, f"{prefix}Role {name} is in an AFFINED rule but the role policy is ANTI_AFFINED")
    both = together & frozenset().union(*_rules(group, _ANTI_AFFINED))
    if both:
        names = " ".join(name for name in known if name in both)
        raise OneError(code, f"{prefix}Roles defined in AFFINED and ANTI_AFFINED rules: {names}")


def _update(call: Call, group: dict, template: dict) -> dict:
    count = sum(len(_members(call.core, group, role)) for role in group["roles"])
    if count:
        raise OneError(INTERNAL, f"{FAILED_UPDATE}VM Group has {count} VMs")
    template = {name: value for name, value in template.items() if name != "ROLE"}
    _check_rules(group | {"template": template}, INTERNAL, FAILED_UPDATE)
    return template


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "vmgroup", None))
    name = settle(template, ["NAME"]).pop("NAME", "")
    call.check_name("vmgroup", name, INTERNAL)
    roles = [role for role in as_list(template.pop("ROLE", None)) if isinstance(role, dict)]
    group = call.new("vmgroup", name, roles=[], template=template)
    try:
        for role in roles:
            _add_role(group, role, INTERNAL)
        _check_rules(group, INTERNAL)
    except OneError:
        call.core.store.give_back_id("vmgroup", group["id"])
        raise
    call.core.store.save("vmgroup", group)
    return group["id"]


def _wanted_role(text: str) -> dict:
    role = parse_template(text, ACTION).get("ROLE")
    role = role[0] if isinstance(role, list) else role
    if not isinstance(role, dict):
        raise OneError(ACTION, "No ROLE attribute in template")
    return role


def _role_add(call: Call, group_id: int, text: str) -> int:
    group = call.get("vmgroup", group_id, "MANAGE")
    changed = group | {"roles": list(group["roles"])}
    _add_role(changed, _wanted_role(text), ACTION)
    return _keep(call, changed)


def _role_delete(call: Call, group_id: int, role_id: int) -> int:
    group = call.get("vmgroup", group_id, "MANAGE")
    role = next((role for role in group["roles"] if role["ID"] == str(role_id)), None)
    if role is None:
        raise OneError(ACTION, f"Unable to delete role {role_id}, the role doesn't exists")
    if _members(call.core, group, role):
        raise OneError(ACTION, f"Unable to delete role {role_id}, the role has assigned VMs ")
    return _keep(call, group | {"roles": [other for other in group["roles"] if other is not role]})


def _role_update(call: Call, group_id: int, role_id: int, text: str) -> int:
    group = call.get("vmgroup", group_id, "MANAGE")
    wanted = _wanted_role(text)
    role = next((role for role in group["roles"] if role["ID"] == str(role_id)), None)
    if role is None:
        raise OneError(ACTION, f"VMGroup {group_id} doesn't have role {role_id}")
    if _members(call.core, group, role):
        raise OneError(ACTION, f"VMGroup {group_id} Role {role_id} has VMs, unable to update")
    name = wanted.get("NAME")
    if name and name != role["NAME"] and _role(group, name) is not None:
        reason = f"VMGroup {group_id} Role {role_id} can not update name, role with name {name} already exists"
        raise OneError(ACTION, reason)
    # Its number stays, and who is in it is not for callers to say.
    new = role | {part: value for part, value in wanted.items() if part not in ("ID", "VMS")}
    return _keep(call, group | {"roles": [new if other is role else other for other in group["roles"]]})


def _keep(call: Call, group: dict) -> int:
    """Save a group with other roles, if its rules still hold. Raises OneError."""
    _check_rules(group, ACTION)
    call.core.store.save("vmgroup", group)
    return group["id"]


def _vm_add(call: Call, vm_id: int, group_id: int, role_name: str) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    group = call.get("vmgroup", group_id)
    if vm["state"] == VmState.ACTIVE and vm["host"] is not None:
        role = _role(group, role_name)
        if role is None:
            raise OneError(ACTION, "Role does not exist in VM Group")
        if reason := _conflict(call.core, group, role, vm_id, vm["host"]):
            raise OneError(ACTION, reason)
        if not _host_fits(role, vm["host"]):
            reason = "has HOST_AFFINED/HOST_ANTI_AFFINED rules that are violated by this host"
            raise OneError(ACTION, f"VM {vm_id} is on host {vm['host']} but role {role_name} {reason}")
    wanted = {"VMGROUP_ID": str(group_id), "ROLE": role_name}
    vm["template"]["VMGROUP"] = _membership(call, vm["uid"], wanted, ACTION)
    call.core.store.save("vm", vm)
    return vm_id


def _vm_remove(call: Call, vm_id: int) -> int:
    vm = call.get("vm", vm_id, "MANAGE")
    vm["template"].pop("VMGROUP", None)
    call.core.store.save("vm", vm)
    return vm_id


def _host_fits(role: dict, host_id: int) -> bool:
    def hosts(name: str) -> list[str]:
        return [number.strip() for number in role.get(name, "").split(",") if number.strip()]

    wanted, unwanted = hosts("HOST_AFFINED"), hosts("HOST_ANTI_AFFINED")
    return (not wanted or str(host_id) in wanted) and str(host_id) not in unwanted


def _conflict(core: Core, group: dict, role: dict, vm_id: int, host_id: int) -> str:
    """Return why a VM of a role cannot be on a host because of the group's other VMs, empty if it can."""
    here = f"VM {vm_id} is on host {host_id} but"
    policy = role.get("POLICY", "").upper()
    for other, other_host in _placed(core, group, role, vm_id):
        if policy == _AFFINED and other_host != host_id:
            return f"{here} role {role['NAME']} is AFFINED and VM {other} is on host {other_host}"
        if policy == _ANTI_AFFINED and other_host == host_id:
            return f"{here} role {role['NAME']} is ANTI_AFFINED and VM {other} is on the same host"
    for rule_policy in (_AFFINED, _ANTI_AFFINED):
        for names in _rules(group, rule_policy):
            for other_role in group["roles"]:
                if role["NAME"] not in names or other_role["NAME"] not in names or other_role["NAME"] == role["NAME"]:
                    continue
                for other, other_host in _placed(core, group, other_role, vm_id):
                    if (other_host == host_id) != (rule_policy == _AFFINED):
                        where = f"host {other_host}" if rule_policy == _AFFINED else "the same host"
                        return f"{here} it is {rule_policy} with role {other_role['NAME']} and VM {other} is on {where}"
    return ""


def _placed(core: Core, group: dict, role: dict, without: int) -> list[tuple[int, int]]:
    """Return the VMs of a role that are on hosts, and on which."""
    found = [core.store.get("vm", number) for number in _members(core, group, role) if number != without]
    return [(vm["id"], vm["host"]) for vm in found if vm["state"] == VmState.ACTIVE and vm["host"] is not None]


METHODS = generic_methods("vmgroup", _body, updater=_update) | {
    "one.vmgroup.allocate": Method(_allocate, "s"),
    "one.vmgroup.roleadd": Method(_role_add, "i s"),
    "one.vmgroup.roledelete": Method(_role_delete, "i i"),
    "one.vmgroup.roleupdate": Method(_role_update, "i i s"),
    "one.vm.vmgroupadd": Method(_vm_add, "i i s"),
    "one.vm.vmgroupdel": Method(_vm_remove, "i"),
}
