# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a virtual network can give a VM the address that an interface is wanted with, before anything is changed."""

from __future__ import annotations

import ipaddress

from ..network import facts as network_facts
from ..transport.errors import CONFLICT, INVALID, OneException

# The server takes one of them for an interface.
_ADDRESSES = ("IP", "IP6", "MAC")


def check_available(network: dict, nic: dict, vm: dict, leaving: list[dict]) -> None:
    """Raise OneException of kind invalid for an address outside every range, of kind conflict for one in use.

    network: its document. leaving: interfaces of the VM whose addresses become free.
    """
    label = f"Virtual network {network['NAME']!r} (id {network['ID']})"
    given = [name for name in _ADDRESSES if nic.get(name)]
    if len(given) > 1:
        raise OneException(INVALID, f"An interface in {label[0].lower()}{label[1:]} has {' and '.join(given)}; it takes one of them.")
    (name,) = given
    value = nic[name]
    number = _number(name, value)
    inside = [item for item in network_facts.ranges(network) if _is_inside(item, name, number)]
    # The ranges do not say which IPv6 addresses the server would take for one of its own.
    if name != "IP6" and not inside:
        raise OneException(INVALID, f"{label} has no range with the {name} {value}{_listed(network, name)}.")
    ours = {_number(name, part[name]) for part in leaving if part.get(name) and part.get("NETWORK_ID") == network["ID"]}
    for lease in network_facts.leases(network):
        if not lease.get(name) or _number(name, lease[name]) != number or number in ours:
            continue
        if not all(item.get("SHARED") == "YES" for item in inside) or not inside:
            user = network_facts.user(lease)
            raise OneException(CONFLICT, f"The {name} {value} of {label[0].lower()}{label[1:]} is taken by {user}.")


def _number(name: str, value: str) -> int:
    """Return an address as a number. Raises OneException of kind invalid for a text that is none."""
    try:
        if name == "MAC":
            return int.from_bytes(bytes(int(part, 16) for part in value.split(":")), "big")
        address = ipaddress.ip_address(value)
    except ValueError as error:
        raise OneException(INVALID, f"{name} {value!r} of an interface is not a valid address.") from error
    return int(address)


def _is_inside(address_range: dict, name: str, number: int) -> bool:
    first = address_range.get(name)
    return bool(first) and 0 <= number - _number(name, first) < int(address_range["SIZE"])


def _listed(network: dict, name: str) -> str:
    end = f"{name}_END"
    texts = [f"{item[name]} to {item[end]}" for item in network_facts.ranges(network) if item.get(name) and item.get(end)]
    return f", only {', '.join(texts)}" if texts else ""
