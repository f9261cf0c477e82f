# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do to a virtual network so that it has the address ranges and the addresses on hold that are wanted."""

from __future__ import annotations

from ... import addresses as forms
from ..core import compare
from ..transport.errors import CONFLICT, INVALID, OneException
from ..vm import device_values
from .facts import RESULTS, address, addresses, is_on_hold, leases, leases_of, on_hold, settings, user

# What an address range is recognized by.
_FIRST_ADDRESS = ("IP", "GLOBAL_PREFIX", "ULA_PREFIX", "IP6", "MAC")
_COLONS_OF_A_MAC = 5
# Without these the server makes the network and leaves it in state ERROR.
_NEEDED = {"IP4": ("IP",), "IP4_6": ("IP",), "IP6_STATIC": ("IP6", "PREFIX_LENGTH"), "IP4_6_STATIC": ("IP", "IP6", "PREFIX_LENGTH")}
# The types of address ranges that have them; of any other one the server takes them away.
_STATIC = ("IP6_STATIC", "IP4_6_STATIC")
_PREFIXED = ("IP6", "IP4_6")
_TYPES_OF = {
    "IP": ("IP4", "IP4_6", "IP4_6_STATIC"), "IP6": _STATIC, "PREFIX_LENGTH": _STATIC, "GLOBAL_PREFIX": _PREFIXED, "ULA_PREFIX": _PREFIXED,
}
_SHAREABLE = ("IP4", "IP6_STATIC")
# What the server decides once, when it makes a range.
_FIXED = ("SHARED", "TYPE", "IP", "IP6", "MAC")


class RangePlan:
    """What to do to the address ranges a network has so that it has the wanted ones.

    added: attributes to write. changed: all attributes of ranges that change. removed: ids. result: the settings of
    all ranges afterwards. Raises OneException of kind conflict for a range that goes although a VM has an address of it.
    """

    def __init__(self, there: list[dict], wanted: list[dict] | None, replace: bool) -> None:
        self.added: list[dict] = []
        targets: dict[str, dict] = {}
        for position, given in enumerate(wanted or []):
            desired = _read(given)
            free = [item for item in there if item["AR_ID"] not in targets]
            found = _matching(free, desired, there[position] if position < len(there) else None)
            if found is None:
                self.added.append(new_range(desired))
            else:
                _check_fixed(found, desired)
                targets[found["AR_ID"]] = compare.wanted_template(settings(found), _in_words_of(found, desired))
        drop_others = replace and wanted is not None
        kept = [item for item in there if item["AR_ID"] in targets or not drop_others]
        self.removed = [int(item["AR_ID"]) for item in there if item not in kept]
        for item in there:
            users = [user(lease) for lease in leases_of(item) if not is_on_hold(lease)]
            if users and item not in kept:
                raise OneException(
                    CONFLICT,
                    f"Address range {item['AR_ID']} from {address(item)} on cannot be removed, "
                    f"its addresses are in use by {', '.join(dict.fromkeys(users))}.",
                )
        # The server forgets what an update of a range does not name.
        self.changed = [
            {"AR_ID": item["AR_ID"], **targets[item["AR_ID"]]}
            for item in kept
            if targets.get(item["AR_ID"], settings(item)) != settings(item)
        ]
        self.result = [targets.get(item["AR_ID"], settings(item)) for item in kept] + self.added


class HoldPlan:
    """Which addresses to take out of use and which to give back. network: its document. wanted: addresses, or None.

    before, after: the addresses on hold. held, released: what to hand to the server for each that changes. Raises
    OneException of kind conflict for an address that something has, of kind invalid for a text that is not an address.
    """

    def __init__(self, network: dict, wanted: list[str] | None, replace: bool) -> None:
        there = on_hold(network)
        self.before = sorted(address(lease) for lease in there)
        self.after = list(self.before)
        self.held: list[dict] = []
        self.released: list[dict] = []
        if wanted is None:
            return
        chosen = list(dict.fromkeys(read_lease(text, "held") for text in wanted))
        for text in chosen:
            lease = next((lease for lease in leases(network) if text in addresses(lease)), None)
            if lease is None:
                self.held.append(lease_of(text))
            elif lease not in there:
                raise OneException(CONFLICT, f"{text} of virtual network {network['NAME']!r} is in use by {user(lease)}.")
        surplus = [lease for lease in there if replace and not addresses(lease) & set(chosen)]
        self.released = [lease_of(address(lease)) for lease in surplus]
        kept = [address(lease) for lease in there if lease not in surplus]
        self.after = sorted({*kept, *(text for text in chosen if lease_of(text) in self.held)})


