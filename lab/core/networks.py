# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual networks: address ranges and the leases in them."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING

from lab.core import ranges, restricted
from lab.core.call import Call, as_list, parse_template, settle, text_of, vectors_of
from lab.core.errors import ACTION, INTERNAL, OneError, failure
from lab.core.markup import Data, attributes, ids
from lab.core.method import Method
from lab.core.pools import FAILED_UPDATE, generic_methods, head
from lab.core.states import NetworkState
from lab.driver import NetSpec

if TYPE_CHECKING:
    from lab.core.api import Core

_EMPTY_BEFORE_CREATION = {"PHYDEV": "", "SECURITY_GROUPS": "0"}
#: numbers of segments, which the server chooses for AUTOMATIC_ and the name
_SEGMENTS = ("VLAN_ID", "OUTER_VLAN_ID")
_FIRST_SEGMENT = 2
#: drivers, each with the technologies of bridge it can use, the first of which it uses unless told otherwise
_BRIDGE_TYPES = dict.fromkeys(("dummy", "802.1Q", "fw", "vxlan", "bridge", "elastic", "nodeport"), ("linux",)) | {
    "ovswitch": ("openvswitch", "openvswitch_dpdk"), "ovswitch_vxlan": ("openvswitch",),
}
#: attributes that a driver cannot do without, and what else does in their place
_MANDATORY = {
    "dummy": ("BRIDGE",), "802.1Q": ("PHYDEV", "VLAN_ID"), "vxlan": ("PHYDEV", "VLAN_ID"),
    "ovswitch_vxlan": ("OUTER_VLAN_ID",),
}
_INSTEAD = {"VLAN_ID": " (or AUTOMATIC_VLAN_ID)", "OUTER_VLAN_ID": " (or AUTOMATIC)"}
_EMPTY_AFTER_CREATION = {"OUTER_VLAN_ID": "", "VLAN_ID": ""}
_DEFAULT_PREFIX = 24
#: what the owner of a lease is, above its id
_OWNERS = {"VM": 1 << 36, "VNET": 1 << 38, "VROUTER": 1 << 50}


def lease(core: Core, network: dict, holder: int | str, wanted: dict | None = None) -> dict | None:
    """Give a VM an address of a network, the one its NIC wants or the next free one; None if there is none.

    holder: the id of the VM, or what a holder of another kind is kept as. The result holds AR_ID and the addresses.
    """
    named = [(name, wanted[name]) for name in ranges.ADDRESSES if wanted and wanted.get(name)]
    # A network has its ranges once it is made.
    for address_range in network["ranges"] if network["state"] == NetworkState.READY and len(named) < 2 else ():
        if named:
            index = ranges.index_of(address_range, *named[0])
            if index is None or str(index) in address_range["leases"]:
                continue
        else:
            index = ranges.free(address_range)
            if index is None:
                continue
        address_range["leases"][str(index)] = holder
        address_range["taken"] = True
        if isinstance(holder, int) and holder not in network["vms"]:
            network["vms"].append(holder)
        core.store.save("vn", network)
        return {"AR_ID": address_range["AR_ID"]} | ranges.addresses(address_range, index)
    return None


def security_groups(*owners: dict) -> str:
    """Return the security groups of a NIC: its own and its network's."""
    numbers = {number for owner in owners for number in text_of(owner, "SECURITY_GROUPS").split(",") if number.isdigit()}
    return ",".join(sorted(numbers, key=int))


def rules(core: Core, nics: list[dict]) -> list[dict]:
    """Return the rules of a VM with these NICs: those of every security group that one of them has."""
    numbers = security_groups(*nics).split(",") if nics else []
    groups = [core.store.get("secgroup", int(number)) for number in numbers if number]
    return [
        {**targeted, "SECURITY_GROUP_ID": str(group["id"]), "SECURITY_GROUP_NAME": group["name"]}
        for group in groups if group
        for rule in as_list(group["template"].get("RULE"))
        for targeted in _targeted(core, rule)
    ]


