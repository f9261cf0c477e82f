# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of security groups in one form, so that rules which mean the same are the same.

The order of rules and of ports, the case of names and protocols, numbers written as text, other ways to write an
address, and rules that occur twice make no difference.
"""

from __future__ import annotations

import re

from ... import addresses, scalars
from ..transport.errors import INVALID, OneException
from ..transport.values import scalar

_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
_DIRECTIONS = ("INBOUND", "OUTBOUND")
_PORTS = re.compile(r"([0-9]+)(?::([0-9]+))?")
_LAST_PORT = 65535
# In the order in which a rule is read, and what only some protocols have.
_NAMES = ("RULE_TYPE", "PROTOCOL", "RANGE", "ICMP_TYPE", "ICMPV6_TYPE", "IP", "SIZE", "NETWORK_ID")
_ONLY_WITH = {"RANGE": ("TCP", "UDP"), "ICMP_TYPE": ("ICMP",), "ICMPV6_TYPE": ("ICMPV6",)}
_NUMBERS = ("ICMP_TYPE", "ICMPV6_TYPE", "SIZE", "NETWORK_ID")


def by_meaning(rules: list[dict]) -> dict[str, dict]:
    """Return the rules of a security group by what they mean, in an order of their own."""
    named = {_meaning(rule): rule for rule in map(_normal, rules)}
    return dict(sorted(named.items()))


def _meaning(rule: dict[str, str]) -> str:
    # With the names of the values: ICMP type 0 and network 0 are two things.
    return " ".join(value if name in ("RULE_TYPE", "PROTOCOL") else f"{name}={value}" for name, value in rule.items())


def check(rule: dict) -> None:
    """Refuse what the server would refuse, and what it would not understand. Raises OneException of kind invalid."""
    for name in rule:
        if str(name).upper() not in _NAMES:
            raise _invalid(rule, f"has {name}; it can have {', '.join(_NAMES)} and NETWORK")
    normal = _normal(rule)
    for name, known in (("RULE_TYPE", _DIRECTIONS), ("PROTOCOL", _PROTOCOLS)):
        if normal.get(name) not in known:
            raise _invalid(rule, f"needs {name}, one of {', '.join(known)}")
    for name, protocols in _ONLY_WITH.items():
        if name in normal and normal["PROTOCOL"] not in protocols:
            raise _invalid(rule, f"has {name}, which is for {' and '.join(protocols)} only")
    for name in _NUMBERS:
        if not re.fullmatch("[0-9]+", normal.get(name, "0")):
            raise _invalid(rule, f"has {name} {normal[name]!r}, which is not a number")
    _check_ports(rule, normal.get("RANGE", ""))
    if ("IP" in normal) != ("SIZE" in normal):
        raise _invalid(rule, "needs both IP and SIZE, the first address and the number of them, or neither")
    if "IP" in normal and "NETWORK_ID" in normal:
        raise _invalid(rule, "has both IP and a network; it is for one of them")
    if "IP" in normal:
        try:
            addresses.ip_address(normal["IP"])
        except ValueError:
            raise _invalid(rule, f"has IP {normal['IP']!r}, which is not a valid address") from None


def _check_ports(rule: dict, ports: str) -> None:
    for part in ports.split(",") if ports else ():
        match = _PORTS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= _LAST_PORT:
            raise _invalid(rule, f"has RANGE {ports!r}; it takes ports and ranges such as 22,80:90")


def _normal(rule: dict) -> dict[str, str]:
    """Return a rule in the one form, as far as it can be understood."""
    texts = {str(name).upper(): re.sub(r"\s", "", scalar(value)) for name, value in rule.items()}
    ordered = {name: texts[name] for name in _NAMES if texts.get(name)}
    ordered |= {name: text for name, text in sorted(texts.items()) if text and name not in _NAMES}
    for name in ("RULE_TYPE", "PROTOCOL"):
        if name in ordered:
            ordered[name] = ordered[name].upper()
    for name in _NUMBERS:
        if name in ordered:
            ordered[name] = _normal_number(ordered[name])
    if "RANGE" in ordered:
        ordered["RANGE"] = _normal_ports(ordered["RANGE"])
    if "IP" in ordered:
        ordered["IP"] = _normal_address(ordered["IP"])
    return ordered


def _normal_ports(ports: str) -> str:
    matches = [_PORTS.fullmatch(part) for part in ports.split(",")]
    if not all(matches):
        return ports
    ranges = sorted({(int(match[1]), int(match[2] or match[1])) for match in matches})
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in ranges)


def _normal_number(text: str) -> str:
    try:
        return str(scalars.whole_number(text))
    except ValueError:
        return text


def _normal_address(address: str) -> str:
    try:
        return addresses.ip_address(address)
    except ValueError:
        return address


def _invalid(rule: dict, what: str) -> OneException:
    text = ", ".join(f"{name}={scalar(value)}" for name, value in rule.items())
    return OneException(INVALID, f"Security rule [{text}] {what}.")
