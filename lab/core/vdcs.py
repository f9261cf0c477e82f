# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual data centers: groups, the resources they may use, and the rules that follow from both."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lab.core import rights
from lab.core.call import Call, parse_template, settle
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.kinds import KINDS
from lab.core.markup import attributes, ids
from lab.core.method import Method
from lab.core.pools import generic_methods

if TYPE_CHECKING:
    from lab.core.api import Core

#: the data center every new group belongs to
DEFAULT = 0
_FIRST = 100
#: stands for all resources of a zone
_ALL_RESOURCES = -10
#: kind of resource: the name of its list, and the rights its rules give, by kind
_RESOURCES = {
    "cluster": ("clusters", {"host": "MANAGE", "vn": "USE", "datastore": "USE"}),
    "host": ("hosts", {"host": "MANAGE"}),
    "datastore": ("datastores", {"datastore": "USE"}),
    "vn": ("vnets", {"vn": "USE"}),
}
_METHOD_NAMES = {"cluster": "cluster", "host": "host", "datastore": "datastore", "vn": "vnet"}


def fill(core: Core) -> None:
    """The data center of a new zone: its users may use everything that is there."""
    template = {"DESCRIPTION": "Every new group is added to this VDC"}
    core.store.save("vdc", _new(core.store.new_id("vdc"), "default", template))
    add_group(core, core.store.get("vdc", DEFAULT), 1)
    _add_resource(core, core.store.get("vdc", DEFAULT), "cluster", rights.ZONE_ID, _ALL_RESOURCES)


def add_group(core: Core, vdc: dict, group_id: int) -> None:
    """Let a group use what the data center has."""
    vdc["groups"].append(group_id)
    _each_rule(core, vdc, [group_id], rights.ensure_rule)
    core.store.save("vdc", vdc)


def forget_group(core: Core, group_id: int) -> None:
    """Take a group that is gone out of all data centers."""
    for vdc in core.store.all("vdc"):
        if group_id in vdc["groups"]:
            vdc["groups"].remove(group_id)
            core.store.save("vdc", vdc)


def _new(vdc_id: int, name: str, template: dict) -> dict:
    lists = {name: [] for name, _rules in _RESOURCES.values()}
    return {"id": vdc_id, "name": name, "template": template, "groups": [], **lists}


def _add_resource(core: Core, vdc: dict, kind: str, zone_id: int, object_id: int) -> None:
    resources = vdc[_RESOURCES[kind][0]]
    if object_id == _ALL_RESOURCES:
        # Everything makes the single ones superfluous.
        for other in [other for other in resources if other[0] == zone_id]:
            _remove_resource(core, vdc, kind, *other)
    resources.append([zone_id, object_id])
    for group_id in vdc["groups"]:
        _rules_of(core, group_id, kind, zone_id, object_id, rights.ensure_rule)
    core.store.save("vdc", vdc)


def _remove_resource(core: Core, vdc: dict, kind: str, zone_id: int, object_id: int) -> None:
    vdc[_RESOURCES[kind][0]].remove([zone_id, object_id])
    for group_id in vdc["groups"]:
        _rules_of(core, group_id, kind, zone_id, object_id, rights.drop_rule)
    core.store.save("vdc", vdc)


def _each_rule(core: Core, vdc: dict, groups: list[int], act) -> None:
    for kind, (name, _rules) in _RESOURCES.items():
        for zone_id, object_id in vdc[name]:
            for group_id in groups:
                _rules_of(core, group_id, kind, zone_id, object_id, act)


def _rules_of(core: Core, group_id: int, kind: str, zone_id: int, object_id: int, act) -> None:
    """Add or drop the rules that one resource gives one group."""
    selector = rights.CLUSTER if kind == "cluster" else rights.INDIVIDUAL
    which = rights.ALL if object_id == _ALL_RESOURCES else selector | object_id
    for target, right in _RESOURCES[kind][1].items():
        resource = rights.known(target) | which
        act(core, rights.GROUP | group_id, resource, rights.RIGHTS[right], rights.INDIVIDUAL | zone_id)


