# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Addresses of virtual networks that no VM has: those on hold, and those reserved for a network of their own."""

from __future__ import annotations

from copy import deepcopy

from lab.core import networks, quotas, ranges
from lab.core.call import Call, parse_template, settle
from lab.core.errors import ACTION, INTERNAL, NO_EXISTS, OneError
from lab.core.machine_rules import whole
from lab.core.method import Method
from lab.core.states import NetworkState

ON_HOLD = -1


def _hold(call: Call, network_id: int, text: str) -> int:
    network, found = _named_lease(call, network_id, "one.vn.hold", text)
    held = [(address_range, index) for address_range, index in found if index not in address_range["leases"]]
    if not held:
        raise OneError(INTERNAL, "Address is not part of the address range or in use.")
    for address_range, index in held:
        address_range["leases"][index] = ON_HOLD
        address_range["taken"] = True
    call.core.store.save("vn", network)
    return network_id


def _release(call: Call, network_id: int, text: str) -> int:
    """Give free what is on hold; what is not is no error."""
    network, found = _named_lease(call, network_id, "one.vn.release", text)
    for address_range, index in found:
        if address_range["leases"].get(index) == ON_HOLD:
            del address_range["leases"][index]
    call.core.store.save("vn", network)
    return network_id


def _named_lease(call: Call, network_id: int, method_name: str, text: str) -> tuple[dict, list[tuple[dict, str]]]:
    """Return the network, and where in it the address of the LEASES attribute is: ranges and the index in each."""
    network, template = networks.to_change(call, network_id, method_name, text)
    wanted = template.get("LEASES")
    if not isinstance(wanted, dict):
        raise OneError(INTERNAL, "Empty lease description.")
    named = [name for name in ranges.ADDRESSES if wanted.get(name)]
    if not named:
        raise OneError(INTERNAL, "Missing MAC, IP or IP6.")
    if len(named) > 1:
        raise OneError(INTERNAL, "Only one attribute MAC, IP or IP6 can be set.")
    number = wanted["AR_ID"] if wanted.get("AR_ID", "").isdigit() else None
    meant = [address_range for address_range in network["ranges"] if number in (None, address_range["AR_ID"])]
    found = [(address_range, ranges.index_of(address_range, named[0], wanted[named[0]])) for address_range in meant]
    return network, [(address_range, str(index)) for address_range, index in found if index is not None]


def _reserve(call: Call, network_id: int, text: str) -> int:
    """Move addresses of a network into a new one, or one that holds some of its addresses already."""
    wanted = settle(parse_template(text, ACTION), ("SIZE", "NAME", "NETWORK_ID", "AR_ID", *ranges.ADDRESSES))
    size = str(whole(wanted.get("SIZE")) or 0)
    if int(size) < 1:
        raise OneError(ACTION, "Reservation SIZE must be a greater than 0")
    number, range_id = whole(wanted.get("NETWORK_ID")), whole(wanted.get("AR_ID"))
    there = _reservation(call, network_id, number) if number is not None else None
    if there is None and not wanted.get("NAME"):
        raise OneError(ACTION, "NAME for reservation has to be set")
    if range_id is not None and range_id < 0:
        raise OneError(ACTION, "AR_ID must be equal or greater than 0")
    if range_id is None and any(wanted.get(name) for name in ranges.ADDRESSES):
        raise OneError(ACTION, "AR_ID must be specified for IP/MAC based reservations")
    wanted = {**wanted, "AR_ID": None if range_id is None else str(range_id)}
    if call.core.store.get("vn", network_id) is None:
        # Of the network itself oned forgets the number.
        raise OneError(NO_EXISTS, "Error getting virtual network Pool.")
    parent = call.find("vn", network_id)
    if parent.get("parent") is not None:
        raise OneError(ACTION, "Cannot reserve addresses from a reserved VNET")
    call.authorize(("USE", "vn", parent), *([("MANAGE", "vn", there)] if there else []))
    if there is None:
        call.check_name("vn", wanted["NAME"], INTERNAL)
    owner = there or {"uid": call.user["id"], "gid": call.user["gid"]}
    quotas.check_leases(call, owner["uid"], owner["gid"], network_id, int(size))
    source, first = _free_run(parent, wanted, int(size))
    reservation = there or _new_reservation(call, parent, wanted["NAME"])
    source["leases"] |= {str(first + step): f"VNET:{reservation['id']}" for step in range(int(size))}
    source["taken"] = True
    number = 1 + max((int(address_range["AR_ID"]) for address_range in reservation["ranges"]), default=-1)
    reservation["ranges"].append({
        **{name: value for name, value in source.items() if name.isupper()}, **_begin(source, first),
        "AR_ID": str(number), "SIZE": size, "PARENT_NETWORK_AR_ID": source["AR_ID"], "leases": {}, "next": 0,
    })
    call.core.store.save("vn", parent)
    call.core.store.save("vn", reservation)
    return reservation["id"]


def _reservation(call: Call, parent_id: int, number: int) -> dict:
    if number < 0:
        raise OneError(ACTION, "NETWORK_ID must be equal or greater than 0")
    if number == parent_id:
        raise OneError(ACTION, "Cannot add a reservation from the same network")
    network = call.find("vn", number)
    if network.get("parent") is None:
        raise OneError(ACTION, "Cannot add reservations to a non-reservation VNET")
    if network["parent"] != parent_id:
        raise OneError(
            ACTION, f"New reservations for virtual network {number} have to be from network {network['parent']}"
        )
    return network


def _new_reservation(call: Call, parent: dict, name: str) -> dict:
    # Its machines use the parent's bridge, so the driver has nothing to make.
    return call.new(
        "vn", name, state=NetworkState.READY, clusters=list(parent["clusters"]), vms=[], ranges=[], parent=parent["id"],
        template=deepcopy(parent["template"]),
    )


def _begin(source: dict, first: int) -> dict:
    """Return the addresses that a part of a range begins with."""
    return {name: text for name, text in ranges.addresses(source, first).items() if name in source}


def _free_run(network: dict, wanted: dict, size: int) -> tuple[dict, int]:
    """Return a range with so many free addresses in a row, and the index of the first. Raises OneError."""
    named = next(((name, wanted[name]) for name in ranges.ADDRESSES if wanted.get(name)), None)
    for address_range in network["ranges"]:
        if wanted["AR_ID"] not in (None, address_range["AR_ID"]):
            continue
        if named:
            first = ranges.index_of(address_range, *named)
            inside = first is not None and first + size <= int(address_range["SIZE"])
            if inside and ranges.is_free(address_range, first, size):
                return address_range, first
        else:
            first = ranges.free(address_range, size)
            if first is not None:
                return address_range, first
    where = f" {wanted['AR_ID']}, or it does not exist" if wanted["AR_ID"] else ""
    raise OneError(ACTION, f"Not enough free addresses in {'' if where else 'an '}address range{where}")


METHODS = {
    "one.vn.hold": Method(_hold, "i s"),
    "one.vn.release": Method(_release, "i s"),
    "one.vn.reserve": Method(_reserve, "i s"),
}
