# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Virtual networks: address ranges and the leases in them."""

from __future__ import annotations

import ipaddress
import secrets
from typing import TYPE_CHECKING

from lab.core.call import Call, as_list, parse_template
from lab.core.errors import ACTION, INTERNAL, OneError
from lab.core.images import timestamped
from lab.core.markup import Data, attributes, ids
from lab.core.pools import BODIES, DELETERS, POOL_BODIES, UPDATERS, head
from lab.core.registry import method
from lab.core.states import NetworkState
from lab.driver import NetSpec

if TYPE_CHECKING:
    from lab.core.api import Core

_EMPTY_BEFORE_CREATION = {"PHYDEV": "", "SECURITY_GROUPS": "0", "BRIDGE_TYPE": "linux"}
#: numbers of segments, which the server chooses for AUTOMATIC_ and the name
_SEGMENTS = ("VLAN_ID", "OUTER_VLAN_ID")
_FIRST_SEGMENT = 2
#: attributes that a driver cannot do without
_MANDATORY = {"802.1q": ("PHYDEV", "VLAN_ID"), "vxlan": ("PHYDEV", "VLAN_ID"), "ovswitch_vxlan": ("OUTER_VLAN_ID",)}
_EMPTY_AFTER_CREATION = {"OUTER_VLAN_ID": "", "VLAN_ID": ""}
_DEFAULT_PREFIX = 24
#: what a change of an address range leaves as it is
_FIXED_IN_RANGE = ("AR_ID", "TYPE", "SHARED", "MAC", "IP", "PARENT_NETWORK_AR_ID")


def lease(core: Core, network: dict, vm_id: int, wanted_ip: str = "") -> dict | None:
    """Give a VM the next free address of a network, or the one it wants; None if there is none.

    The result holds AR_ID, MAC and, except in ranges of MAC addresses only, IP.
    """
    # A network has its ranges once it is made.
    for address_range in network["ranges"] if network["state"] == NetworkState.READY else ():
        size = int(address_range["SIZE"])
        start = address_range["next"]
        for index in [(start + step) % size for step in range(size)]:
            found = address(address_range, index)
            if str(index) in address_range["leases"] or wanted_ip not in ("", found.get("IP")):
                continue
            address_range["leases"][str(index)] = vm_id
            address_range["next"] = (index + 1) % size
            if vm_id not in network["vms"]:
                network["vms"].append(vm_id)
            core.store.save("vn", network)
            return {"AR_ID": address_range["AR_ID"]} | found
    return None


def security_groups(*owners: dict) -> str:
    """Return the security groups of a NIC: its own and its network's."""
    numbers = {number for owner in owners for number in owner.get("SECURITY_GROUPS", "").split(",") if number.isdigit()}
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