def _targeted(core: Core, rule: dict) -> list[dict]:
    """Return a rule for a network once for each of its address ranges, every other one as it is."""
    if "NETWORK_ID" not in rule:
        return [rule]
    network = core.store.get("vn", int(rule["NETWORK_ID"]))
    return [
        rule | {name: item[name] for name in ("AR_ID", "TYPE", "SIZE", "MAC", "IP") if name in item}
        for item in (network["ranges"] if network else ())
    ]


def release(core: Core, network_id: int, vm_id: int | str, mac: str = "") -> None:
    """Take back all leases of a VM (or what another holder is kept as) in a network, or only the one with that hardware address."""
    network = core.store.get("vn", network_id)
    if network is None:
        return
    for address_range in network["ranges"]:
        address_range["leases"] = {
            index: holder for index, holder in address_range["leases"].items()
            if holder != vm_id or mac not in ("", ranges.addresses(address_range, int(index))["MAC"])
        }
    if not any(vm_id in address_range["leases"].values() for address_range in network["ranges"]):
        network["vms"] = [holder for holder in network["vms"] if holder != vm_id]
    core.store.save("vn", network)


def create(core: Core, network_id: int) -> None:
    """Let the driver make a network, in the background; it ends READY or ERROR with the reason."""
    network = core.store.get("vn", network_id)
    wanted = _spec(network)

    def created(_result: object) -> None:
        network["state"] = NetworkState.READY
        network["template"].pop("AR", None)
        if network["range_error"]:
            network["state"] = NetworkState.ERROR
            network["template"]["ERROR"] = failure(core, network["range_error"])
        chosen = {name: "" for name in _EMPTY_AFTER_CREATION if name not in network.get("segments", {})}
        network["template"] = chosen | network["template"]
        core.store.save("vn", network)

    def failed(reason: str) -> None:
        network["state"] = NetworkState.ERROR
        network["template"]["ERROR"] = failure(core, f"Error creating virtual network: {reason}")
        core.store.save("vn", network)

    core.lifecycle.work(lambda: core.driver.create_network(wanted), created, failed)


def remove(core: Core, network_id: int) -> None:
    """Let the driver remove a network, in the background, and forget it then; it ends ERROR when that fails."""
    network = core.store.get("vn", network_id)
    wanted = _spec(network)

    def gone(_result: object) -> None:
        for address_range in network["ranges"]:
            _give_back(core, network, address_range)
        core.store.remove("vn", network_id)

    def failed(reason: str) -> None:
        network["state"] = NetworkState.ERROR
        network["template"]["ERROR"] = failure(core, f"Error deleting virtual network: {reason}")
        core.store.save("vn", network)

    is_reservation = network.get("parent") is not None
    core.lifecycle.work(lambda: None if is_reservation else core.driver.delete_network(wanted), gone, failed)


def _give_back(core: Core, network: dict, address_range: dict) -> None:
    """Give the addresses of a reservation's range back to its parent."""
    parent = core.store.get("vn", network["parent"]) if network.get("parent") is not None else None
    for source in parent["ranges"] if parent else ():
        if source["AR_ID"] == address_range["PARENT_NETWORK_AR_ID"]:
            first = ranges.index_of(source, "MAC", address_range["MAC"]) or 0
            for step in range(int(address_range["SIZE"])):
                source["leases"].pop(str(first + step), None)
            core.store.save("vn", parent)


def _spec(network: dict) -> NetSpec:
    """Return a network as drivers see it; without a NETWORK_MASK that is one the addresses' /24 is taken."""
    template = network["template"]
    first = template.get("NETWORK_ADDRESS") or next((r["IP"] for r in network["ranges"] if "IP" in r), "")
    subnet = ""
    # oned keeps whatever these say.
    for mask in (template.get("NETWORK_MASK"), _DEFAULT_PREFIX):
        with suppress(ValueError):
            subnet = subnet or str(ipaddress.ip_network(f"{first}/{mask}", strict=False))
    return NetSpec(network["id"], network["name"], subnet, template.get("GATEWAY", ""))


