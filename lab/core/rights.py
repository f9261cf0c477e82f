# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Who may do what: permission bits of objects and rules of the access control list, matched as oned does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core.errors import INTERNAL, OneError
from lab.core.kinds import KINDS, Kind

if TYPE_CHECKING:
    from lab.core.api import Core

#: the bits of a rule, in oned's order
TYPES = {
    "VM": 1 << 36, "HOST": 1 << 37, "NET": 1 << 38, "IMAGE": 1 << 39, "USER": 1 << 40, "TEMPLATE": 1 << 41,
    "GROUP": 1 << 42, "DATASTORE": 1 << 44, "CLUSTER": 1 << 45, "DOCUMENT": 1 << 46, "ZONE": 1 << 47,
    "SECGROUP": 1 << 48, "VDC": 1 << 49, "VROUTER": 1 << 50, "MARKETPLACE": 1 << 51, "MARKETPLACEAPP": 1 << 52,
    "VMGROUP": 1 << 53, "VNTEMPLATE": 1 << 54, "BACKUPJOB": 1 << 56,
}
RIGHTS = {"USE": 1, "MANAGE": 2, "ADMIN": 4, "CREATE": 8}
INDIVIDUAL, GROUP, ALL, CLUSTER = 1 << 32, 1 << 33, 1 << 34, 1 << 35
_SELECTORS = {GROUP: "@", INDIVIDUAL: "#", CLUSTER: "%", ALL: "*"}
_ANY_SELECTOR = INDIVIDUAL | GROUP | ALL | CLUSTER
_ID = 0xFFFFFFFF
_TYPE_BITS = ~(_ANY_SELECTOR | _ID) & (1 << 63) - 1
_WRONG_TYPE_BITS = 0x7E80000000000000
_NOT_BY_CLUSTER = (1 << 58) - (1 << 36) & ~(TYPES["HOST"] | TYPES["NET"] | TYPES["DATASTORE"] | TYPES["BACKUPJOB"])
_NOT_BY_GROUP = TYPES["HOST"] | TYPES["GROUP"] | TYPES["CLUSTER"] | TYPES["ZONE"] | TYPES["VDC"]
_FEDERATED = TYPES["USER"] | TYPES["GROUP"] | TYPES["ZONE"] | TYPES["VDC"] | 1 << 43
#: this zone
ZONE_ID = 0


def allows(core: Core, user: dict, right: str, kind: Kind, item: dict | None) -> bool:
    """Whether a user who is no administrator has a right on an object, None for one to be made."""
    return _permitted(user, right, kind, item) or any(
        _applies(rule, user) and _covers(rule, kind, item, user) and rule["rights"] & RIGHTS[right]
        for rule in core.store.all("acl")
    )


def text(rule: dict) -> str:
    """Return a rule as oned writes it: @100 VM+IMAGE/* USE+MANAGE #0."""
    types = "+".join(name for name, bit in TYPES.items() if rule["resource"] & bit)
    rights = "+".join(name for name, bit in RIGHTS.items() if rule["rights"] & bit)
    return f"{_selector(rule['user'])} {types}/{_selector(rule['resource'])} {rights} {_selector(rule['zone'])}"


def add_rule(core: Core, user: int, resource: int, rights: int, zone: int) -> int:
    """Add a rule and return its id. Raises OneError for one that is there or makes no sense."""
    rule = {"user": user, "resource": resource, "rights": rights, "zone": zone}
    if _same(core, rule):
        raise OneError(INTERNAL, f"Rule {text(rule)} already exists")
    faults = _faults(rule)
    if faults:
        raise OneError(INTERNAL, f"Rule {text(rule)} is malformed: {'; '.join(faults)}")
    rule = {"id": core.store.new_id("acl"), **rule}
    core.store.save("acl", rule)
    return rule["id"]


def ensure_rule(core: Core, user: int, resource: int, rights: int, zone: int) -> None:
    """Add a rule the server makes by itself, unless it is there."""
    if not _same(core, {"user": user, "resource": resource, "rights": rights, "zone": zone}):
        add_rule(core, user, resource, rights, zone)


def drop_rule(core: Core, user: int, resource: int, rights: int, zone: int) -> None:
    """Remove a rule the server made by itself, if it is still there."""
    for rule in _same(core, {"user": user, "resource": resource, "rights": rights, "zone": zone}):
        core.store.remove("acl", rule["id"])


def forget_user(core: Core, user_id: int) -> None:
    """Remove the rules about what a user may do."""
    _forget(core, lambda rule: rule["user"] == INDIVIDUAL | user_id)


def forget_group(core: Core, group_id: int) -> None:
    """Remove the rules about what a group may do, and about what others may do with its objects."""
    of_group = GROUP | group_id
    _forget(core, lambda rule: rule["user"] == of_group or rule["resource"] & (GROUP | _ID) == of_group)


def forget_object(core: Core, kind: Kind, object_id: int) -> None:
    """Remove the rules about one object; those that name other types too stay, as on the real server."""
    bit = TYPES.get(kind.auth, 0)
    _forget(core, lambda rule: rule["resource"] == bit | INDIVIDUAL | object_id)
    if kind.name == "cluster":
        in_cluster = CLUSTER | object_id
        _forget(core, lambda rule: rule["resource"] & (CLUSTER | _ID) == in_cluster)