def release(core: Core, network_id: int, vm_id: int, mac: str = "") -> None:
    """Take back all leases of a VM in a network, or only the one with that hardware address."""
    network = core.store.get("vn", network_id)
    if network is None:
        return
    for address_range in network["ranges"]:
        address_range["leases"] = {
            index: holder for index, holder in address_range["leases"].items()
            if holder != vm_id or mac not in ("", address(address_range, int(index))["MAC"])
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
        chosen = {name: "" for name in _EMPTY_AFTER_CREATION if name not in network.get("segments", {})}
        network["template"] = chosen | network["template"]
        core.store.save("vn", network)

    def failed(reason: str) -> None:
        network["state"] = NetworkState.ERROR
        network["template"]["ERROR"] = timestamped(core, f"Error creating virtual network: {reason}")
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
        network["template"]["ERROR"] = timestamped(core, f"Error deleting virtual network: {reason}")
        core.store.save("vn", network)

    is_reservation = network.get("parent") is not None
    core.lifecycle.work(lambda: None if is_reservation else core.driver.delete_network(wanted), gone, failed)


def _give_back(core: Core, network: dict, address_range: dict) -> None:
    """Give the addresses of a reservation's range back to its parent."""
    parent = core.store.get("vn", network["parent"]) if network.get("parent") is not None else None
    for source in parent["ranges"] if parent else ():
        if source["AR_ID"] == address_range["PARENT_NETWORK_AR_ID"]:
            first = _index(source, address_range["MAC"])
            for step in range(int(address_range["SIZE"])):
                source["leases"].pop(str(first + step), None)
            core.store.save("vn", parent)


def _index(address_range: dict, mac: str) -> int:
    first, wanted = (int(text.replace(":", ""), 16) for text in (address_range["MAC"], mac))
    return wanted - first


def _spec(network: dict) -> NetSpec:
    """Return a network as drivers see it; without NETWORK_MASK the addresses' /24 is taken."""
    template = network["template"]
    first = template.get("NETWORK_ADDRESS") or next((r["IP"] for r in network["ranges"] if "IP" in r), "")
    subnet = ""
    if first:
        subnet = str(ipaddress.ip_network(f"{first}/{template.get('NETWORK_MASK') or _DEFAULT_PREFIX}", strict=False))
    return NetSpec(network["id"], network["name"], subnet, template.get("GATEWAY", ""))


def _new_range(attribute: dict, range_id: int) -> dict:
    """Return an address range from an AR attribute. Raises OneError for one that cannot be."""
    kind = attribute.get("TYPE", "IP4")
    if kind not in ("IP4", "ETHER"):
        raise OneError(INTERNAL, f"Unknown address range type {kind}")
    if not attribute.get("SIZE", "").isdigit() or int(attribute["SIZE"]) < 1:
        raise OneError(INTERNAL, "Wrong SIZE for address range")
    address_range = {"AR_ID": str(range_id), **attribute, "TYPE": kind, "SHARED": attribute.get("SHARED", "NO")}
    if kind == "IP4":
        try:
            ipaddress.IPv4Address(attribute.get("IP", "")) + int(attribute["SIZE"]) - 1
        except ValueError as error:
            raise OneError(INTERNAL, f"Wrong format for IP value {attribute.get('IP', '')}") from error
    if "MAC" not in address_range:
        tail = ipaddress.IPv4Address(attribute["IP"]).packed if kind == "IP4" else secrets.token_bytes(3) + b"\0"
        address_range["MAC"] = (b"\x02\x00" + tail).hex(":")
    return address_range | {"leases": {}, "next": 0}


def address(address_range: dict, index: int) -> dict:
    """Return the addresses at a place in a range: MAC and, except in ranges of MAC addresses only, IP."""
    mac = int(address_range["MAC"].replace(":", ""), 16) + index
    found = {"MAC": mac.to_bytes(6, "big").hex(":")}
    if "IP" in address_range:
        found["IP"] = str(ipaddress.IPv4Address(address_range["IP"]) + index)
    return found


def _range_body(address_range: dict) -> dict:
    last = address(address_range, int(address_range["SIZE"]) - 1)
    leases = [
        attributes(address(address_range, int(index)) | {"VNET" if isinstance(holder, str) else "VM": str(holder)})
        for index, holder in sorted(address_range["leases"].items(), key=lambda lease: int(lease[0]))
    ]
    shown = {name: value for name, value in address_range.items() if name.isupper()}
    ends = {"MAC_END": Data(last["MAC"])} | ({"IP_END": Data(last["IP"])} if "IP" in last else {})
    return attributes(shown | {"NEXT_INDEX": str(address_range["next"])}) | ends | {
        "USED_LEASES": len(leases), "LEASES": {"LEASE": leases},
    }


def _body(core: Core, network: dict) -> dict:
    template, state = network["template"], int(network["state"])
    previous = 0 if state == NetworkState.LOCK_CREATE else state
    created = state == NetworkState.READY
    segments = network.get("segments", {})
    return head(core, network) | {
        "CLUSTERS": ids(network["clusters"]),
        "BRIDGE": Data(template.get("BRIDGE", "")), "BRIDGE_TYPE": Data(template.get("BRIDGE_TYPE", "")),
        "STATE": Data(state), "PREV_STATE": Data(previous), "PARENT_NETWORK_ID": network.get("parent"), "TEMPLATE_ID": None,
        "VN_MAD": Data(template.get("VN_MAD", "")), "PHYDEV": _shown(template.get("PHYDEV")),
        **{name: _shown(segments.get(name) or template.get(name)) for name in _SEGMENTS},
        **{f"{name}_AUTOMATIC": int(name in segments) for name in _SEGMENTS},
        "USED_LEASES": sum(len(address_range["leases"]) for address_range in network["ranges"]), "VROUTERS": {},
        "UPDATED_VMS": ids(network["vms"]), "OUTDATED_VMS": {}, "UPDATING_VMS": {}, "ERROR_VMS": {},
        "TEMPLATE": attributes(template),
        "AR_POOL": {"AR": [_range_body(address_range) for address_range in network["ranges"]]} if created else {},
    }


def _shown(value: str | None) -> Data | None:
    return Data(value) if value else None


def _automatic(template: dict) -> list[str]:
    """Take the wishes for a segment of the server's choice out of a template, and return those that count."""
    wished = {name: template.pop(f"AUTOMATIC_{name}", "").upper() == "YES" for name in _SEGMENTS}
    return [name for name in _SEGMENTS if wished[name] and not template.get(name)]


def _check_driver(template: dict, automatic: list[str]) -> None:
    """Refuse a network without what its driver needs. Raises OneError."""
    driver = template["VN_MAD"]
    for name in _MANDATORY.get(driver.lower(), ()):
        if not template.get(name) and name not in automatic:
            other = {"VLAN_ID": " (or AUTOMATIC_VLAN_ID)", "OUTER_VLAN_ID": " (or AUTOMATIC)"}.get(name, "")
            raise OneError(INTERNAL, f"{name}{other} is mandatory for driver {driver}")


def _update(_call: Call, network: dict, template: dict) -> dict:
    """A segment is chosen once; what an update says of it does not count."""
    _automatic(template)
    return {name: value for name, value in template.items() if name not in network.get("segments", {})}


def _pool_body(core: Core, network: dict) -> dict:
    """As the own document, without the leases."""
    body = _body(core, network)
    body["AR_POOL"] = {
        "AR": [{name: item for name, item in row.items() if name != "LEASES"} for row in body["AR_POOL"].get("AR", [])]
    }
    return body


def _delete(call: Call, network: dict) -> bool:
    if any(address_range["leases"] for address_range in network["ranges"]):
        raise OneError(ACTION, "Cannot delete virtual network. Can not remove a virtual network with leases in use")
    network["state"] = NetworkState.LOCK_DELETE
    call.core.store.save("vn", network)
    remove(call.core, network["id"])
    return False


BODIES["vn"] = _body
POOL_BODIES["vn"] = _pool_body
DELETERS["vn"] = _delete
UPDATERS["vn"] = _update


@method("one.vn.allocate", "s i?")
def _allocate(call: Call, text: str, cluster_id: int = -1) -> int:
    template = parse_template(text)
    cluster = call.find("cluster", max(cluster_id, 0))
    call.authorize(("CREATE", "vn", None), ("ADMIN", "cluster", cluster))
    name = template.pop("NAME", "")
    call.check_name("vn", name, INTERNAL)
    if "VN_MAD" not in template:
        raise OneError(INTERNAL, "No VN_MAD in template.")
    automatic = _automatic(template)
    _check_driver(template, automatic)
    ranges = [_new_range(attribute, number) for number, attribute in enumerate(as_list(template.get("AR")))]
    network = call.new("vn", name, state=NetworkState.LOCK_CREATE, clusters=[cluster["id"]], vms=[], ranges=ranges)
    network["template"] = {"BRIDGE": f"onebr{network['id']}"} | _EMPTY_BEFORE_CREATION | template
    network["segments"] = {name: str(_FIRST_SEGMENT + network["id"]) for name in automatic}
    # The default one is added to every new network; an update may take it away.
    network["template"]["SECURITY_GROUPS"] = security_groups(network["template"], {"SECURITY_GROUPS": "0"})
    call.core.store.save("vn", network)
    create(call.core, network["id"])
    return network["id"]


@method("one.vn.add_ar", "i s")
def _add_range(call: Call, network_id: int, text: str) -> int:
    network = call.get("vn", network_id, "MANAGE")
    added = as_list(parse_template(text).get("AR"))
    if not added:
        raise OneError(INTERNAL, "Wrong format for AR attribute. Missing AR.")
    for attribute in added:
        next_id = 1 + max((int(address_range["AR_ID"]) for address_range in network["ranges"]), default=-1)
        network["ranges"].append(_new_range(attribute, next_id))
    call.core.store.save("vn", network)
    return network_id


@method("one.vn.rm_ar", "i i b?")
def _remove_range(call: Call, network_id: int, range_id: int, _force: bool = False) -> int:
    network = call.get("vn", network_id, "MANAGE")
    address_range = next((item for item in network["ranges"] if item["AR_ID"] == str(range_id)), None)
    if address_range is None:
        raise OneError(INTERNAL, "Address Range does not exist")
    if address_range["leases"]:
        raise OneError(INTERNAL, "Address Range has leases in use")
    _give_back(call.core, network, address_range)
    network["ranges"].remove(address_range)
    call.core.store.save("vn", network)
    return network_id


@method("one.vn.update_ar", "i s")
def _update_range(call: Call, network_id: int, text: str) -> int:
    """Replace what an address range says, except for what its leases depend on."""
    network = call.get("vn", network_id, "MANAGE")
    wanted = as_list(parse_template(text).get("AR"))
    if not wanted:
        raise OneError(INTERNAL, "Wrong AR definition. AR vector attribute is missing.")
    if not wanted[0].get("AR_ID", "").isdigit():
        raise OneError(INTERNAL, "AR/AR_ID attribute is missing.")
    number = wanted[0]["AR_ID"]
    address_range = next((item for item in network["ranges"] if item["AR_ID"] == number), None)
    if address_range is None:
        raise OneError(INTERNAL, f"Address Range with ID {number} was not found.")
    size = wanted[0].get("SIZE") or address_range["SIZE"]
    if not size.isdigit():
        raise OneError(INTERNAL, "Unable to read the SIZE attribute, it must be number >= 0")
    if network.get("parent") is not None and size != address_range["SIZE"]:
        raise OneError(INTERNAL, "The SIZE of a reservation cannot be changed.")
    if any(int(index) >= int(size) for index in address_range["leases"]):
        raise OneError(
            INTERNAL, "New SIZE cannot be applied. There are used leases that would fall outside the range."
        )
    kept = {name: value for name, value in address_range.items() if name in _FIXED_IN_RANGE or not name.isupper()}
    network["ranges"][network["ranges"].index(address_range)] = {**wanted[0], **kept, "SIZE": size}
    call.core.store.save("vn", network)
    return network_id