def _range_body(address_range: dict) -> dict:
    leases = [
        attributes(ranges.addresses(address_range, int(index)) | _holder(holder))
        for index, holder in sorted(address_range["leases"].items(), key=lambda lease: int(lease[0]))
    ]
    return attributes(_kept(address_range)) | {name: Data(text) for name, text in ranges.ends(address_range).items()} | {
        "USED_LEASES": len(leases), "LEASES": {"LEASE": leases},
    }


def _kept(address_range: dict) -> dict:
    return {name: value for name, value in address_range.items() if name.isupper()} | {
        "NEXT_INDEX": str(address_range["next"]),
    }


def _holder(holder: int | str) -> dict:
    """Return who has a lease: a VM's id is a number, others are kept as what they are and their id."""
    kind, number = _owner(holder)
    return {kind: str(number)}


def _owner(holder: int | str) -> tuple[str, int]:
    if isinstance(holder, int):
        return "VM", holder
    kind, _separator, number = holder.rpartition(":")
    return kind or "VNET", int(number)


def _allocated(address_range: dict) -> dict:
    """Return who has which address as oned keeps it, nothing before the first had one."""
    if not address_range.get("taken"):
        return {}
    leases = sorted(address_range["leases"].items(), key=lambda lease: int(lease[0]))
    owners = [(index, *_owner(holder)) for index, holder in leases]
    return {"ALLOCATED": "".join(f" {index} {_OWNERS[kind] | number & 0xFFFFFFFF}" for index, kind, number in owners)}


def _body(core: Core, network: dict) -> dict:
    template, state = network["template"], int(network["state"])
    previous = 0 if state == NetworkState.LOCK_CREATE else state
    created = "AR" not in template
    segments = network.get("segments", {})
    return head(core, network) | {
        "CLUSTERS": ids(network["clusters"]),
        "BRIDGE": Data(template.get("BRIDGE", "")), "BRIDGE_TYPE": Data(template.get("BRIDGE_TYPE", "")),
        "STATE": Data(state), "PREV_STATE": Data(previous), "PARENT_NETWORK_ID": network.get("parent"), "TEMPLATE_ID": network.get("source"),
        "VN_MAD": Data(template.get("VN_MAD", "")), "PHYDEV": _shown(template.get("PHYDEV")),
        **{name: _shown(segments.get(name) or template.get(name)) for name in _SEGMENTS},
        **{f"{name}_AUTOMATIC": int(name in segments) for name in _SEGMENTS},
        "USED_LEASES": sum(len(address_range["leases"]) for address_range in network["ranges"]),
        "VROUTERS": ids([router["id"] for router in core.store.all("vrouter") if _is_in(router, network)]),
        "UPDATED_VMS": ids(network["vms"]), "OUTDATED_VMS": {}, "UPDATING_VMS": {}, "ERROR_VMS": {},
        "TEMPLATE": attributes(template),
        "AR_POOL": {"AR": [_range_body(address_range) for address_range in network["ranges"]]} if created else {},
    }


def _is_in(router: dict, network: dict) -> bool:
    return any(nic.get("NETWORK_ID") == str(network["id"]) for nic in router["nics"])


def _shown(value: str | None) -> Data | None:
    return Data(value) if value else None


def _automatic(template: dict) -> list[str]:
    """Take the wishes for a segment of the server's choice out of a template, and return those that count."""
    settle(template, [f"AUTOMATIC_{name}" for name in _SEGMENTS])
    requested = {name: template.pop(f"AUTOMATIC_{name}", "").upper() == "YES" for name in _SEGMENTS}
    return [name for name in _SEGMENTS if requested[name] and not template.get(name)]