def _body(_core: Core, vdc: dict) -> dict:
    def resources(kind: str, tag: str) -> dict:
        return {tag: [{"ZONE_ID": zone, f"{tag}_ID": number} for zone, number in vdc[_RESOURCES[kind][0]]]}

    return {
        "ID": vdc["id"], "NAME": vdc["name"], "GROUPS": ids(sorted(vdc["groups"])),
        "CLUSTERS": resources("cluster", "CLUSTER"), "HOSTS": resources("host", "HOST"),
        "DATASTORES": resources("datastore", "DATASTORE"), "VNETS": resources("vn", "VNET"),
        "TEMPLATE": attributes(vdc["template"]),
    }


def _delete(call: Call, vdc: dict) -> bool:
    if vdc["id"] < _FIRST:
        raise OneError(ACTION, "Cannot delete VDC. System VDCs (ID < 100) cannot be deleted.")
    _each_rule(call.core, vdc, vdc["groups"], rights.drop_rule)
    return True


def _allocate(call: Call, text: str) -> int:
    template = parse_template(text)
    call.authorize(("CREATE", "vdc", None))
    name = settle(template, ["NAME"]).pop("NAME", "")
    call.check_name("vdc", name, INTERNAL)
    vdc = _new(call.core.store.new_id("vdc", _FIRST), name, template)
    call.core.store.save("vdc", vdc)
    return vdc["id"]


def _add_group(call: Call, vdc_id: int, group_id: int) -> int:
    vdc, group = call.find("vdc", vdc_id), call.find("group", group_id)
    call.authorize(("ADMIN", "vdc", vdc), ("ADMIN", "group", group))
    if group_id in vdc["groups"]:
        raise OneError(INTERNAL, f"Group {group_id} is already assigned to the VDC {vdc_id}")
    add_group(call.core, vdc, group_id)
    return vdc_id


def _remove_group(call: Call, vdc_id: int, group_id: int) -> int:
    vdc = call.find("vdc", vdc_id)
    call.authorize(("ADMIN", "vdc", vdc))
    if group_id not in vdc["groups"]:
        raise OneError(INTERNAL, f"Group {group_id} is not assigned to the VDC {vdc_id}")
    vdc["groups"].remove(group_id)
    _each_rule(call.core, vdc, [group_id], rights.drop_rule)
    call.core.store.save("vdc", vdc)
    return vdc_id


def _add(kind: str, call: Call, vdc_id: int, zone_id: int, object_id: int) -> int:
    vdc, zone = call.find("vdc", vdc_id), call.find("zone", zone_id)
    demands = [("ADMIN", "vdc", vdc), ("ADMIN", "zone", zone)]
    if object_id != _ALL_RESOURCES:
        demands.append(("ADMIN", kind, call.find(kind, object_id)))
    call.authorize(*demands)
    if [zone_id, object_id] in vdc[_RESOURCES[kind][0]]:
        label = KINDS[kind].auth
        raise OneError(INTERNAL, f"{label} {object_id} from Zone {zone_id} is already assigned to the VDC")
    _add_resource(call.core, vdc, kind, zone_id, object_id)
    return vdc_id


def _remove(kind: str, call: Call, vdc_id: int, zone_id: int, object_id: int) -> int:
    vdc = call.find("vdc", vdc_id)
    call.authorize(("ADMIN", "vdc", vdc))
    if [zone_id, object_id] not in vdc[_RESOURCES[kind][0]]:
        label = KINDS[kind].auth
        raise OneError(INTERNAL, f"{label} {object_id} from Zone {zone_id} is not assigned to the VDC ")
    _remove_resource(call.core, vdc, kind, zone_id, object_id)
    return vdc_id


METHODS = generic_methods("vdc", _body, deleter=_delete) | {
    "one.vdc.allocate": Method(_allocate, "s"),
    "one.vdc.addgroup": Method(_add_group, "i i"),
    "one.vdc.delgroup": Method(_remove_group, "i i"),
    **{f"one.vdc.add{name}": Method(partial(_add, kind), "i i i") for kind, name in _METHOD_NAMES.items()},
    **{f"one.vdc.del{name}": Method(partial(_remove, kind), "i i i") for kind, name in _METHOD_NAMES.items()},
}
