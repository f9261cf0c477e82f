# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses as values: each function returns the one form of an address, however it is written, or refuses it. No Ansible.

Every function raises ValueError for what is no such address; the message is a sentence without a full stop that says which form is
expected.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]  # noqa: UP007 - read by Pythons without |
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]  # noqa: UP007
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # noqa: UP007

_MAC = re.compile(r"[0-9a-f]{1,2}(?:(?::[0-9a-f]{1,2}){5}|(?:-[0-9a-f]{1,2}){5})|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}")
# OpenNebula's ADDRESS has a colon before the function.
_PCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])[.:]([0-7])")
_HEXADECIMAL = re.compile(r"(?:0x)?([0-9a-f]+)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# What Linux takes for the name of an interface, but for characters that mean something elsewhere.
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_MULTICAST = 1
_ANY_ADDRESS = ("an IP address", "192.168.10.5 or fd00::5")


def mac_address(value: object) -> str:
    """Return a MAC address of one machine as 02:00:c0:a8:0a:01, also for 2:0:C0:A8:A:1, 02-00-c0-a8-0a-01 and 0200.c0a8.0a01."""
    kind = ("a MAC address", "02:00:c0:a8:0a:01")
    text = _text(value, kind).lower()
    if not _MAC.fullmatch(text):
        raise _refusal(value, kind)
    if "." in text:
        text = ":".join(re.findall("..", text.replace(".", "")))
    octets = [int(octet, 16) for octet in re.split("[:-]", text)]
    if octets[0] & _MULTICAST:
        raise ValueError(f"'{value}' is a MAC address of a group, expected one of a single interface: its first octet is even")
    return ":".join(f"{octet:02x}" for octet in octets)


def ip_address(value: object, version: int | None = None) -> str:
    """Return an IP address in its shortest form, of IPv4 with decimal numbers as OpenNebula reads them.

    version: 4 or 6, none for either. A prefix length is only taken when it means this one address. Scopes such as %eth0 are refused.
    """
    kind = {4: ("an IPv4 address", "192.168.10.5"), 6: ("an IPv6 address", "fd00::5")}.get(version or 0, _ANY_ADDRESS)
    try:
        found = read_interface(value)
    except ValueError:
        raise _refusal(value, kind) from None
    if version not in (None, found.version):
        raise _refusal(value, kind)
    if found.network.prefixlen != found.max_prefixlen:
        raise ValueError(f"'{value}' has a prefix length, expected {kind[0]} such as {kind[1]}")
    return str(found.ip)


def ip_interface(value: object) -> str:
    """Return an address with its prefix length, 10.0.0.1/24; without one it stands alone, 10.0.0.1/32."""
    return str(read_interface(value))


def ip_network(value: object, strict: bool = True) -> str:
    """Return a network, 10.0.0.0/24; an address is the network of itself alone.

    strict: refuse an address within the network in the place of its first one; else the first one is returned.
    """
    found = read_interface(value)
    if strict and found.ip != found.network.network_address:
        raise ValueError(f"'{value}' is an address within a network, expected the network, '{found.network}'")
    return str(found.network)


def read_interface(value: object) -> Interface:
    """Return an address with or without prefix length as Python's object."""
    kind = ("an IP address or network", "192.168.10.5, 192.168.10.0/24 or fd00::5/64")
    text = _text(value, kind)
    host, slash, length = text.partition("/")
    if not re.fullmatch(r"[0-9A-Fa-f:.]+", host) or (slash and not re.fullmatch(r"[0-9]{1,3}", length)):
        raise _refusal(value, kind)
    if ":" not in host:
        # Python refuses leading zeros, as some programs read octal numbers there; handing on the shortest form leaves no doubt.
        host = ".".join(part.lstrip("0") or "0" for part in host.split(".")) if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host) else host
    try:
        return ipaddress.ip_interface(f"{host}{slash}{length}")
    except ValueError:
        raise _refusal(value, kind) from None


def scoped_address(value: object) -> str:
    """Return an IP address in its shortest form, of IPv6 also with a scope, fe80::1%eth0."""
    text = str(value)
    host, percent, scope = text.partition("%")
    if not percent:
        return ip_address(value)
    if not _SCOPE.fullmatch(scope):
        raise ValueError(f"{text!r} has a scope that is not a valid name of an interface, expected one such as 'fe80::1%eth0'")
    return f"{ip_address(host, 6)}%{scope}"


def pci_address(value: object) -> str:
    """Return a PCI address in full, 0000:e1:00.0 also for e1:00.0, 00000000:E1:00.0 and OpenNebula's 0000:e1:00:0."""
    kind = ("a PCI address", "0000:e1:00.0 or e1:00.0")
    match = _PCI.fullmatch(_text(value, kind).lower())
    if not match:
        raise _refusal(value, kind)
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{bus}:{slot}.{function}"


def short_pci_address(value: object) -> str:
    """Return a PCI address as OpenNebula's SHORT_ADDRESS has it, without the domain: e1:00.0."""
    return pci_address(value).partition(":")[2]


def hexadecimal(value: object, digits: int = 4) -> str:
    """Return a hexadecimal id such as a vendor's in lower case with all its digits, 10de also for 0x10DE.

    A number is refused: nobody can say whether 1002 was meant as written, or as the result of reading 0x3ea.
    """
    kind = (f"a hexadecimal id of up to {digits} digits", "10de".zfill(digits))
    match = _HEXADECIMAL.fullmatch(_text(value, kind).lower())
    number = match and match[1].lstrip("0").zfill(digits)
    if not number or len(number) > digits:
        raise _refusal(value, kind)
    return number


def _text(value: object, kind: tuple[str, str]) -> str:
    if not isinstance(value, str):
        raise _refusal(value, kind)
    return value.strip()


def _refusal(value: object, kind: tuple[str, str]) -> ValueError:
    """kind: what it should be, and an example."""
    what, example = kind
    if isinstance(value, (int, float)) and not isinstance(value, bool) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        return ValueError(
            f"{value} is a number, not {what}; write it in quotes, such as '{example.partition(' or ')[0].partition(',')[0]}': without them "
            f"YAML takes digits with colons, and what begins with 0x, for a number"
        )
    return ValueError(f"{value!r} is not {what}, expected one such as {example}")