def _check_driver(template: dict, automatic: list[str]) -> None:
    """Refuse a network without what its driver needs. Raises OneError."""
    driver = template["VN_MAD"]
    for name in _MANDATORY.get(driver, ()):
        if not template.get(name) and name not in automatic:
            raise OneError(INTERNAL, f"{name}{_INSTEAD.get(name, '')} is mandatory for driver {driver}")


def _drop_vectors(template: dict) -> None:
    """Forget what is a vector where oned reads a single value: it is nothing to it."""
    for name in ("VN_MAD", "BRIDGE", "BRIDGE_TYPE", "PHYDEV", *_SEGMENTS):
        if not isinstance(template.get(name, ""), str):
            del template[name]


def _bridge_type(driver: str, wanted: str) -> str:
    """Return the technology of a driver's bridge. Raises OneError for one that it cannot use."""
    if driver not in _BRIDGE_TYPES:
        raise OneError(INTERNAL, f'VN_MAD named "{driver}" is not defined in oned.conf')
    possible = _BRIDGE_TYPES[driver]
    if wanted.strip() and wanted.strip() not in possible:
        raise OneError(
            INTERNAL, f'Attribute BRIDGE_TYPE has wrong value "{wanted.strip()}" for VN_MAD_CONF {driver} in oned.conf'
        )
    return wanted.strip() or possible[0]


def _update(_call: Call, network: dict, template: dict) -> dict:
    """Check the driver. A segment is chosen once; what an update says of it does not count."""
    _drop_vectors(template)
    _automatic(template)
    before = network["template"]
    if not template.get("VN_MAD"):
        raise OneError(INTERNAL, f"{FAILED_UPDATE}No VN_MAD in template for Virtual Network.")
    driver, wanted = template["VN_MAD"], template.get("BRIDGE_TYPE", "")
    if driver != before["VN_MAD"] and wanted == before["BRIDGE_TYPE"]:
        wanted = ""
    try:
        kind = _bridge_type(driver, wanted)
    except OneError as error:
        raise OneError(error.code, f"{FAILED_UPDATE}{error.message}") from None
    template = {name: value for name, value in template.items() if name not in network.get("segments", {})}
    empty = {name: "" for name in ("PHYDEV", *_SEGMENTS) if name not in network.get("segments", {})}
    return {**empty, **template, "BRIDGE_TYPE": kind, "BRIDGE": template.get("BRIDGE") or before["BRIDGE"]}


def _pool_body(core: Core, network: dict) -> dict:
    """As the own document, with the ranges as they are kept."""
    body = _body(core, network)
    rows = network["ranges"] if body["AR_POOL"] else []
    body["AR_POOL"] = {"AR": [attributes(_kept(row) | _allocated(row)) for row in rows]}
    return body


def _delete(call: Call, network: dict) -> bool:
    if any(address_range["leases"] for address_range in network["ranges"]):
        raise OneError(ACTION, "Cannot delete virtual network. Can not remove a virtual network with leases in use")
    if network["state"] in (NetworkState.LOCK_CREATE, NetworkState.LOCK_DELETE):
        state = NetworkState(network["state"]).name
        raise OneError(ACTION, f"Cannot delete virtual network. Can not remove a Virtual Network, wrong state {state}")
    network["state"] = NetworkState.LOCK_DELETE
    call.core.store.save("vn", network)
    remove(call.core, network["id"])
    return False


def _ranges(template: dict) -> tuple[list[dict], str]:
    """Return the address ranges of a new network that can be, and what is wrong with one that cannot."""
    rows, problem = [], ""
    for attribute in vectors_of(template, "AR"):
        try:
            rows.append(ranges.new(attribute, len(rows)))
        except OneError as error:
            problem = error.message
    return rows, problem


