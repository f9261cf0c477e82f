# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual networks as their documents have them: state, address ranges, and the addresses that are not free."""

from __future__ import annotations

from ..core import states
from ..transport import xml
from ..transport.errors import WRONG_STATE, OneException
from ..transport.values import words

# Parts of an address range that are results, not settings.
RESULTS = frozenset({
    "AR_ID", "IP_END", "IP6_END", "IP6_GLOBAL", "IP6_GLOBAL_END", "IP6_ULA", "IP6_ULA_END", "LEASES", "MAC_END",
    "NEXT_INDEX", "PARENT_NETWORK_AR_ID", "USED_LEASES",
})
# A setting that counts when a range is made.
_WHEN_MADE = "SHARED"
_LEASE_ADDRESSES = ("IP", "IP6", "IP6_GLOBAL", "IP6_ULA", "MAC")
_ON_HOLD = "-1"
_FAILED = ("ERROR", "UPDATE_FAILURE")


def state(network: dict) -> str:
    """Return the name of the network's state."""
    # OpenNebula before 6.4 had no states.
    return states.name(states.NETWORK, network.get("STATE", "1"))


def check_failed(network: dict) -> None:
    """Raise OneException of kind wrong_state for a network that failed, with the driver's reason."""
    if state(network) in _FAILED:
        reason = words(xml.section(network, "TEMPLATE").get("ERROR"), "the server gives no reason")
        raise OneException(
            WRONG_STATE, f"Virtual network {network['NAME']!r} (id {network['ID']}) is in state {state(network)}: {reason}."
        )


def used(network: dict) -> int:
    """Return how many addresses of a network are not free."""
    return int(network.get("USED_LEASES") or 0)


def ranges(network: dict) -> list[dict]:
    """Return the address ranges of a network's document."""
    return xml.items(xml.section(network, "AR_POOL"), "AR")


def settings(address_range: dict) -> dict:
    """Return what may be said of an address range."""
    return {name: value for name, value in address_range.items() if name not in RESULTS and name != _WHEN_MADE}


def size(network: dict) -> int:
    """Return the number of addresses of a network."""
    return sum(int(item["SIZE"]) for item in ranges(network))


def leases(network: dict) -> list[dict]:
    """Return the addresses of a network that are not free."""
    return [lease for item in ranges(network) for lease in leases_of(item)]


def leases_of(address_range: dict) -> list[dict]:
    """Return the addresses of an address range that are not free."""
    return xml.items(xml.section(address_range, "LEASES"), "LEASE")


def on_hold(network: dict) -> list[dict]:
    """Return the addresses of a network that are taken out of use."""
    return [lease for lease in leases(network) if is_on_hold(lease)]


def is_on_hold(lease: dict) -> bool:
    """Tell whether a lease takes its address out of use."""
    return lease.get("VM") == _ON_HOLD


def addresses(lease: dict) -> set[str]:
    """Return a lease's addresses of all kinds."""
    return {lease[name].lower() for name in _LEASE_ADDRESSES if lease.get(name)}


def address(lease: dict) -> str:
    """Return the address that a lease is known by."""
    return next(lease[name].lower() for name in _LEASE_ADDRESSES if lease.get(name))


def user(lease: dict) -> str:
    """Return what has a lease, as sentences name it."""
    if is_on_hold(lease):
        return "nobody, it is on hold"
    kinds = {"VM": "VM", "VNET": "reservation", "VROUTER": "virtual router"}
    return next((f"{label} {lease[name]}" for name, label in kinds.items() if name in lease), "something")
