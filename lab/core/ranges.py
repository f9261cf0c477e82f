# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Address ranges: what is in one, at which place, and which places are free.

A range is kept as its attributes in capitals, its leases by index, and the index at which the search for the next free
address begins. Hardware addresses count up with the index; so do IPv4 addresses and static IPv6 ones, while others are
made of a prefix and the hardware address.
"""

from __future__ import annotations

import ipaddress
import re
import secrets

from lab.core.errors import INTERNAL, OneError

#: attributes by which an address is asked for
ADDRESSES = ("IP", "IP6", "MAC")
_V4, _V6, _STATIC = "IP4", "IP6", "IP6_STATIC"
#: by type: which kinds of addresses it has besides hardware addresses
_KINDS = {
    "ETHER": (), "IP4": (_V4,), "IP6": (_V6,), "IP6_STATIC": (_STATIC,), "IP4_6": (_V4, _V6),
    "IP4_6_STATIC": (_V4, _STATIC),
}
_PREFIXES = {"IP6_GLOBAL": "GLOBAL_PREFIX", "IP6_ULA": "ULA_PREFIX"}
_LINK_LOCAL = "fe80::"
_MAC = re.compile(r"([0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}")
_BROADCAST = (1 << 48) - 1
_MAC_PREFIX = 0x0200
#: what a change leaves as it is, and what the server says by itself
_FIXED = ("AR_ID", "TYPE", "SHARED", "MAC", "PARENT_NETWORK_AR_ID", "IPAM_MAD")
_INTERNAL = (
    "ALLOCATED", "USED_LEASES", "LEASES", "PARENT_NETWORK_AR_ID", "PARENT_NETWORK", "NEXT_INDEX", "MAC_END", "IP_END",
    "IP6_END", "IP6_ULA", "IP6_ULA_END", "IP6_GLOBAL", "IP6_GLOBAL_END",
)


def new(attribute: dict, range_id: int) -> dict:
    """Return an address range of an AR attribute. Raises OneError for one that cannot be."""
    kind = attribute.get("TYPE", "").upper()
    if kind not in _KINDS:
        raise OneError(INTERNAL, "Unknown or missing address range TYPE.")
    row = {name: value for name, value in attribute.items() if name not in _INTERNAL}
    row["SHARED"] = "YES" if attribute.get("SHARED", "").upper() == "YES" else "NO"
    if row["SHARED"] == "YES" and kind not in (_V4, _STATIC):
        raise OneError(INTERNAL, "Shared ARs can be only of type IP4 or IP6_STATIC.")
    for name, needs in (("IP", _V4), ("IP6", _STATIC), ("GLOBAL_PREFIX", _V6), ("ULA_PREFIX", _V6)):
        if needs not in _KINDS[kind]:
            row.pop(name, None)
    if _V4 in _KINDS[kind] and _ip4(row.get("IP", "")) is None:
        raise OneError(INTERNAL, "Wrong or empty IP attribute")
    _check_prefixes(row)
    if _STATIC in _KINDS[kind]:
        _check_static(row)
    row["MAC"] = _first_mac(row, kind)
    if not _is_number(row.get("SIZE", "")):
        raise OneError(INTERNAL, "Wrong SIZE for address range")
    return row | {"AR_ID": str(range_id), "leases": {}, "next": 0}


def updated(row: dict, wanted: dict, is_reservation: bool) -> dict:
    """Return a range as a change of it leaves it. Raises OneError."""
    kinds = _KINDS[row["TYPE"].upper()]
    fixed = (*_FIXED, *(("IP",) if _V4 in kinds else ()), *(("IP6",) if _STATIC in kinds else ()))
    foreign = [name for name, needs in (("IP", _V4), ("IP6", _STATIC), ("PREFIX_LENGTH", _STATIC),
                                        ("GLOBAL_PREFIX", _V6), ("ULA_PREFIX", _V6)) if needs not in kinds]
    changed = {name: value for name, value in wanted.items() if name not in (*_INTERNAL, *foreign)}
    changed |= {name: row[name] for name in fixed if name in row}
    if _STATIC in kinds and not _is_number(changed.get("PREFIX_LENGTH", "")):
        changed["PREFIX_LENGTH"] = row["PREFIX_LENGTH"]
    if _V6 in kinds:
        _check_prefixes(changed)
        changed |= {name: changed.get(name, "") for name in _PREFIXES.values()}
    changed["SIZE"] = wanted.get("SIZE") or row["SIZE"]
    if not _is_number(changed["SIZE"]):
        raise OneError(INTERNAL, "Unable to read the SIZE attribute, it must be number >= 0")
    if is_reservation and int(changed["SIZE"]) != int(row["SIZE"]):
        raise OneError(INTERNAL, "The SIZE of a reservation cannot be changed.")
    if any(int(index) >= int(changed["SIZE"]) for index in row["leases"]):
        raise OneError(
            INTERNAL, "New SIZE cannot be applied. There are used leases that would fall outside the range."
        )
    kept = {name: value for name, value in row.items() if not name.isupper()}
    return changed | kept | {"next": row["next"] if row["next"] < int(changed["SIZE"]) else 0}


def addresses(row: dict, index: int) -> dict:
    """Return the addresses at a place in a range, as a NIC has them."""
    kinds = _KINDS[row["TYPE"].upper()]
    # Those who share an address have hardware addresses of their own.
    mac = _MAC_PREFIX << 32 | secrets.randbits(32) if row["SHARED"] == "YES" else _mac(row["MAC"]) + index
    found = {"MAC": _mac_text(mac)}
    if _V4 in kinds:
        found["IP"] = str(ipaddress.IPv4Address((_ip4(row["IP"]) + index) & 0xFFFFFFFF))
    if _V6 in kinds:
        found["IP6_LINK"] = _with_prefix(_LINK_LOCAL, mac)
        found |= {name: _with_prefix(row[source], mac) for name, source in _PREFIXES.items() if row.get(source)}
    if _STATIC in kinds:
        found["IP6"] = str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(row["IP6"])) + index))
    return found


def ends(row: dict) -> dict:
    """Return the last addresses of a range, and the first of those that are made of prefixes."""
    size = int(row["SIZE"])
    last = addresses(row | {"SHARED": "NO"}, size - 1) if size else {}
    found = {"MAC_END": "00:00:00:00:00:00" if row["SHARED"] == "YES" else last.get("MAC", row["MAC"])}
    first = addresses(row | {"SHARED": "NO"}, 0)
    for name in ("IP", "IP6_ULA", "IP6_GLOBAL", "IP6"):
        if name in first:
            found |= {name: first[name]} if name in _PREFIXES else {}
            found[f"{name}_END"] = last.get(name, first[name])
    return found


def index_of(row: dict, name: str, text: str) -> int | None:
    """Return the place of an address in a range, None if it is not in it or is none. name: one of ADDRESSES."""
    kinds = _KINDS[row["TYPE"].upper()]
    first = wanted = None
    if name == "IP" and _V4 in kinds:
        first, wanted = _ip4(row["IP"]), _ip4(text)
    elif name == "IP6" and _STATIC in kinds:
        first, wanted = _ip6(row["IP6"]), _ip6(text)
    elif name == "MAC" and row["SHARED"] != "YES":
        first, wanted = _mac(row["MAC"]), _mac(text)
    if first is None or wanted is None or not 0 <= wanted - first < int(row["SIZE"]):
        return None
    return wanted - first


def free(row: dict, count: int = 1) -> int | None:
    """Return where so many free addresses in a row begin, None if there are none, and begin the next search after them."""
    size = int(row["SIZE"])
    if row["SHARED"] == "YES" or len(row["leases"]) + count > size:
        return None
    # A run that is not free holds a lease, so that as many steps as there are leases, each as wide as the run, are enough.
    for step in range(min(size, (len(row["leases"]) + 1) * count + count)):
        start = (row["next"] + step) % size
        if start + count <= size and is_free(row, start, count):
            row["next"] = (start + count) % size
            return start
    return None


def is_free(row: dict, start: int, count: int) -> bool:
    return not any(str(start + step) in row["leases"] for step in range(count))


def _first_mac(row: dict, kind: str) -> str:
    if row["SHARED"] == "YES":
        return _mac_text(0)
    if not row.get("MAC"):
        low = _ip4(row["IP"]) if _V4 in _KINDS[kind] else secrets.randbits(32)
        return _mac_text(_MAC_PREFIX << 32 | low)
    mac = _mac(row["MAC"])
    if mac is None:
        raise OneError(INTERNAL, f"Wrong format for MAC attribute: {row['MAC']}")
    return _mac_text(mac)


def _check_prefixes(row: dict) -> None:
    for name, what in (("GLOBAL_PREFIX", "global"), ("ULA_PREFIX", "unique local")):
        if row.get(name) and _ip6(row[name]) is None:
            raise OneError(INTERNAL, f"Wrong format for IP6 {what} address prefix")


def _check_static(row: dict) -> None:
    """Check a range of IPv6 addresses that count up, and fill its size in: up to the end of its network."""
    if _ip6(row.get("IP6", "")) is None:
        raise OneError(INTERNAL, "Wrong or empty IP6 attribute")
    if not _is_number(row.get("PREFIX_LENGTH", "")):
        raise OneError(INTERNAL, "Wrong or empty PREFIX_LENGTH")
    if not row.get("SIZE"):
        bits = 128 - int(row["PREFIX_LENGTH"])
        size = (1 << 64) - 1 if bits >= 64 else 1 << max(bits, 0)
        mask = size if bits >= 64 else size - 1
        row["SIZE"] = str(size - (_ip6(row["IP6"]) & mask))


def _is_number(text: str) -> bool:
    return text.strip().isdecimal() and text == text.rstrip()


def _ip4(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        return None
    return int.from_bytes(bytes(map(int, parts)), "big")


def _ip6(text: str) -> int | None:
    try:
        return int(ipaddress.IPv6Address(text)) if "%" not in text else None
    except ValueError:
        return None


def _mac(text: str) -> int | None:
    if not _MAC.fullmatch(text):
        return None
    mac = int.from_bytes(bytes(int(part, 16) for part in text.split(":")), "big")
    return None if mac == _BROADCAST else mac


def _mac_text(mac: int) -> str:
    return (mac & _BROADCAST).to_bytes(6, "big").hex(":")


def _with_prefix(prefix: str, mac: int) -> str:
    """Return the address of an interface in a /64 network, made of its hardware address."""
    network = int(ipaddress.IPv6Address(prefix)) >> 64 << 64
    inverted = mac ^ 1 << 41
    return str(ipaddress.IPv6Address(network | (inverted >> 24) << 40 | 0xFFFE << 24 | inverted & 0xFFFFFF))