def _allocate(call: Call, text: str, cluster_id: int) -> int:
    template = parse_template(text)
    cluster = call.find("cluster", max(cluster_id, 0))
    call.authorize(("CREATE", "vn", None), ("ADMIN", "cluster", cluster))
    restricted.check_new(call, "vn", template)
    return add(call, settle(template, ["NAME"]).pop("NAME", ""), template, [cluster["id"]])


def owner_wanted(call: Call, template: dict) -> dict[str, int]:
    """Take out of a template for whom its network is to be made, as fields of the network. Raises OneError."""
    wanted, demands = {}, []
    for name, kind, field, right in (("AS_UID", "user", "uid", "MANAGE"), ("AS_GID", "group", "gid", "MANAGE")):
        number = template.pop(name, None)
        if isinstance(number, str) and number.isdigit():
            owner = call.find(kind, int(number))
            wanted[field] = owner["id"]
            demands.append((right, kind, owner))
    call.authorize(*demands)
    return wanted


def add(call: Call, name: str, template: dict, clusters: list[int], source: dict | None = None, **fields: int) -> int:
    """Make a network and return its id; the driver takes it from there. Raises OneError.

    source: the template of networks that it is made from, if any.
    """
    taken = call.owner_of_name("vn", name, fields.get("uid", call.user["id"]))
    if taken is not None and name:
        raise OneError(INTERNAL, f"NAME is already taken by NET {taken}.")
    if not name and source is None:
        raise OneError(INTERNAL, "No NAME in template for Virtual Network.")
    if name:
        call.check_name("vn", name, INTERNAL, unique=False)
    _drop_vectors(template)
    if not template.get("VN_MAD"):
        raise OneError(INTERNAL, "No VN_MAD in template for Virtual Network.")
    automatic = _automatic(template)
    _check_driver(template, automatic)
    template["BRIDGE_TYPE"] = _bridge_type(template["VN_MAD"], template.get("BRIDGE_TYPE", ""))
    rows, error = _ranges(template)
    network = call.new(
        "vn", name, state=NetworkState.LOCK_CREATE, clusters=clusters, vms=[], ranges=rows, range_error=error,
    ) | fields
    if source is not None:
        network |= {"name": name or f"{source['name']}-{network['id']}", "source": source["id"]}
    bridge = f".{template['VLAN_ID']}" if template.get("VLAN_ID") else network["id"]
    network["template"] = {"BRIDGE": f"onebr{bridge}"} | _EMPTY_BEFORE_CREATION | template
    network["segments"] = {name: str(_FIRST_SEGMENT + network["id"]) for name in automatic}
    # The default one is added to every new network; an update may take it away.
    network["template"]["SECURITY_GROUPS"] = security_groups(network["template"], {"SECURITY_GROUPS": "0"})
    call.core.store.save("vn", network)
    create(call.core, network["id"])
    return network["id"]


def to_change(call: Call, network_id: int, method_name: str, text: str, right: str = "MANAGE") -> tuple[dict, dict]:
    """Return a network and a template about its addresses. Raises OneError unless the network is ready."""
    network = call.get("vn", network_id, right)
    template = parse_template(text)
    if network["state"] != NetworkState.READY:
        state = NetworkState(network["state"]).name
        raise OneError(ACTION, f"Could not execute {method_name}Virtual Network is in wrong state: {state}")
    return network, template


def _add_range(call: Call, network_id: int, text: str) -> int:
    network, template = to_change(call, network_id, "one.vn.add_ar", text, "ADMIN")
    added = vectors_of(template, "AR")
    if not added:
        raise OneError(INTERNAL, "Wrong AR definition. AR vector attribute is missing.")
    next_id = 1 + max((int(address_range["AR_ID"]) for address_range in network["ranges"]), default=-1)
    network["ranges"].append(ranges.new(added[0], next_id))
    call.core.store.save("vn", network)
    return network_id


def _remove_range(call: Call, network_id: int, range_id: int, force: bool = False) -> int:
    return _take_range(call, call.get("vn", network_id, "ADMIN"), range_id, force)


