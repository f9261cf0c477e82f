# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The access control list: showing it and changing it."""

from __future__ import annotations

from lab.core import rights
from lab.core.call import Call
from lab.core.errors import INTERNAL, OneError
from lab.core.markup import element
from lab.core.method import Method


def _info(call: Call) -> str:
    """Show the rules in oned's order, by whom they are about."""
    call.authorize(("MANAGE", "acl", None))
    rules = sorted(call.core.store.all("acl"), key=lambda rule: rule["user"])
    return element("ACL_POOL", {"ACL": [
        {"ID": rule["id"], "USER": f"{rule['user']:x}", "RESOURCE": f"{rule['resource']:x}",
         "RIGHTS": f"{rule['rights']:x}", "ZONE": f"{rule['zone']:x}", "STRING": rights.text(rule)}
        for rule in rules
    ]})


def _add(call: Call, user: str, resource: str, right: str, zone: str = "") -> int:
    call.authorize(("MANAGE", "acl", None))
    here = rights.INDIVIDUAL | rights.ZONE_ID
    return rights.add_rule(
        call.core, _number(user), _number(resource), _number(right), _number(zone) if zone else here
    )


def _remove(call: Call, rule_id: int) -> int:
    call.authorize(("MANAGE", "acl", None))
    if call.core.store.get("acl", rule_id) is None:
        raise OneError(INTERNAL, f"Rule {rule_id} does not exist")
    call.core.store.remove("acl", rule_id)
    return rule_id


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        # What oned cannot read is 0 for it, and 0 is malformed.
        return 0


METHODS = {
    "one.acl.info": Method(_info),
    "one.acl.addrule": Method(_add, "s s s s?"),
    "one.acl.delrule": Method(_remove, "i"),
}
