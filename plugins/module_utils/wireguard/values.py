# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, endpoints and keepalives of WireGuard as values: the one form of each, or a ValueError that says what is wrong. No Ansible."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

from ..addresses import ip_address
from ..scalars import whole_number

LAST_PORT = LAST_KEEPALIVE = 2**16 - 1
_KEY_BYTES = 32
# Addresses in it mean a machine that does not know its own yet.
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def is_key(text: str) -> bool:
    """Say whether a text is a WireGuard key: 32 bytes in base64, not all of them 0."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    # wg takes the one spelling of a key only.
    return len(key) == _KEY_BYTES and any(key) and base64.b64encode(key).decode() == text


def interface_name(text: str) -> str:
    """Return the name of an interface."""
    if not _INTERFACE.fullmatch(text):
        raise ValueError(f"{text!r} is not a name for an interface, expected up to 15 letters, digits, '.', '_' and '-'")
    return text


def port(value: object) -> int:
    """Return a port to listen on."""
    return whole_number(value, 1, LAST_PORT)


def keepalive(value: object) -> int:
    """Return the seconds between two keepalives, 0 for none."""
    return whole_number(value, 0, LAST_KEEPALIVE)


def endpoint(text: str) -> str:
    """Return host:port or [IPv6]:port in its one form."""
    if "://" in text:
        raise ValueError("is a URL")
    host, separator, number = text.rpartition(":")
    if not separator or (":" in host.strip("[]") and not (host.startswith("[") and host.endswith("]"))):
        if ":" in host and not text.endswith("]"):
            raise ValueError("has an IPv6 address without brackets, so that its port cannot be told")
        raise ValueError("has no port")
    try:
        number = str(port(number))
    except ValueError:
        raise ValueError(f"has no port between 1 and 65535 ({number!r})") from None
    return f"{_host(host)}:{number}"


def endpoint_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address in an endpoint's one form, none for a host name."""
    try:
        return ipaddress.ip_address(text.rpartition(":")[0].strip("[]"))
    except ValueError:
        return None


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            address = ip_address(host[1:-1], 6)
        except ValueError:
            raise ValueError(f"holds {host!r}, which is not an IPv6 address") from None
        _check_reachable(address)
        return f"[{address}]"
    # Resolvers take a name that ends in a number for an address, also where it is none.
    if re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", host.rpartition(".")[2]):
        try:
            address = ip_address(host, 4)
        except ValueError:
            raise ValueError(f"holds {host!r}, which is not an IPv4 address") from None
        _check_reachable(address)
        return address
    if not _HOST_NAME.fullmatch(host) or len(host) > 253 or any(len(label) > 63 for label in host.split(".")):
        raise ValueError(f"holds {host!r}, which is neither an address nor a host name")
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        raise ValueError(f"holds {host!r}, the machine itself, where no other one can reach it")
    return host.lower()


def _check_reachable(text: str) -> None:
    address = ipaddress.ip_address(text)
    if getattr(address, "ipv4_mapped", None):
        raise ValueError(f"holds {text!r}, an IPv4 address in the form of IPv6, expected {str(address.ipv4_mapped)!r}")
    if address.is_unspecified or address.is_multicast or text == "255.255.255.255":
        raise ValueError(f"holds {text!r}, which is not the address of one machine")
    if address.is_loopback or address.is_link_local:
        raise ValueError(f"holds {text!r}, where no other machine can reach it")
    if address.version == 4 and (address.is_reserved or address in _THIS_NETWORK):
        raise ValueError(f"holds {text!r}, which no machine can have")