def new_range(desired: dict) -> dict:
    """Return a range to make. Raises OneException of kind invalid for one that the server cannot make."""
    said = compare.wanted_template({}, _read(desired))
    result = {**said, "TYPE": said.get("TYPE") or "IP4"}
    if not result.get("SIZE"):
        raise OneException(INVALID, f"Address range {result} needs a SIZE, the number of its addresses.")
    _check_foreign(result)
    if result.get("SHARED") == "YES" and result["TYPE"] not in _SHAREABLE:
        raise OneException(INVALID, f"Address range {result} cannot have SHARED, which takes the TYPE {' or '.join(_SHAREABLE)}.")
    missing = [name for name in _NEEDED.get(result["TYPE"], ()) if not result.get(name)]
    if missing:
        without = " or the TYPE ETHER" if result["TYPE"] == "IP4" else ""
        raise OneException(INVALID, f"Address range {result} of type {result['TYPE']} needs {' and '.join(missing)}{without}.")
    return result


def lease_of(text: str) -> dict:
    """Return an address by the name that leases have it under. text: as read_lease returns it."""
    if text.count(":") == _COLONS_OF_A_MAC and "::" not in text:
        return {"MAC": text}
    return {"IP6" if ":" in text else "IP": text}


def read_lease(text: str, option: str) -> str:
    """Return an IP or MAC address in its one form. Raises OneException of kind invalid for what is neither."""
    for form in (forms.mac_address, forms.ip_address):
        try:
            return form(text)
        except ValueError:
            continue
    raise OneException(
        INVALID, f"{text!r} in {option} is not a valid IP or MAC address, expected one such as 192.168.10.5, fd00::5 or 02:00:c0:a8:0a:05."
    )


def _read(desired: dict) -> dict[str, str]:
    result = device_values.normal("AR", desired, "an address range")
    for name in sorted(RESULTS & result.keys()):
        raise OneException(INVALID, f"{name} of address range {result}: the server decides it by itself.")
    return result


def _matching(there: list[dict], wanted: dict, at_position: dict | None) -> dict | None:
    for key in _FIRST_ADDRESS:
        if wanted.get(key):
            return next((item for item in there if device_values.there("AR", item).get(key) == wanted[key]), None)
    return at_position if at_position in there else None


def _check_fixed(there: dict, desired: dict) -> None:
    """Take out of a desired range what the server decides once. Raises OneException if that is to change."""
    known = {"SHARED": "NO", **device_values.there("AR", {name: value for name, value in there.items() if value})}
    _check_foreign({"TYPE": known.get("TYPE"), **desired})
    for name in _FIXED:
        wanted = desired.pop(name, None)
        if wanted and wanted != known.get(name, wanted):
            raise OneException(
                CONFLICT,
                f"Address range {there['AR_ID']} has {name} {known[name]}, which cannot become {wanted}: it counts only when a range is made.",
            )


def _check_foreign(settings_: dict) -> None:
    """Raise OneException of kind invalid for addresses in a range whose type has none of their kind."""
    for name, types in _TYPES_OF.items():
        if settings_.get(name) and settings_["TYPE"] not in types:
            raise OneException(
                INVALID, f"Address range {settings_} of type {settings_['TYPE']} cannot have {name}, which takes the TYPE {' or '.join(types)}."
            )


def _in_words_of(there: dict, desired: dict) -> dict:
    """Return a desired range with the server's own words wherever they mean the same."""
    meant = device_values.there("AR", there)
    return {name: there[name] if meant.get(name) == value else value for name, value in desired.items()}