def _free_range(call: Call, network_id: int, range_id: int) -> int:
    return _take_range(call, call.get("vn", network_id, "MANAGE"), range_id, force=False)


def _take_range(call: Call, network: dict, range_id: int, force: bool) -> int:
    if network["state"] != NetworkState.READY:
        state = NetworkState(network["state"]).name
        raise OneError(ACTION, f"Could not remove Adress Range, Virtual Network is in wrong state: {state}")
    address_range = next((item for item in network["ranges"] if item["AR_ID"] == str(range_id)), None)
    if address_range is None:
        raise OneError(INTERNAL, "Address Range does not exist")
    if address_range["leases"] and not force:
        raise OneError(INTERNAL, "Address Range has leases in use")
    _give_back(call.core, network, address_range)
    network["ranges"].remove(address_range)
    call.core.store.save("vn", network)
    return network["id"]


def _update_range(call: Call, network_id: int, text: str) -> int:
    """Replace what an address range says, except for what its leases depend on."""
    network, template = to_change(call, network_id, "one.vn.update_ar", text)
    wanted = vectors_of(template, "AR")
    if not wanted:
        raise OneError(INTERNAL, "Wrong AR definition. AR vector attribute is missing.")
    if not wanted[0].get("AR_ID", "").isdigit():
        raise OneError(INTERNAL, "AR/AR_ID attribute is missing.")
    number = wanted[0]["AR_ID"]
    address_range = next((item for item in network["ranges"] if item["AR_ID"] == number), None)
    if address_range is None:
        raise OneError(INTERNAL, f"Address Range with ID {number} was not found.")
    changed = ranges.updated(address_range, wanted[0], is_reservation=network.get("parent") is not None)
    network["ranges"][network["ranges"].index(address_range)] = changed
    call.core.store.save("vn", network)
    return network_id


_FAILURE, _SUCCESS, _DELETE, _RETRY = range(4)
_RECOVERED = {
    _FAILURE: ("failure", (NetworkState.LOCK_CREATE, NetworkState.LOCK_DELETE)),
    _SUCCESS: ("success", (NetworkState.LOCK_CREATE, NetworkState.LOCK_DELETE, NetworkState.ERROR)),
    _DELETE: ("delete", (NetworkState.LOCK_CREATE, NetworkState.LOCK_DELETE, NetworkState.ERROR)),
    _RETRY: ("retry", ()),
}


def _recover(call: Call, network_id: int, operation: int) -> int:
    """Take what the driver did to a network for failed or done, or forget the network."""
    if operation not in _RECOVERED:
        raise OneError(ACTION, "Wrong recovery operation code")
    network = call.get("vn", network_id, "MANAGE")
    what, possible = _RECOVERED[operation]
    if network["state"] not in possible:
        state = NetworkState(network["state"]).name
        raise OneError(INTERNAL, f"Could not perform 'recover {what}' on VN {network_id}, wrong state {state}.")
    gone = operation == _DELETE or (operation == _SUCCESS and network["state"] == NetworkState.LOCK_DELETE)
    if gone:
        call.core.store.remove("vn", network_id)
        return network_id
    if operation == _SUCCESS:
        network["state"] = NetworkState.READY
        network["template"].pop("ERROR", None)
    else:
        network["state"] = NetworkState.ERROR
        network["template"]["ERROR"] = failure(call.core, "Failure forced by user")
    call.core.store.save("vn", network)
    return network_id


METHODS = generic_methods("vn", _body, pool_body=_pool_body, updater=_update, deleter=_delete) | {
    "one.vn.allocate": Method(_allocate, "s i"),
    "one.vn.add_ar": Method(_add_range, "i s"),
    "one.vn.rm_ar": Method(_remove_range, "i i b?"),
    "one.vn.free_ar": Method(_free_range, "i i"),
    "one.vn.update_ar": Method(_update_range, "i s"),
    "one.vn.recover": Method(_recover, "i i"),
}