def fill(core: Core) -> None:
    """The rules of a new zone."""
    created = ("VM", "IMAGE", "TEMPLATE", "DOCUMENT", "SECGROUP", "VMGROUP", "BACKUPJOB")
    add_rule(core, GROUP | 1, ALL | sum(TYPES[name] for name in created), RIGHTS["CREATE"], ALL)
    add_rule(core, ALL, ALL | TYPES["ZONE"], RIGHTS["USE"], ALL)
    add_rule(core, ALL, ALL | TYPES["MARKETPLACE"] | TYPES["MARKETPLACEAPP"], RIGHTS["USE"], ALL)


def _permitted(user: dict, right: str, kind: Kind, item: dict | None) -> bool:
    """Whether the object's own permissions give the right: users own themselves, members may use their group."""
    if item is None or right == "CREATE":
        return False
    if kind.name == "user":
        return item["id"] == user["id"] and right != "ADMIN"
    if kind.name == "group":
        return item["id"] in user["groups"] and right == "USE"
    if not kind.permissions:
        return False
    parties = (item["uid"] == user["id"], item["gid"] in user["groups"], True)
    bits = item["permissions"][("USE", "MANAGE", "ADMIN").index(right)::3]
    return any(applies and bit == "1" for applies, bit in zip(parties, bits, strict=True))


def _applies(rule: dict, user: dict) -> bool:
    subjects = {ALL, INDIVIDUAL | user["id"], *(GROUP | group for group in user["groups"])}
    return rule["user"] in subjects and (rule["zone"] & ALL or rule["zone"] == INDIVIDUAL | ZONE_ID)


def _covers(rule: dict, kind: Kind, item: dict | None, user: dict) -> bool:
    resource, bit = rule["resource"], TYPES.get(kind.auth, 0)
    if not resource & bit:
        return False
    # Reservations are nobody's but those who are named.
    reserved = kind.name == "vn" and item is not None and item.get("parent") is not None
    if resource & ALL:
        return not reserved
    number = resource & _ID
    if resource & GROUP:
        # A new object would belong to the group of its maker.
        owner = user["gid"] if item is None else item["id"] if kind.name == "group" else item.get("gid")
        return owner == number
    if item is None:
        return False
    if resource & INDIVIDUAL:
        return item["id"] == number
    return not reserved and number in item.get("clusters", ())


def _same(core: Core, rule: dict) -> list[dict]:
    return [other for other in core.store.all("acl") if all(other[name] == rule[name] for name in rule)]


def _forget(core: Core, doomed) -> None:
    for rule in core.store.all("acl"):
        if doomed(rule):
            core.store.remove("acl", rule["id"])


def _selector(value: int) -> str:
    sign = next((sign for bit, sign in _SELECTORS.items() if value & bit), "??")
    return sign if sign in ("*", "??") else f"{sign}{value & _ID}"


def _faults(rule: dict) -> list[str]:
    """Return what is wrong with a rule, in oned's words."""
    user, resource, rights, zone = rule["user"], rule["resource"], rule["rights"], rule["zone"]
    types = resource & _TYPE_BITS

    def several(value: int) -> bool:
        return (value & _ANY_SELECTOR).bit_count() > 1

    faults = {
        "[user] INDIVIDUAL (#) and GROUP (@) bits are exclusive": user & INDIVIDUAL and user & GROUP,
        "[user] INDIVIDUAL (#) and ALL (*) bits are exclusive": user & INDIVIDUAL and user & ALL,
        "[user] GROUP (@) and ALL (*) bits are exclusive": user & GROUP and user & ALL,
        "[user] is missing one of the INDIVIDUAL, GROUP or ALL bits": not user & (INDIVIDUAL | GROUP | ALL),
        "when using the ALL bit, [user] ID must be 0": user & ALL and user & _ID,
        "[resource] INDIVIDUAL (#), GROUP (@), CLUSTER (%) and ALL (*) bits are exclusive": several(resource),
        "[resource] CLUSTER(%) selector can be applied only to DATASTORE, HOST and NET types":
            resource & CLUSTER and types & _NOT_BY_CLUSTER,
        "[resource] GROUP(@) selector cannot be applied to HOST, GROUP, CLUSTER, ZONE or VDC types":
            resource & GROUP and types & _NOT_BY_GROUP,
        "[resource] is missing one of the INDIVIDUAL, GROUP, CLUSTER or ALL bits": not resource & _ANY_SELECTOR,
        "when using the ALL bit, [resource] ID must be 0": resource & ALL and resource & _ID,
        "[resource] type is missing": not types,
        "wrong [resource] type": resource & _WRONG_TYPE_BITS,
        "wrong [rights], it cannot be 0": rights == 0,
        "wrong [rights], it cannot be bigger than 0xF": rights > sum(RIGHTS.values()),
        "[zone] GROUP (@) bit is not supported": zone & GROUP,
        "[zone] INDIVIDUAL (#) and ALL (*) bits are exclusive": zone & INDIVIDUAL and zone & ALL,
        "[zone] is missing one of the INDIVIDUAL or ALL bits": not zone & (INDIVIDUAL | GROUP | ALL),
        "when using the ALL bit, [zone] ID must be 0": zone & ALL and zone & _ID,
        "[resource] INDIVIDUAL(#) selector cannot be applied to ALL zones, except for USER, GROUP and ZONE types":
            zone & ALL and resource & INDIVIDUAL and types & _FEDERATED != types,
    }
    return [words for words, wrong in faults.items() if wrong]


def known(kind: str) -> int:
    """Return the bit of a kind of the store."""
    return TYPES[KINDS[kind].auth]
